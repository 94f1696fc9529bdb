"""Files that are broken, foreign, newer or hostile: one sentence each, no memory, no time, and nothing half written.

`AIQVIT_FUZZ=5000` tries that many changed copies of each kind.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

import aiqvit
from aiqvit.deploy import file
from aiqvit.deploy.info import Info
from aiqvit.deploy.pack import load_model, save_model
from aiqvit.interfaces import UserError
from tests.deploy import cases, hostile
from tests.fuzz.mutations import changed_json
from tests.fuzz.test_readers import COUNT, watched

KINDS = ("aiqvit[form=outside]", "mini_vit", "4/4"), ("repqvit", "modelnet40", "3/4"), ("ptq4vit", "mini_swin", "2/6")
SITE, LAYER = "blocks.0.mlp.fc1.weight_quantizer", "blocks.0.mlp.fc1"


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> list[bytes]:
    """Three files."""
    path = tmp_path_factory.mktemp("good") / "q.safetensors"
    contents = []
    for kind in KINDS:
        save_model(cases.quantized(cases.Case(*kind)), path)
        contents.append(path.read_bytes())
    return contents


def refused(path: Path) -> str:
    """What is said of a file that cannot be loaded."""
    with watched(), pytest.raises(UserError) as error:
        aiqvit.load(path)
    text = str(error.value)
    assert str(path) in text and "\n" not in text and len(text) < 700 + len(str(path))
    return text.replace(repr(str(path)), "F")


def put(folder: Path, content: bytes) -> Path:
    path = folder / "a.safetensors"
    path.write_bytes(content)
    return path


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "link")
    for name, words in (("missing", "No such file"), ("", "not a regular file"), ("pipe", "not a regular file"),
                        ("link", "symbolic links"), ("missing/a", "No such file")):
        assert refused(tmp_path / name).startswith("cannot read F: ") and words in refused(tmp_path / name)
    assert "not a regular file" in refused(Path("/dev/zero"))
    for path in ("a\0b", "x" * 300, None, 3):
        with pytest.raises(UserError, match="^path: .*expected"):
            aiqvit.load(path)


def test_files_that_are_something_else(tmp_path):
    for content, words in ((b"", "no safetensors file"), (b"\0" * 7, "no safetensors file"), (b"x" * 1000, "cut off"),
                           (b"PK\3\4" + b"\0" * 100, "no safetensors file"), (b"\2" + b"\0" * 7 + b"{}", "holds no"),
                           (b"\2" + b"\0" * 7 + b"[]", "holds no"), (b"\2" + b"\0" * 7 + b"{x", "header was changed"),
                           (save({"a": torch.zeros(3)}), "holds no quantized model: aiqvit.save writes one"),
                           (save({"a": torch.zeros(3)}, {"aiqvit": "x"}), "header was changed"),
                           (save({}, {"aiqvit": "3"}), "valid dictionary"), (save({}, {"aiqvit": "{}"}), "required")):
        assert words in refused(put(tmp_path, content))


def test_a_header_beyond_all_bounds(tmp_path):
    for text in ("[" * 10**5, '{"a":' * 10**5, "[" + "[]," * 10**7 + "[]]", '"' + "x" * 20 * 2**20 + '"'):
        assert refused(put(tmp_path, save({}, {"aiqvit": text})))
    for value in ("NaN", "Infinity", "1" * 10**5, "1e999", '"\\ud800"'):
        assert refused(put(tmp_path, save({}, {"aiqvit": f'{{"version":1,"info":{{"a":{value}}}}}'})))


def test_cut_off_at_every_kind_of_place(good, tmp_path):
    content = good[0]
    start = 8 + int.from_bytes(content[:8], "little")
    for end in (1, 7, 8, 9, start // 2, start - 1, start, start + 1, len(content) // 2, len(content) - 1):
        assert "cut off" in refused(put(tmp_path, content[:end]))
    refused(put(tmp_path, content + b"\0"))
    refused(put(tmp_path, content * 2))


def test_one_bit_anywhere(good, tmp_path):
    content, draw = good[1], Random(0)
    start = 8 + int.from_bytes(content[:8], "little")
    places = [*range(8), *(draw.randrange(8, start) for _ in range(60)),
              *(draw.randrange(start, len(content)) for _ in range(60)), len(content) - 1]
    for place in places:
        flipped = bytearray(content)
        flipped[place] ^= 1 << draw.randrange(8)
        refused(put(tmp_path, bytes(flipped)))


@pytest.mark.parametrize("version", (0, 3, 99, -1, True, "1", None, 1.0, 10**30))
def test_other_versions(version, good, tmp_path):
    def change(header, _):
        header["version"] = version

    text = refused(put(tmp_path, hostile.changed(good[0], change)))
    if type(version) is int:
        assert f"it has version {version} of the format, and this aiqvit reads versions 1 to 2: " in text
        assert text.endswith("update aiqvit" if version > 2 else "write it again")
    else:
        assert "version" in text


CHANGES = {  # what somebody writes, with a right checksum -> what is said
    "format": (lambda h, t: h["quantizers"][SITE].update(format="Ternary"), "format 'Ternary': expected one of"),
    "base": (lambda h, t: h["quantizers"][SITE].update(format="Quantizer"), f"{SITE}"),
    "module": (lambda h, t: h["quantizers"][SITE].update(format="base"), "expected one of"),
    "no format": (lambda h, t: h["quantizers"][SITE].pop("format"), "field required"),
    "bits": (lambda h, t: h["quantizers"][SITE].update(bits=5), "codes of 4 bits, but a quantizer of 5"),
    "many bits": (lambda h, t: h["quantizers"][SITE].update(bits=10**9), "less than or equal to 32"),
    "float": (lambda h, t: h["quantizers"][SITE].update(bits=32), f"{SITE} is no Uniform of 32 bits"),
    "float of 4 bits": (lambda h, t: h["quantizers"][SITE].update(format="Float"), SITE),
    "option": (lambda h, t: h["quantizers"][SITE]["options"].update(x=True), f"{SITE} is no Uniform of 4 bits"),
    "option's type": (lambda h, t: h["quantizers"][SITE]["options"].update(symmetric=[1]), "options.symmetric"),
    "mode": (lambda h, t: h["quantizers"][SITE].update(mode="observe"), "mode: input should be 'off' or 'on'"),
    "axis": (lambda h, t: h["quantizers"][SITE].update(axis=7), "axis"),
    "no axis": (lambda h, t: h["quantizers"][SITE].update(axis=None), "expected one value"),
    "field": (lambda h, t: h["quantizers"][SITE].update(x=1), "extra inputs"),
    "no site": (lambda h, t: h["quantizers"].pop(SITE), f"{LAYER}.weight or its quantizer is missing"),
    "another site": (lambda h, t: h["quantizers"].update(x=h["quantizers"]["head.input_quantizer"]), "x is no Uniform"),
    "site's name": (lambda h, t: h["quantizers"].update({"a\nb": h["quantizers"].pop(SITE)}), "a b is no Uniform"),
    "packed bits": (lambda h, t: h["packed"][LAYER].update(bits=3), "codes of 3 bits take"),
    "packed shape": (lambda h, t: h["packed"][LAYER].update(shape=[10, 10]), "100 codes of 4 bits take 50 bytes"),
    "turned": (lambda h, t: h["packed"][LAYER]["shape"].reverse(), "but scale has"),
    "flat": (lambda h, t: h["packed"][LAYER].update(shape=[t[f"{LAYER}.weight"].numel() * 2]), "but scale has"),
    "huge": (lambda h, t: h["packed"][LAYER].update(shape=[2**31] * 8), "codes of 4 bits take"),
    "beyond": (lambda h, t: h["packed"][LAYER].update(shape=[2**70]), "shape.0"),
    "negative": (lambda h, t: h["packed"][LAYER].update(shape=[-1, -1]), "shape.0"),
    "not packed": (lambda h, t: h["packed"].pop(LAYER), f"{LAYER}.weight is uint8 instead of float32"),
    "no such layer": (lambda h, t: h["packed"].update(x={"bits": 4, "shape": [1]}), "x.weight or its quantizer"),
    "norm": (lambda h, t: h["packed"].update({"norm": {"bits": 4, "shape": [1]}}), "norm.weight or its quantizer"),
    "missing": (lambda h, t: t.pop("norm.bias"), "Missing key"),
    "missing codes": (lambda h, t: t.pop(f"{LAYER}.weight"), f"{LAYER}.weight or its quantizer is missing"),
    "missing scale": (lambda h, t: t.pop(f"{SITE}.scale"), f"{SITE} is no Uniform of 4 bits with the tensors zero"),
    "surplus": (lambda h, t: t.update(x=torch.zeros(3)), "Unexpected key"),
    "surplus scale": (lambda h, t: t.update({f"{SITE}.x": torch.zeros(3)}), f"{SITE} is no Uniform"),
    "lines": (lambda h, t: t.update({"a\n\x1b[31mb": torch.zeros(3)}), "Unexpected key"),
    "shape": (lambda h, t: t.update({"norm.bias": torch.zeros(3)}), "size mismatch for norm.bias"),
    "scale for each column": (lambda h, t: t.update({f"{SITE}.scale": torch.ones(64)}), "but scale has"),
    "much scale": (lambda h, t: t.update({f"{SITE}.scale": torch.ones(10**5, 1, 1)}), "but scale has"),
    "matrix of scales": (lambda h, t: t.update({f"{SITE}.scale": torch.ones(64, 64)}), "expected one value"),
    "no scale": (lambda h, t: t.update({f"{SITE}.scale": torch.ones(0)}), "expected one value"),
    "deep scale": (lambda h, t: t.update({f"{SITE}.scale": torch.ones((1,) * 9)}), "expected one value"),
    "many inputs": (lambda h, t: (h["quantizers"][f"{LAYER}.input_quantizer"].update(axis=-1),
                                  t.update({f"{LAYER}.input_quantizer.scale": torch.ones(9)})), "but ranges for 9"),
    "bias": (lambda h, t: t.update({f"{LAYER}.bias": torch.zeros(3)}), f"{LAYER}.bias"),
    "offset": (lambda h, t: t.update({f"{LAYER}.offset": torch.zeros(3, 3)}), f"{LAYER}.offset has the shape (3, 3)"),
    "half": (lambda h, t: t.update({"norm.bias": t["norm.bias"].half()}), "norm.bias is float16 instead of float32"),
    "double": (lambda h, t: t.update({"norm.bias": t["norm.bias"].double()}), "is float64 instead of float32"),
    "bool": (lambda h, t: t.update({"norm.bias": t["norm.bias"] > 0}), "is bool instead of float32"),
    "8-bit float": (lambda h, t: t.update({"norm.bias": t["norm.bias"].to(torch.float8_e5m2)}), "is float8_e5m2"),
    "codes as int32": (lambda h, t: t.update({f"{LAYER}.weight": t[f"{LAYER}.weight"].int()}), "codes of 4 bits take"),
    "extra state": (lambda h, t: t.update({f"{SITE}._extra_state": torch.zeros(1)}), SITE),
    "recipe": (lambda h, t: h["info"].update(recipe={}), "nothing builds by name"),
    "another model": (lambda h, t: h["info"].update(recipe={"builder": "imagenet", "model": "mini_swin"}),
                      "into the network that it names"),
    "hub": (lambda h, t: h["info"]["recipe"].update(builder="timm", name="hf-hub:x/y"), "cannot build the network"),
    "info": (lambda h, t: h["info"].pop("seed"), "seed: field required"),
    "info's type": (lambda h, t: h["info"].update(bits=4), "bits: input should be a valid string"),
    "coverage": (lambda h, t: h["info"].update(coverage={"macs": 1}), "quantized: field required"),
    "shape of inputs": (lambda h, t: h["info"].update(shape=[10**9]), "shape.0"),
    "absent": (lambda h, t: h.update(absent=[["a"]]), "absent.0"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_hostile_content_with_a_right_checksum(what, good, tmp_path):
    change, words = CHANGES[what]
    assert words in refused(put(tmp_path, hostile.changed(good[0], change)))


def test_what_a_file_says_cannot_steer_a_terminal(good, tmp_path):
    def change(header, _):
        header["info"].update(title="a\x1b[31m\nb", note="\u202ec")
        header["quantizers"][SITE]["note"] = "d\x1b[2J"

    card = aiqvit.card(aiqvit.load(put(tmp_path, hostile.changed(good[0], change))))
    assert card.startswith("a\\x1b[31m b, ") and "\x1b" not in card and "\u202e" not in card


def changed_part(content: bytes, draw: Random) -> bytes:
    """The file with a right checksum after one part of its header has other values."""
    header, tensors = hostile.parts(content)
    place, key = draw.choice(((header, "quantizers"), (header, "packed"), (header, "info"), (header["info"], "recipe")))
    place[key] = json.loads(changed_json(place[key], draw))
    return hostile.written(header, tensors)


def changed_tensors(content: bytes, draw: Random) -> bytes:
    """The file with a right checksum after one tensor was lost, renamed, repeated, cut or turned into another."""
    header, tensors = hostile.parts(content)
    name = draw.choice(list(tensors))
    old = tensors.pop(name)
    other = draw.choice((torch.float16, torch.int64, torch.uint8, torch.bool))
    new = draw.choice((None, old[None], old.to(other), old.flatten()[1:], old.new_zeros(1000, 1), old.new_zeros(0)))
    for key in {draw.choice((name, name + "x")), draw.choice((name, f"{name.rpartition('.')[0]}.offset"))}:
        tensors |= {} if new is None else {key: new.clone()}
    return hostile.written(header, tensors)


@pytest.mark.parametrize("mutate", (changed_part, changed_tensors))
def test_changed_content_with_a_right_checksum(mutate, good, tmp_path):
    path = tmp_path / "a.safetensors"

    @settings(max_examples=COUNT, deadline=None, database=None, derandomize=True)
    @given(st.integers(0, 2**64))
    def check(seed):
        draw = Random(seed)
        path.write_bytes(mutate(draw.choice(good), draw))
        with watched():
            try:
                aiqvit.card(load_model(path))
            except UserError as error:
                assert "\n" not in str(error) and len(str(error)) < 700 + len(str(path))

    check()


def test_into_another_network(good, tmp_path):
    path = put(tmp_path, good[0])
    for model, words in ((cases.trained("mini_swin"), "into a SwinTransformer: the state is of another scheme"),
                         (torch.nn.Linear(3, 3), "into a Linear: "), (torch.nn.Linear, "model is a type"),
                         ({}, "model is a dict"), (load_model(path), "quantized already")):
        with pytest.raises(UserError, match=re.escape(words)):
            load_model(path, model)


def test_places_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    header = {"card": [], "absent": [], "quantizers": {}, "packed": {}}
    for name, words in (("file/a", "exists|Not a directory"), ("", "folder"), ("x" * 300, "too long")):
        with pytest.raises(UserError, match=f"cannot write .*({words})"):
            file.write(tmp_path / name, header, Info(), {"a": torch.zeros(3)})
    path = tmp_path / "old"
    path.write_bytes(b"before")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match="cannot write .*No space left on device"):
        file.write(path, header, Info(), {"a": torch.zeros(3)})
    assert path.read_bytes() == b"before" and sorted(p.name for p in tmp_path.iterdir()) == ["file", "old"]


@pytest.mark.skipif("AIQVIT_SMALL_DISK" not in os.environ, reason="needs a small disk")
def test_a_full_disk_leaves_the_old_file():
    folder = Path(os.environ["AIQVIT_SMALL_DISK"])
    path, header = folder / "q.safetensors", {"card": [], "absent": [], "quantizers": {}, "packed": {}}
    file.write(path, header, Info(), {"a": torch.zeros(1000)})
    before = path.read_bytes()
    with pytest.raises(UserError, match="No space left on device"):
        file.write(path, header, Info(), {"a": torch.zeros(10**8)})
    assert path.read_bytes() == before and [p.name for p in folder.iterdir() if p.name.startswith(".q")] == []
    path.unlink()


def test_a_folder_without_rights(tmp_path):
    folder = tmp_path / "closed"
    folder.mkdir()
    folder.chmod(0o500)
    if os.access(folder, os.W_OK):
        pytest.skip("this user may write everywhere")
    with pytest.raises(UserError, match="Permission denied"):
        file.write(folder / "a", {"card": [], "absent": [], "quantizers": {}, "packed": {}}, Info(), {})


def test_tensors_of_every_kind_are_written(tmp_path):
    base = torch.arange(24.0).view(4, 6)
    tensors = {"turned": base.t(), "part": base[:, 1:3], "spread": base[:1].expand(5, 6), "one": torch.tensor(3.0),
               "none": torch.zeros(0, 3), "same": base, "again": base, "bool": base > 3, "whole": base.long(),
               "half": base.half(), "brain": base.bfloat16(), "learned": torch.nn.Parameter(base)}
    header = {"card": [], "absent": [], "quantizers": {}, "packed": {}}
    size = file.write(tmp_path / "a", header, Info(), tensors)
    assert size == (tmp_path / "a").stat().st_size
    found, info, read = file.read(tmp_path / "a")
    assert info == Info() and found["version"] == 1 and read.keys() == tensors.keys()
    assert all(torch.equal(read[name], tensor) and read[name].dtype == tensor.dtype for name, tensor in tensors.items())

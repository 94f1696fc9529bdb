"""A quantized model through a file: the same outputs in a fresh process, codes that others can read, nothing lost.

`AIQVIT_EVERY=1` takes every method on every model at every width.
"""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

import aiqvit
from aiqvit.deploy.info import Info, attach, info_of
from aiqvit.deploy.pack import coded_layers, load_model, save_model
from aiqvit.harness.launch.options import choose_methods
from aiqvit.interfaces import Bits, Job, UserError
from aiqvit.quant.quantizers import Uniform
from aiqvit.quant.surgery import quant_layers
from aiqvit.recon import rewriting
from tests.deploy import cases
from tests.families import networks

ROOT = Path(__file__).resolve().parents[2]
CASES = list(cases.every() if os.environ.get("AIQVIT_EVERY") else cases.some())
CASES += [cases.Case(method, "mini_vit", bits) for method, bits in cases.VARIANTS.items()]
if find_spec("mmdet") is None:
    CASES = [case for case in CASES if case.model not in cases.DETECTORS]


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> dict[cases.Case, Path]:
    """A folder with a file a case, its input, and what the model gave for it in this process."""
    folder, found = tmp_path_factory.mktemp("saved"), {}
    for number, case in enumerate(CASES):
        model, x, found[case] = cases.quantized(case), cases.given(case.model), folder / f"{number:04}.safetensors"
        assert save_model(model, found[case]) == found[case].stat().st_size
        torch.save(x, found[case].with_suffix(".in"))
        torch.save(cases.outputs(model, x), found[case].with_suffix(".expected"))
    return found


@pytest.fixture(scope="module")
def reopened(saved) -> dict[cases.Case, Path]:
    """The same after a fresh process has loaded all files."""
    folder = next(iter(saved.values())).parent
    command = [sys.executable, "-m", "tests.deploy.reopen", str(folder), str(torch.get_num_threads())]
    subprocess.run(command, cwd=ROOT, check=True)
    return saved


@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_a_fresh_process_gives_the_same_outputs(case, reopened):
    given, expected = (torch.load(reopened[case].with_suffix(f".{kind}")) for kind in ("out", "expected"))
    assert not isinstance(given, str), given
    assert len(given) == len(expected) and all(map(torch.equal, given, expected))


def test_cases_have_every_method_model_and_width():
    some = list(cases.some())
    assert {case.method for case in some} == set(cases.METHODS) and {case.model for case in some} == set(cases.MODELS)
    assert {case.bits for case in some} == {f"{bits}/{bits}" for bits in cases.WIDTHS}


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """The reader of docs/files.md."""
    (source,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "files.md").read_text(), re.S)
    assert len(source.splitlines()) <= 40
    assert set(re.findall(r"^(?:import|from) (\w+)", source, re.M)) == {"hashlib", "json", "numpy", "safetensors"}
    path = tmp_path_factory.mktemp("reader") / "reader.py"
    path.write_text(source)
    return runpy.run_path(str(path))["read"]


def test_a_reader_without_aiqvit_says_what_it_does_not_know(saved, read):
    (dual,) = [path for case, path in saved.items() if "dual=on" in case.method]
    with pytest.raises(ValueError, match="codes of a format that this reader does not know"):
        read(dual)


@pytest.mark.parametrize("case", [case for i, case in enumerate(CASES) if "dual=on" not in case.method
                                  and (i % 2 == 0 or "form=" in case.method)], ids=" ".join)
def test_a_reader_without_aiqvit_decodes_the_weights_that_the_model_uses(case, saved, read):
    header, weights = read(saved[case])
    model = load_model(saved[case])
    assert weights.keys() == dict(coded_layers(model)).keys()
    for name, layer in coded_layers(model):
        used = layer.quantized_weight().detach().numpy()
        assert weights[name].dtype == np.float32 and np.array_equal(weights[name], used)
        levels = len(np.unique(weights[name][0])) if layer.offset is None else 0
        assert levels <= 2 ** header["packed"][name]["bits"] == 2**layer.weight_quantizer.bits


def test_the_reader_refuses_what_was_changed(saved, read):
    path = saved[CASES[0]]
    content, changed = path.read_bytes(), path.with_suffix(".changed")
    changed.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ValueError, match="it was changed"):
        read(changed)
    changed.write_bytes(content.replace(b'\\"version\\":1', b'\\"version\\":3'))
    with pytest.raises(ValueError, match="version 3"):
        read(changed)


@pytest.mark.parametrize("method", ("repqvit", "repqvit[rotate=on]"))
@pytest.mark.parametrize("name", networks.NETWORKS)
def test_every_family_into_a_network_of_another_seed(name, method, tmp_path):
    (choice,) = choose_methods(method)
    x, model = networks.images(), networks.build(name)
    model = rewriting.quantized(choice.build("smoke"), Job(model, None, [x], Bits(4, 6)))
    save_model(attach(model, Info()), tmp_path / "a")
    torch.manual_seed(99)
    loaded = load_model(tmp_path / "a", networks.NETWORKS[name]())
    with torch.no_grad():
        assert torch.equal(loaded(x), model(x))


def test_what_a_file_says_of_its_model_is_what_the_model_said(saved):
    for path in list(saved.values())[:3]:
        first = load_model(path)
        save_model(first, path.with_suffix(".again"))
        assert path.with_suffix(".again").read_bytes() == path.read_bytes()
        assert info_of(first).recipe and not first.training
        assert not any(parameter.requires_grad for parameter in first.parameters())


def test_padding_of_windows_stays_when_a_method_changes_the_bias_it_was_made_from(saved):
    pytest.importorskip("mmdet")
    case = next(case for case in CASES if case.model in cases.DETECTORS)
    state, fresh = load_model(saved[case]).state_dict(), cases.trained(case.model).state_dict()
    key = "backbone.stages.2.blocks.0.attn.{}".format
    assert torch.equal(state[key("padding")], fresh[key("qkv.bias")])
    with torch.no_grad():
        state[key("padding")].add_(1)
        changed, x = load_model(saved[case]), cases.given(case.model)
        before = cases.outputs(changed, x)
        changed.load_state_dict(state)
        assert not all(map(torch.equal, before, cases.outputs(changed, x)))  # windows are padded at this size


def test_a_file_is_small(saved):
    for case, path in saved.items():
        if case.model == "mini_vit" and case.bits in ("3/3", "4/4", "8/8") and "form=" not in case.method:
            model = load_model(path)
            coded = {f"{name}.weight" for name, _ in coded_layers(model)}
            bits = dict(coded_layers(model))["blocks.0.attn.qkv"].weight_quantizer.bits
            state = {name: t for name, t in model.state_dict().items() if isinstance(t, torch.Tensor)}
            codes = sum(t.numel() for name, t in state.items() if name in coded) * bits / 8
            rest = sum(t.nbytes for name, t in state.items() if name not in coded)
            assert path.stat().st_size < 1.05 * (codes + rest) + 50_000


def test_what_is_no_quantized_model_is_not_saved(tmp_path):
    with pytest.raises(UserError, match="Linear is no quantized model"):
        aiqvit.save(torch.nn.Linear(2, 2), tmp_path / "a")
    model = cases.quantized(cases.Case("minmax", "mini_vit", "4/4"))
    name, layer = next(quant_layers(model))
    layer.compensation = lambda weight, _: weight
    with pytest.raises(UserError, match=f"{name}: its compensation is still being trained"):
        save_model(model, tmp_path / "a")
    layer.compensation = None
    attach(model, Info(settings={"x": object()}))
    with pytest.raises(UserError, match="no plain value, .*object is not JSON serializable"):
        save_model(model, tmp_path / "a")
    attach(model, Info(settings={"x": float("nan")}))
    with pytest.raises(UserError, match="no plain value"):
        save_model(model, tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_format_of_somebody_else_is_refused(tmp_path):
    class Ternary(Uniform):
        pass

    model = attach(cases.quantized(cases.Case("minmax", "mini_vit", "4/4")), Info())
    model.blocks[0].mlp.fc1.input_quantizer.__class__ = Ternary
    with pytest.raises(UserError, match="cannot be stored: blocks.0.mlp.fc1.input_quantizer has the format 'Ternary'"):
        save_model(model, tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_weight_whose_codes_do_not_give_it_again_is_refused(tmp_path, monkeypatch):
    model = attach(cases.quantized(cases.Case("minmax", "mini_vit", "4/4")), Info())
    layer = model.blocks[0].mlp.fc1
    monkeypatch.setattr(layer.weight_quantizer, "decode", lambda codes: codes.float())
    with pytest.raises(UserError, match="blocks.0.mlp.fc1: its weight cannot be stored as codes, Uniform"):
        save_model(model, tmp_path / "a")
    assert list(tmp_path.iterdir()) == []

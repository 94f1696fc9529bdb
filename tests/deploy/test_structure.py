"""Networks that were rewritten before quantization, through a file: from every builder, and hostile ones."""

import pytest
import timm
import torch

import aiqvit
from aiqvit.deploy.info import info_of
from aiqvit.deploy.structure import replace, replaced
from aiqvit.families.opening import open_model
from aiqvit.interfaces import UserError
from aiqvit.transforms.rotate import RMSNorm, Turned, rotate
from tests.deploy import cases, hostile
from tests.families import networks

BUILT = {
    "timm": (lambda: timm.create_model("test_vit", num_classes=5), 160, 13),
    "swin": (lambda: timm.create_model("swin_tiny_patch4_window7_224", img_size=32, window_size=4, embed_dim=24,
                                       depths=(2, 1), num_heads=(2, 2), num_classes=5), 32, 0),
}


@pytest.mark.parametrize("name", BUILT)
def test_a_rotated_network_comes_back_from_its_builder(name, tmp_path):
    make, size, norms = BUILT[name]
    network, x = make().eval(), torch.randn(2, 3, size, size)
    q = aiqvit.quantize(network, x, "minmax", "4/4", rotate=True, progress=False)
    aiqvit.save(q, tmp_path / "q")
    loaded = aiqvit.load(tmp_path / "q") if info_of(q).recipe else aiqvit.load(tmp_path / "q", make())
    with torch.no_grad():
        assert torch.equal(loaded(x), q(x))
    assert replaced(loaded) == replaced(q) and list(replaced(q).values()) == ["RMSNorm"] * norms
    assert info_of(loaded) == info_of(q) and len(info_of(q).rewritten) == 2
    assert aiqvit.card(loaded) == aiqvit.card(q) and all(said in aiqvit.card(q) for said in info_of(q).rewritten)


def test_a_norm_with_which_the_stream_begins_comes_back():
    first, second = (open_model(networks.build("clip")) for _ in range(2))
    rotate(first, torch.Generator())
    kinds = replaced(first)
    assert "Turned" in kinds.values() and "RMSNorm" in kinds.values()
    replace(second, kinds)
    second.load_state_dict(first.state_dict())
    with torch.no_grad():
        assert torch.equal(first(networks.images()), second(networks.images()))


def test_modules_that_cannot_stand_there_are_refused():
    for name, kind in (("", "RMSNorm"), ("head", "RMSNorm"), ("blocks.9.norm1", "RMSNorm"), ("norm.weight", "Turned"),
                       ("head", "Turned"), ("head", "ReLU"), ("norm", "ReLU"), ("blocks.0.drop_path1", "ReLU"),
                       ("blocks", "Turned"), ("a\nb", "RMSNorm")):
        with pytest.raises(ValueError, match=f"cannot become a {kind}"):
            replace(open_model(timm.create_model("test_vit")), {name: kind})
    network = open_model(timm.create_model("test_vit"))
    replace(network, {"norm": "RMSNorm", "blocks.0.norm1": "Turned"})
    assert type(network.norm) is RMSNorm and type(network.blocks[0].norm1) is Turned
    with pytest.raises(ValueError, match="norm cannot become a RMSNorm: no LayerNorm"):
        replace(network, {"norm": "RMSNorm"})


CHANGES = {  # of a file of a rotated network, with a right checksum -> what is said
    "another": (lambda h: h["rewritten"].update({"blocks.1.norm2": "Turned"}), "Turned) is not supported"),
    "a class": (lambda h: h["rewritten"].update({"norm": "Linear"}), "rewritten.norm: input should be"),
    "a layer": (lambda h: h["rewritten"].update({"head": "RMSNorm"}), "head cannot become a RMSNorm"),
    "the root": (lambda h: h["rewritten"].update({"": "RMSNorm"}), "at least 1"),
    "a list": (lambda h: h.update(rewritten=["norm"]), "rewritten: input should be a valid dictionary"),
    "sentences": (lambda h: h["info"].update(rewritten=[3]), "rewritten.0: input should be a valid string"),
    "text": (lambda h: h["info"].update(rewritten="abc"), "rewritten"),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("good") / "q"
    aiqvit.save(cases.quantized(cases.Case("minmax[rotate=on]", "mini_vit", "4/4")), path)
    return path.read_bytes()


@pytest.mark.parametrize("what", CHANGES)
def test_hostile_files_of_rewritten_networks_are_one_sentence(what, good, tmp_path):
    change, words = CHANGES[what]
    (tmp_path / "a").write_bytes(hostile.changed(good, lambda header, _: change(header)))
    with pytest.raises(UserError, match="^cannot load") as error:
        aiqvit.load(tmp_path / "a")
    assert words in str(error.value) and "\n" not in str(error.value)


def test_a_file_without_any_is_as_before(tmp_path):
    path = tmp_path / "q"
    aiqvit.save(cases.quantized(cases.Case("minmax", "mini_vit", "4/4")), path)
    header, _ = hostile.parts(path.read_bytes())
    assert header["version"] == 1 and "rewritten" not in header and "rewritten" not in header["info"]

"""Which weights of a checkpoint are taken."""

import pytest
import torch
from aiqvit.tasks.checkpoints.containers import inside, unwrapped, weights_in, without_shadows
from aiqvit.tasks.weights import read_checkpoint
from safetensors.torch import save_file

GOOD = {"a.weight": torch.ones(2, 2), "a.bias": torch.ones(2)}
RAW = {key: value * 2 for key, value in GOOD.items()}


def prefixed(prefix, state=GOOD):
    return {prefix + key: value for key, value in state.items()}


@pytest.mark.parametrize(("content", "key"), [
    (GOOD, ""),
    ({"state_dict": RAW, "state_dict_ema": GOOD}, "state_dict_ema"),
    ({"model": RAW, "model_ema": GOOD, "optimizer": {"state": {0: RAW}}}, "model_ema"),
    ({"model": RAW, "ema": {"module": GOOD, "updates": torch.tensor(3)}}, "ema.module"),
    ({"model_ema": {}, "model": GOOD}, "model"),
    ({"state_dict_ema": None, "state_dict": GOOD}, "state_dict"),
    ({"student": RAW, "teacher": GOOD}, "teacher"),
    ({"student": GOOD}, "student"),
    ({"state_dict": GOOD, "ema_state_dict": RAW}, "state_dict"),  # MMEngine swaps them when it saves
    ({"ema_state_dict": GOOD}, "ema_state_dict"),
    ({"net": GOOD}, "net"),
    ({"module": GOOD}, "module"),
    ({"model_state_dict": GOOD, "optimizer_state_dict": {"state": {0: RAW}}}, "model_state_dict"),
    ({"model": {"state_dict": RAW, "state_dict_ema": GOOD}}, "model.state_dict_ema"),
    ({"checkpoint": {"model": GOOD}, "epoch": 1}, "checkpoint.model"),
    ({"model": GOOD, "scale": torch.tensor(1.0)}, "model"),
    ({"model": GOOD, "rng": torch.zeros(9), "cuda": torch.zeros(9)}, "model"),
    ({**GOOD, "ema": {"decay": torch.ones(1)}}, ""),
    ({"steps": torch.tensor(3), "checkpoint": {"net": GOOD}}, "checkpoint.net"),
])
def test_containers(content, key):
    state, path = weights_in(content)
    assert path == key and state.keys() == GOOD.keys()
    assert all(torch.equal(state[name], GOOD[name]) for name in GOOD)


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [], None, torch.ones(2), {"a": {"b": {"c": {}}}},
                                     {"first": GOOD, "second": RAW}])
def test_nothing_or_nothing_certain(content):
    assert weights_in(content) == ({}, "")


def test_the_choice_is_told(tmp_path):
    both = {"state_dict": prefixed("module.", RAW), "state_dict_ema": prefixed("module._orig_mod.")}
    torch.save(both, tmp_path / "a")
    state, notes = read_checkpoint(tmp_path / "a")
    assert torch.equal(state["a.bias"], GOOD["a.bias"])
    assert notes == ["weights taken from the key 'state_dict_ema', not 'state_dict' beside it",
                     "prefix 'module._orig_mod.' removed from the keys"]
    save_file(GOOD, tmp_path / "b.pth")  # the content decides
    assert read_checkpoint(tmp_path / "b.pth")[1] == []


def test_prefixes_of_most_keys_only():
    for prefix in ("module.", "_orig_mod.", "model.", "module._orig_mod.module.", "model._orig_mod."):
        state, removed = unwrapped(prefixed(prefix))
        assert state.keys() == GOOD.keys() and removed == prefix
    few = {**GOOD, "c": torch.ones(1), "module.d": torch.ones(1)}
    assert unwrapped(few) == (few, "")
    with_counter = {**prefixed("module."), "n_averaged": torch.tensor(4)}
    assert unwrapped(with_counter)[0].keys() == GOOD.keys() | {"n_averaged"}


def test_shadows_of_old_mmcv_are_left_out():
    assert without_shadows({**GOOD, "ema_a_weight": RAW["a.weight"]}).keys() == GOOD.keys()


def test_the_part_that_fits():
    own = set(GOOD)
    both = {**prefixed("net.", RAW), **prefixed("net_ema.module."), "loss.weight": torch.ones(1)}
    state, prefix, left = inside(both, own)
    assert prefix == "net_ema.module." and torch.equal(state["a.bias"], GOOD["a.bias"]) and "loss.weight" in left
    assert inside({**prefixed("student.x."), **prefixed("teacher.x.")}, own)[1] == "teacher.x."
    split = {"backbone.a.weight": GOOD["a.weight"], "backbone.b": GOOD["a.bias"], "a.bias": GOOD["a.bias"]}
    assert inside(split, {*own, "b"})[0].keys() == {*own, "b"}
    assert inside(GOOD, own) == (GOOD, "", [])
    assert inside({"x.y": torch.ones(1)}, own)[1:] == ("", [])

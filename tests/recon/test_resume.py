"""A run that was killed goes on behind its last finished unit, and nothing shows in the numbers."""

from __future__ import annotations

import io

import pytest
import torch

from aiqvit.interfaces import Bits, Checkpoint, Job
from aiqvit.recon import rewriting
from aiqvit.registry import METHODS
from tests.models import images, tiny, units

REPAIRING = [name for name in METHODS.names() if "reconstruct_model" in METHODS.get(name).quantize.__code__.co_names]
CASES = [(name, "vit", {}) for name in REPAIRING] + [
    ("aiqvit", "swin", {"form": "outside", "order": "recon_then_reparam"}), ("brecq", "deit", {"loss": "fisher"}),
    ("isvit", "swin", {}), ("qdrop", "vit", {"rotate": True}), ("blockwise", "vit", {"relu": True, "rotate": True})]
FEWER = {"elements": 256, "widths": 4}
QUICKER = {"brecq": {"elements": 256}, "blockwise": FEWER, "qdrop": FEWER}


class Killed(Exception):
    """What stands for kill -9."""


class Kept(Checkpoint):
    """Keeps units as they would lie on disk; is killed after `last` saves."""

    def __init__(self, files: dict[str, bytes], last: int | None = None) -> None:
        self.files, self.last = files, last

    def load(self, unit):
        kept = self.files.get(unit)
        return kept and torch.load(io.BytesIO(kept), weights_only=True)

    def save(self, unit, state):
        file = io.BytesIO()
        torch.save(state, file)
        self.files[unit] = file.getvalue()
        if len(self.files) == self.last:
            raise Killed


@pytest.fixture(autouse=True)
def one_thread():
    """Tiny tensors: more threads are slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def quantized(method: str, family: str, settings: dict, checkpoint: Checkpoint) -> tuple[torch.Tensor, list[dict]]:
    """Logits and log, without the seconds."""
    cls = METHODS.get(method)
    job = Job(tiny(family), units(family), list(images(8).split(4)), Bits(3, 3), checkpoint=checkpoint)
    with torch.no_grad():
        built = cls(**{**cls.presets["smoke"], **QUICKER.get(method, {}), **settings})
        logits = rewriting.quantized(built, job)(images())
    return logits, [{k: v for k, v in entry.items() if not k.endswith("seconds")} for entry in job.log]


@pytest.mark.parametrize(("method", "family", "settings"), CASES, ids=str)
def test_killed_after_any_unit_the_numbers_are_the_same(method, family, settings):
    expected, log = quantized(method, family, settings, Checkpoint())
    files: dict[str, bytes] = {}
    for last in (1, 3):
        with pytest.raises(Killed):
            quantized(method, family, settings, Kept(files, last))
    torch.rand(7)  # another process: its generators stand elsewhere
    logits, again = quantized(method, family, settings, Kept(files))
    assert torch.equal(logits, expected) and again == log
    assert [name for name in files if not name.startswith("mlp:")] == list(units(family))
    assert len(files) == len(units(family)) + 2 * settings.get("relu", False)  # MLPs have states of their own
    assert {"aiqvit", "brecq", "qdrop", "isvit"} <= set(REPAIRING)


WRONG = {  # changes of a kept state that a method must not be led astray by
    "nothing": lambda state: state.clear(), "no random": lambda state: state.pop("random"),
    "short random": lambda state: state["random"].update(noise=torch.zeros(3, dtype=torch.uint8)),
    "no unit": lambda state: state.update(unit={}), "text": lambda state: state.update(unit="x"),
    "a number": lambda state: state.update(log=3),
    "another shape": lambda state: state["unit"].update({next(iter(state["unit"])): torch.zeros(1, 2, 3)}),
    "more": lambda state: state["unit"].update(forward=torch.zeros(1)),
    "another quantizer": lambda state: state["unit"].update({
        key: {"format": "os.system"} for key in state["unit"] if key.endswith("_extra_state")}),
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_a_state_that_does_not_fit_is_refused_and_done_again(change):
    expected, log = quantized("brecq", "vit", {}, Checkpoint())
    files: dict[str, bytes] = {}
    with pytest.raises(Killed):
        quantized("brecq", "vit", {}, Kept(files, 3))
    second = list(files)[1]
    state = torch.load(io.BytesIO(files[second]), weights_only=True)
    change(state)
    file = io.BytesIO()
    torch.save(state, file)
    files[second] = file.getvalue()
    kept = Kept(files)
    kept.refuse = lambda unit, error: (refused.append(unit), setattr(kept, "load", lambda unit: None))
    refused: list[str] = []
    logits, again = quantized("brecq", "vit", {}, kept)
    assert refused == [second] and torch.equal(logits, expected) and again == log

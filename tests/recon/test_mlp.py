"""Feed-forward networks with ReLU learn what they gave with GELU; nothing depends on workers, memory or kills."""

import copy
import io
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from aiqvit.families.opening import open_model
from aiqvit.interfaces import Bits, Checkpoint, Job, Shared
from aiqvit.recon.activations import Activations, ActivationStore
from aiqvit.recon.mlp import MlpSchedule, relu_model
from aiqvit.recon.mlp_data import captured, fitting, mlps_of, positive_quantile
from aiqvit.recon.mlp_training import DirectAndClamped
from aiqvit.recon.objectives.perturbation import PerturbationMap, perturbation_map
from aiqvit.recon.tail import Tail
from tests.families.networks import build
from tests.models import images, tiny, tiny_points

SHORT = MlpSchedule(steps=12, batch=4, rate=1e-3)


class Killed(Exception):
    """What stands for kill -9."""


class Kept(Checkpoint):
    """Keeps networks as they would lie on disk; is killed after `last` saves."""

    def __init__(self, files, last=None):
        self.files, self.last, self.refused = files, last, []

    def load(self, unit):
        kept = None if self.refused else self.files.get(unit)
        return kept and torch.load(io.BytesIO(kept), weights_only=True)

    def refuse(self, unit, error):
        self.refused.append(unit)

    def save(self, unit, state):
        file = io.BytesIO()
        torch.save(state, file)
        self.files[unit] = file.getvalue()
        if len(self.files) == self.last:
            raise Killed


def job_of(family="vit", **more):
    model = build(family) if family not in ("vit", "deit", "swin") else tiny(family)
    return Job(model, None, list(images(8).split(4)), Bits(3, 3), **more)


def rewritten(family="vit", schedule=SHORT, **more):
    """The state of the rewritten model and the log without the seconds."""
    job = job_of(family, **more)
    relu_model(job, schedule)
    return job.model.state_dict(), [{k: v for k, v in e.items() if k != "seconds"} for e in job.log]


def same(a, b):
    return a[1] == b[1] and all(torch.equal(a[0][key], b[0][key]) for key in a[0] | b[0])


@pytest.mark.parametrize("family", ["vit", "swin", "vit_parallel", "tv_vit", "siglip", "cait", "vit_things"])
def test_outputs_come_nearer_and_only_feed_forward_layers_change(family):
    job = job_of(family)
    with torch.no_grad():
        wanted = job.model(images())
    plain = copy.deepcopy(job)
    relu_model(plain, MlpSchedule(steps=0))
    relu_model(job, MlpSchedule(steps=80, batch=4, rate=1e-3))
    with torch.no_grad():
        assert torch.allclose(job.teacher(images()), wanted, atol=1e-5)
        near, far = (F.mse_loss(j.model(images()), wanted) for j in (job, plain))
    assert near < 0.5 * far and all(entry["kept"] for entry in job.log)
    assert all(entry["loss_after"] < 0.7 * entry["loss_before"] for entry in job.log)
    trained = {name for mlp in mlps_of(job.teacher) for name in mlp.layers}
    changed = {name.rpartition(".")[0] for (name, p), q in zip(
        job.model.named_parameters(), plain.model.parameters(), strict=True) if not torch.equal(p, q)}
    assert changed == trained and not any(p.requires_grad for p in job.model.get_submodule(min(trained)).parameters())


def test_loss_is_that_of_the_paper():
    job = job_of()
    relu_model(job, MlpSchedule(steps=0))
    (mlp, *_), inputs = mlps_of(job.teacher), Activations(ActivationStore(0))
    inputs.append((torch.randn(4, 5, 24),))
    fc1, fc2 = (job.teacher.get_submodule(name) for name in mlp.layers)
    with torch.no_grad():
        behind = F.gelu(fc1(inputs.batches[0][0]))
    values = behind[behind > 0].sort().values
    limit = positive_quantile(job.teacher, mlp, inputs, 0.6)
    assert limit == values[-(-len(values) * 6 // 10) - 1]
    target, (direct, clamped) = torch.randn(3, 5, 6), torch.randn(2, 3, 5, 6)
    errors = DirectAndClamped().errors(torch.cat((direct, clamped)), target, [0, 1, 2])
    assert errors.shape == target.shape
    torch.testing.assert_close(errors.mean(), F.mse_loss(direct, target) + 2 * F.mse_loss(clamped, target))
    h = torch.rand(5, 6)
    weighted = DirectAndClamped(PerturbationMap({h.shape: h})).errors(torch.cat((direct, clamped)), target, [0, 1, 2])
    torch.testing.assert_close(weighted, h * errors)


def test_logged_losses_are_of_the_relu_network_and_its_clamped_form():
    job = job_of()
    relu_model(job, MlpSchedule(steps=0, quantile=0.9))
    (mlp, *_), store = mlps_of(job.teacher), ActivationStore(2**30)
    (inputs, outputs), *_ = captured(job.teacher, [mlp], job.calibration, job.forward, store)
    limit = positive_quantile(job.teacher, mlp, inputs, 0.9)
    weighted = job_of()
    relu_model(weighted, MlpSchedule(steps=0, quantile=0.9, weighting="hessian"))
    tail = Tail(job.teacher, (mlp.end,), mlp.end, job.calibration, job.forward)
    h = perturbation_map(tail, outputs, torch.Generator().manual_seed(0)).scaled().maps[(17, 24)]
    x, t = (torch.cat([batch[0] for batch in part.batches]) for part in (inputs, outputs))
    with torch.no_grad():
        torch.testing.assert_close(mlp.within(job.teacher)(x), t)
        fc1, fc2 = (job.model.get_submodule(name) for name in mlp.layers)
        hidden = fc1(x).relu()
        errors = (fc2(hidden) - t).square() + 2 * (fc2(hidden.clamp(max=limit)) - t).square()
        expected = errors.mean()
    assert weighted.log[0]["loss_before"] == pytest.approx((errors * h).mean().item(), rel=1e-5)
    assert job.log[0]["loss_before"] == job.log[0]["loss_after"] == pytest.approx(expected.item(), rel=1e-5)
    assert (hidden > limit).any()


def test_the_same_bit_for_bit_with_any_number_of_workers_and_in_any_memory():
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(rewritten("swin"))
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    assert same(*found)
    assert same(found[0], rewritten("swin", MlpSchedule(steps=12, batch=4, rate=1e-3, memory_gb=1e-9)))
    assert not same(found[0], rewritten("swin", seed=1))


def test_networks_are_captured_together_as_far_as_memory_goes():
    model, batches = open_model(tiny("vit")), list(images(8).split(4))
    mlps, one = mlps_of(model), 8 * 17 * 24 * 4 * 2  # bytes of inputs and outputs
    for limit, expected in ((one - 1, [1, 1]), (2 * one - 1, [1, 1]), (2 * one, [2])):
        groups = list(fitting(model, mlps, batches, lambda m, x: m(x), limit))
        assert [len(group) for group in groups] == expected and sum(groups, []) == mlps


@pytest.mark.parametrize("last", [1, 2, 3])
def test_killed_after_any_network_the_numbers_are_the_same(last):
    schedule, files = MlpSchedule(steps=5, batch=4, rate=1e-3, weighting="hessian"), {}
    expected = rewritten("swin", schedule)
    with pytest.raises(Killed):
        rewritten("swin", schedule, checkpoint=Kept(files, last))
    assert len(files) == last and same(expected, rewritten("swin", schedule, checkpoint=Kept(files)))
    assert list(files) == [entry["unit"] for entry in expected[1]]


def test_a_state_that_does_not_fit_is_refused_and_done_again():
    expected, files = rewritten("swin"), {}
    with pytest.raises(Killed):
        rewritten("swin", checkpoint=Kept(files, 3))
    second, checkpoint = list(files)[1], Kept(files)
    file = io.BytesIO()
    torch.save({"unit": {}, "log": {}}, file)
    files[second] = file.getvalue()
    assert same(expected, rewritten("swin", checkpoint=checkpoint)) and checkpoint.refused == [second]


def test_a_network_whose_loss_rose_is_put_back():
    job, plain = job_of(), job_of()
    relu_model(plain, MlpSchedule(steps=0))
    relu_model(job, MlpSchedule(steps=3, batch=4, rate=5.0))
    assert all(not entry["kept"] and entry["loss_after"] > entry["loss_before"] for entry in job.log)
    for p, q in zip(job.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(p, q)


def test_without_a_gelu_nothing_happens():
    for model in (open_model(tiny_points("classifier")), open_model(build("vit_swiglu"))):
        job, state = Job(model, None, [], Bits(3, 3)), copy.deepcopy(model.state_dict())
        relu_model(job, SHORT)
        assert job.teacher is None and not job.log and len(job.rewritten) == 1 and job.rewritten[0].startswith("ReLU: ")
        assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


class Together(Shared):
    """Keeps everything."""

    def __init__(self, found=None):
        super().__init__()
        self.found = {} if found is None else found

    def get(self, key):
        return self.found.get(key)

    def put(self, key, value):
        self.found[key] = value


def test_a_run_takes_what_another_has_reconstructed_and_says_how_long_that_took(monkeypatch):
    alone, first = rewritten(), Together()
    assert_same(rewritten(shared=first), alone)
    second, files = Together(first.found), {}
    monkeypatch.setattr("aiqvit.recon.mlp.train_mlp", None)  # nothing is trained
    assert_same(rewritten(shared=second, checkpoint=Kept(files)), alone)
    assert first.seconds == 0.0 < second.seconds and len(files) == len(alone[1])
    assert_same(rewritten(shared=Together(), checkpoint=Kept(files)), alone)


@pytest.mark.parametrize("other", [{"steps": 13}, {"rate": 2e-3}, {"weighting": "hessian"}, {"batch": 3}])
def test_another_schedule_shares_nothing(other):
    shared = Together()
    rewritten(shared=shared)
    rewritten(schedule=replace(SHORT, **other), shared=shared)
    assert len(shared.found) == 2 and shared.seconds == 0.0


def test_memory_is_not_what_makes_a_schedule_another():
    shared = Together()
    rewritten(shared=shared)
    rewritten(schedule=replace(SHORT, memory_gb=0.5), shared=shared)
    assert len(shared.found) == 1 and shared.seconds > 0


def assert_same(one, other):
    assert one[1] == other[1] and one[0].keys() == other[0].keys()
    assert all(torch.equal(one[0][name], other[0][name]) for name in one[0])

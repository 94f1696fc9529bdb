"""The rest of the network behind a unit: equal to the whole network with the unit's output replaced."""

import pytest
import torch
from torch import nn

from aiqvit.families.opening import open_model
from aiqvit.quant.anatomy import units_of
from aiqvit.recon.tail import Tail, samples
from tests.models import clouds, images, tiny, tiny_points


def call(model, batch):
    return model(batch)


def replaced(model, unit, output, batch):
    hook = model.get_submodule(unit).register_forward_hook(lambda *_: output)
    try:
        return model(batch)
    finally:
        hook.remove()


CASES = [("vit", "blocks.0", True), ("vit", "blocks.1", True), ("deit", "patch_embed", True), ("vit", "head", True),
         ("swin", "layers.0.blocks.1", True), ("swin", "layers.1.downsample", True),
         ("classifier", "blocks.0", True), ("segmenter", "bottom", False), ("segmenter", "downs.0", False)]


@pytest.mark.parametrize(("kind", "unit", "skips"), CASES)
def test_a_tail_is_the_network_behind_the_unit(kind, unit, skips):
    points = kind in ("classifier", "segmenter")
    model = tiny_points(kind) if points else tiny(kind)
    batches = [clouds(4, 0), clouds(2, 1)] if points else [images(4, 0), images(2, 1)]
    units = model.units() if points else units_of(open_model(tiny(kind)))
    tail, rows, seen = Tail(model, units, unit, batches, call), [5, 0, 3], []
    batch = samples(batches, rows)
    assert torch.equal(batch, torch.cat(batches)[rows])
    hook = model.get_submodule(unit).register_forward_hook(lambda _, __, y: seen.append(y))
    with torch.no_grad():
        expected = model(batch)
    hook.remove()
    assert tail.skips == skips
    with torch.no_grad():
        torch.testing.assert_close(tail.reference(rows), expected)
        torch.testing.assert_close(tail(seen[0], rows), expected)
        other = seen[0] + torch.randn_like(seen[0])
        torch.testing.assert_close(tail(other, rows), replaced(model, unit, other, batch))


def test_gradients_flow_to_the_output_and_the_units_in_front_are_left_out():
    model, called = tiny("vit"), []
    tail = Tail(model, ("patch_embed", "blocks.0", "blocks.1", "head"), "blocks.1", [images(4)], call)
    assert tail.skips
    for name in ("patch_embed.proj", "blocks.0.mlp.fc1", "head"):  # what really computes
        model.get_submodule(name).register_forward_hook(lambda *_, name=name: called.append(name))
    output = torch.randn(2, 17, 24, requires_grad=True)
    tail(output, [1, 3]).square().sum().backward()
    assert output.grad.abs().sum() > 0 and called == ["head"]
    numeric, step = [], 1e-2
    for sign in (1, -1):
        moved = output.detach().clone()
        moved[1, 0, 5] += sign * step
        with torch.no_grad():
            numeric.append(tail(moved, [1, 3]).square().sum().item())
    assert output.grad[1, 0, 5].item() == pytest.approx((numeric[0] - numeric[1]) / (2 * step), rel=2e-2, abs=1e-3)


class Lists(nn.Module):
    """Takes a list of samples, as detectors do."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, batch):
        return [self.b(self.a(torch.stack(batch)))]


def test_lists_of_samples():
    model = Lists().requires_grad_(False)
    data = [[torch.randn(3), torch.randn(3)], [torch.randn(3)]]
    tail = Tail(model, ("a", "b"), "b", data, call)
    chosen = [data[1][0], data[0][1]]
    torch.testing.assert_close(tail(model(chosen)[0], [2, 1])[0], model(chosen)[0])


class Sized(nn.Module):
    """Maps with their size, as patch embeddings of detectors give them, and a layer behind."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = Pair(), nn.Linear(4, 2)

    def forward(self, x):
        y, size = self.a(x)
        return self.b(y) * size


class Pair(nn.Linear):
    def __init__(self) -> None:
        super().__init__(3, 4)

    def forward(self, x):
        return super().forward(x), x.shape[1]


def test_of_a_unit_that_gives_a_tuple_the_first_is_replaced():
    model, x = Sized().requires_grad_(False), torch.randn(2, 5, 3)
    tail, other = Tail(model, ("a", "b"), "a", [x], call), torch.randn(2, 5, 4, requires_grad=True)
    torch.testing.assert_close(tail(other, [0, 1]), model.b(other) * 5)
    torch.testing.assert_close(tail.reference([0, 1]), model(x))
    assert torch.autograd.grad(tail(other, [0, 1]).sum(), other)[0].abs().sum() > 0
    assert not model.a._forward_hooks


class Float32Only(torch.autograd.Function):
    """The identity, as an operator whose forward or backward pass has no kernel for bfloat16."""

    @staticmethod
    def forward(ctx, x, without):
        ctx.without = without
        if without == "forward" and x.dtype == torch.bfloat16:
            raise RuntimeError("\"op\" not implemented for 'BFloat16'")
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        if ctx.without == "backward" and gradient.dtype == torch.bfloat16:
            raise RuntimeError("\"op_backward\" not implemented for 'BFloat16'")
        return gradient, None


@pytest.mark.parametrize(("without", "takes"), [("", True), ("forward", False), ("backward", False)])
def test_whether_all_behind_the_unit_takes_bfloat16(without, takes):
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    model[1].register_forward_hook(lambda _, __, y: Float32Only.apply(y, without))
    tail = Tail(model, ["0", "1", "2"], "0", [torch.randn(3, 3)], call)
    assert tail.takes_bfloat16() is takes
    assert tail.takes_bfloat16("1")  # not that far
    assert Tail(model, ["0", "1", "2"], "1", [torch.randn(3, 3)], call).takes_bfloat16()  # the hook is the unit's own

"""Coverage: the share of a model's multiply-accumulates that runs on quantized operands, counted by torch itself.

`FlopCounterMode` counts every matrix product and convolution of one forward pass, whoever computes it; what it finds
outside of quantized layers and products was missed, unless the family says that it stays in full precision by design.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from aiqvit.interfaces import Coverage, UserError
from aiqvit.quant.anatomy import full_precision
from aiqvit.quant.layers import QuantLayer, QuantProduct

ENOUGH = 0.99


def require(coverage: Coverage, partial: bool = False, model: str = "the model") -> None:
    """Raise `UserError` with the name of the first module missed when more than 1 % was, unless `partial`."""
    if coverage.missed > 1 - ENOUGH and not partial:
        raise UserError(f"{model}: {coverage.missed:.1%} of its multiply-accumulates would stay in full precision, the "
                        f"first in {coverage.first}, which no family knows how to quantize: see docs/add-a-family.md, "
                        "or let it pass with --partial (in Python partial=True), which marks every table")


@torch.no_grad()
def coverage(model: nn.Module, forward: Callable[[nn.Module], object], *, placed: bool = False) -> Coverage:
    """Count in one forward pass of a quantized model, with attention that is still fused computed in parts.

    With `placed`, every layer and product that has quantizers counts as quantized, whatever their format and whether
    they are on: what a family can reach, before anything is calibrated.
    """
    count = _Count(model, placed)
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # of nn.MultiheadAttention: the counter does not see into it
    try:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            count.counter = counter
            forward(model)
    finally:
        count.remove()
        torch.backends.mha.set_fastpath_enabled(fused)
        total = max(counter.get_total_flops(), 1)
    shares = {kind: flops / total for kind, flops in count.flops.items()}
    outside = max(1 - sum(shares.values()), 0.0)  # in no module at all
    missed = shares["missed"] + (outside if outside > 1e-9 else 0.0)
    return Coverage(total // 2, shares["quantized"], shares["one_operand"], shares["declared"], missed, count.first)


class _Count:
    """Hooks that book the operations of every module which are not those of a module inside it."""

    def __init__(self, model: nn.Module, placed: bool) -> None:
        self.counter: FlopCounterMode | None = None
        self.placed, self.declared = placed, full_precision(model)
        self.flops = dict.fromkeys(("quantized", "one_operand", "declared", "missed"), 0)
        self.first = ""
        self.stack: list[list[int]] = []  # of the modules entered: operations before, operations of modules inside
        self.hooks = []
        for name, module in model.named_modules():
            self.hooks.append(module.register_forward_pre_hook(lambda *_: self.enter()))
            self.hooks.append(module.register_forward_hook(lambda m, *_, name=name: self.leave(name, m)))

    def enter(self) -> None:
        self.stack.append([self.counter.get_total_flops(), 0])

    def leave(self, name: str, module: nn.Module) -> None:
        before, inside = self.stack.pop()
        everything = self.counter.get_total_flops() - before
        if self.stack:
            self.stack[-1][1] += everything
        own = everything - inside
        if not own:
            return
        kind = self.kind(name, module)
        self.flops[kind] += own
        if kind == "missed" and not self.first:
            cls = type(module)
            self.first = f"{name or 'the model itself'} ({cls.__module__}.{cls.__qualname__})"

    def kind(self, name: str, module: nn.Module) -> str:
        if isinstance(module, QuantLayer | QuantProduct):
            pair = ((module.input_quantizer, module.weight_quantizer) if isinstance(module, QuantLayer)
                    else (module.left_quantizer, module.right_quantizer))
            if self.placed:
                return "quantized"
            if any(q.mode != "on" for q in pair):
                return "missed"
            return ("declared", "one_operand", "quantized")[sum(q.coded for q in pair)]
        if any(name == part or name.startswith(f"{part}.") for part in self.declared):
            return "declared"
        return "missed"

    def remove(self) -> None:
        for hook in self.hooks:
            hook.remove()

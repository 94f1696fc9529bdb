"""Bits by policy: what the user says about single roles and layers goes over the bits that a method gives to a site.

    head=8               the classifier: weights and input
    first_last=8         patch embedding and classifier
    post_softmax=8       an activation role
    blocks.0.*=6/8       a glob of layer and product names: weights 6, activations 8
    head=32              full precision
    budget=4.5           weights of 2 to 8 bits, 4.5 on average over all weights of the model
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from aiqvit.interfaces import Bits, UserError
from aiqvit.quant.observers import MinMax
from aiqvit.quant.quantizers.uniform import Uniform
from aiqvit.quant.site import FULL, HALF, QuantSpec, Site

ENDS = ("patch_embed", "head")
Specs = dict[Site, QuantSpec]


@dataclass(frozen=True)
class BitPolicy:
    """The bits of a run and its rules, pattern -> bits as typed (see above)."""

    bits: Bits
    rules: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for pattern, text in self.rules.items():
            if pattern == "budget":
                _average(text)
            else:
                _pair(pattern, text)

    def applied(self, specs: Specs, model: nn.Module) -> Specs:
        """`specs` with the bits that the policy gives; `model` has the weights that a budget is shared out by.

        Activations of 16 or 32 bits are so at every site, the image included. Raises `UserError` for a rule that names
        no site and for a site that two rules name.
        """
        if self.bits.activation in (FULL, HALF):
            specs = {site: s.with_bits(self.bits.activation) if site.operand == "activation" else s
                     for site, s in specs.items()}
        named: dict[Site, str] = {}
        given: dict[Site, int] = {}
        roles = {site.layer: site.role for site in specs if site.operand == "weight"}
        for pattern, text in self.rules.items():
            if pattern == "budget":
                continue
            weight, activation = _pair(pattern, text)
            hit = [site for site in specs if _matches(pattern, site, roles.get(site.layer))]
            if not hit:
                known = ", ".join(sorted({s.role for s in specs}))
                raise UserError(f"bits:{pattern}={text} names no site of this model: expected first_last, budget, a "
                                f"role ({known}) or a glob of layer names such as {next(iter(roles), 'blocks.0.*')}")
            for site in hit:
                if site in named:
                    raise UserError(f"bits:{pattern} and bits:{named[site]} both name {site.layer} ({site.role})")
                named[site], given[site] = pattern, weight if site.operand == "weight" else activation
        specs = {site: s.with_bits(given.get(site, s.bits)) for site, s in specs.items()}
        return shared_out(specs, model, _average(self.rules["budget"]), set(given)) if "budget" in self.rules else specs


def _matches(pattern: str, site: Site, role: str | None) -> bool:
    if pattern == "first_last":
        return role in ENDS or site.role in ENDS
    return pattern in (site.role, role) or fnmatchcase(site.layer, pattern)


def _pair(pattern: str, text: str) -> tuple[int, int]:
    parts = text.split("/") if "/" in text else [text, text]
    allowed = ({*range(2, 9), FULL}, {*range(2, 9), HALF, FULL})
    if len(parts) != 2 or not all(p.isdecimal() and int(p) in good for p, good in zip(parts, allowed, strict=True)):
        raise UserError(f"bits:{pattern}={text}: expected a number from 2 to 8, 32 for full precision, or "
                        "weights/activations such as 6/8")
    return int(parts[0]), int(parts[1])


def _average(text: str) -> float:
    try:
        average = float(text)
    except ValueError:
        average = 0.0
    if not 2 <= average <= 8:
        raise UserError(f"bits:budget={text}: expected the average bits of a weight, from 2 to 8, for example 4.5")
    return average


@torch.no_grad()
def shared_out(specs: Specs, model: nn.Module, average: float, fixed: set[Site]) -> Specs:
    """Bits 2 to 8 for every weight that is not `fixed`, so that a weight has at most `average` bits over all of them.

    From 2 bits on, the layer gains the next bit whose relative squared error of rounding falls most for each bit spent.
    """
    weights = {site: model.get_submodule(site.layer).weight for site in specs if site.operand == "weight"}
    bits = {site: specs[site].bits if site in fixed else 2 for site in weights}
    left = sum(w.numel() * (average - bits[site]) for site, w in weights.items())
    free = [site for site in weights if site not in fixed]
    errors = {(site, b): _error(weights[site], b) for site in free for b in range(2, 9)}
    if left < 0:
        raise UserError(f"bits:budget={average}: what the other rules name takes more than that already")
    while True:
        able = [s for s in free if bits[s] < 8 and weights[s].numel() <= left]
        if not able:
            return {s: spec.with_bits(bits.get(s, spec.bits)) for s, spec in specs.items()}
        best = max(able, key=lambda s: (errors[s, bits[s]] - errors[s, bits[s] + 1]) / weights[s].numel())
        bits[best] += 1
        left -= weights[best].numel()


def _error(weight: Tensor, bits: int) -> float:
    quantizer = Uniform(bits, 0, MinMax())
    quantizer.calibrate(weight)
    return ((quantizer.fake(weight) - weight).square().sum() / weight.square().sum().clamp(min=1e-12)).item()

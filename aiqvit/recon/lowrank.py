"""Low-rank compensation of weight quantization (AIQViT Eq. 9) and the mixture that its rank search trains (Eq. 11).

Eq. 9 is lost in the text at hand; three readings are here. Weights of any shape are treated as (out, in).
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn

from aiqvit.quant.quantizers import Quantizer

FORMS = ("merged", "outside", "qllm")
EVEN_RANK = 100  # the largest fixed rank of the paper's Table 6


class LowRank(nn.Module):
    """Learnable B A, (out, r) by (r, in), beside a frozen weight W0; B starts at 0, A as LoRA's.

    form "merged" uses Q(W0 + BA) (nothing is left at inference), "outside" Q(W0) + BA (a full-precision branch
    stays), "qllm" trains Q(W0) + BA / r and then quantizes W0 + BA / r, as QLLM does.
    """

    def __init__(self, weight: Tensor, rank: int, form: str = "merged", noise: Generator | None = None) -> None:
        """A is drawn from `noise`, of the weight's device; None: torch's own generator."""
        super().__init__()
        if form not in FORMS:
            raise ValueError(f"form {form!r}: expected one of {', '.join(FORMS)}")
        flat = weight.flatten(1)
        self.rank, self.form = rank, form
        self.A = nn.Parameter(flat.new_empty(rank, flat.shape[1]))  # (r, in)
        self.B = nn.Parameter(flat.new_zeros(flat.shape[0], rank))  # (out, r)
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5), generator=noise)

    def trainables(self, quantizer: Quantizer) -> list[tuple[nn.Parameter, float]]:
        """A and B, each with its natural size for the learning rate: that of A at first, the weight's step for B.

        B A is a sum over r terms of random signs, so a step of B moves it by a length that grows with sqrt(r). The size
        of B falls as 1 / sqrt(r): then one learning rate moves B A equally far at every rank, as far as it would at
        rank 100 without this, and a search compares ranks, not step sizes (as in rsLoRA, Kalajdzievski 2023,
        https://arxiv.org/abs/2312.03732).
        """
        even = math.sqrt(EVEN_RANK / self.rank)
        return [(self.A, 1 / math.sqrt(3 * self.A.shape[1])), (self.B, even * quantizer.scale.mean().item())]

    def delta(self, weight: Tensor) -> Tensor:
        """BA in the shape of `weight`; divided by r in form "qllm"."""
        delta = (self.B @ self.A).view_as(weight)
        return delta / self.rank if self.form == "qllm" else delta

    def forward(self, weight: Tensor, quantizer: Quantizer) -> Tensor:
        """The quantized weight as the layer uses it while training."""
        if self.form == "merged":
            return quantizer(weight + self.delta(weight))
        return quantizer(weight) + self.delta(weight)


class RankMixture(nn.Module):
    """Eq. 11: the candidates' quantized weights mixed by softmax(alpha) (Eq. 12), some dropped at random each step.

    The mix of outputs in Eq. 11 equals the output of the mixed weight, because all share the quantized input. Kept
    candidates are renormalised: each of them contains W0.
    """

    def __init__(self, weight: Tensor, ranks: tuple[int, ...], form: str, drop: float,
                 noise: Generator | None = None) -> None:
        super().__init__()
        self.candidates = nn.ModuleList(LowRank(weight, rank, form, noise) for rank in ranks)
        self.alpha = nn.Parameter(weight.new_zeros(len(ranks)))
        self.drop = drop
        self.keep = torch.ones(len(ranks))

    def trainables(self, quantizer: Quantizer) -> list[tuple[nn.Parameter, float]]:
        """As those of `LowRank`, of all candidates."""
        return [pair for candidate in self.candidates for pair in candidate.trainables(quantizer)]

    def redraw(self, generator: torch.Generator) -> None:
        """Draw which candidates the next forward passes keep; at least one."""
        keep = torch.rand(len(self.candidates), generator=generator) >= self.drop
        if not keep.any():
            keep[torch.randint(len(keep), (1,), generator=generator)] = True
        self.keep = keep.float()

    def forward(self, weight: Tensor, quantizer: Quantizer) -> Tensor:
        """The mixed quantized weight, in the shape of `weight`."""
        kept = [i for i, k in enumerate(self.keep.tolist()) if k]
        share = self.alpha[kept].softmax(0)  # renormalised over the kept ones
        mixed = torch.stack([self.candidates[i](weight, quantizer) for i in kept])  # (n, out, in)
        return torch.tensordot(share, mixed, dims=1)

    def best(self) -> LowRank:
        """The candidate of the largest alpha."""
        return self.candidates[int(self.alpha.argmax())]


def candidate_ranks(weight: Tensor, ranks: tuple[int, ...], full: bool) -> tuple[int, ...]:
    """The ranks that fit a weight, ascending; `full` adds min(out, in), at which B A can be any matrix."""
    rows, columns = weight.flatten(1).shape
    largest = min(rows, columns)
    fitting = {min(rank, largest - 1) for rank in ranks}
    return tuple(sorted(fitting | {largest} if full else fitting))

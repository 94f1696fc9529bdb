"""AIQViT: architecture-informed post-training quantization for vision transformers (AAAI 2025), end to end.

There is no public code and the paper's formulas survive only in part, so this is a reconstruction: Eqs. 10 and 15 are
confirmed by other sources, Eqs. 9, 11-14, 16 and 17 rebuilt from the text. Every choice is a field below. The preset
`paper` follows the paper where it is known: the loss of Eq. 10 (the Frobenius norm of a sample's error), candidates
below full rank. `quick` has a loss and ranges of ours, which weigh tokens alike, and full rank among its candidates.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import nn

from aiqvit.bounds import Count, Number, Part, Ranks, Rate, Share, Whole
from aiqvit.interfaces import Job, Trained, UserError
from aiqvit.quant.card import sites
from aiqvit.quant.layers import QuantLayer
from aiqvit.quant.observers import WEIGHT_FRACTIONS, FocusGrid, PercentileMSE
from aiqvit.quant.quantizers import DynamicFocusing, Float, LogSqrt2, Uniform
from aiqvit.quant.site import RoleScheme, by_role, spec
from aiqvit.quant.surgery import quant_layers
from aiqvit.recon.curriculum import Curriculum
from aiqvit.recon.loop import Group, Schedule, groups_of, guarded, reconstruct, uniform_sampler
from aiqvit.recon.lowrank import LowRank, candidate_ranks
from aiqvit.recon.objective import objective
from aiqvit.recon.ranks import SearchConfig, search_ranks
from aiqvit.recon.walk import UnitData, calibrate_ranges, is_head, reconstruct_model
from aiqvit.transforms.reparam import reparameterize

TABLE5 = tuple(  # the paper's order
    "lowrank={},dfq={},curriculum={}".format(*("on" if part == "1" else "off" for part in row))
    for row in ("000", "100", "010", "001", "110", "101", "011", "111"))


@dataclass(frozen=True)
class AIQViT(Trained):
    """Low-rank compensation with a searched rank, dynamic focusing quantizer, curriculum reconstruction.

    lowrank, dfq, curriculum: the three parts of Table 5, each on or off (without dfq post-Softmax maps get what
    `softmax` names, in the paper a uniform quantizer). rank: 0 searches, another number is used for every layer
    (Table 6).
    """

    title: ClassVar[str] = "AIQViT"
    note: ClassVar[str] = "reconstructed from the paper's text; there is no official code."
    presets: ClassVar[dict[str, dict]] = {
        "paper": {},
        "quick": {"images": 512, "batch": 8, "search_steps": 30, "steps": 320, "refresh": 2, "inherit": True,
                  "full_rank": True, "loss": "token", "ranges": "token", "alpha_rate": 0.03, "weight_rate": 0.04,
                  "scale_rate": 0.08},
        "smoke": {"images": 8, "batch": 4, "search_steps": 2, "steps": 3, "refresh": 1, "init_images": 4,
                  "ranks": (2, 4), "focus_images": 2},
    }

    grids: ClassVar[dict[str, tuple[str, ...]]] = {
        "table5": TABLE5,
        "parts": ("", "lowrank=off", "dfq=off", "curriculum=off"),
        "softmax": ("", "dfq=off", "dfq=off,softmax=log_sqrt2"),
        "table6": ("rank=20", "rank=60", "rank=100", ""),
        "figure4a": ("",),
        "figure4b": ("images=64", "images=128", "images=256", "images=512", "images=1024"),
        "specification": ("", "form=outside", "form=qllm", "target=fp_of_q", "order=recon_then_reparam",
                          "decoding=intzp", "decoding=zero_low", "refresh=1", "refresh=10", "ranks=20,60,100",
                          "full_rank=off", "full_rank=on", "loss=frobenius", "loss=mse", "loss=token,ranges=token",
                          "loss=relative,ranges=own", "inherit=off",
                          "head=on", "protocol=paper"),
    }

    images: Count = 1024  # calibration images
    batch: Count = 24
    search_steps: Whole = 2000  # rank search, a unit
    steps: Whole = 6000  # reconstruction, a unit
    lowrank: bool = True
    dfq: bool = True
    curriculum: bool = True
    softmax: Literal["uniform", "log_sqrt2"] = "uniform"  # where dfq is off; log_sqrt2 is RepQ-ViT's
    ranks: Ranks = (20, 40, 60, 80, 100)  # the paper's set is not known
    full_rank: bool = False  # add min(out, in) to the candidates; ours
    rank: Whole = 0  # fixed rank; 0 searches
    form: Literal["merged", "outside", "qllm"] = "merged"  # readings of Eq. 9
    inherit: bool = False  # go on from the searched A and B instead of starting again
    drop_path: Share = 0.1  # of a candidate in the search
    second_order: Rate = 0.0  # step of DARTS's second-order gradient for the rank scores; 0 takes the first order
    decoding: Literal["affine", "intzp", "zero_low"] = "affine"  # of DFQ
    loss: Literal["token", "tokenwise", "relative", "mse", "frobenius"] = "frobenius"  # that of Eq. 10; others are ours
    ranges: Literal["token", "own"] = "own"  # error that sets ranges per tensor; token: each token in its own units
    target: Literal["fp_of_fp", "fp_of_q"] = "fp_of_fp"  # fp_of_q is Eq. 10 read literally
    order: Literal["reparam_then_recon", "recon_then_reparam"] = "reparam_then_recon"
    head: bool = False  # reconstruct a head that is one layer too: with one token an image it overfits
    alpha_rate: Rate = 3e-4  # Adam on the rank scores (DARTS's; a short search needs more)
    weight_rate: Rate = 0.03  # Adam on A and B, relative to their natural sizes (`LowRank.trainables`)
    scale_rate: Rate = 0.02  # Adam on activation scales and DFQ bounds, in levels by which an end of the range moves
    weight_scale_rate: Rate = 0.01  # the same for weight scales; 0 keeps them
    pace_start: Part = 0.5  # lambda_0 of Eq. 17
    pace_grow: Share = 1.0  # share of the steps after which lambda is 1; the paper's is all of them
    refresh: Count = 10  # how often samples are ranked again
    put_back: bool = True  # bring a unit back as it was where its loss rose
    init_images: Count = 64  # images that set the ranges
    focus_images: Count = 8  # of these, how many search the DFQ interval
    protocol: Literal["unified", "paper"] = "unified"  # paper: the image is not quantized, as in I&S-ViT
    memory_gb: Number = 4.0  # captured activations beyond this go to disk

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dfq and self.softmax != "uniform":
            raise UserError(f"softmax={self.softmax} takes the place of DFQ: set dfq=off too")

    def quantize(self, job: Job) -> nn.Module:
        """See `Method`. One log entry a unit: losses, ranks, bounds, seconds."""
        def reconstruct_unit(data: UnitData) -> dict | None:
            calibrate_ranges(data, self.init_images, reparam=self.order == "reparam_then_recon")
            if self.head or not is_head(data.unit):
                return self.reconstruct(data, job)
            return None

        model = reconstruct_model(job, self.scheme(job), reconstruct_unit, init_images=self.init_images,
                                  target=self.target, memory_gb=self.memory_gb)
        reparameterize(model)  # what is still per channel: everything under recon_then_reparam
        return model

    def scheme(self, job: Job) -> RoleScheme:
        """Role -> quantizer: weights per channel, activations per tensor, post-LayerNorm per channel at first."""
        w, a = job.bits.weight, job.bits.activation
        softmax = spec(Uniform, a)  # Table 5 without DFQ: a uniform range by the map's own error
        if self.dfq:
            softmax = spec(DynamicFocusing, a, None, FocusGrid(images=self.focus_images), decoding=self.decoding)
        elif self.softmax == "log_sqrt2":
            softmax = spec(LogSqrt2, a)
        return by_role({"default": spec(Uniform, w, 0, PercentileMSE(WEIGHT_FRACTIONS, by_output=True))}, {
            "default": spec(Uniform, a, None, PercentileMSE(by_output=True, by_token=self.ranges == "token")),
            "image": spec(Float, 32) if self.protocol == "paper" else spec(Uniform, 8),
            "post_layernorm": spec(Uniform, a, -1, include_zero=False),
            "post_softmax": softmax,
        })

    def reconstruct(self, data: UnitData, job: Job) -> dict:
        """Search ranks and train one unit; return its log entry."""
        began, ranks = time.perf_counter(), {}
        schedule = Schedule(self.steps, self.batch, objective(self.loss))
        losses = guarded(data, schedule, lambda: ranks.update(self.train(data, schedule, job)), self.put_back)
        focus = [q for _, q in sites(data.unit) if isinstance(q, DynamicFocusing)]
        bounds = {"b1": [q.b1.item() for q in focus], "b2": [q.b2.item() for q in focus]} if focus else {}
        return {**losses, "ranks": ranks, **bounds, "seconds": round(time.perf_counter() - began, 2)}

    def train(self, data: UnitData, schedule: Schedule, job: Job) -> dict[str, list]:
        """Search ranks, train, add BA to the weights; return the ranks."""
        layers = {name: layer for name, layer in quant_layers(data.unit) if layer.weight_quantizer.coded}
        extra, quantizers = self.scale_groups(data.unit), [q for _, q in sites(data.unit)]

        def constrain() -> None:
            for q in quantizers:
                q.constrain()

        ranks = self.place_lowrank(data, layers, schedule, job, constrain) if self.lowrank else {}
        factors = [pair for layer in layers.values() if isinstance(layer.compensation, LowRank)
                   for pair in layer.compensation.trainables(layer.weight_quantizer)]
        if self.curriculum:
            sample = Curriculum(data, schedule, job.generator, self.pace_start, self.refresh, self.pace_grow)
        else:
            sample = uniform_sampler(torch.arange(len(data.inputs)), self.batch, job.generator)
        reconstruct(data, [*groups_of(factors, self.weight_rate), *extra], schedule, sample, after_step=constrain,
                    progress=job.progress)
        for layer in layers.values():
            merge(layer)
        return ranks

    def scale_groups(self, unit: nn.Module) -> list[Group]:
        """Scales and DFQ bounds with their learning rates."""
        return [group for _, q in sites(unit) for group in groups_of(
            q.trainables(), self.weight_scale_rate if q.site.operand == "weight" else self.scale_rate)]

    def place_lowrank(self, data: UnitData, layers: dict[str, QuantLayer], schedule: Schedule, job: Job,
                      constrain: Callable[[], None]) -> dict[str, list]:
        """Give every layer a low-rank term of the fixed or the searched rank; return the ranks for the log."""
        ranks = {name: [candidate_ranks(layer.weight, (self.rank,), False)[0]] for name, layer in layers.items()}
        if not self.rank:
            config = SearchConfig(replace(schedule, steps=self.search_steps), self.ranks, self.full_rank, self.form,
                                  self.drop_path, self.weight_rate, self.alpha_rate, self.second_order)
            ranks = search_ranks(data, layers, config, self.scale_groups(data.unit), job.generator, job.noise,
                                 constrain, job.progress)
            if self.inherit:
                return ranks
        for name, layer in layers.items():
            layer.compensation = LowRank(layer.weight, ranks[name][0], self.form, job.noise)
        return ranks


@torch.no_grad()
def merge(layer: QuantLayer) -> None:
    """After training, add BA to the weight; form "outside" keeps it as an offset, "qllm" quantizes anew."""
    term = layer.compensation
    if not isinstance(term, LowRank):
        return
    layer.compensation = None
    if term.form == "outside":
        layer.offset = term.delta(layer.weight).detach()
        return
    layer.weight = nn.Parameter(layer.weight + term.delta(layer.weight), requires_grad=False)
    if term.form == "qllm":
        layer.weight_quantizer.calibrate(layer.weight)

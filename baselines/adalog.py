"""AdaLog: post-training quantization with an adaptive logarithm quantizer (Wu et al., ECCV 2024).

arXiv 2407.12951, code https://github.com/GoatWu/AdaLog. Post-Softmax and post-GELU values in a logarithm whose base is
searched, everything else uniform; scales with zero-points, and scales with bases, by progressive combining search on
the error of each layer's output, in full precision: nothing propagates. Then rounding and activation scales are trained
block by block as in BRECQ, on full-precision inputs (`retrain=off` leaves that out: the paper's other rows). Where we
differ from the code:

- The last code means 0, so there are 2^b codes and not 2^b + 1 (`official_levels`); queries, keys and values have one
  range a tensor, not a head (`operands=head`); the image is quantized to 8 bits. `protocol=paper` has all three as the
  code has them.
- From 5 bits on zero-points are tried over all codes: the code tries those around the middle, out of reach of a tensor
  that is never negative. A range always holds 0.
- The best pair of all that were tried is kept, not the best of the last refinement.
- The shift of GELU stays in the quantizer, which subtracts it in decoding; the code moves it into the bias.
- Calibration images are not augmented. A unit whose loss rose is put back (`put_back`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from aiqvit.bounds import Count, Number, Rate, Share, Whole
from aiqvit.interfaces import Job, Trained
from aiqvit.quant.observers import MinMax
from aiqvit.quant.quantizers import AdaptiveLog, Float, Uniform
from aiqvit.quant.site import RoleScheme, by_role, spec
from aiqvit.recon.layer_search import LayerSearch
from aiqvit.recon.loop import Schedule
from aiqvit.recon.objective import Elementwise, objective
from aiqvit.recon.progressive import Progressive
from aiqvit.recon.rounded import RoundingRates, train_rounding
from aiqvit.recon.unit_search import Sample, search_unit
from aiqvit.recon.walk import UnitData, gives_logits, is_head, reconstruct_model


@dataclass(frozen=True)
class AdaLog(Trained):
    """Adaptive logarithms post-Softmax and post-GELU, combining search of ranges, then AdaRound."""

    title: ClassVar[str] = "AdaLog"
    fairness: ClassVar[str] = ("one range a head for queries, keys and values, 2^b + 1 codes post-Softmax and "
                               "post-GELU, the image in float")
    presets: ClassVar[dict[str, dict]] = {
        "paper": {},
        "quick": {"images": 512, "batch": 8, "steps": 320, "rounding_rate": 0.2, "level_rate": 0.3, "penalty": 0.1,
                  "loss": "token", "head": False, "rounds": 1, "refinements": 2, "score_rows": 1024,
                  "score_images": 4},
        "smoke": {"images": 8, "batch": 4, "steps": 3, "init_images": 4, "rounds": 1, "refinements": 1,
                  "score_rows": 64, "score_images": 1},
    }
    grids: ClassVar[dict[str, tuple[str, ...]]] = {"retrain": ("retrain=off", "")}

    images: Count = 1024
    init_images: Count = 32  # images that set the ranges, and all there are without retraining
    rounds: Whole = 3  # of the search by the layer's output, after that by an operand's own error
    refinements: Whole = 5  # of the best candidates of each search
    score_rows: Whole = 0  # tokens of a layer's input that score a candidate, drawn at random; 0: all
    score_images: Whole = 0  # images' worth of maps that score one of an attention product; 0: all
    retrain: bool = True
    batch: Count = 32
    steps: Whole = 20000  # a unit
    rounding_rate: Rate = 1e-3  # Adam on alpha
    scale_rate: Rate = 4e-5  # Adam on activation scales
    level_rate: Rate = 0.0  # the same in levels by which an end of the range moves, for short schedules; 0: scale_rate
    penalty: Number = 0.01  # lambda of the rounding regulariser
    warm_up: Share = 0.2  # fraction of the steps without it
    loss: Literal["official", "mse", "relative", "tokenwise", "token"] = "official"
    head: bool = True  # retrain a head that is one layer too; logits are compared by their KL divergence
    put_back: bool = True  # bring a unit back as it was where its loss rose
    operands: Literal["tensor", "head"] = "tensor"  # granularity of queries, keys and values
    official_levels: bool = False
    protocol: Literal["unified", "paper"] = "unified"  # paper: image not quantized, operands by head, official levels
    memory_gb: Number = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.retrain:
            object.__setattr__(self, "images", min(self.images, self.init_images))

    def quantize(self, job: Job) -> nn.Module:
        """See `Method`. One log entry a unit: losses, seconds of the search and of all."""
        search, sample = self.search(), Sample(self.init_images, self.score_rows, self.score_images)

        def reconstruct_unit(data: UnitData) -> dict:
            began = time.perf_counter()
            search_unit(data, search, sample, job.generator)
            searched = time.perf_counter()
            train = self.retrain and (self.head or not is_head(data.unit))
            losses = self.train(data, job) if train else {}
            ended = time.perf_counter()
            return {**losses, "search_seconds": round(searched - began, 2), "seconds": round(ended - began, 2)}

        return reconstruct_model(job, self.scheme(job), reconstruct_unit, init_images=self.init_images,
                                 memory_gb=self.memory_gb)

    def search(self) -> LayerSearch:
        """The combining search, refined as often as asked."""
        return LayerSearch(self.rounds, Progressive(steps=self.refinements),
                           Progressive(kept=32, offsets=4, steps=self.refinements, shrink=3.5))

    def scheme(self, job: Job) -> RoleScheme:
        """Role -> quantizer; observers set the ranges of what lies outside all units."""
        w, a, paper = job.bits.weight, job.bits.activation, self.protocol == "paper"
        official = self.official_levels or paper
        heads = (self.operands == "head" or paper) and any(hasattr(m, "num_heads") for m in job.model.modules())
        operand = spec(Uniform, a, 1 if heads else None)
        return by_role({"default": spec(Uniform, w, 0)}, {
            "default": spec(Uniform, a),
            "image": spec(Float, 32) if paper else spec(Uniform, 8, None, MinMax()),
            "post_layernorm": spec(Uniform, a, -1),
            "post_softmax": spec(AdaptiveLog, a, official_levels=official),
            "post_gelu": spec(AdaptiveLog, a, shifted=True, official_levels=official),
            **dict.fromkeys(("query", "key", "value"), operand),
        })

    def train(self, data: UnitData, job: Job) -> dict:
        """Train rounding and activation scales of one unit on full-precision inputs; the losses before and after."""
        official = self.loss == "official"
        goal = objective("kl") if gives_logits(data.unit) else Elementwise(summed) if official else objective(self.loss)
        schedule = Schedule(self.steps, self.batch, goal, mix=1.0, normalised=not official)
        rates = RoundingRates(self.rounding_rate, self.scale_rate, self.level_rate, self.penalty, self.warm_up)
        return train_rounding(data, schedule, rates, job.generator, job.progress, self.put_back)


def summed(output: Tensor, target: Tensor) -> Tensor:
    """The code's loss: squared errors (B, N, ...) whose mean is a tenth of their sum over tokens, the rest averaged."""
    return (output - target).square() * (output.shape[1] / 10)

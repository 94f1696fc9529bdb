"""What is rewritten of a model before a method gets it: switches of every method."""

from __future__ import annotations

import copy

import torch
from torch import Generator, Tensor, nn

from aiqvit.families.opening import open_model
from aiqvit.interfaces import Job, Method, Trained, UserError
from aiqvit.quant.anatomy import described
from aiqvit.recon.gradients import tensors_of
from aiqvit.transforms.rotate import rotate, rotate_heads

CHECKED, TOLERANCE = 4, 1e-3  # samples on which a rotated model is compared, and the relative change of its outputs


def quantized(method: Method, job: Job) -> nn.Module:
    """The job's model, rewritten as the method's switches say, then quantized by the method.

    Raises what `Method.quantize` raises, and `UserError` as `open_model`.
    """
    job.bf16 = isinstance(method, Trained) and method.bf16
    if method.rotate:
        rotate_all(job)
    return method.quantize(job)


def rotate_all(job: Job) -> None:
    """Rotate the residual stream and the heads of the job's model; `job.rewritten` says what, or why not.

    The function of the model stays the same: a stream that is read by something that its family does not know of is
    left as it was. Signs come from a generator of their own, seeded by the job's seed.
    """
    model, generator = open_model(job.model), Generator().manual_seed(job.seed)
    job.rewritten.append(_rotate_stream(job, model, generator))
    model = job.model
    heads = rotate_heads(model, generator)
    has = any(anatomy.heads for _, _, anatomy in described(model))
    job.rewritten.append(f"queries, keys and values of each head rotated in {len(heads)} attentions" if heads
                         else f"no heads rotated: {'norms or gates stand between' if has else 'attention has none'}")


def _rotate_stream(job: Job, model: nn.Module, generator: Generator) -> str:
    """Make `job.model` the open `model`, its stream rotated where that changes nothing; what was done, or why not."""
    job.model = copy.deepcopy(model)
    try:
        rotate(model, generator)
    except UserError as error:
        return str(error)
    if not _alike(_outputs(job, job.model), _outputs(job, model)):
        return (f"the residual stream of {type(model).__name__} cannot be rotated: something besides its blocks reads "
                "it, since outputs change")
    job.model = model
    return "residual stream rotated, its LayerNorms replaced by RMSNorms"


@torch.no_grad()
def _outputs(job: Job, model: nn.Module) -> list[Tensor]:
    """What a model gives on a few calibration samples."""
    return tensors_of(job.forward(model, job.join(job.calibration, CHECKED))) if job.calibration else []


def _alike(before: list[Tensor], after: list[Tensor]) -> bool:
    """Whether outputs are equal but for rounding."""
    return len(before) == len(after) and all(
        a.shape == b.shape and bool((a - b).norm() <= TOLERANCE * a.norm()) for a, b in zip(before, after, strict=True))

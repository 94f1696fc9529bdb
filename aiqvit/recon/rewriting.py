"""What is rewritten of a model before a method gets it: switches of every method."""

from __future__ import annotations

from torch import Generator, nn

from aiqvit.families.opening import open_model
from aiqvit.interfaces import Job, Method, Trained, UserError
from aiqvit.quant.anatomy import described
from aiqvit.transforms.rotate import rotate, rotate_heads


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

    The function of the model stays the same. Signs come from a generator of their own, seeded by the job's seed.
    """
    model, generator = open_model(job.model), Generator().manual_seed(job.seed)
    try:
        rotate(model, generator)
        job.rewritten.append("residual stream rotated, its LayerNorms replaced by RMSNorms")
    except UserError as error:
        job.rewritten.append(str(error))
    heads = rotate_heads(model, generator)
    has = any(anatomy.heads for _, _, anatomy in described(model))
    job.rewritten.append(f"queries, keys and values of each head rotated in {len(heads)} attentions" if heads
                         else f"no heads rotated: {'norms or gates stand between' if has else 'attention has none'}")

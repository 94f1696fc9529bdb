"""Whether a traced graph stands for batches of every size: it has the way that the forward pass takes for two samples.

torch's exporter takes a batch of one for a case of its own, and narrows sizes in silence where the pass asks for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

if TYPE_CHECKING:
    from torch.export import ExportedProgram

OTHERS = (1, 3)  # sizes that are tried
MANY = 2**31  # samples: no limit
NEAR = 1e-3  # of the size of outputs; the same operators on the same batch give the same numbers


@torch.no_grad()
def require_any_batch(program: ExportedProgram, model: nn.Module, sample: Tensor) -> None:
    """Raise `ValueError` where the program differs from the model for other batches than that of `sample` (B, ...)."""
    for size in program.range_constraints.values():
        if not size.upper > MANY:
            raise ValueError(f"its forward pass is another for a batch of more than {size.upper}")
    for count in OTHERS:
        batch = sample[:1].expand(count, *sample.shape[1:])
        expected = model(batch.clone())
        try:
            same = _same(program.module()(batch.clone()), expected)
        except Exception:  # whatever guards and operators raise
            same = False
        if not same:
            raise ValueError(f"its forward pass is another for a batch of {count} than for one of {len(sample)}")


def _same(given: Any, expected: Any) -> bool:
    pairs = zip(tree_leaves(given), tree_leaves(expected), strict=True)
    return all(_near(a, b) for a, b in pairs if isinstance(b, Tensor))


def _near(given: Tensor, expected: Tensor) -> bool:
    if given.shape != expected.shape:
        return False
    if torch.equal(given, expected):
        return True
    given, expected = given.double().nan_to_num(), expected.double().nan_to_num()
    return bool((given - expected).norm() <= NEAR * expected.norm())

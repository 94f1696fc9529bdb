"""Products of two activations that a model names, so that surgery finds and quantizes them. Knows nothing but torch."""

from torch import Tensor, nn


class WeightedSum(nn.Module):
    """Sum over keys of post-Softmax weights times values, element by element: vector attention (Zhao et al. 2021)."""

    left, right = "post_softmax", "value"  # roles of the operands

    def forward(self, weights: Tensor, values: Tensor) -> Tensor:
        """(..., K, D) twice to (..., D)."""
        return (weights * values).sum(-2)


class MatMul(nn.Module):
    """Matrix product of two activations, whose roles it names: one of the two products of attention."""

    def __init__(self, left: str, right: str, transposed: bool = False) -> None:
        super().__init__()
        self.left, self.right, self.transposed = left, right, transposed

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """(..., N, K) and (..., K, M), or (..., M, K) if `transposed`, to (..., N, M)."""
        return left @ (right.transpose(-2, -1) if self.transposed else right)

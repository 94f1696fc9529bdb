"""Products of two activations that a model names, so that surgery finds and quantizes them. Knows nothing but torch."""

from torch import Tensor, nn


class WeightedSum(nn.Module):
    """Sum over keys of post-Softmax weights times values, element by element: vector attention (Zhao et al. 2021)."""

    def forward(self, weights: Tensor, values: Tensor) -> Tensor:
        """(..., K, D) twice to (..., D)."""
        return (weights * values).sum(-2)

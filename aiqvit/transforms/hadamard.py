"""Hadamard rotations: orthogonal matrices whose entries all have the same size, which spread outliers evenly.

J. Hadamard's matrices by the constructions of Sylvester and R. Paley ("On orthogonal matrices", 1933), with random
signs as in QuIP# (Tseng et al., ICML 2024, https://arxiv.org/abs/2402.04396).
"""

from __future__ import annotations

import torch
from scipy.linalg import hadamard as sylvester
from torch import Generator, Tensor


def rotation(size: int, generator: Generator) -> Tensor:
    """D H / sqrt(size), float64 (size, size): a Hadamard matrix H whose rows have random signs D.

    Of a size that is no (q + 1) 2^k with q = 0 or a prime of the form 4 m + 3 it is any orthogonal matrix.
    """
    base = next((base for base in _bases(size) if _is_power(size // base)), None)
    if base is None:
        return torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0]
    matrix = torch.kron(_paley(base), torch.from_numpy(sylvester(size // base)).double())
    signs = torch.randint(0, 2, (size, 1), generator=generator) * 2.0 - 1
    return signs * matrix / size**0.5


def _bases(size: int) -> list[int]:
    """1 and the numbers q + 1, for primes q of the form 4 m + 3, that divide a size."""
    return [base for base in range(1, size + 1)
            if size % base == 0 and (base == 1 or base % 4 == 0 and _is_prime(base - 1))]


def _paley(size: int) -> Tensor:
    """A Hadamard matrix of size q + 1, or of size 1: I + S with S from the quadratic residues modulo q."""
    if size == 1:
        return torch.ones(1, 1, dtype=torch.float64)
    q = size - 1
    squares = {i * i % q for i in range(1, q)}
    character = torch.tensor([0.0, *(1.0 if i in squares else -1.0 for i in range(1, q))], dtype=torch.float64)
    index = torch.arange(q)
    skew = torch.zeros(size, size, dtype=torch.float64)
    skew[0, 1:], skew[1:, 0] = 1, -1
    skew[1:, 1:] = character[(index[:, None] - index) % q]
    return torch.eye(size, dtype=torch.float64) + skew


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % i for i in range(2, int(number**0.5) + 1))


def _is_power(number: int) -> bool:
    """Whether it is 1, 2, 4, 8, ..."""
    return number & (number - 1) == 0

"""What a model said of each sample of an evaluation, so that two models are compared sample by sample."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # listing names and printing help must not import numpy
    import numpy as np


@dataclass(frozen=True)
class Labelled:
    """A batch of samples to evaluate on."""

    samples: Sequence[str]  # their names
    inputs: Any  # as a model takes them
    targets: Any  # what is right


@dataclass(frozen=True)
class Outcomes:
    """What a model said of N samples, in the order in which it was asked."""

    samples: tuple[str, ...]  # their names
    arrays: Mapping[str, np.ndarray]  # by what is said; (N, ...), or (D, ...) of D things with a count a sample

    def once(self) -> np.ndarray:
        """The weights (1, N) with which every sample counts once."""
        import numpy as np

        return np.ones((1, len(self.samples)))


def joined(parts: Iterable[tuple[Sequence[str], Mapping[str, np.ndarray]]]) -> Outcomes:
    """The outcomes of several batches, in order."""
    import numpy as np

    parts = list(parts)
    names = tuple(name for samples, _ in parts for name in samples)
    keys = parts[0][1] if parts else ()
    return Outcomes(names, {key: np.concatenate([arrays[key] for _, arrays in parts]) for key in keys})

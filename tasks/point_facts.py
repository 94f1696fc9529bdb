"""What is odd about shapes that were read, counted: too few points, repeated ones, all at one place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aiqvit.interfaces import UserError

FEW = 0.9  # share of the points of a shape that have to differ; less is said


class Facts:
    """Counts of what was seen; a shape counts once, however often it is read."""

    def __init__(self, points: int) -> None:
        """`points` is how many of a shape the network takes."""
        self.points, self._seen = points, {}

    def __contains__(self, shape: tuple) -> bool:
        return shape in self._seen

    def add(self, shape: tuple, name: str, xyz: np.ndarray, total: int) -> None:
        """Count a shape, called `name`, by the coordinates that the network gets, (N, 3), of `total`."""
        if shape not in self._seen:
            self._seen[shape] = name, total, len(np.unique(xyz, axis=0))

    def remarks(self) -> list[str]:
        """A sentence a kind, with the count and the first shape."""
        one = [(name, "") for name, _, different in self._seen.values() if different == 1]
        few = [(name, f" with {total}") for name, total, different in self._seen.values()
               if different > 1 and total < self.points]
        again = [(name, f" with {different} different ones") for name, total, different in self._seen.values()
                 if 1 < different < FEW * self.points <= FEW * total]
        kinds = ((few, f"fewer points than the {self.points} that the network takes, so that points are repeated"),
                 (again, f"repeated points among the {self.points} that the network takes"),
                 (one, "all their points at one place"))
        return [f"{len(shapes)} of {len(self._seen)} shapes read have {what}; the first is {shapes[0][0]!r}"
                f"{shapes[0][1]}" for shapes, what in kinds if shapes]


def refuse(faults: Sequence[str], total: int) -> None:
    """Raise `UserError` with the first of the faults and how many shapes have one; nothing where there is none."""
    if faults:
        more = f" ({len(faults)} of {total} shapes have a fault, this is the first)" if len(faults) > 1 else ""
        raise UserError(f"{faults[0]}{more}: mend it, or take the shape out of its list")



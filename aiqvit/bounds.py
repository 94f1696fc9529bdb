"""Numbers with their bounds: types for the fields of methods and for flags.

    drop: Share = 0.5  # refused below 0 and above 1 wherever it is set; `--list` shows the range

Others are made the same way: `Annotated[int, Interval(ge=1, le=64)]`.
"""

from __future__ import annotations

from math import inf
from typing import Annotated

from annotated_types import Interval, Len

LARGEST = 2**31 - 1  # counts that no run ever gets to, and what libraries take

Whole = Annotated[int, Interval(ge=0, le=LARGEST)]  # a count for which 0 has a meaning: all, none, nothing trained
Count = Annotated[int, Interval(ge=1, le=LARGEST)]
Tries = Annotated[int, Interval(ge=1, le=10_000)]  # candidates or rounds of a search
Size = Annotated[int, Interval(ge=1, le=65536)]  # of a layer
Seed = Annotated[int, Interval(ge=0, le=2**32 - 1)]  # what numpy takes

Finite = Annotated[float, Interval(gt=-inf, lt=inf)]
Number = Annotated[float, Interval(ge=0, le=LARGEST)]
Rate = Annotated[float, Interval(ge=0, le=10)]  # a learning rate; 0 trains nothing
Share = Annotated[float, Interval(ge=0, le=1)]
Part = Annotated[float, Interval(gt=0, le=1)]  # a share that cannot be nothing
Factor = Annotated[float, Interval(gt=0, le=100)]  # of a range

Fractions = Annotated[tuple[Annotated[float, Interval(gt=0.5, le=1)], ...], Len(1, 64)]  # upper ends of ranges
Ranks = Annotated[tuple[Size, ...], Len(1, 32)]
Widths = Annotated[tuple[Size, ...], Len(1, 16)]  # of the levels of a network

BitWidth = Annotated[int, Interval(ge=2, le=8)]
WORKERS_A_CORE, THREADS_A_CORE = 4, 32  # of a machine, at most: more only wait for each other, or end it
Workers = Annotated[int, Interval(ge=1, le=1024)]
Threads = Annotated[int, Interval(ge=1, le=1024)]
Gpus = Annotated[float, Interval(ge=0, le=1024)]

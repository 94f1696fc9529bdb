"""The walk through a model's units in forward order, with what each needs to be reconstructed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from aiqvit.recon.capture import Samples, Spill, chained, unit_inputs, unit_outputs


@dataclass
class UnitData:
    """One unit of the student with its data over the calibration set."""

    name: str
    unit: nn.Module  # quantized, to be changed in place
    inputs: Samples  # what the unit gets behind its quantized predecessors
    fp_inputs: Samples  # what it gets in the full-precision model
    targets: Samples  # what it should give
    importance: Samples | None = None  # factor of every element's error, for example |dL/dz|


def walk(student: nn.Module, teacher: nn.Module, units: Sequence[str], batches: Sequence[Any], forward: Callable,
         spill: Spill, target: str = "fp_of_fp") -> Iterator[UnitData]:
    """Yield the units in order; each is expected to be reconstructed before the next is asked for.

    `target` "fp_of_fp" is the full-precision unit on full-precision inputs, "fp_of_q" the full-precision unit on the
    inputs that the quantized unit gets (AIQViT Eq. 10 read literally).
    """
    linked = chained(teacher, units, batches[0], forward)
    data: UnitData | None = None
    fp_outputs: Samples | None = None
    for name in units:
        source = teacher.get_submodule(name)
        if name in linked and data is not None and fp_outputs is not None:
            fp_inputs, inputs = fp_outputs, unit_outputs(data.unit, data.inputs, spill)
        else:
            fp_inputs = unit_inputs(teacher, name, batches, forward, spill)
            inputs = unit_inputs(student, name, batches, forward, spill)
        fp_outputs = unit_outputs(source, fp_inputs, spill)
        targets = fp_outputs if target == "fp_of_fp" else unit_outputs(source, inputs, spill)
        data = UnitData(name, student.get_submodule(name), inputs, fp_inputs, targets)
        yield data

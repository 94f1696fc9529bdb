"""The walk through a model's units in forward order, with what each needs to be reconstructed, and what all share."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from aiqvit.interfaces import Job
from aiqvit.quant.reparam import reparameterize
from aiqvit.quant.surgery import Scheme, observe, observe_rest, quant_layers, quantize_model
from aiqvit.recon.capture import (
    Samples,
    Spill,
    chained,
    device_of,
    first_images,
    other_inputs,
    unit_inputs,
    unit_outputs,
)
from aiqvit.recon.resume import random_state, restore_random_state, restore_unit, unit_state


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
    others = other_inputs(teacher, [name for name, more in linked.items() if more], batches, forward, spill)
    data: UnitData | None = None
    fp_outputs: Samples | None = None
    for name in units:
        source = teacher.get_submodule(name)
        if name in linked and data is not None and fp_outputs is not None:
            fp_inputs, inputs = fp_outputs, unit_outputs(data.unit, data.inputs, spill)
            if linked[name]:
                fp_inputs, inputs = (samples.beside(others[name]) for samples in (fp_inputs, inputs))
        else:
            fp_inputs = unit_inputs(teacher, name, batches, forward, spill)
            inputs = unit_inputs(student, name, batches, forward, spill)
        fp_outputs = unit_outputs(source, fp_inputs, spill)
        targets = fp_outputs if target == "fp_of_fp" else unit_outputs(source, inputs, spill)
        data = UnitData(name, student.get_submodule(name), inputs, fp_inputs, targets)
        yield data


def repair(job: Job, scheme: Scheme, mend: Callable[[UnitData], dict | None], *, init_images: int,
           target: str = "fp_of_fp", memory_gb: float = 4.0) -> nn.Module:
    """Quantize the job's model unit by unit: `mend(data)` sets the ranges of a unit, trains it, returns a log entry.

    What lies outside all units gets its ranges at the end, from the first `init_images` images. Captured activations
    beyond `memory_gb` GiB go to disk. Every finished unit is handed to `job.checkpoint`; those that it kept from a run
    that was killed are taken over instead of mended, random generators included, and what follows is the same.
    """
    teacher = copy.deepcopy(job.model)
    model = quantize_model(job.model, scheme)
    spill = Spill(int(memory_gb * 2**30))
    for data in walk(model, teacher, job.units, job.calibration, job.forward, spill, target):
        entry = _taken_over(job, data)
        if entry is None:
            entry = _mended(job, data, mend)
        if entry:
            job.log.append(entry)
    observe_rest(model, lambda m: job.forward(m, first_images(job, init_images)))
    return model


def _mended(job: Job, data: UnitData, mend: Callable[[UnitData], dict | None]) -> dict:
    entry = mend(data)
    entry = {"unit": data.name, **entry} if entry else {}
    random = random_state(job.generator, device_of(data.unit))
    job.checkpoint.save(data.name, {"unit": unit_state(data.unit), "random": random, "log": entry})
    return entry


def _taken_over(job: Job, data: UnitData) -> dict | None:
    if (kept := job.checkpoint.load(data.name)) is None:
        return None
    try:
        restore_unit(data.unit, kept["unit"])
    except ValueError:  # of a class that this process has not imported yet
        return None
    restore_random_state(kept["random"], job.generator, device_of(data.unit))
    return kept["log"]


def observe_unit(data: UnitData, images: int, **which: bool) -> None:
    """Set the ranges of a unit from what its first `images` samples bring behind the repaired predecessors.

    Where samples differ in shape, from those that have the shape of the first.
    """
    alike = data.inputs.alike(range(min(images, len(data.inputs))))[0]
    args, kwargs = data.inputs.gather(alike, device_of(data.unit))
    observe(data.unit, lambda unit: unit(*args, **kwargs), **which)


def observe_ranges(data: UnitData, images: int, reparam: bool) -> None:
    """As `observe_unit`; `reparam` makes ranges a channel behind LayerNorms one a tensor, then redoes the weights."""
    observe_unit(data, images)
    if reparam:
        reparameterize(data.unit)
        observe_unit(data, images, activations=False)  # weights changed, and so did their inputs


def gives_logits(unit: nn.Module) -> bool:
    """Whether a unit ends in the classification head."""
    return any(layer.weight_quantizer.role == "head" for _, layer in quant_layers(unit))


def is_head(unit: nn.Module) -> bool:
    """Whether a unit is the classification head and nothing else; a classifier of several layers is not."""
    return gives_logits(unit) and len(list(quant_layers(unit))) == 1

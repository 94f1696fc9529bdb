"""The walk through a model's units in forward order, with what each needs to be reconstructed, and what all share."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Generator, nn

from aiqvit.families.opening import quantize_model
from aiqvit.interfaces import Job
from aiqvit.quant.anatomy import units_of
from aiqvit.quant.policy import BitPolicy
from aiqvit.quant.site import Scheme
from aiqvit.quant.state import load_state, saved_state
from aiqvit.quant.surgery import calibrate, calibrate_remaining, quant_layers
from aiqvit.recon.activations import Activations, ActivationStore
from aiqvit.recon.capture import chained, device_of, first_images, other_inputs, unit_inputs, unit_outputs
from aiqvit.recon.tail import Tail, inputs_behind
from aiqvit.transforms.reparam import reparameterize


@dataclass
class UnitData:
    """One unit of the student with its data over the calibration set."""

    name: str
    unit: nn.Module  # quantized, to be changed in place
    inputs: Activations  # what the unit gets behind its quantized predecessors
    fp_inputs: Activations  # what it gets in the full-precision model
    targets: Activations  # what it should give
    tail: Tail | None = None  # the full-precision rest of the network behind it
    noise: Generator | None = None  # random mixing of inputs; None: torch's own generator
    bf16: bool = False  # train with products in bfloat16


def walk(student: nn.Module, teacher: nn.Module, units: Sequence[str], batches: Sequence[Any], forward: Callable,
         store: ActivationStore, target: str = "fp_of_fp", noise: Generator | None = None) -> Iterator[UnitData]:
    """Yield the units in order; each is expected to be reconstructed before the next is asked for.

    `target` "fp_of_fp" is the full-precision unit on full-precision inputs, "fp_of_q" the full-precision unit on the
    inputs that the quantized unit gets (AIQViT Eq. 10 read literally).
    """
    linked = chained(teacher, units, batches[0], forward)
    others = other_inputs(teacher, [name for name, more in linked.items() if more], batches, forward, store)
    data: UnitData | None = None
    fp_outputs: Activations | None = None
    for name in units:
        source = teacher.get_submodule(name)
        behind = None if data is None else Tail(student, units, data.name, batches, forward)
        if name in linked and data is not None and fp_outputs is not None:
            fp_inputs, inputs = fp_outputs, unit_outputs(data.unit, data.inputs, store)
            if linked[name]:
                fp_inputs, inputs = (outputs.zip(others[name]) for outputs in (fp_inputs, inputs))
        elif data is not None and fp_outputs is not None and data.tail.skips and behind.skips:
            fp_inputs = inputs_behind(data.tail, fp_outputs, name, store)
            inputs = inputs_behind(behind, unit_outputs(data.unit, data.inputs, store), name, store)
        else:
            fp_inputs = unit_inputs(teacher, name, batches, forward, store)
            inputs = unit_inputs(student, name, batches, forward, store)
        fp_outputs = unit_outputs(source, fp_inputs, store)
        targets = fp_outputs if target == "fp_of_fp" else unit_outputs(source, inputs, store)
        tail = Tail(teacher, units, name, batches, forward)
        data = UnitData(name, student.get_submodule(name), inputs, fp_inputs, targets, tail, noise)
        yield data


def reconstruct_model(job: Job, scheme: Scheme, reconstruct_unit: Callable[[UnitData], dict | None], *,
                      init_images: int, target: str = "fp_of_fp", memory_gb: float = 4.0) -> nn.Module:
    """Quantize the job's model unit by unit.

    `reconstruct_unit(data)` sets the ranges of a unit, trains it and returns an entry for the log. Units are compared
    with those of the job's teacher, by default of its own model in full precision. What lies outside all units gets its
    ranges at the end, from the first `init_images` images. Captured activations beyond `memory_gb` GiB go to disk.
    Every finished unit is handed to `job.checkpoint`; those that it kept from a run that was killed are taken over
    instead, random generators included, and what follows is the same.
    """
    teacher = copy.deepcopy(job.model) if job.teacher is None else job.teacher
    model = quantize_model(job.model, scheme, BitPolicy(job.bits, job.bit_rules))
    store = ActivationStore(int(memory_gb * 2**30))
    for data in walk(model, teacher, units_in(job, model), job.calibration, job.forward, store, target, job.noise):
        data.bf16 = job.bf16
        entry = _taken_over(job, data)
        if entry is None:
            entry = _reconstructed(job, data, reconstruct_unit)
        if entry:
            job.log.append(entry)
    images, count = first_images(job, init_images)
    calibrate_remaining(model, lambda m: job.forward(m, images), images=count)
    return model


def units_in(job: Job, model: nn.Module) -> Sequence[str]:
    """The units of a job: its own, or those that the family of the quantized model names."""
    return units_of(model) if job.units is None else job.units


def _reconstructed(job: Job, data: UnitData, reconstruct_unit: Callable[[UnitData], dict | None]) -> dict:
    job.memory()  # from here on
    entry = reconstruct_unit(data)
    entry = {"unit": data.name, **entry} if entry else {}
    if entry and (peak := job.memory()) is not None:
        entry["peak_mib"] = peak
    random = {"generator": job.generator.get_state(), "noise": job.noise.get_state()}
    job.checkpoint.save(data.name, {"unit": saved_state(data.unit), "random": random, "log": entry})
    return entry


def _taken_over(job: Job, data: UnitData) -> dict | None:
    if (kept := job.checkpoint.load(data.name)) is None:
        return None
    try:
        log, random = dict(kept["log"]), kept["random"]
        for generator, state in ((job.generator, random["generator"]), (job.noise, random["noise"])):
            Generator(generator.device).set_state(state)  # a trial
        load_state(data.unit, kept["unit"])
    except Exception as error:  # whatever a state of another scheme, or of another program, makes them raise
        job.checkpoint.refuse(data.name, error)
        return None
    job.generator.set_state(random["generator"])
    job.noise.set_state(random["noise"])
    return log


def calibrate_unit(data: UnitData, images: int, **which: bool) -> None:
    """Find the ranges of a unit from what its first `images` samples bring behind the reconstructed predecessors.

    Where samples differ in shape, from those that have the shape of the first.
    """
    chosen = data.inputs.stackable(range(min(images, len(data.inputs))))[0]
    args, kwargs = data.inputs.gather(chosen, device_of(data.unit))
    calibrate(data.unit, lambda unit: unit(*args, **kwargs), images=len(chosen), **which)


def calibrate_ranges(data: UnitData, images: int, reparam: bool) -> None:
    """As `calibrate_unit`; `reparam` makes ranges a channel behind LayerNorms one a tensor, then redoes the weights."""
    calibrate_unit(data, images)
    if reparam:
        reparameterize(data.unit)
        calibrate_unit(data, images, activations=False)  # weights changed, and so did their inputs


def gives_logits(unit: nn.Module) -> bool:
    """Whether a unit ends in the classification head."""
    return any(layer.weight_quantizer.role == "head" for _, layer in quant_layers(unit))


def is_head(unit: nn.Module) -> bool:
    """Whether a unit is the classification head and nothing else; a classifier of several layers is not."""
    return gives_logits(unit) and len(list(quant_layers(unit))) == 1

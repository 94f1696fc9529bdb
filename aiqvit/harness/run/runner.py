"""One run: seed, calibrate, quantize, evaluate, record."""

from __future__ import annotations

import random
import sys
import time
import traceback
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aiqvit.deploy.info import Info, attach
from aiqvit.deploy.pack import save_model
from aiqvit.evaluation import Teacher
from aiqvit.families.opening import unit_names
from aiqvit.harness.identity.manifest import manifest, versions
from aiqvit.harness.identity.spec import Run
from aiqvit.harness.run.memory import PeakMemory
from aiqvit.harness.run.progress import progress
from aiqvit.harness.store.records import MODEL, Record, plain
from aiqvit.interfaces import Bits, Checkpoint, Job, Outcomes, Shared, Subject, Task, UserError
from aiqvit.io.escape import line
from aiqvit.quant.coverage import coverage, require
from aiqvit.recon import rewriting
from aiqvit.samples import Batch, samples_in

LONG = 50_000  # characters of a message or a traceback that are kept


def run(item: Run, task: Task, subject: Subject, device: str, batch_size: int, fp32: dict | None = None,
        checkpoint: Checkpoint | None = None, models: Path | None = None, teacher: Teacher | None = None,
        keep: Callable[[Outcomes], str] | None = None, shared: Shared | None = None) -> Record:
    """Execute one run and return its record; what goes wrong in the method makes a record with status `failed`.

    `fp32` are the metrics of the unquantized model, `teacher` is that model, and what `checkpoint` has is not done
    again, nor what `shared` has of other runs. The quantized model goes to the folder `models`, where one is given;
    `keep` stores what it said of each sample and returns the digest. Raises `UserError` for what is wrong with the
    data.
    """
    use_threads(item)
    record = empty_record(item, fp32, manifest(device) | {"batch_size": batch_size, "weights": list(subject.notes)})
    memory = PeakMemory(device)
    teacher = teacher or Teacher(deepcopy(subject.model))
    try:
        model, info = quantized(item, task, subject, device, record, checkpoint or Checkpoint(),
                                shared or Shared(), memory.lap)
        start = time.monotonic()
        if item.reference:
            teacher.model = model
        said = task.outcomes(model, subject, limit=item.spec.limit, batch_size=batch_size, device=device,
                             progress=progress, teacher=teacher)
        record["metrics"] = task.metrics_of(said, len(task.chosen(item.spec.limit)))
        record["times"]["evaluate"] = round(time.monotonic() - start, 2)
        _check_unchanged(item, task)
        if models and not item.reference:
            save_model(attach(model, info), models / f"{item.spec.id}{MODEL}")
        if keep:
            record["outcomes"] = keep(said)
        record["status"] = "done"
        if task.pictures and not item.reference:
            _draw(item, task, model, subject, device)
    except UserError:
        raise
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # also SystemExit, of code that thinks it is a program of its own
        record |= {"error": describe(error), "metrics": {}}
    record["peak_mib"] = memory.total()
    record["data"] = task.fingerprint()
    return record


def use_threads(item: Run) -> None:
    """Take the CPU threads of a run, on which its last digits depend; before its manifest says how many there are."""
    if item.spec.threads:
        torch.set_num_threads(item.spec.threads)


def quantized(item: Run, task: Task, subject: Subject, device: str, record: Record, checkpoint: Checkpoint,
              shared: Shared, memory: Callable[[], float | None] = lambda: None) -> tuple[torch.nn.Module, Info]:
    """The model of a run, not evaluated yet, and what it says of itself; what was done goes into `record`.

    Raises `UserError` for what is wrong with the data, and whatever the method raises.
    """
    seed_everything(item.spec.seed)
    drawn = task.calibration(subject, item.method.images, item.spec.seed, item.explicit)
    batches = [to_device(batch, device) for batch in drawn]
    record["calibration_images"] = sum(map(samples_in, batches))
    model = _quantize(item, task, subject, batches, device, record, checkpoint, shared, memory)
    if not item.reference:
        _cover(model, task, batches, record, item.partial)
    shape = tuple(batches[0].shape[1:]) if batches and isinstance(batches[0], torch.Tensor) else ()
    return model, Info(
        method=item.spec.method, title=item.label, note=item.method.note, bits=item.spec.bits, preset=item.spec.preset,
        seed=item.spec.seed, settings=plain(item.spec.settings), rewritten=record.get("rewritten", ()),
        samples=record["calibration_images"], shape=shape, model=subject.name, task=task.name, recipe=subject.recipe,
        weights=subject.checksum,
        size=sum(t.numel() * t.element_size() for t in subject.model.state_dict().values()),
        coverage=record["coverage"], versions=versions())


def _draw(item: Run, task: Task, model: torch.nn.Module, subject: Subject, device: str) -> None:
    """Draw what the task was asked to; pictures that cannot be made or written cost nothing else."""
    folder, count = task.pictures
    try:
        task.draw(model, subject, folder / item.spec.id, count, device)
    except Exception as error:
        print(line(f"aiqvit: the pictures of {item.spec.id} cannot be drawn: {describe(error)['message']}"),
              file=sys.stderr)


def _check_unchanged(item: Run, task: Task) -> None:
    """Raise `RuntimeError` when the data is not what the run was planned with: it may have been read half-changed."""
    spec = item.spec
    try:
        now = task.identity(item.method.images, spec.seed, spec.limit, item.explicit)
    except UserError as error:
        raise RuntimeError(f"the data changed while the run read it: {error}") from error
    for name, what in (("data", "the samples evaluated"), ("train", "the list of training samples"),
                       ("calibration", "the samples calibrated on")):
        if getattr(now, name) != getattr(spec, name):
            raise RuntimeError(f"the data changed while the run read it: {what} are not those of the plan; "
                               "run it again on data that stays as it is")


def empty_record(item: Run, fp32: dict | None, origin: dict[str, Any]) -> Record:
    """The record of a run that has not got anywhere yet; `origin` is its manifest."""
    return {
        "id": item.spec.id,
        "status": "failed",
        "spec": asdict(item.spec),
        "defaults": dict(item.defaults),
        "metrics": {},
        "fp32": fp32,
        "calibration_images": 0,  # given to the method
        "range_images": 0,  # used at once where ranges are found for the whole model
        "coverage": {},
        "times": {},
        "log": [],
        "scheme": [],
        "manifest": origin | {"source": item.source},
        "data": {},
    }


def describe(error: BaseException) -> dict[str, str]:
    """Type, message and traceback of an error, for a record."""
    try:
        lines = traceback.format_exception(type(error), error, error.__traceback__)
        message = str(error)
    except Exception:  # an error of somebody else's may fail to become text
        lines, message = traceback.format_tb(error.__traceback__), "it has no message"
    return {"type": type(error).__name__, "message": message[:LONG], "traceback": "".join(lines)[-LONG:]}


def _quantize(item: Run, task: Task, subject: Subject, batches: list, device: str, record: Record,
              checkpoint: Checkpoint, shared: Shared, memory: Callable[[], float | None]) -> torch.nn.Module:
    def join(samples: list, count: int) -> Batch:
        batch = task.join(samples, count)
        record["range_images"] = max(record["range_images"], samples_in(batch))
        return batch

    job = Job(
        model=deepcopy(subject.model).to(device),
        units=unit_names(subject.model) if subject.units is None else subject.units,
        calibration=batches,
        bits=Bits(*map(int, item.spec.bits.split("/"))),
        seed=item.spec.seed,
        bit_rules={**subject.bit_rules, **item.bit_rules},
        forward=task.forward,
        features=task.features,
        join=join,
        progress=progress,
        log=record["log"],
        checkpoint=checkpoint,
        shared=shared,
        memory=memory,
    )
    start = time.monotonic()
    try:
        model = rewriting.quantized(item.method, job)
    except UserError as error:
        raise RuntimeError(str(error)) from error  # the method's own limits fail this run, not the whole sweep
    if job.rewritten:
        record["rewritten"] = job.rewritten
    record["times"]["quantize"] = round(checkpoint.seconds + shared.seconds + time.monotonic() - start, 2)
    if not item.reference:
        from aiqvit.quant.card import scheme_card

        record["scheme"] = scheme_card(model)
    return model


def _cover(model: torch.nn.Module, task: Task, batches: list, record: Record, partial: bool) -> None:
    """Count what of the model is quantized, on one calibration sample. Raises `RuntimeError` when too much is not."""
    one = [dict(sample) if isinstance(sample, dict) else sample for sample in batches[0][:1]]  # what a pass adds to it
    sample = batches[0][:1] if isinstance(batches[0], torch.Tensor) else one
    found = coverage(model, lambda net: task.forward(net, sample))
    record["coverage"] = asdict(found)
    try:
        require(found, partial, record["spec"]["model"])
    except UserError as error:
        raise RuntimeError(str(error)) from error


def seed_everything(seed: int) -> None:
    """Seed the generators of Python, NumPy and torch (CPU and GPU)."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def to_device(batch: Any, device: str) -> Any:
    """`batch` with its tensors on `device`, through tuples, lists and dictionaries."""
    if isinstance(batch, torch.Tensor):
        return batch.to(device)
    if isinstance(batch, dict):
        return {k: to_device(v, device) for k, v in batch.items()}
    if isinstance(batch, list | tuple):
        return type(batch)(to_device(v, device) for v in batch)
    return batch

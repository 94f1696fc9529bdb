"""A grid of runs: what it holds, what of it is done, and doing the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import partial
from itertools import groupby

from aiqvit.harness.executor import Ended, Executor
from aiqvit.harness.options import Choice
from aiqvit.harness.request import Request
from aiqvit.harness.sources import code_hash
from aiqvit.harness.spec import REFERENCE, Run, RunSpec
from aiqvit.harness.store import Store
from aiqvit.interfaces import Method, Task, UserError
from aiqvit.registry import METHODS


@dataclass(frozen=True)
class Plan:
    """All runs of one task, model by model, the full-precision run of each model first."""

    task: Task
    runs: tuple[Run, ...]
    preset: str
    device: str
    weights: str | None
    batch_size: int


def plan(request: Request, name: str) -> Plan:
    """The grid that a request means on the task `name`. Writes nothing; raises `UserError` for what cannot be done."""
    choices = request.choices()
    device = request.place()
    task = request.open_task(name)
    if request.calib is not None and request.calib > task.train_images:
        raise UserError(f"--calib {request.calib}: there are only {task.train_images} images to calibrate on")
    preset = request.preset_for(task, device)
    models = request.models(task)
    built = [(choice, choice.build(preset, task.limits(preset))) for choice in choices if choice.name != REFERENCE]
    reference = _reference(choices)
    data = task.fingerprint()["checksum"]

    def spec(model: str, weights: str, choice: Choice, method: Method, bits: str, seed: int) -> RunSpec:
        return RunSpec(
            task=task.label,
            model=model,
            weights=weights,
            data=data,
            method=choice.name,
            settings={f.name: getattr(method, f.name) for f in fields(method)},
            code=code_hash(choice.method, type(task)),
            preset="" if choice.name == REFERENCE else preset,
            bits=bits,
            seed=seed,
            limit=request.limit if request.limit is not None and request.limit < task.val_images else None,
            device=device.partition(":")[0],
            threads=request.threads_on(device),
        )

    runs = []
    for model in models:
        weights = task.load(model, request.weights).checksum
        runs.append(Run(spec(model, weights, *reference, "32/32", 0), reference[1], reference[0].label))
        for bits in request.bit_widths():
            for choice, method in built:
                for seed in request.seed_list():
                    one = spec(model, weights, choice, method, str(bits), seed)
                    runs.append(Run(one, method, choice.label, request.calib is not None))
    return Plan(task, tuple(runs), preset, device, request.weights, request.batch_size)


def _reference(choices: list[Choice]) -> tuple[Choice, Method]:
    chosen = next((c for c in choices if c.name == REFERENCE), None)
    choice = chosen or Choice(REFERENCE, METHODS.get(REFERENCE), {})
    return choice, choice.build("")


def execute(
    grid: Plan, store: Store, force: bool = False, before: Callable[[Run, int], None] = lambda run, number: None
) -> Iterator[Ended]:
    """Yield every run with its record and whether it was executed now; finished ones are read, failed ones retried.

    `before` is called with a run and its number from 1 when it is about to be executed. Runs that another process is
    at come last in their model's group, full precision excepted.
    """
    executor = Executor(grid.task, store, grid.device, grid.batch_size, grid.weights)
    executed: set[str] = set()
    for _, group in groupby(enumerate(grid.runs, 1), key=lambda numbered: numbered[1].spec.model):
        fp32, later = None, []
        for wait, items in ((False, group), (True, later)):
            for number, item in items:
                again = force and item.spec.id not in executed
                ended = executor(item, fp32, again, wait or item.reference, partial(before, item, number))
                if ended is None:
                    later.append((number, item))
                    continue
                record, fresh = ended
                executed |= {item.spec.id} if fresh else set()
                if item.reference and record["status"] == "done":
                    fp32 = record["metrics"]
                yield item, record, fresh

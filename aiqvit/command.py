"""What `aiqvit.bench` does once its command line is read."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import fields
from math import isnan
from pathlib import Path

from aiqvit.harness.identity.spec import Run
from aiqvit.harness.launch.estimate import sentence
from aiqvit.harness.launch.options import split
from aiqvit.harness.launch.plan import Plan, plan
from aiqvit.harness.launch.processes import execute_side_by_side
from aiqvit.harness.launch.ray import execute_on_ray
from aiqvit.harness.launch.request import Request
from aiqvit.harness.launch.serial import execute
from aiqvit.harness.run import progress
from aiqvit.harness.run.executor import finished
from aiqvit.harness.store.records import Record, Store, changed_since
from aiqvit.interfaces import UserError
from aiqvit.io.escape import line, terminal
from aiqvit.io.files import own_folder, write_text
from aiqvit.report import frame, marks, tables, units
from aiqvit.report.markup import markdown
from aiqvit.report.metrics import metric as about
from aiqvit.report.summary import UNDEFINED
from aiqvit.report.writers import FORMATS, write
from aiqvit.statistics import Statistics


def bench(args: Namespace) -> int:
    """Plan everything, run what is pending, print and write the tables; 1 when a run failed, otherwise 0."""
    request = to_request(args)
    formats = _formats(args.format)
    plans = [_announced(plan(request, name), request) for name in request.task_names()]
    store = Store(args.out)
    store.check()
    if args.dry_run:
        for grid in plans:
            _dry_run(grid, store, request)
        return 0
    store.prepare()
    failed = 0
    for grid in plans:
        records = _run(grid, store, request)
        failed += sum(record["status"] == "failed" for record in records.values())
        typed = {text.partition("=")[0].strip() for text in request.settings} | {"images"}  # `--set` and `--calib`
        typed |= {"bf16"} if request.precision else set()
        table = tables.build(grid.task.label, grid.task.metrics, grid.preset, grid.runs, records, request.grid or "",
                             grid.task.headlines, typed, Statistics(records.values(), args.intervals))
        for kind in formats:
            write_text(own_folder(Path(args.out), "tables") / f"{table.name}.{kind}", write(table, kind))
        logs = [units.markdown(records[run.spec.id], run.label) for run in _each_once(grid)] if args.units else []
        text = [markdown(table), *filter(None, logs)]
        print("\n" + "\n".join(text), end="")
    return 1 if failed else 0


def to_request(args: Namespace) -> Request:
    """The command line as a checked `Request`."""
    typed = {f.name: getattr(args, f.name) for f in fields(Request) if f.name != "settings"}
    request = Request(settings=tuple(args.set), **typed)
    request.check()
    return request


def _formats(text: str) -> list[str]:
    wrong = [f for f in split(text) if f not in FORMATS]
    if wrong:
        raise UserError(f"format {wrong[0]!r}: expected one of {', '.join(FORMATS)}")
    return split(text)


def _announced(grid: Plan, request: Request) -> Plan:
    task = grid.task
    if request.data is None and task.label.endswith("-mini"):
        print(line(f"{task.name}: no --data given and no {task.folder} here, so this uses the embedded mini data"))
    for note in dict.fromkeys([*task.notes(), *grid.notes]):
        print(line(f"{task.label}: {note}"))
    return grid


def _dry_run(grid: Plan, store: Store, request: Request) -> None:
    pending, old = [], 0
    for run in _each_once(grid):
        record = store.read(run.spec.id)
        state = record["status"] if record else "pending"
        if state == "done" and changed_since(record, run.source):
            state, old = "stale" if request.stale else "done, stale", old + 1
        if state not in ("done", "done, stale"):
            pending.append(run)
            state = {"failed": "failed, to be retried", "stale": "stale, to be run again"}.get(state, state)
            units = store.units(run.spec.id)
            state += f", units done: {units}" if units else ""
        print(f"{state:<22} {line(run.spec.id)}")
    label = line(grid.task.label)
    for model in grid.absent:
        print(f"{'pending':<22} {grid.each} runs of {line(model)}: its weights are not here yet, a run fetches them")
    more = grid.each * len(grid.absent)
    workers = request.workers_on(grid.device, len(pending) + more)
    print(f"{label}: {sentence(pending, store.records(), workers, more)}")
    if old:
        print(f"{label}: {old} stale, made by other source of method or task than today's"
              + ("" if request.stale else " (--stale runs them again)"))


def _each_once(grid: Plan) -> list[Run]:
    return list({run.spec.id: run for run in grid.runs}.values())


def _run(grid: Plan, store: Store, request: Request) -> dict[str, Record]:
    task = grid.task
    left = [run for run in _each_once(grid) if not finished(store, run, request.redo)]
    workers = request.workers_on(grid.device, len(left))
    print(line(f"{task.label}: {task.val_images} images to evaluate, {task.train_images} to calibrate on; "
               f"preset {grid.preset}, {grid.device}, {len(grid.runs)} runs"
               + (f", {workers} side by side" if workers > 1 else "")), flush=True)
    if left:
        print(line(f"{task.label}: {sentence(left, store.records(), workers)}"), flush=True)
    records = {}

    def before(run: Run, number: int) -> None:
        print(line(f"[{number}/{len(grid.runs)}] {_name(run)} ..."), flush=True)

    if request.launcher == "ray":
        ended = execute_on_ray(grid, store, request)
    elif workers > 1:
        ended = execute_side_by_side(grid, store, request, workers)
    else:
        ended = execute(grid, store, request, before)
    one_bar = workers > 1 or request.launcher == "ray"  # those of the runs would garble each other
    for run, record, fresh in progress.of_runs(ended, len(_each_once(grid))) if one_bar else ended:
        records[run.spec.id] = {**record, "folder": str(store.folder)}
        progress.say(line(_line(run, record, fresh, task.metrics)))
        if fresh and record["scheme"]:
            progress.say(terminal(_card(record)))
    return records


def _card(record: Record) -> str:
    """What was rewritten, what of the model is quantized (where it was counted), and how: a line for sites alike."""
    from aiqvit.quant.card import format_card

    said = [f"  {sentence}" for sentence in record.get("rewritten", ())]
    return "\n".join(filter(None, [*said, marks.coverage(record), format_card(record["scheme"])]))


def _name(run: Run) -> str:
    return f"{run.spec.model} {run.label}" + ("" if run.reference else f" {run.spec.bits} seed {run.spec.seed}")


def _line(run: Run, record: Record, fresh: bool, metrics: tuple[str, ...]) -> str:
    if record["status"] == "failed":
        return f"{_name(run)}: FAILED, {record['error']['type']}: {record['error']['message']}"
    values = []
    for metric in metrics:
        found, change = frame.value(record, metric), frame.change(record, metric)
        shown = UNDEFINED if isnan(found) else f"{found:.{about(metric).decimals}f}"
        values.append(f"{metric} {shown}" + ("" if run.reference or isnan(change) else f" ({change:+.2f})"))
    times = "" if run.reference else f"{record['times']['quantize']:.0f} s to quantize, "
    times += f"{record['times']['evaluate']:.0f} s to evaluate"
    names = record["data"].get("skipped", [])
    skipped = len(names)
    broken = f"; skipped {skipped} broken images: {', '.join(names[:3])}" if skipped else ""
    broken += f" ({record['data']['why']})" if skipped and record["data"].get("why") else ""
    return f"{_name(run)}: {', '.join(values)}; {times if fresh else 'done before'}{broken}"

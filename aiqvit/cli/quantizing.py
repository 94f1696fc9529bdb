"""What `aiqvit quantize` does once its command line is read."""

from __future__ import annotations

from argparse import Namespace
from contextlib import suppress
from dataclasses import fields
from pathlib import Path

from torch import nn

from aiqvit.api.showing import card
from aiqvit.deploy.info import attach, info_of
from aiqvit.harness.identity.manifest import manifest
from aiqvit.harness.identity.spec import Run
from aiqvit.harness.launch.plan import Plan, plan
from aiqvit.harness.launch.request import Request
from aiqvit.harness.run import runner
from aiqvit.harness.run.executor import Executor
from aiqvit.harness.run.memory import keep_freed_memory
from aiqvit.harness.run.progress import progress
from aiqvit.harness.store.locks import claimed
from aiqvit.harness.store.partial import Partial
from aiqvit.harness.store.records import Store
from aiqvit.interfaces import Shared, Subject, UserError
from aiqvit.io.escape import line, terminal
from aiqvit.io.files import check_place

PROVED = 8  # samples that the proof of an export is made on, of those calibrated on


def quantize(args: Namespace) -> int:
    """Quantize, save, export, check and print; 1 where the proof of the export misses its target, otherwise 0."""
    if not (args.save or args.onnx):
        raise UserError("nothing to write: give --save FILE, --onnx FILE or both")
    if args.save and args.onnx and Path(args.save).resolve() == Path(args.onnx).resolve():
        raise UserError(f"--save and --onnx are both {args.onnx!r}: give each a file of its own")
    for place in filter(None, (args.save, args.onnx)):
        check_place(Path(place))
    grid = plan(_request(args), args.task)
    item = next((run for run in grid.runs if not run.reference), None)
    if item is None or len(grid.runs) != 2:
        raise UserError(f"--method {args.method}, --model {args.model}, --bits {args.bits}: expected one of each, and "
                        "a method that quantizes")
    for note in dict.fromkeys([*grid.task.notes(), *grid.notes]):
        print(line(f"{grid.task.label}: {note}"))
    store = Store(args.out)
    store.check()
    executor = Executor(grid.task, store, grid.device, args.batch_size, args.weights)
    subject = executor.subject(item.spec.model)
    with claimed(store.partial / f"{item.spec.id}.lock", wait=True):
        model, checkpoint = _quantized(item, grid, subject, store)
        missed = _kept(args, grid, item, subject, model)
        checkpoint.clear()
    for folder in (store.partial, store.partial.parent):
        with suppress(OSError):  # something else is in it
            folder.rmdir()
    return 1 if missed else 0


def _request(args: Namespace) -> Request:
    typed = {f.name: getattr(args, f.name) for f in fields(Request) if hasattr(args, f.name)}
    request = Request(**typed | {"seeds": str(args.seed), "settings": tuple(args.set), "workers": 1})
    request.check()
    return request


def _quantized(item: Run, grid: Plan, subject: Subject, store: Store) -> tuple[nn.Module, Partial]:
    """The model, from where an earlier process was killed, and what is kept of it until it is written."""
    keep_freed_memory()
    runner.use_threads(item)
    checkpoint = Partial(store.partial / item.spec.id, item.source)
    record = runner.empty_record(item, None, manifest(grid.device))
    print(line(f"{item.spec.model} {item.label} {item.spec.bits} seed {item.spec.seed}, preset {grid.preset} ..."),
          flush=True)
    try:
        model, info = runner.quantized(item, grid.task, subject, grid.device, record, checkpoint, Shared())
    except (RuntimeError, ArithmeticError) as error:  # what a method says of data that it cannot take
        raise UserError(f"{item.label}: {error}") from error
    print(terminal(card(attach(model, info))), flush=True)
    print(f"  {record['times']['quantize']:.0f} s to quantize", flush=True)
    return model, checkpoint


def _kept(args: Namespace, grid: Plan, item: Run, subject: Subject, model: nn.Module) -> list[str]:
    """Write and check what was asked for; returns what of the proof missed its target."""
    from aiqvit.deploy.pack import save_model
    from aiqvit.deploy.proof.report import Size, float_size

    model = model.cpu()
    if args.save:
        print(line(f"{args.save}: {Size(save_model(model, args.save), float_size(subject.model))}"), flush=True)
    exported = {"full precision": subject.model, "quantized": model}
    missed: list[str] = []
    if args.onnx:
        from aiqvit.api.exporting import proved
        from aiqvit.deploy.runtime import OnnxModel

        batch = grid.task.join(grid.task.calibration(subject, PROVED, item.spec.seed), PROVED)
        part, inputs = grid.task.deployable(model, batch)
        plain, _ = grid.task.deployable(subject.model, batch)
        proof = proved(part, info_of(model), args.onnx, inputs, plain, args.target, args.opset, progress)
        print(terminal(str(proof)), flush=True)
        missed = proof.missed
        if part is model:
            exported["ONNX"] = OnnxModel(args.onnx)
    if args.check:
        _check(args, grid, subject, exported)
    return missed


def _check(args: Namespace, grid: Plan, subject: Subject, models: dict[str, nn.Module]) -> None:
    for name, model in models.items():
        device = "cpu" if name == "ONNX" else grid.device
        found = grid.task.evaluate(model, subject, limit=args.check, batch_size=args.batch_size, device=device,
                                   progress=progress)
        values = ", ".join(f"{metric} {found[metric]:.2f}" for metric in grid.task.metrics)
        print(line(f"{grid.task.label}, {found['images']} samples, {name}: {values}"), flush=True)

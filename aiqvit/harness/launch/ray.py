"""Runs of a grid as tasks of a Ray cluster: the same records in the same folder, which all its machines share.

Data, weights and results are opened in the working directory of the command, by the same paths on every machine.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from aiqvit.harness.identity.labels import INPUTS
from aiqvit.harness.identity.manifest import manifest
from aiqvit.harness.identity.sources import code_hash
from aiqvit.harness.identity.spec import Run
from aiqvit.harness.launch.gather import gather
from aiqvit.harness.launch.plan import Plan
from aiqvit.harness.launch.request import Request
from aiqvit.harness.run import progress
from aiqvit.harness.run.executor import Executor, Finished
from aiqvit.harness.run.runner import describe, empty_record
from aiqvit.harness.store.records import Record, Store, sealed
from aiqvit.interfaces import DataIdentity, UserError
from aiqvit.io.streams import make_lasting

RETRIES = 3  # of a run whose worker process was killed; each goes on from the last finished unit


def execute_on_ray(grid: Plan, store: Store, request: Request) -> Iterator[Finished]:
    """Yield every run of the grid as it ends, with its record and whether it was executed now.

    A run whose worker is killed is started again; one that kills its worker every time is recorded as failed. Raises
    `UserError` without Ray, for a cluster that is not there or too small, and for a machine with other code, data or
    weights.
    """
    ray = _connected(request.ray_address)
    gpus = request.gpus_per_run if request.gpus_per_run is not None else float(grid.device != "cpu")
    cpus = request.threads_on(grid.device) or 1
    remote = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES)(_run)
    items: dict[Any, tuple[Run, dict | None]] = {}

    def submit(item: Run, fp32: dict | None, wait: bool) -> Any:
        handle = remote.remote(request, grid.task.name, store, os.getcwd(), item, fp32, wait)
        items[handle] = item, fp32
        return handle

    def completed(handles: list) -> Iterator[tuple[Any, tuple[Record, bool] | None]]:
        while handles:
            (handle,), handles = ray.wait(handles)
            try:
                ended = ray.get(handle)
            except ray.exceptions.RayError as error:
                ended = _lost(*items[handle], store, error), True
            if isinstance(ended, str):
                raise UserError(ended)
            yield handle, ended

    try:
        if not any(r.get("CPU", 0) >= cpus and r.get("GPU", 0) >= gpus for r in _machines(ray)):
            raise UserError(f"no machine of the Ray cluster has the {cpus} CPUs and {gpus:g} GPUs that a run takes: "
                            "see --threads and --gpus-per-run")
        yield from gather(grid.runs, store, request.redo, submit, completed)
    finally:
        ray.shutdown()


def _connected(address: str | None) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what Ray will do anyway, without its warning
    try:
        import ray
    except ImportError as error:
        raise UserError("--launcher ray needs Ray: pip install 'aiqvit[ray]'") from error
    _reach(address)
    local = {} if address else {"include_dashboard": False, "object_store_memory": 10**8}  # for records, a few KB each
    try:
        ray.init(address or "local", logging_level=logging.ERROR, log_to_driver=False, **local)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"no Ray cluster at {address or 'this machine'!r}: {reason}") from error
    return ray


def _reach(address: str | None) -> None:
    """Raise `UserError` when nothing listens at HOST:PORT: Ray itself would try for many minutes."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if not colon:
        return
    try:
        socket.create_connection((host, int(port)), timeout=20).close()
    except (OSError, ValueError) as error:
        raise UserError(f"no Ray cluster at {address!r}: {error}") from error


def _machines(ray: Any) -> list[dict[str, float]]:
    """Resources of the machines that are up."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _lost(item: Run, fp32: dict | None, store: Store, error: Exception) -> Record:
    record = sealed(empty_record(item, fp32, manifest("cpu")) | {"error": describe(error)})
    store.write(record)
    return record


def _run(request: Request, task: str, store: Store, folder: str, item: Run, fp32: dict | None,
         wait: bool) -> tuple[Record, bool] | str | None:
    """In a worker: what `Executor` gives, or what is wrong with this machine."""
    make_lasting()
    progress.quiet()
    try:
        if not Path(folder).is_dir():
            raise UserError(f"there is no folder {folder!r}")
        os.chdir(folder)
        device = "cuda:0" if item.spec.device == "cuda" else "cpu"  # Ray shows a run only the GPUs that it is given
        executor = _executor(request, task, store.folder.parent, device)
        _check(item, executor)
        return executor(item, fp32, request.redo, wait)
    except UserError as error:
        return f"machine {os.uname().nodename}: {error}"


@cache
def _executor(request: Request, task: str, out: Path, device: str) -> Executor:
    return Executor(request.open_task(task), Store(out), device, request.batch_size, request.weights)


def _check(item: Run, executor: Executor) -> None:
    """Raise `UserError` where this machine would compute something else than what the run says."""
    spec = item.spec
    identity = executor.task.identity(item.method.images, spec.seed, spec.limit, item.explicit)
    subject, source = executor.subject(spec.model), code_hash(type(item.method), type(executor.task))
    inputs = {key.removeprefix(INPUTS): value for key, value in spec.settings.items() if key.startswith(INPUTS)}
    for name, found, expected in (
            ("data", identity, DataIdentity(spec.data, spec.train, spec.calibration)),
            ("weights", subject.checksum, spec.weights), ("preparation of inputs", dict(subject.inputs), inputs),
            ("code", source, item.source)):
        if found != expected:
            raise UserError(f"its {name} differ from those of the machine that started the sweep")

"""What the user asked for, checked before anything is done."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path

import torch

from aiqvit.bounds import THREADS_A_CORE, WORKERS_A_CORE, Count, Gpus, Seed, Threads, Workers
from aiqvit.harness.launch import machine
from aiqvit.harness.launch.options import PRESETS, MethodSpec, choose_methods, grid_methods, split
from aiqvit.harness.run.executor import Redo
from aiqvit.interfaces import Bits, Task, UserError
from aiqvit.io.files import own_folder
from aiqvit.io.text import missing
from aiqvit.plugins import reason
from aiqvit.registry import TASKS
from aiqvit.settings import SHOWN, fitting, kinds, read

BITS = "3/3,4/4,6/6", "4/4"  # of data, of the embedded mini data
PRECISIONS = ("float32", "bf16")
OPTIONS = ("calib_data", "transform", "held_out")  # that only some tasks have


@dataclass(frozen=True)
class Request:
    """The command line as typed; the methods below give it meaning and raise `UserError` for what has none."""

    task: str = "imagenet"
    method: str = "all"
    grid: str | None = None  # an ablation instead of methods
    model: str = "all"
    bits: str | None = None  # None: those of the published tables, of the embedded mini data 4/4 alone
    seeds: str = "0"
    preset: str | None = None  # None: paper on a GPU with real data, quick otherwise
    data: str | None = None
    calib_data: str | None = None
    transform: str | None = None
    held_out: Count | None = None  # training samples to evaluate on, in place of the others
    weights: str | None = None
    calib: Count | None = None
    limit: Count | None = None
    batch_size: Count = 32
    device: str = "auto"
    workers: Workers | None = None  # None: as many as cores and memory allow, on the CPU; one thread each
    launcher: str = "local"
    ray_address: str | None = None  # None: a cluster of this machine
    gpus_per_run: Gpus | None = None  # None: 1 on a GPU, otherwise 0
    threads: Threads | None = None  # None: the cores shared out among the workers, 1 where their number is not given
    settings: tuple[str, ...] = ()
    precision: str | None = None  # of the matrix products of training; None: what methods and presets say
    strict: bool = False
    partial: bool = False  # take models that cannot be quantized in all their parts, and mark them
    keep_models: bool = False
    force: bool = False
    stale: bool = False
    save_images: Count | None = None
    out: str = "results"
    dry_run: bool = False  # nothing is fetched

    def check(self) -> None:
        """Check all that needs no data and no import of a task."""
        self.bit_widths()
        self.seed_list()
        self.place()
        if self.preset not in (None, *PRESETS):
            raise UserError(f"preset {self.preset!r}: expected one of {', '.join(PRESETS)}")
        if self.precision not in (None, *PRECISIONS):
            raise UserError(f"precision {self.precision!r}: expected one of {', '.join(PRECISIONS)}")
        self._check_numbers()
        if self.force and self.stale:
            raise UserError("--force runs everything again, --stale what other source has made: give one of them")
        self._check_launcher()
        if self.grid and self.method != "all":
            raise UserError("--grid stands for methods of its own: leave --method out")
        self._check_weights()
        if len(self.task_names()) > 1 and (self.weights or self.data not in (None, "mini")):
            raise UserError("--data and --weights belong to one task, but several are chosen")

    def _check_numbers(self) -> None:
        known = kinds(Request)
        for f in fields(Request):
            value = getattr(self, f.name)
            if value is not f.default:
                try:
                    fitting(known[f.name], value)
                except ValueError as error:
                    raise UserError(f"--{f.name.replace('_', '-')} {str(value)[:SHOWN]}: {error}") from error
        if self.launcher != "local":
            return  # the machines of a cluster may have more
        cores = os.cpu_count() or 1
        workers, threads = self.workers or 1, self.threads or 1
        if workers > WORKERS_A_CORE * cores:
            raise UserError(f"--workers {workers}: expected at most {WORKERS_A_CORE * cores}, {WORKERS_A_CORE} times "
                            "the cores of this machine")
        if workers * threads > THREADS_A_CORE * cores:
            raise UserError(f"--workers {workers} with --threads {threads}: expected at most {THREADS_A_CORE * cores} "
                            f"in all, {THREADS_A_CORE} times the cores of this machine")

    def _check_weights(self) -> None:
        if self.weights is None or Path(self.weights).is_file():
            return
        if Path(self.weights).is_dir():
            raise UserError(f"--weights {self.weights!r} is a folder: give the file in it, such as model.safetensors")
        if os.path.lexists(self.weights):
            raise UserError(f"--weights {self.weights!r} is no regular file: a pipe, a device, or a link to nothing")
        raise UserError(missing("weights file", self.weights))

    def _check_launcher(self) -> None:
        if self.launcher not in ("local", "ray"):
            raise UserError(f"launcher {self.launcher!r}: expected local or ray")
        if self.launcher == "local" and (self.ray_address is not None or self.gpus_per_run is not None):
            raise UserError("--ray-address and --gpus-per-run belong to --launcher ray")
        if self.launcher == "ray" and (self.workers or 1) > 1:
            raise UserError("--workers belongs to --launcher local; Ray runs as many side by side as the cluster holds")
        if self.gpus_per_run == 0 and self.device.startswith("cuda"):
            raise UserError(f"--gpus-per-run 0: --device {self.device} needs a GPU")

    def task_names(self) -> list[str]:
        """Registered names, in the order typed."""
        return list(dict.fromkeys(name for part in split(self.task) for name in TASKS.usable(part)))

    def open_task(self, name: str) -> Task:
        """Find and check the data of a task."""
        cls = TASKS.get(name)
        options = {key: value for key in OPTIONS if (value := getattr(self, key)) is not None}
        if "held_out" in options and "held_out" not in cls.options:
            raise UserError(f"the task {name!r} cannot be judged on training samples (--held-out, aiqvit judge): it "
                            "has no labels of them")
        if strange := [key for key in options if key not in cls.options]:
            raise UserError(f"--{strange[0].replace('_', '-')}: the task {name!r} has no such option")
        try:
            task = cls(self.data, strict=self.strict, **options)
        except Exception as error:
            if isinstance(error, UserError) or not (owner := TASKS.owner(name)):
                raise
            raise UserError(f"task {name!r} of {owner} cannot be opened: {reason(error)}") from error
        if task.label != name and not task.label.startswith(f"{name}-"):
            raise UserError(f"task {name!r} calls itself {task.label!r}: expected {name} or {name}-... as its label")
        task.offline = self.dry_run
        if self.save_images:
            if type(task).draw is Task.draw:
                raise UserError(f"--save-images: the task {name!r} draws no pictures")
            task.pictures = own_folder(Path(self.out), "pictures"), self.save_images
        return task

    def models(self, task: Task) -> list[str]:
        """Model names, in the order typed."""
        names = list(dict.fromkeys(name for part in split(self.model) for name in task.resolve(part)))
        if self.weights and len(names) > 1:
            raise UserError(f"--weights belongs to one model, but {len(names)} are chosen: {', '.join(names)}")
        return names

    def choices(self) -> list[MethodSpec]:
        """Methods with the fields that the user changed."""
        expression = grid_methods(self.grid) if self.grid else self.method
        if self.precision is None:
            return choose_methods(expression, self.settings, self.calib)
        if not any("bf16" in kinds(choice.method) for choice in choose_methods(expression)):
            raise UserError(f"--precision {self.precision}: none of the chosen methods trains")
        switch = f"bf16={'on' if self.precision == 'bf16' else 'off'}"
        return choose_methods(expression, (*self.settings, switch), self.calib)

    def bit_widths(self, task: Task | None = None) -> list[Bits]:
        """Bit widths, each once; where none were typed, those for the data of the task."""
        usual = BITS[1] if task is not None and embedded(task) else BITS[0]
        return list(dict.fromkeys(Bits.parse(part) for part in split(usual if self.bits is None else self.bits)))

    def seed_list(self) -> list[int]:
        """Seeds, each once."""
        try:
            return list(dict.fromkeys(read(Seed, part) for part in split(self.seeds)))
        except ValueError as error:
            several = str(error).replace("a whole number", "whole numbers")
            raise UserError(f"--seeds {self.seeds[:SHOWN]}: {several}, for example 0,1,2") from error

    @property
    def redo(self) -> Redo:
        """Which runs are executed although they have a record."""
        return "all" if self.force else "stale" if self.stale else "failed"

    def place(self) -> str:
        """The device: `cpu` or `cuda:i`. Raises `UserError` for a GPU that is not there.

        With GPUs asked of a Ray cluster it is the first of those that a run is given, wherever that is.
        """
        if self.gpus_per_run is not None and self.device != "cpu":
            return "cuda:0" if self.gpus_per_run else "cpu"
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        kind, colon, index = self.device.partition(":")
        if self.device == "auto":
            return "cuda:0" if count else "cpu"
        if self.device == "cpu":
            return "cpu"
        if kind != "cuda" or (colon and not (index.isascii() and index.isdecimal() and len(index) < 5)):
            raise UserError(f"device {self.device[:SHOWN]!r}: expected auto, cpu, cuda or cuda:INDEX")
        if int(index or 0) >= count:
            raise UserError(f"device {self.device!r} is not there: this machine has {count} usable CUDA GPUs; "
                            "--device auto takes what there is")
        return f"cuda:{index or 0}"

    def threads_on(self, device: str) -> int:
        """CPU threads of one run; 0 on a GPU, where they change nothing."""
        if device != "cpu":
            return 0
        if self.workers is None and self.launcher == "local":
            return self.threads or 1
        return self.threads or max((os.cpu_count() or 1) // (self.workers or 1), 1)

    def workers_on(self, device: str, runs: int) -> int:
        """Processes for this number of runs; 1: this one. Where it is left open, a GPU has one."""
        most = self.workers or (machine.side_by_side() // (self.threads or 1) if device == "cpu" else 1)
        return max(min(most, runs), 1) if self.launcher == "local" else 1

    def preset_for(self, task: Task, device: str) -> str:
        """The preset asked for, or the default for the data and the device."""
        return self.preset or ("quick" if embedded(task) or device == "cpu" else "paper")


def embedded(task: Task) -> bool:
    """Whether its data is the mini data of this package."""
    return task.label.endswith("-mini")

"""What the user asked for, checked before anything is done."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from aiqvit.harness.launch.options import LARGEST, PRESETS, MethodSpec, choose_methods, grid_methods, split
from aiqvit.harness.run.executor import Redo
from aiqvit.interfaces import Bits, Task, UserError
from aiqvit.io.text import missing
from aiqvit.registry import TASKS

MOST = {"workers": 1024, "threads": 1024}


@dataclass(frozen=True)
class Request:
    """The command line as typed; the methods below give it meaning and raise `UserError` for what has none."""

    task: str = "imagenet"
    method: str = "all"
    grid: str | None = None  # an ablation instead of methods
    model: str = "all"
    bits: str = "3/3,4/4,6/6"
    seeds: str = "0"
    preset: str | None = None  # None: paper on a GPU with real data, quick otherwise
    data: str | None = None
    calib_data: str | None = None
    transform: str | None = None
    weights: str | None = None
    calib: int | None = None
    limit: int | None = None
    batch_size: int = 32
    device: str = "auto"
    workers: int = 1
    launcher: str = "local"
    ray_address: str | None = None  # None: a cluster of this machine
    gpus_per_run: float | None = None  # None: 1 on a GPU, otherwise 0
    threads: int | None = None  # None: the cores shared out among the workers
    settings: tuple[str, ...] = ()
    strict: bool = False
    partial: bool = False  # take models that cannot be quantized in all their parts, and mark them
    force: bool = False
    stale: bool = False
    save_images: int | None = None
    out: str = "results"
    dry_run: bool = False  # nothing is fetched

    def check(self) -> None:
        """Check all that needs no data and no import of a task."""
        self.bit_widths()
        self.seed_list()
        self.place()
        if self.preset not in (None, *PRESETS):
            raise UserError(f"preset {self.preset!r}: expected one of {', '.join(PRESETS)}")
        for name, value in (("calib", self.calib), ("limit", self.limit), ("batch-size", self.batch_size),
                            ("save-images", self.save_images), ("workers", self.workers), ("threads", self.threads)):
            most = MOST.get(name, LARGEST)
            if value is not None and not 1 <= value <= most:
                raise UserError(f"--{name} {value}: expected a number of at least 1 and at most {most}")
        if self.force and self.stale:
            raise UserError("--force runs everything again, --stale what other source has made: give one of them")
        self._check_launcher()
        if self.grid and self.method != "all":
            raise UserError("--grid stands for methods of its own: leave --method out")
        self._check_weights()
        if len(self.task_names()) > 1 and (self.weights or self.data not in (None, "mini")):
            raise UserError("--data and --weights belong to one task, but several are chosen")

    def _check_weights(self) -> None:
        if self.weights is not None and Path(self.weights).is_dir():
            raise UserError(f"--weights {self.weights!r} is a folder: give the file in it, such as model.safetensors")
        if self.weights is not None and not Path(self.weights).is_file():
            raise UserError(missing("weights file", self.weights))

    def _check_launcher(self) -> None:
        if self.launcher not in ("local", "ray"):
            raise UserError(f"launcher {self.launcher!r}: expected local or ray")
        if self.launcher == "local" and (self.ray_address is not None or self.gpus_per_run is not None):
            raise UserError("--ray-address and --gpus-per-run belong to --launcher ray")
        if self.launcher == "ray" and self.workers > 1:
            raise UserError("--workers belongs to --launcher local; Ray runs as many side by side as the cluster holds")
        if self.gpus_per_run is not None and not 0 <= self.gpus_per_run <= 1024:
            raise UserError(f"--gpus-per-run {self.gpus_per_run}: expected 0 or more, up to 1024")
        if self.gpus_per_run == 0 and self.device.startswith("cuda"):
            raise UserError(f"--gpus-per-run 0: --device {self.device} needs a GPU")

    def task_names(self) -> list[str]:
        """Registered names, in the order typed."""
        return list(dict.fromkeys(name for part in split(self.task) for name in TASKS.match(part)))

    def open_task(self, name: str) -> Task:
        """Find and check the data of a task."""
        cls = TASKS.get(name)
        options = {key: value for key in ("calib_data", "transform") if (value := getattr(self, key)) is not None}
        if strange := [key for key in options if key not in cls.options]:
            raise UserError(f"--{strange[0].replace('_', '-')}: the task {name!r} has no such option")
        task = cls(self.data, strict=self.strict, **options)
        task.offline = self.dry_run
        if self.save_images:
            if type(task).draw is Task.draw:
                raise UserError(f"--save-images: the task {name!r} draws no pictures")
            task.pictures = Path(self.out) / "pictures", self.save_images
        return task

    def models(self, task: Task) -> list[str]:
        """Model names, in the order typed."""
        names = list(dict.fromkeys(name for part in split(self.model) for name in task.resolve(part)))
        if self.weights and len(names) > 1:
            raise UserError(f"--weights belongs to one model, but {len(names)} are chosen: {', '.join(names)}")
        return names

    def choices(self) -> list[MethodSpec]:
        """Methods with the fields that the user changed."""
        return choose_methods(grid_methods(self.grid) if self.grid else self.method, self.settings, self.calib)

    def bit_widths(self) -> list[Bits]:
        """Bit widths, each once."""
        return list(dict.fromkeys(Bits.parse(part) for part in split(self.bits)))

    def seed_list(self) -> list[int]:
        """Seeds, each once."""
        parts = split(self.seeds)
        if not all(p.isdecimal() and len(p) <= 10 and int(p) < 2**32 for p in parts):
            raise UserError(f"--seeds {self.seeds}: expected whole numbers from 0 to {2**32 - 1}, for example 0,1,2")
        return list(dict.fromkeys(int(p) for p in parts))

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
        if kind != "cuda" or (colon and not index.isdecimal()):
            raise UserError(f"device {self.device!r}: expected auto, cpu, cuda or cuda:INDEX")
        if int(index or 0) >= count:
            raise UserError(f"device {self.device!r} is not there: this machine has {count} usable CUDA GPUs; "
                            "--device auto takes what there is")
        return f"cuda:{index or 0}"

    def threads_on(self, device: str) -> int:
        """CPU threads of one run; 0 on a GPU, where they change nothing."""
        if device != "cpu":
            return 0
        return self.threads or max((os.cpu_count() or 1) // self.workers, 1)

    def preset_for(self, task: Task, device: str) -> str:
        """The preset asked for, or the default for the data and the device."""
        embedded = task.label.endswith("-mini")
        return self.preset or ("quick" if embedded or device == "cpu" else "paper")

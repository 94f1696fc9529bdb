"""Train Point Transformers: `python -m aiqvit.tasks.train --task modelnet40|shapenetpart --data DIR`.

Published settings: Adam at 1e-3 with weight decay 1e-4, 200 epochs, step decay, random scale, shift and, for
classification, point dropout. The best checkpoint is chosen on training data that is held out: every tenth shape of
ModelNet40's list, ShapeNetPart's val list. `OUT/best.safetensors` is what `--weights` of the benchmark reads; a second
call goes on from `OUT/last.pt`, with the same numbers as if it had not been interrupted. Exit codes: 0 done, 2 wrong
input, 130 interrupted.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from aiqvit.tasks.content import combined
from aiqvit.tasks.models.point_transformer import WIDTHS
from aiqvit.tasks.points import PointTask, Shape, shape_content
from safetensors.torch import save as to_bytes
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from aiqvit.bounds import THREADS_A_CORE, Count, Part, Seed, Size, Threads, Widths
from aiqvit.guard import Parser, guarded, number, path
from aiqvit.interfaces import UserError
from aiqvit.io.files import write_bytes
from aiqvit.registry import TASKS

MINI = {"widths": (32, 64, 128), "dim": 32}
DECAY = {"modelnet40": (4, 0.3), "shapenetpart": (10, 0.5)}  # stages of equal length, and the factor between them


def augment(points: Tensor, dropout: bool, generator: torch.Generator) -> Tensor:
    """Scale by 0.8 to 1.25 and shift by up to 0.1; with `dropout` up to 7/8 of a shape's points become its first one.

    Points are (B, N, C), coordinates first.
    """

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=generator)

    B, N, _ = points.shape
    xyz = points[..., :3] * uniform(0.8, 1.25, B, 1, 1) + uniform(-0.1, 0.1, B, 1, 3)
    points = torch.cat([xyz, points[..., 3:]], dim=-1)
    if dropout:
        gone = uniform(0, 1, B, N, 1) <= uniform(0, 0.875, B, 1, 1)
        points = torch.where(gone, points[:, :1], points)
    return points


def shuffled(task: PointTask, shapes: Sequence[Shape], size: int, generator: torch.Generator) -> Iterator[tuple]:
    """Augmented batches (points, targets) in random order; a rest too small for a batch is left out."""
    order = torch.randperm(len(shapes), generator=generator)[: max(len(shapes) // size, 1) * size].tolist()
    for points, targets, _ in task.batches([shapes[i] for i in order], size):
        rows = torch.randperm(points.shape[1], generator=generator)  # sampling starts at the first point
        targets = targets[:, rows] if targets.dim() > 1 else targets
        yield augment(points[:, rows], targets.dim() == 1, generator), targets


def train_epoch(task: PointTask, model: nn.Module, optimizer: torch.optim.Optimizer, batches: Iterator[tuple],
                device: str) -> float:
    """One pass; returns the mean loss. Raises `UserError` when it is not finite."""
    losses = []
    model.train()
    for points, targets in batches:
        outputs = model(points.to(device)).flatten(0, -2)  # (B or B N, classes)
        loss = cross_entropy(outputs, targets.to(device).flatten())
        if not loss.isfinite():
            raise UserError("the loss is not finite: lower --rate")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return sum(losses) / len(losses)


class Trainer:
    """A model with its optimizer, on disk after every epoch."""

    def __init__(self, task: PointTask, args: argparse.Namespace) -> None:
        torch.manual_seed(args.seed)
        self.task, self.args, self.out = task, args, Path(args.out or f"runs/{task.label}")
        sizes = MINI if task.mini else {"widths": WIDTHS, "dim": 512}
        self.sizes = {"widths": args.widths or sizes["widths"], "dim": args.dim or sizes["dim"]}
        model = task.kind(task.channels, task.classes, **self.sizes)
        self.model = model.to(args.device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=args.rate, weight_decay=1e-4)
        self.epoch, self.best = 0, -1.0
        held = set(task.held_out)
        self.shapes = [shape for shape in task.train if shape not in held]
        self.data = combined([*task.names, *shape_content([*self.shapes, *task.held_out])])

    def resume(self) -> None:
        """Go on from `last.pt` if it is there. Raises `UserError` when it belongs to other settings."""
        path = self.out / "last.pt"
        if not path.is_file():
            return
        try:
            state = torch.load(path, map_location=self.args.device, weights_only=True)
            if not isinstance(state, dict) or state.get("settings") != self.settings():
                raise UserError(f"{str(path)!r} was trained with other settings or data: remove it or choose another "
                                "--out")
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.epoch, self.best = int(state["epoch"]), float(state["best"])
        except UserError:
            raise
        except Exception as error:  # whatever a damaged file makes torch raise
            raise UserError(f"{str(path)!r} is damaged, it cannot be continued: remove it to start anew") from error

    def settings(self) -> dict:
        """What a checkpoint must agree on to be continued."""
        return {"data": self.data, "epochs": self.args.epochs, "batch": self.args.batch_size,
                "rate": self.args.rate, "seed": self.args.seed, "dim": self.sizes["dim"],
                "widths": list(self.sizes["widths"])}

    def step(self) -> dict[str, float]:
        """Train one epoch, measure on the held-out shapes, save; returns the loss and the metrics."""
        args, task = self.args, self.task
        stages, factor = DECAY[task.name]
        for group in self.optimizer.param_groups:
            group["lr"] = max(args.rate * factor ** (self.epoch * stages // args.epochs), 0.01 * args.rate)
        generator = torch.Generator().manual_seed(args.seed * 100003 + self.epoch)
        batches = bar(shuffled(task, self.shapes, args.batch_size, generator), f"epoch {self.epoch + 1}",
                      total=max(len(self.shapes) // args.batch_size, 1))
        loss = train_epoch(task, self.model, self.optimizer, batches, args.device)
        metrics = task.measure(self.model, task.held_out, args.batch_size, args.device, bar)
        self.epoch += 1
        if metrics[task.metrics[-1]] > self.best:
            self.best = metrics[task.metrics[-1]]
            state = {key: value.cpu().contiguous() for key, value in self.model.state_dict().items()}
            write_bytes(self.out / "best.safetensors", to_bytes(state))
        last = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "epoch": self.epoch,
                "best": self.best, "settings": self.settings()}
        torch.save(last, content := io.BytesIO())
        write_bytes(self.out / "last.pt", content.getvalue())
        return {"loss": loss, **metrics}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(prog="aiqvit.tasks.train", description=__doc__.split("\n\n")[0])
    add = p.add_argument
    add("--task", required=True, choices=tuple(DECAY), help="what to train for")
    add("--data", type=path,
        help="data folder, or mini (default: the task's usual folder if it exists, otherwise mini)")
    add("--out", type=path, help="folder of best.safetensors and last.pt (default: runs/TASK)")
    add("--epochs", type=number(Count), default=200, help="(default: %(default)s)")
    add("--batch-size", type=number(Count), default=16, help="(default: %(default)s)")
    add("--rate", type=number(Part), default=1e-3, help="Adam's learning rate at the start (default: %(default)s)")
    add("--dim", type=number(Size), help="width of the attention (default: 512; 32 on the mini data)")
    add("--widths", type=number(Widths),
        help="features of each level (default: 32,64,128,256,512; 32,64,128 on the mini data)")
    add("--seed", type=number(Seed), default=0, help="(default: %(default)s)")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="(default: %(default)s)")
    add("--threads", type=number(Threads), help="CPU threads (default: all cores)")
    return p


def bar(items: Iterable, text: str, total: int | None = None) -> Iterable:
    """A progress bar on a terminal."""
    return tqdm(items, text, total=total, leave=False, disable=None)


def shown(task: PointTask, metrics: dict[str, float]) -> str:
    """Metrics as text."""
    return ", ".join(f"{key} {metrics[key]:.2f}" for key in task.metrics)


def _check(args: argparse.Namespace) -> None:
    """Raise `UserError` for what the command line cannot mean."""
    if (args.threads or 1) > (most := THREADS_A_CORE * (os.cpu_count() or 1)):
        raise UserError(f"--threads {args.threads}: expected at most {most}, {THREADS_A_CORE} times the cores here")
    if not re.fullmatch(r"cpu|cuda(:[0-9]{1,4})?", args.device):
        raise UserError(f"--device {args.device}: expected cpu, cuda or cuda:INDEX")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if args.device != "cpu" and int(args.device.partition(":")[2] or 0) >= count:
        raise UserError(f"device {args.device!r} is not there: this machine has {count} usable CUDA GPUs; take "
                        "--device cpu")
    out = Path(args.out) if args.out else None
    try:
        if out:
            out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {args.out}: this folder cannot be made: {error.strerror or error}") from error


def run(args: argparse.Namespace) -> int:
    """Train to the last epoch, then measure the best checkpoint on the test list."""
    _check(args)
    if args.threads:
        torch.set_num_threads(args.threads)
    task: PointTask = TASKS.get(args.task)(args.data)
    trainer = Trainer(task, args)
    trainer.resume()
    while trainer.epoch < args.epochs:
        found = trainer.step()
        print(f"epoch {trainer.epoch}/{args.epochs}: loss {found['loss']:.3f}, {shown(task, found)} on "
              f"{len(task.held_out)} held-out shapes", flush=True)
    path = trainer.out / "best.safetensors"
    subject = task.load(task.models[0], str(path))
    found = task.evaluate(subject.model, subject, limit=None, batch_size=args.batch_size, device=args.device,
                          progress=bar)
    print(f"{path}: {shown(task, found)} on {found['images']} test shapes")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    return guarded(lambda: run(parser().parse_args(arguments)), "; the same command goes on after the last epoch",
                   arguments, "aiqvit.tasks.train")


if __name__ == "__main__":
    sys.exit(main())

"""Speed as ratios, measured in one run: `python -m aiqvit.speed` (DeiT-Tiny layout, random weights and images).

Each line is a time beside the full-precision time of the same work, best of several alternating repeats. With
`--deploy` exported models are timed in the runtimes that they are made for: see `aiqvit.cli.deploy_speed`; with
`--steps` every method that trains is: see `aiqvit.cli.step_speed`; with `--gpu` methods are run and timed on a GPU: see
`aiqvit.cli.gpu_speed`.
"""

from __future__ import annotations

import copy
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence

import timm
import torch
from torch import nn

from aiqvit.guard import Parser, guarded
from aiqvit.harness.run.memory import keep_freed_memory
from aiqvit.interfaces import Bits, Job, UserError
from aiqvit.quant.surgery import quant_layers
from aiqvit.recon.activations import ActivationStore
from aiqvit.recon.loop import Group, Schedule, reconstruct
from aiqvit.recon.lowrank import LowRank
from aiqvit.recon.objective import objective
from aiqvit.recon.walk import UnitData, walk
from aiqvit.registry import METHODS

BITS = Bits(4, 4)
DEPLOY = {  # flags that belong to --deploy: what they are where they are not typed, and what they mean
    "model": ("deit_tiny_patch16_224", "a name of timm"),
    "method": ("minmax,repqvit,ptq4vit,aiqvit", "comma list of names, globs and variants"),
    "bits": ("8/8,4/8", "comma list of weights/activations"),
    "batch": ("1,8", "comma list of batch sizes"),
    "threads": ("1", "comma list of threads of a runtime"),
    "rounds": ("9", "rounds in turn, whose medians are shown"),
}
GPU = {  # the same of --gpu
    "device": ("cuda", "where to measure: cuda, cuda:1 or cpu"),
    "minutes": ("8", "budget: what no longer fits is left out"),
    "weights": ("", "weights file of DeiT-Tiny; none: random ones"),
}


def best(works: dict[str, Callable[[], object]], repeats: int = 5) -> dict[str, float]:
    """Least seconds of each piece of work, run in turns so that all see the same machine."""
    seconds = dict.fromkeys(works, float("inf"))
    for _ in range(repeats):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    return seconds


def calibration(model: nn.Module, images: torch.Tensor) -> dict[str, float]:
    """Seconds to calibrate RepQ-ViT on 32 images, beside one full-precision forward pass of them."""
    method = METHODS.get("repqvit")()
    with torch.inference_mode():
        return best({"fp32 forward": lambda: model(images),
                     "RepQ-ViT calibration": lambda: method.quantize(Job(copy.deepcopy(model), (), [images], BITS))}, 3)


def evaluation(model: nn.Module, images: torch.Tensor) -> dict[str, float]:
    """Seconds to evaluate in batches of 32 with each method's model, beside full precision."""
    batches = images.split(32)
    works = {"fp32": lambda: [model(batch) for batch in batches]}
    for name in ("minmax", "repqvit", "aiqvit"):
        cls = METHODS.get(name)
        job = Job(copy.deepcopy(model), (), [images[:8]], BITS)
        quantized = cls(**cls.presets.get("smoke", {})).quantize(job)
        works[cls.title] = lambda quantized=quantized: [quantized(batch) for batch in batches]
    with torch.inference_mode():
        return best(works)


def step(model: nn.Module, images: torch.Tensor, rank: int = 60) -> dict[str, float]:
    """Seconds of a low-rank reconstruction step of a block, beside forward and backward of the fp32 block."""
    cls, block = METHODS.get("aiqvit"), "blocks.5"
    method = cls(**cls.presets["smoke"])
    student = method.quantize(Job(copy.deepcopy(model), (), [images[:8]], BITS))
    data = next(walk(student, model, [block], [images], lambda m, x: m(x), ActivationStore(2**32)))
    for _, layer in quant_layers(data.unit):
        layer.compensation = LowRank(layer.weight, rank)
    factors = tuple(p for _, layer in quant_layers(data.unit) for p in layer.compensation.parameters())
    groups = [Group(factors, 1e-3), *method.scale_groups(data.unit)]
    source = copy.deepcopy(model.get_submodule(block)).requires_grad_(True)
    (x,), _ = data.fp_inputs.gather(range(len(images)))
    steps = 4
    return best({"fp32 forward + backward": lambda: [source(x).square().mean().backward() for _ in range(steps)],
                 f"low-rank step, rank {rank}": lambda: _steps(data, groups, steps, len(images))})


def _steps(data: UnitData, groups: list[Group], steps: int, batch: int) -> None:
    reconstruct(data, groups, Schedule(steps, batch, objective("mse")), lambda _: list(range(batch)))


def show(title: str, seconds: dict[str, float]) -> None:
    """Print one line a piece of work: seconds and the ratio to the first."""
    print(title)
    first = next(iter(seconds.values()))
    for name, value in seconds.items():
        print(f"  {name:<26} {value:8.3f} s  {value / first:6.2f} x")


def parser() -> Parser:
    """The command line."""
    p = Parser(prog="aiqvit.speed", description="Measure speed as ratios, of random weights and images.")
    add = p.add_argument
    instead = p.add_mutually_exclusive_group().add_argument
    instead("--deploy", action="store_true", help=f"time exported models (ONNX) instead; takes {_flags(DEPLOY)}")
    instead("--gpu", action="store_true", help=f"run and time methods on a GPU instead; takes --method, {_flags(GPU)}")
    instead("--steps", action="store_true",
            help="time a training step of every method instead, and say where that goes")
    for name, (usual, what) in {**DEPLOY, **GPU}.items():
        add(f"--{name}", help=f"{what} (default: {usual or 'none'})")
    return p


def _flags(known: dict[str, tuple[str, str]]) -> str:
    return ", ".join(f"--{name}" for name in known)


def deploy(args: Namespace) -> int:
    """Time exported models of one network; returns the exit code."""
    from aiqvit.cli.deploy_speed import show

    args = Namespace(**{name: getattr(args, name) or usual for name, (usual, _) in DEPLOY.items()})
    if not timm.is_model(args.model):
        raise UserError(f"--model {args.model!r}: timm has no such model")
    torch.manual_seed(0)
    show(timm.create_model(args.model).eval().requires_grad_(False), args)
    return 0


def gpu(args: Namespace) -> int:
    """Run and time methods on a device; returns the exit code. Raises `UserError` where that is not there."""
    from aiqvit.cli.gpu_speed import place, show

    args = Namespace(method=args.method or "all",
                     **{name: getattr(args, name) or usual for name, (usual, _) in GPU.items()})
    device = place(args.device)
    torch.manual_seed(0)
    model = timm.create_model("deit_tiny_patch16_224").eval().requires_grad_(False)
    if args.weights:
        from aiqvit.tasks.weights import load_state, read_state

        load_state(model, read_state(args.weights), args.weights)
    show(model, args, device)
    return 0


def blocks() -> Iterator[tuple[str, nn.Module, str, torch.Tensor]]:
    """A network of each family with random weights, of as few blocks as it takes, one of them, and samples."""
    from aiqvit.tasks.models.point_transformer import PointTransformer

    torch.manual_seed(0)
    images = torch.randn(8, 3, 224, 224)
    yield "DeiT-Tiny", timm.create_model("deit_tiny_patch16_224", depth=2), "blocks.1", images
    swin = timm.create_model("swin_tiny_patch4_window7_224", depths=(1, 1, 2, 1))
    yield "Swin-Tiny", swin, "layers.2.blocks.1", images
    yield "Point Transformer", PointTransformer(widths=(32, 64)), "blocks.1", torch.randn(8, 1024, 6)


def run(argv: Sequence[str]) -> int:
    """Measure and print; returns the exit code."""
    args = parser().parse_args(argv)
    allowed = set(DEPLOY if args.deploy else (*GPU, "method") if args.gpu else ())
    if typed := next((key for key in (*DEPLOY, *GPU) if getattr(args, key) is not None and key not in allowed), None):
        owner = "--deploy" if typed in DEPLOY else "--gpu"
        raise UserError(f"--{typed} belongs to {owner}: add it, or leave --{typed} out")
    if args.deploy or args.gpu:
        return deploy(args) if args.deploy else gpu(args)
    keep_freed_memory()
    if args.steps:
        from aiqvit.cli.step_speed import show as show_steps

        show_steps(blocks())
        return 0
    torch.manual_seed(0)
    model = timm.create_model("deit_tiny_patch16_224").eval().requires_grad_(False)
    images = torch.randn(64, 3, 224, 224)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {BITS} bits")
    show("calibration on 32 images", calibration(model, images[:32]))
    show("evaluation of 64 images, batch 32", evaluation(model, images))
    show("4 steps on one block, batch 16", step(model, images[:16]))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    return guarded(lambda: run(arguments), arguments=arguments)


if __name__ == "__main__":
    sys.exit(main())

"""Compare quantization methods: `python -m aiqvit.bench --task imagenet --method all`.

Exit codes: 0 all runs fine, 1 some run failed (the others are kept), 2 the input was wrong, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence

from aiqvit.bounds import Count, Gpus, Threads, Workers
from aiqvit.guard import Parser, auto, guarded, number, path
from aiqvit.tables import INTERVALS

WHAT = "Compare post-training quantization methods of vision transformers."


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(prog="aiqvit.bench", description=WHAT)
    add = p.add_argument
    add("--config", type=path, metavar="FILE", help="TOML file whose keys are these flags; what is typed wins")
    add("--task", default="imagenet", help="comma list of names and globs, or all (default: %(default)s)")
    add("--method", default="all", help="comma list of names, globs and variants like aiqvit[rank=60,curriculum=off]")
    add("--grid", help="an ablation instead of methods, for example table5 (--list shows all)")
    add("--model", default="all", help="comma list of names and globs; all means the task's own (default: %(default)s)")
    add("--bits",
        help="comma list of weights/activations, 2 to 8 (default: 3/3,4/4,6/6; of the embedded mini data 4/4)")
    add("--seeds", default="0", help="comma list; several give mean and standard deviation (default: %(default)s)")
    add("--preset", help="smoke, quick or paper (default: paper on a GPU with real data, otherwise quick)")
    add("--data", type=path,
        help="data folder, or mini (default: the task's usual folder if it exists, otherwise mini)")
    add("--calib-data", type=path, metavar="DIR",
        help="pictures to calibrate on, instead of the data folder's train (imagenet)")
    add("--transform", metavar="KEY=VALUE,...", help="mean, std, crop, size, interpolation of pictures, any of them, "
        "instead of what the weights or timm say (imagenet)")
    add("--held-out", type=number(Count), metavar="N",
        help="evaluate on N training samples that are not calibrated on, to choose settings by: see aiqvit judge "
        "(imagenet, modelnet40, shapenetpart)")
    add("--weights", type=path, help="weights of the one model chosen: safetensors, pth, pt or bin")
    add("--calib", type=number(Count), help="calibration images of every method (default: what each method says)")
    add("--limit", type=number(Count), help="evaluate on this many images only; such tables are marked")
    add("--batch-size", type=number(Count), default=32, help="images at once in evaluation (default: %(default)s)")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:INDEX (default: %(default)s)")
    add("--workers", type=auto(number(Workers)), default=os.environ.get("AIQVIT_WORKERS", "auto"),
        help="runs side by side, each in its own process; auto: as many as cores and memory allow, one thread each, on "
        "a GPU one (default: AIQVIT_WORKERS, otherwise auto)")
    add("--launcher", default="local", help="local, or ray for a cluster (default: %(default)s)")
    add("--ray-address", help="a running Ray cluster, for example auto (default: one is started here)")
    add("--gpus-per-run", type=number(Gpus),
        help="of a Ray cluster, fractions allowed (default: 1 with a GPU, otherwise 0)")
    add("--threads", type=number(Threads),
        help="CPU threads of a run, which change its last digits (default: cores / workers, with auto 1)")
    add("--precision", help="float32, or bf16: matrix products of training in bfloat16, of every method that trains "
        "(default: what method and preset say)")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="hyper-parameter of every method that has it")
    add("--out", type=path, default="results", help="folder of records and tables (default: %(default)s)")
    add("--format", default="md,csv,tex",
        help="tables to write: comma list of md, csv, tex, html (default: %(default)s)")
    add("--intervals", action="store_true", help=INTERVALS)
    add("--save-images", type=number(Count), metavar="N",
        help="draw what fp32 and each new run predict on N images (coco)")
    add("--keep-models", action="store_true", help="keep each quantized model as a packed file in OUT/models")
    add("--units", action="store_true", help="print what each method did to each unit: losses, ranks, intervals")
    add("--partial", action="store_true", help="take models of which parts stay in full precision; tables mark them")
    add("--force", action="store_true", help="run again what is finished")
    add("--stale", action="store_true", help="run again what other source of method or task than today's has made")
    add("--strict", action="store_true", help="stop at a broken image instead of skipping it")
    add("--dry-run", action="store_true", help="show what is done, stale, pending, failed, and the time left, and stop")
    add("--list", action="store_true", help="show tasks, methods and their settings, and stop")
    return p


def read(argv: Sequence[str], known: argparse.ArgumentParser | None = None) -> argparse.Namespace:
    """The command line, behind what the file named by `--config` says; `known` are other flags than `parser`'s."""
    known = known or parser()
    args = known.parse_args(argv)
    if args.config is None:
        return args
    from aiqvit.harness.launch.config import flags

    return known.parse_args([*flags(args.config, known), *argv])


def main(argv: Sequence[str] | None = None, make: Callable[[], argparse.ArgumentParser] = parser) -> int:
    """Run the command and return its exit code; `make` gives its flags and their defaults."""
    # waiting threads of torch must not spin: beside other programs on the same cores that is several times slower
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, interrupt)  # what batch systems send
    arguments = sys.argv[1:] if argv is None else list(argv)
    return guarded(lambda: run(arguments, make()),
                   "; finished runs and blocks are kept, the same command goes on from there", arguments)


def run(argv: Sequence[str], known: argparse.ArgumentParser) -> int:
    """What the command line asks for; returns the exit code."""
    args = read(argv, known)
    if args.list:
        from aiqvit import listing

        return listing.show()
    from aiqvit import command  # here, so that --help imports no torch

    return command.bench(args)


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())

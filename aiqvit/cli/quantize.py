"""Quantize one model and keep it: `aiqvit quantize --model deit_tiny --weights FILE --save F --onnx F`.

Killed, the same command goes on from the last unit that was finished. Exit codes: 0 all fine, 1 something failed or the
proof of the export missed its target, 2 the input was wrong, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence

from aiqvit.bench import interrupt
from aiqvit.bounds import Count, Seed, Threads, Whole
from aiqvit.guard import Parser, guarded, number, path


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(prog="aiqvit quantize", description="Quantize one model: a packed file, an ONNX file, or both.")
    add = p.add_argument
    add("--task", default="imagenet", help="the task of the model (default: %(default)s)")
    add("--model", required=True, help="its name, as in aiqvit bench")
    add("--weights", type=path, help="its weights: safetensors, pth, pt or bin")
    add("--data", type=path, help="data to calibrate on, or mini (default: as in aiqvit bench)")
    add("--calib-data", type=path, metavar="DIR", help="pictures to calibrate on instead (imagenet)")
    add("--transform", metavar="KEY=VALUE,...", help="how pictures are prepared, as in aiqvit bench (imagenet)")
    add("--method", default="aiqvit", help="a method, or a variant like aiqvit[rank=60] (default: %(default)s)")
    add("--bits", default="4/4", help="weights/activations (default: %(default)s)")
    add("--preset", help="smoke, quick or paper (default: paper on a GPU with real data, otherwise quick)")
    add("--seed", type=number(Seed), default=0, help="(default: %(default)s)")
    add("--calib", type=number(Count), help="samples to calibrate on (default: what the method says)")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="hyper-parameter of the method")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:INDEX (default: %(default)s)")
    add("--threads", type=number(Threads), help="CPU threads (default: all cores)")
    add("--partial", action="store_true", help="take a model of which parts stay in full precision")
    add("--save", type=path, metavar="FILE", help="write the packed model, for aiqvit.load and aiqvit evaluate")
    add("--onnx", type=path, metavar="FILE", help="write the model as ONNX and prove it")
    add("--target", choices=("ort", "openvino"), default="ort", help="runtime of the ONNX file (default: %(default)s)")
    add("--opset", type=number(Whole), default=21, help="of the ONNX file, 21 or later (default: %(default)s)")
    add("--check", type=number(Whole), default=0, metavar="N",
        help="evaluate on N samples: full precision, quantized, ONNX (default: none)")
    add("--batch-size", type=number(Count), default=32, help="samples at once in evaluation (default: %(default)s)")
    add("--out", type=path, default="results", help="folder of what is unfinished (default: %(default)s)")
    return p


def run(argv: Sequence[str]) -> int:
    """What the command line asks for; returns the exit code."""
    args = parser().parse_args(argv)
    from aiqvit.cli.quantizing import quantize  # here, so that --help imports no torch

    return quantize(args)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # see aiqvit.bench
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, interrupt)
    arguments = sys.argv[1:] if argv is None else list(argv)
    return guarded(lambda: run(arguments), "; finished units are kept, the same command goes on from there", arguments)


if __name__ == "__main__":
    sys.exit(main())

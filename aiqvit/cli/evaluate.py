"""Measure a saved model on other data, without quantizing again: `aiqvit evaluate --load q.safetensors --data DIR`.

Exit codes: 0 measured, 1 something failed, 2 the input was wrong.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from aiqvit.bounds import Count, Threads
from aiqvit.guard import Parser, guarded, number, path


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(prog="aiqvit evaluate", description="Measure a quantized model that was saved.")
    add = p.add_argument
    add("--load", type=path, required=True, metavar="FILE", help="what aiqvit quantize or bench --keep-models wrote")
    add("--data", type=path, help="data folder, or mini (default: as in aiqvit bench)")
    add("--task", help="the task, where the file does not say (default: that of the file)")
    add("--limit", type=number(Count), help="evaluate on this many samples only")
    add("--batch-size", type=number(Count), default=32, help="samples at once (default: %(default)s)")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:INDEX (default: %(default)s)")
    add("--threads", type=number(Threads), help="CPU threads (default: all cores)")
    add("--strict", action="store_true", help="stop at a broken image instead of skipping it")
    return p


def run(argv: Sequence[str]) -> int:
    """Load, evaluate, print; returns the exit code."""
    args = parser().parse_args(argv)
    import torch

    from aiqvit.api.devices import place
    from aiqvit.api.evaluating import by_task, opened
    from aiqvit.api.showing import card
    from aiqvit.deploy.info import info_of
    from aiqvit.deploy.pack import load_model
    from aiqvit.io.escape import line, terminal

    device = place(args.device)
    if args.threads:
        torch.set_num_threads(args.threads)
    model = load_model(args.load)
    info = info_of(model)
    task = opened(info, args.task, args.data, strict=args.strict)
    print(line(f"{args.load}: {info.model}"))
    print(terminal(card(model)), flush=True)
    found = by_task(model, info, task, args.limit, args.batch_size, device)
    for note in task.notes():
        print(line(f"{task.label}: {note}"))
    values = ", ".join(f"{name} {found[name]:.2f}" for name in task.metrics)
    skipped = f", {found['skipped']} skipped" if found.get("skipped") else ""
    print(line(f"{task.label}: {values} ({found['images']} samples{skipped})"))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    return guarded(lambda: run(arguments), arguments=arguments)


if __name__ == "__main__":
    sys.exit(main())

"""All commands under one name: `aiqvit COMMAND ...`, or `python -m aiqvit COMMAND ...`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from aiqvit import __version__
from aiqvit.guard import guarded
from aiqvit.registry import unknown

COMMANDS = {  # name -> module with `main(argv)`, what it does
    "bench": ("aiqvit.bench", "compare methods, one table a task"),
    "quantize": ("aiqvit.cli.quantize", "quantize one model: a packed file, an ONNX file, or both"),
    "evaluate": ("aiqvit.cli.evaluate", "measure a saved model on a data folder"),
    "compare": ("aiqvit.cli.compare", "two runs on the same samples: which differences stand"),
    "judge": ("aiqvit.cli.judge", "compare settings on training samples, to choose among them"),
    "tables": ("aiqvit.tables", "the paper's tables from records"),
    "figures": ("aiqvit.figures", "figures from records"),
    "report": ("aiqvit.report.__main__", "one page with everything"),
    "costs": ("aiqvit.cli.costs", "minutes and memory of runs, by unit"),
    "speed": ("aiqvit.speed", "speed as ratios"),
}
HELP = "\n".join(["usage: aiqvit COMMAND ...; aiqvit COMMAND --help shows its flags", "",
                  *(f"  {name:<10}{what}" for name, (_, what) in COMMANDS.items())])


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    if not arguments or arguments[0] not in COMMANDS:
        return guarded(lambda: _said(arguments[0] if arguments else ""))
    return import_module(COMMANDS[arguments[0]][0]).main(arguments[1:])


def _said(word: str) -> int:
    """Help or version; raises `UserError` for a command that does not exist."""
    if word in ("", "-h", "--help"):
        print(HELP)
        return 0 if word else 2
    if word == "--version":
        print(f"aiqvit {__version__}")
        return 0
    raise unknown("command", word, COMMANDS)

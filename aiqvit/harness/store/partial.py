"""What a run has finished so far, on disk: one file a unit, written whole or not at all."""

from __future__ import annotations

import io
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import torch

from aiqvit.harness.store.records import plain
from aiqvit.interfaces import Checkpoint, UserError
from aiqvit.io.files import write_bytes


class Partial(Checkpoint):
    """`<folder>/<unit>.pt`. A file that cannot be read ends what is taken over; one that cannot be written, saving."""

    def __init__(self, folder: Path, source: str = "") -> None:
        """`source` is the hash of the source at work: units that another one made are not taken over."""
        self.folder, self.source, self.units = folder, source, 0  # units taken over
        self._began, self._loading, self._saving = time.monotonic(), True, True

    def load(self, unit: str) -> dict[str, Any] | None:
        """See `Checkpoint`."""
        path = self.folder / f"{unit}.pt"
        if not (self._loading and path.is_file()):
            if self._loading and self.units:
                print(f"    taken over from a run that was killed: {self.units} of its units", file=sys.stderr)
            self._loading = False
            return None
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            if state["source"] != self.source:
                raise ValueError("another source made it")
            self.seconds, self._began = state["seconds"], time.monotonic()
        except Exception as error:  # torch.load raises nearly anything at a damaged file
            reason = str(error).partition("\n")[0]
            print(f"aiqvit: skipping {path}: {reason}; the run goes on before it", file=sys.stderr)
            self._loading = False
            return None
        self.units += 1
        return state

    def save(self, unit: str, state: dict[str, Any]) -> None:
        """See `Checkpoint`."""
        if not self._saving:
            return
        file = io.BytesIO()
        state = {**state, "log": plain(state["log"]), "seconds": self.spent(), "source": self.source}
        torch.save(state, file)
        try:
            write_bytes(self.folder / f"{unit}.pt", file.getvalue())
        except UserError as error:
            print(f"aiqvit: {error}; the run goes on, but could not be resumed", file=sys.stderr, flush=True)
            self._saving = False

    def spent(self) -> float:
        """Seconds of this run until now, in all processes that were at it."""
        return self.seconds + time.monotonic() - self._began

    def clear(self) -> None:
        """Forget everything."""
        shutil.rmtree(self.folder, ignore_errors=True)

"""What a run has finished so far, on disk: one file a unit, written whole or not at all, taken over only unchanged.

A file is the SHA-256 of the rest in hexadecimal, a line of JSON that says what it belongs to, and what torch saves.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Interval
from pydantic import ConfigDict
from typing_extensions import TypedDict

from aiqvit.harness.store.records import UNIT, plain
from aiqvit.interfaces import Checkpoint, UserError
from aiqvit.io.escape import line
from aiqvit.io.files import read_bytes, write_bytes
from aiqvit.io.names import file_name
from aiqvit.io.structure import checked, parse_json


class Header(TypedDict):
    """What a file belongs to."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    run: str
    unit: str
    source: str
    seconds: Annotated[float, Interval(ge=0, le=1e9)]  # that the run had taken in all, in all processes


class Partial(Checkpoint):
    """Files `<unit>.unit` in a folder that has the run's id as its name.

    A file that cannot be used ends what is taken over; one that cannot be written ends saving.
    """

    def __init__(self, folder: Path, source: str = "") -> None:
        """`source` is the hash of the source at work: units that another one made are not taken over."""
        self.folder, self.source, self.units = folder, source, 0  # units taken over
        if folder.is_symlink():  # nothing of ours is one
            folder.unlink()
        self._began, self._loading, self._saving = time.monotonic(), True, True

    def load(self, unit: str) -> dict[str, Any] | None:
        """See `Checkpoint`."""
        path = self._path(unit)
        if not (self._loading and path.exists()):
            if self._loading and self.units:
                print(f"    taken over from a run that was killed: {self.units} of its units", file=sys.stderr)
            self._loading = False
            return None
        try:
            header, content = _opened(read_bytes(path, "weights_gib"))
            self._check(header, unit)
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except Exception as error:  # torch.load raises nearly anything
            self.refuse(unit, error)
            return None
        self.seconds, self._began = header["seconds"], time.monotonic()
        self.units += 1
        return state

    def refuse(self, unit: str, error: Exception) -> None:
        """See `Checkpoint`."""
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0] or type(error).__name__
        print(f"aiqvit: skipping {line(str(self._path(unit)))}: {line(reason)[:300]}; the run goes on before it",
              file=sys.stderr)
        self._loading = False

    def save(self, unit: str, state: dict[str, Any]) -> None:
        """See `Checkpoint`."""
        if not self._saving:
            return
        file = io.BytesIO()
        torch.save({**state, "log": plain(state["log"])}, file)
        header = Header(run=self.folder.name, unit=unit, source=self.source, seconds=self.spent())
        rest = json.dumps(header).encode() + b"\n" + file.getvalue()
        try:
            write_bytes(self._path(unit), hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest)
        except UserError as error:
            print(f"aiqvit: {error}; the run goes on, but could not be resumed", file=sys.stderr, flush=True)
            self._saving = False

    def spent(self) -> float:
        """Seconds of this run until now, in all processes that were at it."""
        return self.seconds + time.monotonic() - self._began

    def clear(self) -> None:
        """Forget everything."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, unit: str) -> Path:
        return self.folder / f"{file_name(unit)}{UNIT}"

    def _check(self, header: Header, unit: str) -> None:
        """Raise `ValueError` for a file of another run, unit or source."""
        for what, found, wanted in (("run", header["run"], self.folder.name), ("unit", header["unit"], unit),
                                    ("source", header["source"], self.source)):
            if found != wanted:
                raise ValueError(f"another {what} made it")


def _opened(content: bytes) -> tuple[Header, bytes]:
    """Header and state of a file. Raises `ValueError` for one that was changed or cut off, or never was one."""
    digest, _, rest = content.partition(b"\n")
    if hashlib.sha256(rest).hexdigest().encode() != digest:
        raise ValueError("it was changed or cut off after it was written: its checksum is another")
    header, _, state = rest.partition(b"\n")
    return checked(parse_json(header), Header), state

"""Records on disk: one JSON a run, written whole or not at all."""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aiqvit.harness.store import outcomes
from aiqvit.harness.store.schema import FORMAT, checksum
from aiqvit.harness.store.trust import fault, revived
from aiqvit.interfaces import Outcomes, UserError
from aiqvit.io.escape import line
from aiqvit.io.files import own_folder, write_text
from aiqvit.io.structure import parse_json
from aiqvit.io.text import read_text

Record = dict[str, Any]
UNIT = ".unit"  # suffix of what is kept of an unfinished run
MODEL = ".safetensors"  # suffix of a quantized model that is kept


class Store:
    """`<out>/runs/<run id>.json`, and what its model said in `<out>/outcomes/<run id>.npz`.

    `<out>/partial` holds what is not finished, `<out>/models` models that are kept.
    """

    def __init__(self, out: str | Path) -> None:
        """Nothing is created before the first write."""
        self.folder, self.said, self.partial, self.models = (
            Path(out) / name for name in ("runs", "outcomes", "partial", "models"))

    @classmethod
    def of(cls, folder: Path) -> Store:
        """The store whose records lie in this folder, whatever it is called."""
        store = cls(folder.parent)
        store.folder = folder
        return store

    def check(self) -> None:
        """Raise `UserError` when the folder, or one that it is to be made in, is something else. Creates nothing."""
        place = next(place for place in (self.folder, *self.folder.parents) if os.path.lexists(place))
        if not place.is_dir():
            raise UserError(f"cannot write to {str(self.folder)!r}: {str(place)!r} is no folder")

    def prepare(self) -> None:
        """Make the folder and check that it can be written, before hours of work. Raises `UserError` if not."""
        for folder in (self.folder, self.said, self.partial, self.models):
            own_folder(folder.parent, folder.name)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.folder).close()
        except OSError as error:
            raise UserError(f"cannot write to {str(self.folder)!r}: {error.strerror or error}") from error

    def path(self, run: str) -> Path:
        """Where the record of a run id is."""
        return self.folder / f"{run}.json"

    def read(self, run: str) -> Record | None:
        """The record, or None when there is none that can be used; one that was changed or is foreign is named."""
        path = self.path(run)
        try:
            record = parse_json(read_text(path))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
        else:
            if not (reason := fault(record, run)):
                return revived(record)
        print(f"aiqvit: skipping {line(str(path))}: {line(str(reason))[:300]}", file=sys.stderr)
        return None

    def records(self) -> Iterator[Record]:
        """All records that can be used, by name."""
        for path in sorted(self.folder.glob("*.json")):
            if record := self.read(path.stem):
                yield record

    def finished(self, run: str) -> Record | None:
        """The record of a run that ended well, or None."""
        record = self.read(run)
        return record if record and record["status"] == "done" else None

    def units(self, run: str) -> int:
        """How many units an unfinished run has done."""
        return len(list((self.partial / run).glob(f"*{UNIT}")))

    def outcomes(self, record: Record) -> Outcomes | None:
        """What the model of a run said of each sample; None of an older record, which has kept nothing of it.

        Raises `UserError` for a file that is not there or not the one that the record names.
        """
        digest = record.get("outcomes")
        return outcomes.read(self.said / f"{record['id']}{outcomes.SUFFIX}", digest) if digest else None

    def write_outcomes(self, run: str, found: Outcomes) -> str:
        """Write what the model of a run said, before its record, which is to have the digest that is returned.

        It is empty where they cannot be written: the record is worth more.
        """
        try:
            return outcomes.write(self.said / f"{run}{outcomes.SUFFIX}", found)
        except UserError as error:
            print(line(f"aiqvit: {error}; the record of {run} goes without outcomes"), file=sys.stderr)
            return ""

    def write(self, record: Record) -> None:
        """Write a record of `sealed` atomically. Raises `UserError` when the folder cannot be written.

        The record then goes to a new folder among the system's temporary ones, or to stderr, so that it is not lost.
        """
        name, text = f"{record['id']}.json", json.dumps(plain(record), indent=1, allow_nan=False) + "\n"
        try:
            write_text(self.folder / name, text)
        except UserError as error:
            try:
                rescue = Path(tempfile.mkdtemp(prefix="aiqvit-unsaved-")) / name
                write_text(rescue, text)
            except (UserError, OSError):
                print(text, file=sys.stderr)
                raise UserError(f"{error}; the record is printed above: save it there as {name}") from error
            raise UserError(f"{error}; the record is kept in {str(rescue)!r}: move it there") from error


def sealed(record: Record) -> Record:
    """The record as it is stored, with format and checksum. Raises `ValueError` for what could not be read again."""
    made = plain({**record, "format": FORMAT, "checksum": ""})
    made["checksum"] = checksum(made)
    if reason := fault(made, made["id"]):
        raise ValueError(reason)
    return made


def changed_since(record: Record, source: str) -> bool:
    """Whether another source of method or task than this hash made the record; not when either is unknown."""
    made = record["manifest"].get("source") or record["spec"].get("code")  # where records of before have it
    return bool(made and source) and made != source


def plain(value: Any, around: tuple[int, ...] = ()) -> Any:
    """`value` with nothing but JSON types in it: tensors become numbers or lists, numbers that are not finite text.

    `around` identifies the collections that it is in. Raises `ValueError` for one that has itself in it.
    """
    if id(value) in around:
        raise ValueError("a list or dictionary has itself in it")
    inside = (*around, id(value))
    if isinstance(value, dict):
        return {plain(str(k)): plain(v, inside) for k, v in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(v, inside) for v in value]
    if hasattr(value, "tolist"):  # torch tensors, numpy arrays and numbers
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    return str(value).encode("utf-8", "backslashreplace").decode()

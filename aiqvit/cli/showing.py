"""Pictures of samples that changed, each over what the two runs said of it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from aiqvit.cli.changes import Change, single
from aiqvit.harness.store.records import Record
from aiqvit.interfaces import Outcomes, Task, UserError
from aiqvit.io.escape import line
from aiqvit.io.files import write_bytes
from aiqvit.io.names import file_name
from aiqvit.statistics import task_of

LEAST = 400  # pixels that a picture is wide, so that the text fits
SIZE, MARGIN = 14, 6  # of the text, around it


def save(record: Record, said: Sequence[Outcomes], found: Sequence[Change], folder: str, data: str | None) -> str:
    """Write a picture of each change to a folder; returns a sentence. `record` is that of one of the runs.

    Raises `UserError` where the data is not what the runs were evaluated on, or is no pictures.
    """
    task = _opened(record, data)
    parts = [single(outcomes) for outcomes in said]
    for place, change in enumerate(found, 1):
        picture = task.picture([part(change.index) for part in parts])
        content = io.BytesIO()
        captioned(picture, change.lines).save(content, "PNG")
        name = file_name(f"{place:02d}-{Path(change.sample).stem}")
        write_bytes(Path(folder) / f"{name}.png", content.getvalue())
    return line(f"{len(found)} pictures in {folder}")


def captioned(picture: Image.Image, lines: Sequence[str]) -> Image.Image:
    """The picture, enlarged where it is small, with lines of text under it."""
    zoom = max(1, -(-LEAST // picture.width))
    picture = picture.resize((zoom * picture.width, zoom * picture.height), Image.Resampling.NEAREST)
    font = ImageFont.load_default(SIZE)
    width = max([picture.width, *(int(font.getlength(text)) + 2 * MARGIN for text in lines)])
    step = SIZE + MARGIN
    made = Image.new("RGB", (width, picture.height + step * len(lines) + MARGIN), "white")
    made.paste(picture, (0, 0))
    draw = ImageDraw.Draw(made)
    for at, text in enumerate(lines):
        draw.text((MARGIN, picture.height + MARGIN // 2 + at * step), text, fill="black", font=font)
    return made


def _opened(record: Record, data: str | None) -> Task:
    """The task on the data that a run was evaluated on, which is training samples after `aiqvit judge`."""
    spec = record["spec"]
    cls = task_of(spec["task"])
    usual = "mini" if spec["task"].endswith("-mini") else None
    task = cls(data or usual, **({"held_out": record["data"]["val"]} if "-train" in spec["task"] else {}))
    if task.identity(0, 0, spec["limit"]).data != spec["data"]:
        where = f"--data {data}" if data else f"the embedded data or {cls.folder}, as no --data is given,"
        raise UserError(f"{where} is not what the runs were evaluated on: give that folder with --data (pictures of "
                        "--calib-data cannot be drawn)")
    return task

"""COCO annotations as people have them: fields checked, what COCO's tools default defaulted, the rest counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiqvit.tasks.detection.geometry import area_of, box_of, clean_mask, fault_of_box, partly_outside
from aiqvit.tasks.texts import LONGEST, read_json

from aiqvit.interfaces import UserError

Entry = dict[str, Any]
LARGEST = 2**53  # of an id or an area: COCO's tools hold them in double precision
WHAT = "COCO's format, with lists of images, annotations and categories"


@dataclass
class Counted:
    """What was found odd, by kind: how often and where first."""

    found: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, where: str) -> None:
        """Count one."""
        self.found.setdefault(kind, []).append(where)

    def remarks(self, total: int) -> list[str]:
        """A sentence a kind."""
        return [f"{len(places)} of {total} annotations {kind}; the first is {places[0]}"
                for kind, places in self.found.items()]


@dataclass
class Annotations:
    """What is left: ids are whole numbers, each once, and all fields that are used are there."""

    images: list[Entry]  # in the order of their ids
    entries: list[Entry]
    categories: dict[str, int]  # name to id, in the order of the file
    masks: bool  # whether all entries have a segmentation
    remarks: list[str]

    def scored(self, images: Iterable[int] | None = None) -> int:
        """How many objects there are to find, in all or in these images; crowds are none."""
        chosen = None if images is None else set(images)
        return sum(not e["iscrowd"] and (chosen is None or e["image_id"] in chosen) for e in self.entries)


def read_annotations(path: Path, find: Callable[[str], Path], size: Callable[[Path], tuple[int, int] | None]
                     ) -> Annotations:
    """The content of a file; `find` gives the path of a `file_name`, `size` a picture's width and height if it can.

    Raises `UserError` for what is missing or contradicts itself.
    """
    if not path.is_file():
        raise UserError(f"annotations file {str(path)!r} does not exist")
    content = read_json(path, WHAT, "annotations_mib", nan=True)
    parts = {key: content.get(key) if isinstance(content, dict) else None
             for key in ("images", "categories", "annotations")}
    lists = {key: [] if key == "annotations" and value is None else value for key, value in parts.items()}
    for key, value in lists.items():
        if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
            raise UserError(f"annotations file {str(path)!r} has no list {key!r}: expected {WHAT}")
    numbers = _numbered(path, "category", lists["categories"], "name")
    categories = {str(entry["name"]): numbers[_key(entry["id"])] for entry in lists["categories"]}
    if len(categories) < len(numbers) or not categories:
        raise UserError(f"annotations file {str(path)!r} has {'two categories of one name' if categories else 'none'}: "
                        f"expected {WHAT}")
    ids = _numbered(path, "image", lists["images"], "file_name")
    images = _images(path, lists["images"], ids, find, size)
    remarks = [] if _plain(lists["images"]) else ["the ids of images are no whole numbers: they were numbered anew"]
    found = _entries(lists["annotations"], {image["id"]: image for image in images}, ids, numbers)
    return Annotations(images, found[0], categories, found[1], [*remarks, *found[2], *_nothing(found[0], categories)])


def _numbered(path: Path, kind: str, entries: Sequence[Entry], name: str) -> dict[str, int]:
    """Id as text to id: the number that it is, or a new one where not all are. Raises `UserError` for one twice."""
    numbers: dict[str, int] = {}
    plain, seen = _plain(entries), {}
    for index, entry in enumerate(entries, 1):
        missing = next((key for key in ("id", name) if entry.get(key) in (None, "")), None)
        if missing:
            raise UserError(f"annotations file {str(path)!r}: {kind} {index} has no {missing!r}")
        if not isinstance(entry[name], str | int) or len(str(entry[name])) > LONGEST:
            raise UserError(f"annotations file {str(path)!r}: the {name!r} of {kind} {index} is no text of at most "
                            f"{LONGEST} characters")
        key = _key(entry["id"])
        if key in numbers:
            raise UserError(f"annotations file {str(path)!r}: {kind} id {_short(entry['id'])} is there twice, for "
                            f"{seen[key]!r} and {entry[name]!r}")
        numbers[key], seen[key] = entry["id"] if plain else index, entry[name]
    return numbers


def _plain(entries: Sequence[Entry]) -> bool:
    return all(type(entry.get("id")) is int and abs(entry["id"]) < LARGEST for entry in entries)


def _key(value: Any) -> str:
    """An id to look up, so that 7, 7.0 and "7" are one."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _images(path: Path, entries: Sequence[Entry], ids: dict[str, int], find: Callable[[str], Path],
            size: Callable[[Path], tuple[int, int] | None]) -> list[Entry]:
    images, other, used = [], [], {}
    for entry in entries:
        file = find(str(entry["file_name"]))
        if file in used:
            raise UserError(f"annotations file {str(path)!r}: two images have one file, {used[file]!r} and "
                            f"{entry['file_name']!r}")
        used[file] = entry["file_name"]
        said, real = (entry.get("width"), entry.get("height")), size(file)
        if real and None not in said and tuple(map(_key, said)) != tuple(map(str, real)):
            other.append(f"{file.name!r} is {real[0]} x {real[1]}, not {' x '.join(map(_short, said))}")
        width, height = real or said
        images.append({"id": ids[_key(entry["id"])], "file": file, "width": _side(width), "height": _side(height)})
    if other:
        raise UserError(f"annotations file {str(path)!r} has another size for {len(other)} pictures: {other[0]}")
    return sorted(images, key=lambda image: image["id"])


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def _side(value: Any) -> int:
    """Pixels, 0 where it is not known."""
    text = _key(value)
    return int(text) if text.isdecimal() and len(text) < 6 else 0


def _flag(value: Any) -> int:
    """`iscrowd`, also where it is text."""
    return int(bool(value) and str(value).strip().lower() not in ("0", "false", ""))


def _entries(raw: Sequence[Entry], images: dict[int, Entry], ids: dict[str, int], categories: dict[str, int]
             ) -> tuple[list[Entry], bool, list[str]]:
    """Entries to score, whether all have masks, and remarks."""
    kept, masks, counted, numbers = [], True, Counted(), [entry.get("id") for entry in raw]
    for index, entry in enumerate(raw, 1):
        where = _short(entry["id"]) if "id" in entry else f"number {index}"
        image = images.get(ids.get(_key(entry.get("image_id")), -1))
        category = categories.get(_key(entry.get("category_id")))
        found = None
        if image is None or category is None:
            kind = ("image", "image_id") if image is None else ("category", "category_id")
            counted.add(f"name {'an' if kind[0] == 'image' else 'a'} {kind[0]} that is not listed and are left out",
                        f"{where}, with {_short(entry.get(kind[1]))}")
        else:
            found = _entry(entry, image, where, counted)
        if found is not None:
            masks = masks and "segmentation" in found
            kept.append({**found, "image_id": image["id"], "category_id": category, "id": entry.get("id")})
    if not all(type(n) is int and 0 < n < LARGEST for n in numbers) or len(set(map(_key, numbers))) < len(numbers):
        again = next((n for n, count in Counter(map(_key, numbers)).items() if count > 1 and n != "None"), None)
        said = f"{again} is there twice" if again is not None else "not all are whole numbers from 1 up, each once"
        kept = [{**entry, "id": number} for number, entry in enumerate(kept, 1)]
        return kept, masks, [f"ids of annotations were numbered anew: {said}", *counted.remarks(len(raw))]
    return kept, masks, counted.remarks(len(raw))


def _entry(raw: Entry, image: Entry, where: str, counted: Counted) -> Entry | None:
    """The fields of an annotation that are scored; None for one that cannot be."""
    size = image["height"], image["width"]
    mask = clean_mask(raw.get("segmentation"), size)
    box = box_of(mask, size) if raw.get("bbox") is None and mask is not None else raw.get("bbox")
    if fault := fault_of_box(box, size):
        counted.add(f"have {fault} and are left out", f"{where}, {_short(box)}")
        return None
    if raw.get("bbox") is None:
        counted.add("have no 'bbox': it is taken from the segmentation", where)
    elif partly_outside(box, size):
        counted.add("have a box that ends outside of its picture", f"{where}, {box}")
    if raw.get("iscrowd") is None:
        counted.add("have no 'iscrowd': taken as 0", where)
    if mask is None:
        counted.add("have no usable 'segmentation': box AP only, mask AP is undefined", where)
    area = raw.get("area")
    if not isinstance(area, int | float) or isinstance(area, bool) or not 0 <= area < LARGEST:
        counted.add("have no usable 'area': it is taken from the segmentation or the box", where)
        area = area_of(mask, box, size)
    found = {"bbox": [float(v) for v in box], "area": area, "iscrowd": _flag(raw.get("iscrowd"))}
    return found if mask is None else {**found, "segmentation": mask}


def _nothing(entries: Sequence[Entry], categories: dict[str, int]) -> list[str]:
    """Whether there is nothing to find, or nothing of some categories."""
    if not any(not entry["iscrowd"] for entry in entries):
        return [f"nothing to score: {'all annotations are crowds' if entries else 'there are no annotations'}, so that "
                "every metric is undefined, shown as -"]
    used = {entry["category_id"] for entry in entries if not entry["iscrowd"]}
    empty = [name for name, number in categories.items() if number not in used]
    return [f"{len(empty)} of {len(categories)} categories have no annotation and do not count; the first is "
            f"{empty[0]!r}"] if empty else []

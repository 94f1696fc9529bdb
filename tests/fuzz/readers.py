"""Everything that reads a file of others: a good file, and how it is read.

A reader gives what it read, or raises `UserError`. One that is `exact` gives what was written, or nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from aiqvit.tasks import transforms
from aiqvit.tasks.classes import read_list
from aiqvit.tasks.flat import answers
from aiqvit.tasks.images import Loader
from aiqvit.tasks.models.point_transformer import PointTransformer
from aiqvit.tasks.models.point_weights import build, own_keys
from aiqvit.tasks.part_labels import OFFICIAL, categories
from aiqvit.tasks.point_files import parse
from aiqvit.tasks.point_lists import modelnet
from aiqvit.tasks.weights import load_state, read_checkpoint
from PIL import Image
from safetensors.torch import save

from aiqvit.bench import read as read_flags
from aiqvit.deploy.pack import load_model, save_model
from aiqvit.harness.store.partial import Partial
from aiqvit.harness.store.records import Store
from aiqvit.interfaces import UserError
from tests.deploy import cases
from tests.report.make_records import record, write


@dataclass(frozen=True)
class Reader:
    """`make(folder)` writes a good file in a folder and says which; `read(path)` reads it."""

    make: Callable[[Path], Path]
    read: Callable[[Path], Any]
    exact: bool = False
    structured: bool = False  # JSON, of which values can be exchanged


def put(content: bytes, name: str) -> Callable[[Path], Path]:
    """Makes a file of this content."""
    def make(folder: Path) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path
    return make


def stored(folder: Path) -> Path:
    """A record in a results folder."""
    one = record("aiqvit", "m", {"top1": 50.0}, log=[{"unit": "a", "loss_before": 2.0, "loss_after": 1.0}], steps=3)
    return next((write(folder, one) / "runs").glob("*.json"))


def unit(folder: Path) -> Path:
    """What is kept of a run that was killed."""
    partial_run = Partial(folder / "run", "source")
    partial_run.seconds = 1.0
    partial_run.save("a", {"unit": {"w": torch.arange(5.0)}, "random": {}, "log": {"unit": "a"}})
    return folder / "run" / "a.unit"


def kept(path: Path) -> Any:
    """The unit in comparable form."""
    state = Partial(path.parent, "source").load("a")
    return state and {"w": state["unit"]["w"].tolist(), "log": state["log"]}


def picture(kind: str) -> Callable[[Path], Path]:
    """A small picture of noise."""
    def make(folder: Path) -> Path:
        pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"a.{kind}")
        return folder / f"a.{kind}"
    return make


def pixels(path: Path) -> Any:
    """The shape of the picture, None for a broken one."""
    loader = Loader(lambda image: torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1), False, {})
    found = [tuple(batch.shape) for batch, _ in loader.batches([(path, 0)], 1)]
    assert bool(found) != bool(loader.broken)
    return found


def network() -> dict[str, torch.Tensor]:
    """Weights of a tiny point transformer."""
    torch.manual_seed(0)
    return PointTransformer(3, 3, (4, 8), 4).state_dict()


def saved(**options: Any) -> Callable[[Path], Path]:
    """The weights as torch saves them."""
    def make(folder: Path) -> Path:
        torch.save({"model": network(), "epoch": 3}, folder / "a.pth", **options)
        return folder / "a.pth"
    return make


def loaded(path: Path) -> None:
    """Read weights and build what they describe."""
    state = own_keys(read_checkpoint(path)[0])
    net = build(state, str(path))
    load_state(net, state, str(path))
    assert all(torch.isfinite(p).all() for p in net.parameters())


def toml(path: Path) -> Any:
    """The command line of a file, checked as far as that goes without data."""
    from aiqvit.command import to_request

    return to_request(read_flags(["--config", str(path)]))


def annotations(path: Path) -> None:
    """Annotations, indexed and judged as COCO's tools do."""
    from aiqvit.tasks.detection.annotations import read_annotations
    from pycocotools import mask

    found = read_annotations(path, Path, lambda _: (100, 50))
    for entry in found.entries:
        if isinstance(entry.get("segmentation"), list):
            mask.frPyObjects(entry["segmentation"], 50, 100)


def shapes(path: Path) -> None:
    """An HDF5 file of shapes."""
    from aiqvit.tasks import point_h5

    (path.parent / "list.txt").write_text(path.name)
    for shape in point_h5.listed(path.parent, "list.txt", 2):
        assert np.isfinite(point_h5.read_row(shape.path, shape.row, 8).rows).all()


def quantized(folder: Path) -> Path:
    """A mini model after MinMax."""
    save_model(cases.quantized(cases.Case("minmax[rotate=on]", "mini_vit", "3/4")), folder / "q.safetensors")
    return folder / "q.safetensors"


def content(path: Path) -> Any:
    """The state of such a model in comparable form."""
    state = load_model(path).state_dict()
    return {key: value.tolist() if isinstance(value, torch.Tensor) else value for key, value in state.items()}


def hdf5(folder: Path) -> Path:
    """Two shapes."""
    import h5py

    with h5py.File(folder / "a.h5", "w") as file:
        file["data"] = np.random.default_rng(0).standard_normal((2, 9, 3)).astype("f4")
        file["label"] = np.array([[0], [1]], "u1")
    return folder / "a.h5"


def listed(folder: Path) -> Path:
    """ModelNet's lists."""
    for name in ("a_1", "a_2", "night_stand_1"):
        put(b"0,0,0\n1,1,1\n", f"{name.rpartition('_')[0]}/{name}.txt")(folder)
    put(b"a\nnight_stand\n", "modelnet40_shape_names.txt")(folder)
    put(b"a_1\n", "modelnet40_train.txt")(folder)
    return put(b"a_2\nnight_stand_1\n", "modelnet40_test.txt")(folder)


COCO = {"images": [{"id": 1, "file_name": "a.jpg", "width": 100, "height": 50}],
        "categories": [{"id": 3, "name": "cat"}, {"id": 9, "name": "dog"}],
        "annotations": [{"id": 5, "image_id": 1, "category_id": 3, "bbox": [10, 10, 20, 20], "area": 400, "iscrowd": 0,
                         "segmentation": [[10, 10, 30, 10, 30, 30, 10, 30]]},
                        {"id": 6, "image_id": 1, "category_id": 9, "bbox": [1, 1, 5, 5], "area": 25, "iscrowd": 1,
                         "segmentation": {"size": [50, 100], "counts": [51, 5, 4940, 4]}}]}
TOML = b"""bits = ["3/3", "4/4"]
seeds = [0, 1]
method = "aiqvit[rank=20]"
limit = 4
[set]
memory_gb = 8
head = true
"""
SOLUTION = b"ImageId,PredictionString\nILSVRC2012_val_00000001,n01751748 111 108 441 193\n"
CONFIG = {"architecture": "m", "pretrained_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5] * 3, "crop_pct": 0.9,
                                                  "input_size": [3, 32, 32], "interpolation": "bicubic"}}
POINTS = b"x,y,z\n0.5,0.25,-1\n1,2,3\n4e-3,5,6\n"

READERS = {
    "record": Reader(stored, lambda path: Store(path.parents[1]).read(path.stem), exact=True, structured=True),
    "unit": Reader(unit, kept, exact=True),
    "toml": Reader(put(TOML, "a.toml"), toml),
    **{f"picture {kind}": Reader(picture(kind), pixels) for kind in ("png", "jpg", "webp", "bmp", "tif", "ppm")},
    "weights zip": Reader(saved(), loaded),
    "weights legacy": Reader(saved(_use_new_zipfile_serialization=False), loaded),
    "weights safetensors": Reader(put(save(network()), "a.safetensors"), loaded),
    "quantized model": Reader(quantized, content, exact=True),
    "preparation": Reader(put(json.dumps(CONFIG).encode(), "config.json"),
                          lambda path: transforms.of_weights(path.with_name("w.pth"), "m"), structured=True),
    "annotations": Reader(put(json.dumps(COCO).encode(), "a.json"), annotations, structured=True),
    "solutions": Reader(put(SOLUTION, "LOC_val_solution.csv"), lambda path: answers([path.parent])),
    "classes": Reader(put(b"a\nb\nc\n", "classes.txt"), read_list),
    "categories": Reader(put(b"Bag\t02773838\nOwn\t1\n", "synsetoffset2category.txt"),
                         lambda path: categories(path.parent, OFFICIAL)),
    "shape list": Reader(listed, lambda path: modelnet(path.parent, None)),
    "points": Reader(put(POINTS, "a.txt"), lambda path: np.isfinite(parse(path, (3, 6))).all() or 1 / 0),
    "hdf5": Reader(hdf5, shapes),
}


def outcome(reader: Reader, path: Path) -> Any:
    """What is read, None where it is refused."""
    try:
        return reader.read(path)
    except UserError as error:
        assert str(error) and "\n" not in str(error), repr(str(error))
        return None

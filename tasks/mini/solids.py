"""Mini point clouds: parametric solids with parts, in the layouts of ModelNet40 and of ShapeNetPart.

Proportions, pose and what is hidden vary widely, points are noisy and some are far off.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from aiqvit.tasks.cache import folder_once
from aiqvit.tasks.mini.surfaces import Array, Surface, box, ellipsoid, frustum, rotation, torus
from tqdm import tqdm

VERSION = 1  # of the points: raise it whenever they change
POINTS = 128  # of a shape
Part = list[Surface]
SIDE, FLAT = rotation(0, np.pi / 2), rotation(1, np.pi / 2)  # z to -y or so; z to x


def _legs(rng: np.random.Generator, count: int, reach: float, length: float) -> Part:
    width = rng.uniform(0.03, 0.07)
    corners = [(reach * np.cos(a), reach * np.sin(a)) for a in 2 * np.pi * (np.arange(count) + 0.5) / count]
    return [frustum(rng, width, width, length).at(x, y, -length) for x, y in corners]


def _bottle(rng: np.random.Generator) -> list[Part]:
    r, h, slim = rng.uniform(0.25, 0.4), rng.uniform(0.7, 1.2), rng.uniform(0.3, 0.55)
    return [[frustum(rng, r, r, h), frustum(rng, r, r * slim, 0.25).at(z=h)],
            [frustum(rng, r * slim, r * slim, rng.uniform(0.15, 0.4)).at(z=h + 0.25)]]


def _car(rng: np.random.Generator) -> list[Part]:
    length, width, r = rng.uniform(1.2, 1.8), rng.uniform(0.6, 0.8), rng.uniform(0.13, 0.2)
    places = [(x, y) for x in (-0.3, 0.3) for y in (-0.5, 0.5)]
    return [[box(rng, length, width, 0.3)], [box(rng, length * rng.uniform(0.35, 0.55), width * 0.9, 0.3).at(z=0.3)],
            [frustum(rng, r, r, 0.12).at(x * length, y * width, -0.15, SIDE) for x, y in places],
            [box(rng, 0.1, width, rng.uniform(0.08, 0.2)).at(-length / 2, z=0.25)]]


def _chair(rng: np.random.Generator) -> list[Part]:
    width, deep = rng.uniform(0.6, 0.9), rng.uniform(0.6, 0.9)
    return [[box(rng, deep, width, 0.1)], [box(rng, 0.08, width, rng.uniform(0.5, 0.9)).at(-deep / 2, z=0.35)],
            _legs(rng, 4, 0.5 * min(width, deep), rng.uniform(0.4, 0.7))]


def _dumbbell(rng: np.random.Generator) -> list[Part]:
    r, half, bar = rng.uniform(0.2, 0.4), rng.uniform(0.5, 0.8), rng.uniform(0.05, 0.1)
    if rng.random() < 0.5:
        ends = [ellipsoid(rng, r, r, r).at(z=z) for z in (-half, half)]
    else:
        ends = [frustum(rng, r, r, 0.25).at(z=z - 0.12) for z in (-half, half)]
    return [[frustum(rng, bar, bar, 2 * half).at(z=-half)], ends]


def _hammer(rng: np.random.Generator) -> list[Part]:
    length, r = rng.uniform(0.9, 1.4), rng.uniform(0.12, 0.22)
    return [[frustum(rng, 0.07, 0.07, length)],
            [frustum(rng, r, r * rng.uniform(0.5, 1), rng.uniform(0.5, 0.8)).at(-0.3, z=length, turn=FLAT)]]


def _key(rng: np.random.Generator) -> list[Part]:
    ring, length = rng.uniform(0.2, 0.35), rng.uniform(0.7, 1.1)
    return [[torus(rng, ring, 0.06)], [frustum(rng, 0.06, 0.06, length).at(ring, turn=FLAT)],
            [box(rng, 0.08, rng.uniform(0.15, 0.3), 0.06).at(ring + length * t, 0.12) for t in (0.75, 0.95)]]


def _lamp(rng: np.random.Generator) -> list[Part]:
    height, r = rng.uniform(0.8, 1.3), rng.uniform(0.3, 0.5)
    return [[frustum(rng, rng.uniform(0.25, 0.4), 0.2, 0.1)], [frustum(rng, 0.05, 0.05, height)],
            [frustum(rng, r, r * rng.uniform(0.4, 0.8), rng.uniform(0.3, 0.5)).at(z=height - 0.15)]]


def _mug(rng: np.random.Generator) -> list[Part]:
    r, h = rng.uniform(0.35, 0.5), rng.uniform(0.7, 1.1)
    handle = torus(rng, rng.uniform(0.2, 0.3), 0.06, np.pi).at(turn=FLAT @ rotation(2, -np.pi / 2))
    return [[frustum(rng, r * rng.uniform(0.7, 1), r, h)], [handle.at(0, r, h / 2)]]


def _mushroom(rng: np.random.Generator) -> list[Part]:
    r, h = rng.uniform(0.4, 0.6), rng.uniform(0.5, 0.9)
    return [[frustum(rng, rng.uniform(0.12, 0.25), 0.14, h)],
            [ellipsoid(rng, r, r, rng.uniform(0.2, 0.35)).at(z=h)]]


def _rocket(rng: np.random.Generator) -> list[Part]:
    r, h, fin = rng.uniform(0.2, 0.35), rng.uniform(0.8, 1.3), rng.uniform(0.2, 0.4)
    turns = [rotation(2, 2 * np.pi * i / 3) for i in range(3)]
    return [[frustum(rng, r, r, h)], [frustum(rng, r, 0.02, rng.uniform(0.3, 0.6)).at(z=h)],
            [box(rng, fin, 0.05, 0.4).at(r + fin / 2, z=0.15).at(turn=turn) for turn in turns]]


def _stool(rng: np.random.Generator) -> list[Part]:
    r, height = rng.uniform(0.35, 0.5), rng.uniform(0.6, 1.0)
    return [[frustum(rng, r, r, 0.1)], _legs(rng, 3, 0.75 * r, height),
            [torus(rng, 0.75 * r, 0.04).at(z=-height * rng.uniform(0.4, 0.7))]]


def _table(rng: np.random.Generator) -> list[Part]:
    width, deep = rng.uniform(0.9, 1.4), rng.uniform(0.6, 0.9)
    return [[box(rng, width, deep, 0.08)], _legs(rng, 4, 0.5 * deep, rng.uniform(0.5, 0.9))]


SOLIDS: dict[str, Callable[[np.random.Generator], list[Part]]] = {
    "bottle": _bottle, "car": _car, "chair": _chair, "dumbbell": _dumbbell, "hammer": _hammer, "key": _key,
    "lamp": _lamp, "mug": _mug, "mushroom": _mushroom, "rocket": _rocket, "stool": _stool, "table": _table,
}
PARTS = {"Car": 4, "Chair": 3, "Lamp": 3, "Mug": 2, "Rocket": 3, "Stool": 3}  # categories with the parts of the above
PER_CLASS = {"train": 100, "test": 50}
PER_CATEGORY = {"train": 150, "val": 20, "test": 70}
NOISE = 1.4  # of the classes: with less they are too easy to tell apart
STREAMS = {"modelnet40": 0, "shapenetpart": 1}  # of random numbers
FOLDERS = {"modelnet40": "modelnet40_normal_resampled",
           "shapenetpart": "shapenetcore_partanno_segmentation_benchmark_v0_normal"}


def draw(name: str, rng: np.random.Generator, noise: float = 1.0) -> Array:
    """A shape, (POINTS, 7): coordinates, normals, number of the part; `noise` scales tilt, jitter and stray points."""
    surfaces = [(surface, label) for label, part in enumerate(SOLIDS[name](rng)) for surface in part]
    weights = np.array([surface.area for surface, _ in surfaces]) ** 0.7  # small parts get more than their share
    owner = rng.choice(len(surfaces), 2 * POINTS, p=weights / weights.sum())
    row = rng.integers(len(surfaces[0][0].points), size=2 * POINTS)
    points = np.stack([surfaces[i][0].points[j] for i, j in zip(owner, row, strict=True)])
    normals = np.stack([surfaces[i][0].normals[j] for i, j in zip(owner, row, strict=True)])
    labels = np.array([surfaces[i][1] for i in owner], float)
    tilt = rotation(0, rng.normal(0, 0.3 * noise)) @ rotation(1, rng.normal(0, 0.3 * noise))
    turn = tilt @ rotation(2, rng.uniform(0, 2 * np.pi))
    turn = turn * rng.uniform(0.8, 1.25, 3)  # stretched before it is turned
    points, normals = points @ turn.T, normals @ np.linalg.inv(turn)
    away = (points - points.mean(0)) @ _direction(rng)
    keep = np.argsort(away)[: rng.integers(int(1.1 * POINTS), 2 * POINTS)]  # the far side is hidden
    keep = rng.permutation(keep)[:POINTS]
    normals = normals[keep] / np.linalg.norm(normals[keep], axis=1, keepdims=True)
    size = points.std() * noise
    jitter = rng.normal(0, 1, (POINTS, 3)) * size * rng.uniform(0.02, 0.1)
    jitter += (rng.random((POINTS, 1)) < 0.05 * noise) * rng.normal(0, 0.7 * size, (POINTS, 3))
    normals += rng.normal(0, 0.25 * noise, (POINTS, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return np.concatenate([points[keep] + jitter, normals, labels[keep, None]], axis=1)


def _direction(rng: np.random.Generator) -> Array:
    vector = rng.standard_normal(3)
    return vector / np.linalg.norm(vector)


def prepare(name: str) -> Path:
    """Write the shapes of `modelnet40` or `shapenetpart` to the cache unless they are there; return the folder."""
    write = {"modelnet40": _write_classes, "shapenetpart": _write_parts}[name]
    return folder_once(f"mini-{name}-v{VERSION}", write) / FOLDERS[name]


def weights(name: str) -> Path:
    """Trained weights of `modelnet40` or `shapenetpart`, safetensors in float16."""
    return Path(__file__).parent / "weights" / f"mini_point_transformer_{name}.safetensors"


def _write_classes(draft: Path) -> None:
    root, rng = draft / FOLDERS["modelnet40"], np.random.default_rng([VERSION, STREAMS["modelnet40"]])
    root.mkdir(parents=True)
    (root / "modelnet40_shape_names.txt").write_text("".join(f"{name}\n" for name in SOLIDS))
    lists: dict[str, list[str]] = {split: [] for split in PER_CLASS}
    for name in tqdm(SOLIDS, desc="mini-modelnet40", unit="class", delay=1):
        (root / name).mkdir()
        for number in range(sum(PER_CLASS.values())):
            shape = f"{name}_{number + 1:04d}"
            lists["train" if number < PER_CLASS["train"] else "test"].append(shape)
            np.savetxt(root / name / f"{shape}.txt", draw(name, rng, NOISE)[:, :6], "%.5f", ",")
    for split, shapes in lists.items():
        (root / f"modelnet40_{split}.txt").write_text("".join(f"{shape}\n" for shape in shapes))


def _write_parts(draft: Path) -> None:
    root, rng = draft / FOLDERS["shapenetpart"], np.random.default_rng([VERSION, STREAMS["shapenetpart"]])
    (root / "train_test_split").mkdir(parents=True)
    lists: dict[str, list[str]] = {split: [] for split in PER_CATEGORY}
    table, first = "", 0
    for index, (name, count) in enumerate(tqdm(PARTS.items(), desc="mini-shapenetpart", unit="category", delay=1)):
        folder = f"{90000001 + index}"
        table += f"{name}\t{folder}\n"
        (root / folder).mkdir()
        for split, shapes in PER_CATEGORY.items():
            for _ in range(shapes):
                shape = f"{len(list((root / folder).iterdir())):032x}"
                rows = draw(name.lower(), rng)
                rows[:, 6] += first
                np.savetxt(root / folder / f"{shape}.txt", rows, "%.6f")
                lists[split].append(f"shape_data/{folder}/{shape}")
        first += count
    (root / "synsetoffset2category.txt").write_text(table)
    for split, shapes in lists.items():
        (root / "train_test_split" / f"shuffled_{split}_file_list.json").write_text(json.dumps(shapes))

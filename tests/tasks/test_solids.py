"""The embedded point clouds: surfaces, layouts, models and weights."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from aiqvit.tasks.mini import solids, surfaces
from aiqvit.tasks.modelnet40 import ModelNet40
from aiqvit.tasks.point_files import unit_sphere
from aiqvit.tasks.shapenetpart import ShapeNetPart, part_ious

TASKS = {"modelnet40": ModelNet40, "shapenetpart": ShapeNetPart}


@pytest.fixture(autouse=True)
def few(tmp_path, monkeypatch):
    """A cache of the test's own and very few shapes."""
    monkeypatch.setenv("AIQVIT_CACHE", str(tmp_path))
    monkeypatch.setattr(solids, "PER_CLASS", {"train": 2, "test": 1})
    monkeypatch.setattr(solids, "PER_CATEGORY", {"train": 2, "val": 1, "test": 1})
    return tmp_path


def test_points_lie_on_their_surfaces_and_normals_point_outwards():
    rng = np.random.default_rng(0)
    box = surfaces.box(rng, 1, 2, 3)
    assert np.allclose(np.abs(box.points / [0.5, 1, 1.5]).max(1), 1) and box.area == 22
    ball = surfaces.ellipsoid(rng, 1, 2, 0.5)
    assert np.allclose(((ball.points / [1, 2, 0.5]) ** 2).sum(1), 1)
    ring = surfaces.torus(rng, 2, 0.5)
    gap = np.hypot(np.hypot(ring.points[:, 0], ring.points[:, 1]) - 2, ring.points[:, 2])
    assert np.allclose(gap, 0.5)
    cone = surfaces.frustum(rng, 2, 1, 3)
    radius, z = np.hypot(cone.points[:, 0], cone.points[:, 1]), cone.points[:, 2]
    wall = np.isclose(radius, 2 - z / 3)
    assert (wall | (np.isclose(z, 0) & (radius <= 2)) | (np.isclose(z, 3) & (radius <= 1))).all()
    assert wall.mean() == pytest.approx(np.pi * 3 * 10**0.5 / cone.area, abs=0.08)
    for surface in (box, ball, cone):
        assert (surface.points * surface.normals + [0, 0, 1e-9]).sum(1).min() > -1e-6
        assert np.allclose(np.linalg.norm(surface.normals, axis=1), 1)


def test_moving_a_surface_turns_its_normals():
    ball = surfaces.ellipsoid(np.random.default_rng(0), 1, 1, 1)
    moved = ball.at(1, 2, 3, surfaces.rotation(0, 0.7))
    assert np.allclose(moved.points - [1, 2, 3], moved.normals) and np.allclose(ball.points, ball.normals)


@pytest.mark.parametrize("name", solids.SOLIDS)
def test_every_solid_shows_all_its_parts(name):
    rows = solids.draw(name, np.random.default_rng(1))
    assert rows.shape == (solids.POINTS, 7) and np.isfinite(rows).all()
    count = len(solids.SOLIDS[name](np.random.default_rng(1)))
    assert 2 <= count <= 4 and count == solids.PARTS.get(name.capitalize(), count)
    assert set(rows[:, 6]) == set(range(count))


@pytest.mark.parametrize("name", TASKS)
def test_folders_are_read_by_the_tasks_and_written_once(name, few):
    task = TASKS[name]("mini")
    assert task.label == f"{name}-mini" and task.resolve("all") == ["mini_point_transformer"]
    kinds = len(solids.SOLIDS if name == "modelnet40" else solids.PARTS)
    assert (task.train_images, task.val_images) == (2 * kinds, kinds)
    same = task.identity(4, 0, None)
    before = few.stat().st_mtime_ns
    assert TASKS[name]("mini").identity(4, 0, None) == same and few.stat().st_mtime_ns == before
    points, targets, _ = next(task.batches(task.val, kinds))
    assert points.shape == (kinds, solids.POINTS, task.channels) and targets.unique().numel() == task.classes


@pytest.mark.parametrize("name", TASKS)
def test_two_writers_at_once_agree(name, few):
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(lambda _: solids.prepare(name), range(2))
    assert first == second and len(list(few.iterdir())) == 1


def test_weights_are_small_and_classify_new_solids():
    assert all(solids.weights(name).stat().st_size <= 3 * 2**20 for name in TASKS)
    task, rng = ModelNet40("mini"), np.random.default_rng(5)
    subject = task.load("mini_point_transformer")
    labels = torch.arange(task.classes).repeat(8)
    kinds = list(solids.SOLIDS)
    shapes = [unit_sphere(solids.draw(kinds[i], rng, solids.NOISE)[:, :6]) for i in labels]
    with torch.no_grad():
        right = subject.model(torch.from_numpy(np.stack(shapes)).float()).argmax(1) == labels
    assert 0.55 < right.float().mean() < 0.97


def test_weights_segment_new_solids():
    task, rng = ShapeNetPart("mini"), np.random.default_rng(5)
    subject, scores = task.load("mini_point_transformer"), []
    for index, name in enumerate(task.categories):
        own = task.parts[index]
        for _ in range(6):
            rows = torch.from_numpy(unit_sphere(solids.draw(name.lower(), rng))).float()
            batch = torch.cat([rows[:, :6], torch.eye(task.classes)[index, : len(task.categories)].expand(128, -1)], 1)
            with torch.no_grad():
                logits = subject.model(batch[None])[0, :, own.start : own.stop]
            scores += [np.mean(part_ious(logits.argmax(1), rows[:, 6].long(), range(len(own))))]
    assert 0.65 < sum(scores) / len(scores) < 0.95

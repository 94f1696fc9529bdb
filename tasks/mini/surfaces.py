"""Random points with normals on simple surfaces, from which the mini solids are put together."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

Array = np.ndarray
SAMPLES = 512  # points drawn on every surface, of which a solid takes some


class Surface(NamedTuple):
    """Points (SAMPLES, 3) spread evenly over a surface, their outward normals, and its area."""

    points: Array
    normals: Array
    area: float

    def at(self, x: float = 0, y: float = 0, z: float = 0, turn: Array | None = None) -> Surface:
        """Turned by a matrix (3, 3) about the origin, then shifted."""
        turn = np.eye(3) if turn is None else turn
        return Surface(self.points @ turn.T + (x, y, z), self.normals @ turn.T, self.area)


def rotation(axis: int, angle: float) -> Array:
    """Matrix (3, 3) that turns about a coordinate axis by so many radians."""
    matrix, (i, j) = np.eye(3), [k for k in range(3) if k != axis]
    matrix[i, i] = matrix[j, j] = np.cos(angle)
    matrix[i, j], matrix[j, i] = -np.sin(angle), np.sin(angle)
    return matrix


def box(rng: np.random.Generator, a: float, b: float, c: float) -> Surface:
    """A box of these edge lengths about the origin."""
    size, faces = np.array([a, b, c]), np.array([b * c, a * c, a * b])
    axis = rng.choice(3, SAMPLES, p=faces / faces.sum())
    side = rng.choice([-1.0, 1.0], SAMPLES)
    points, normals = rng.uniform(-0.5, 0.5, (SAMPLES, 3)), np.zeros((SAMPLES, 3))
    points[np.arange(SAMPLES), axis], normals[np.arange(SAMPLES), axis] = side / 2, side
    return Surface(points * size, normals, 2 * faces.sum())


def frustum(rng: np.random.Generator, bottom: float, top: float, height: float) -> Surface:
    """A cylinder or cone with its lids: radii at z = 0 and at z = `height`."""
    slant = np.hypot(height, bottom - top)
    areas = np.pi * np.array([bottom**2, top**2, (bottom + top) * slant])
    where = rng.choice(3, SAMPLES, p=areas / areas.sum())
    angle, t = rng.uniform(0, 2 * np.pi, SAMPLES), rng.uniform(0, 1, SAMPLES)
    lid = np.where(where == 0, bottom, top)
    wall = np.sqrt(bottom**2 + t * (top**2 - bottom**2))  # evenly over the wall
    radius = np.where(where < 2, lid * np.sqrt(t), wall)
    along = (wall - bottom) / (top - bottom) if abs(top - bottom) > 1e-9 else t
    z = np.select([where == 0, where == 1], [0.0, 1.0], along) * height
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle), z], axis=1)
    steep = np.stack([np.cos(angle) * height, np.sin(angle) * height, np.full(SAMPLES, bottom - top)], axis=1) / slant
    flat = np.stack([np.zeros(SAMPLES), np.zeros(SAMPLES), np.where(where == 0, -1.0, 1.0)], axis=1)
    return Surface(points, np.where(where[:, None] < 2, flat, steep), areas.sum())


def ellipsoid(rng: np.random.Generator, a: float, b: float, c: float) -> Surface:
    """An ellipsoid with these half axes (points not quite even over it)."""
    unit, size = rng.standard_normal((SAMPLES, 3)), np.array([a, b, c])
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    normals = unit / size
    pairs = np.array([a * b, a * c, b * c]) ** 1.6
    return Surface(unit * size, normals / np.linalg.norm(normals, axis=1, keepdims=True),
                   4 * np.pi * pairs.mean() ** (1 / 1.6))


def torus(rng: np.random.Generator, ring: float, tube: float, arc: float = 2 * np.pi) -> Surface:
    """A ring, or an arc of it from angle 0, in the plane of x and y."""
    u, v = rng.uniform(0, arc, SAMPLES), rng.uniform(0, 2 * np.pi, SAMPLES)
    normals = np.stack([np.cos(u) * np.cos(v), np.sin(u) * np.cos(v), np.sin(v)], axis=1)
    centres = ring * np.stack([np.cos(u), np.sin(u), np.zeros(SAMPLES)], axis=1)
    return Surface(centres + tube * normals, normals, arc * ring * 2 * np.pi * tube)

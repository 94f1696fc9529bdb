"""Procedural scenes of several shapes that hide one another, with their boxes and masks: 5 classes, one a shape.

A scene is built back to front: a textured ground, small distractor discs, the objects, occluding bars, light and noise.
"""

from dataclasses import dataclass

import numpy as np
from aiqvit.tasks.mini.shapes import SHAPES, TEXTURES

SIDE = 128  # pixels a side
NAMES: tuple[str, ...] = ("square", "triangle", "ring", "cross", "star")
VISIBLE = 0.4  # an object of which less can be seen is left out
Array = np.ndarray

_AXIS = np.arange(SIDE, dtype=np.float32)


@dataclass(frozen=True)
class Scene:
    """One picture with its n objects."""

    image: Array  # (SIDE, SIDE, 3) uint8 RGB
    labels: Array  # (n,) int64, indices of NAMES
    masks: Array  # (n, SIDE, SIDE) bool, what can be seen of each object


def boxes(masks: Array) -> Array:
    """Tight boxes (n, 4) float32 of masks (n, H, W): left, top, right, bottom, the last two exclusive."""
    rows, columns = masks.any(2), masks.any(1)
    left, top = columns.argmax(1), rows.argmax(1)
    right, bottom = columns.shape[1] - columns[:, ::-1].argmax(1), rows.shape[1] - rows[:, ::-1].argmax(1)
    return np.stack([left, top, right, bottom], 1).astype(np.float32).reshape(-1, 4)


def _grid(x: float, y: float, angle: float) -> tuple[Array, Array]:
    """Coordinates (SIDE, SIDE) about a centre, turned by an angle."""
    u, v = _AXIS[None, :] - x, _AXIS[:, None] - y
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return u * c + v * s, v * c - u * s


def _surface(rng: np.random.Generator, colour: Array, contrast: float) -> Array:
    """A colour (3,) darkened by a random texture, (SIDE, SIDE, 3)."""
    pitch = rng.uniform(0.6, 1.0)
    u, v = _grid(*rng.uniform(0, SIDE, 2), rng.uniform(-0.4, 0.4))
    ink = TEXTURES[rng.integers(len(TEXTURES))](u * pitch, v * pitch)
    return (colour * (1 - contrast * ink)[..., None]).astype(np.float32)


def _paint(canvas: Array, distance: Array, colour: Array) -> None:
    """Cover the canvas in place where the signed distance is negative, with edges one pixel soft."""
    canvas += np.clip(0.5 - distance, 0, 1)[..., None] * (colour - canvas)


def _object(rng: np.random.Generator, label: int) -> Array:
    """Signed distance (SIDE, SIDE) of one object; sizes are log-uniform, from small to half the picture."""
    radius = np.exp(rng.uniform(np.log(8), np.log(42)))
    x, y = rng.uniform(0.6 * radius, SIDE - 0.6 * radius, 2)
    u, v = _grid(x, y, rng.uniform(-0.3, 0.3))
    return SHAPES[label](u * rng.uniform(0.85, 1.15), v, np.float32(radius))


def _bar(rng: np.random.Generator) -> Array:
    """Signed distance (SIDE, SIDE) of a thin bar anywhere."""
    u, v = _grid(*rng.uniform(0, SIDE, 2), rng.uniform(0, np.pi))
    return np.maximum(np.abs(u) - 24, np.abs(v) - rng.uniform(1, 2.5))


def scene(rng: np.random.Generator) -> Scene:
    """Draw one scene of one to seven objects, at least one of which is left after occlusion."""
    canvas = _surface(rng, rng.uniform(0, 0.35, 3), rng.uniform(0.1, 0.8))
    for _ in range(rng.integers(2, 6)):
        u, v = _grid(*rng.uniform(0, SIDE, 2), 0.0)
        _paint(canvas, np.hypot(u, v) - rng.uniform(2, 6), rng.uniform(0, 1, 3))
    labels, masks, whole = [], np.zeros((0, SIDE, SIDE), bool), []
    for _ in range(rng.integers(1, 8)):
        label = int(rng.integers(len(SHAPES)))
        distance = _object(rng, label)
        _paint(canvas, distance, _surface(rng, rng.uniform(0.35, 1, 3), rng.uniform(0.1, 0.6)))
        labels.append(label)
        whole.append(max((distance < 0).sum(), 1))
        masks = np.concatenate([masks & (distance >= 0), (distance < 0)[None]])
    for _ in range(rng.integers(0, 4)):
        distance = _bar(rng)
        _paint(canvas, distance, rng.uniform(0, 1, 3))
        masks &= distance >= 0
    light = 1 + rng.uniform(-0.004, 0.004) * (_AXIS - SIDE / 2)
    canvas = canvas * light[None, :, None] + rng.normal(0, rng.uniform(0.01, 0.06), canvas.shape)
    seen = masks.sum((1, 2))
    keep = (seen >= VISIBLE * np.array(whole)) & (seen >= 30)
    if not keep.any():
        return scene(rng)
    image = (np.clip(canvas, 0, 1) * 255 + 0.5).astype(np.uint8)
    return Scene(image, np.array(labels)[keep], masks[keep])

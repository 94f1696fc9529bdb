"""Procedural pictures of textured shapes, drawn in batches with numpy: 5 shapes x 4 textures = 20 classes.

A picture is built back to front: a textured background, small distractor shapes, the object, occluding bars, light and
noise. Shapes are signed distances in pixels, negative inside, so an edge is antialiased by clipping the distance.
"""

from collections.abc import Callable

import numpy as np

SIZE = 64  # pixels a side
Array = np.ndarray


def _square(x: Array, y: Array, r: Array) -> Array:
    return np.maximum(np.abs(x), np.abs(y)) - 0.85 * r


def _triangle(x: Array, y: Array, r: Array) -> Array:
    return np.maximum(np.abs(x) * 0.866 + y * 0.5, -y) - 0.6 * r


def _ring(x: Array, y: Array, r: Array) -> Array:
    return np.abs(np.hypot(x, y) - 0.75 * r) - 0.25 * r


def _cross(x: Array, y: Array, r: Array) -> Array:
    x, y = np.abs(x), np.abs(y)
    return np.maximum(np.maximum(x, y) - r, np.minimum(x, y) - 0.33 * r)


def _star(x: Array, y: Array, r: Array) -> Array:
    wave = np.cos(5 * np.arctan2(y, x))
    return np.hypot(x, y) - r * (0.72 + 0.33 * wave)


def _plain(u: Array, v: Array) -> Array:
    return 0.15 + 0.1 * np.sin(0.12 * u)


def _stripes(u: Array, v: Array) -> Array:
    return np.clip(0.4 + 1.5 * np.sin(v), 0, 1)


def _dots(u: Array, v: Array) -> Array:
    return np.clip(1.5 * (np.sin(u) + np.sin(v)) - 0.8, 0, 1)


def _checker(u: Array, v: Array) -> Array:
    return np.clip(0.6 + 3 * np.sin(u) * np.sin(v), 0, 1)


SHAPES: tuple[Callable[[Array, Array, Array], Array], ...] = (_square, _triangle, _ring, _cross, _star)
TEXTURES: tuple[Callable[[Array, Array], Array], ...] = (_plain, _stripes, _dots, _checker)
CLASSES = len(SHAPES) * len(TEXTURES)


def _uniform(rng: np.random.Generator, low: float, high: float, n: int, *rest: int) -> Array:
    """Random numbers of shape (n, 1, 1, *rest) that broadcast over pixels."""
    return rng.uniform(low, high, (n, 1, 1, *rest)).astype(np.float32)


def _frame(rng: np.random.Generator, n: int, spread: float, tilt: float) -> tuple[Array, Array]:
    """Pixel coordinates (n, SIZE, SIZE), off centre by up to ``spread`` pixels and turned by up to ``tilt`` radians."""
    axis = np.arange(SIZE, dtype=np.float32) - (SIZE - 1) / 2
    x = axis[None, None, :] - _uniform(rng, -spread, spread, n)
    y = axis[None, :, None] - _uniform(rng, -spread, spread, n)
    angle = _uniform(rng, -tilt, tilt, n)
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def _by_kind(functions: tuple, kinds: Array, *grids: Array) -> Array:
    """Apply ``functions[kinds[i]]`` to picture i of every grid."""
    out = np.empty((len(kinds), SIZE, SIZE), np.float32)
    for k, function in enumerate(functions):
        rows = np.flatnonzero(kinds == k)
        if len(rows):
            out[rows] = function(*(grid[rows] for grid in grids))
    return out


def _surface(rng: np.random.Generator, kinds: Array, colour: Array, contrast: Array) -> Array:
    """Colour planes (n, SIZE, SIZE, 3): ``colour`` (n, 1, 1, 3) darkened by a texture, ``contrast`` (n, 1, 1)."""
    n = len(kinds)
    x, y = _frame(rng, n, 16, 0.4)
    pitch = _uniform(rng, 0.6, 1.0, n)
    ink = _by_kind(TEXTURES, kinds, x * pitch, y * pitch)
    return colour * (1 - contrast * ink)[..., None]


def _class_colour(rng: np.random.Generator, labels: Array) -> Array:
    """Light colours (n, 1, 1, 3) whose hue scatters so widely about one of the class that it is a mere hint."""
    n = len(labels)
    hue = labels[:, None, None, None] * 7 % CLASSES / CLASSES + rng.normal(0, 0.1, (n, 1, 1, 1))
    pure = 0.5 + 0.5 * np.cos(2 * np.pi * (hue - np.arange(3) / 3))
    saturation = _uniform(rng, 0.2, 0.7, n, 1)
    return (_uniform(rng, 0.75, 1, n, 1) * (1 - saturation + saturation * pure)).astype(np.float32)


def _paint(canvas: Array, distance: Array, colour: Array) -> None:
    """Cover the canvas in place where the signed distance is negative, with edges one pixel soft."""
    canvas += np.clip(0.5 - distance, 0, 1)[..., None] * (colour - canvas)


def draw(labels: Array, difficulty: Array, rng: np.random.Generator) -> Array:
    """Pictures of the given classes.

    :param labels: (n,) integers in ``range(CLASSES)``; class = shape * 4 + texture.
    :param difficulty: (n,) in 0..1: how much clutter, occlusion, shade and noise, and how small and pale the object.
    :param rng: source of everything else, so that a seed fixes the pixels.
    :returns: (n, SIZE, SIZE, 3) uint8 RGB.
    """
    n, hard = len(labels), difficulty.astype(np.float32)[:, None, None]
    ground = _uniform(rng, 0, 0.2, n, 3) + _uniform(rng, 0, 0.25, n, 1) * hard[..., None]
    canvas = _surface(rng, rng.integers(len(TEXTURES), size=n), ground, _uniform(rng, 0.2, 0.8, n) * hard)
    for _ in range(3):
        x, y = _frame(rng, n, 28, np.pi)
        radius = np.broadcast_to(_uniform(rng, 3, 7, n) * hard, x.shape)
        distance = _by_kind(SHAPES, rng.integers(len(SHAPES), size=n), x, y, radius)
        _paint(canvas, distance, _uniform(rng, 0, 1, n, 3))
    x, y = _frame(rng, n, 4, 0.3)
    radius = np.broadcast_to(_uniform(rng, 20, 26, n) - _uniform(rng, 0, 7, n) * hard, x.shape)
    distance = _by_kind(SHAPES, labels // len(TEXTURES), x * _uniform(rng, 0.85, 1.15, n), y, radius)
    contrast = 0.6 - _uniform(rng, 0, 0.35, n) * hard
    _paint(canvas, distance, _surface(rng, labels % len(TEXTURES), _class_colour(rng, labels), contrast))
    for _ in range(2):
        x, y = _frame(rng, n, 24, np.pi)
        _paint(canvas, np.maximum(np.abs(x) - 14, np.abs(y) - _uniform(rng, 1, 4, n) * hard), _uniform(rng, 0, 1, n, 3))
    light = 1 + _uniform(rng, -0.012, 0.012, n) * hard * x  # (n, SIZE, SIZE): brighter towards a random side
    canvas *= light[..., None]
    canvas += rng.standard_normal(canvas.shape, np.float32) * (0.02 + _uniform(rng, 0, 0.1, n) * hard)[..., None]
    return (np.clip(canvas, 0, 1) * 255 + 0.5).astype(np.uint8)

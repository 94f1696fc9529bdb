"""A point cloud as a picture."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

SIDE = 400  # pixels
DOT = 2  # half of a dot's width, in pixels
TURN, TILT = np.deg2rad(35), np.deg2rad(25)  # of the view


def drawn(points: np.ndarray) -> Image.Image:
    """Points (N, 3) seen from above at an angle, y upwards, near ones dark and drawn last."""
    points = points - points.mean(0)
    x, y, z = (points / max(np.abs(points).max(), 1e-9)).T  # each (N,)
    right, away = np.cos(TURN) * x + np.sin(TURN) * z, np.cos(TURN) * z - np.sin(TURN) * x
    up, depth = np.cos(TILT) * y + np.sin(TILT) * away, np.cos(TILT) * away - np.sin(TILT) * y
    picture = Image.new("RGB", (SIDE, SIDE), "white")
    draw = ImageDraw.Draw(picture)
    for i in np.argsort(-depth, kind="stable"):
        at, shade = (SIDE / 2 * (1 + 0.6 * np.array([right[i], -up[i]]))), int(np.clip(110 + 70 * depth[i], 0, 210))
        draw.ellipse([*(at - DOT), *(at + DOT)], fill=(shade, shade, min(shade + 45, 255)))
    return picture

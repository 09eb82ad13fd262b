"""A contact sheet: of each scene a part of the outline, by every way."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from birefnet_runtime.frame import Bytes

# Pixels of a cell's side, at the picture's own resolution, and of the line above it.
SIDE, HEAD = 200, 16


def cell(pixels: Bytes, spot: tuple[int, int], text: str) -> Bytes:
    """uint8 [HEAD+SIDE,SIDE,3]: what lies round ``spot`` (y, x) of RGB or grey, under ``text``."""
    top, left = (
        min(max(at - SIDE // 2, 0), max(0, size - SIDE))
        for at, size in zip(spot, pixels.shape, strict=False)
    )
    part = pixels[top : top + SIDE, left : left + SIDE]
    if part.ndim == 2:
        part = np.repeat(part[..., None], 3, axis=2)
    result = np.full((HEAD + SIDE, SIDE, 3), 255, np.uint8)
    result[HEAD : HEAD + len(part), : part.shape[1]] = part
    cv2.putText(result, text, (3, 11), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (0, 0, 0), 1, cv2.LINE_AA)
    return result


def write(rows: list[list[Bytes]], path: Path) -> None:
    """Write cells as one PNG; shorter rows end white."""
    most = max(len(row) for row in rows)
    empty = np.full((HEAD + SIDE, SIDE, 3), 255, np.uint8)
    sheet = np.vstack([np.hstack([*row, *[empty] * (most - len(row))]) for row in rows])
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))

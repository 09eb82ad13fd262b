"""Pixels -> a ZIP of ``color.jpg`` and ``alpha.png``, the layout that remove.bg made known.

A fifth of the PNG's size on a photograph; a program that puts the cut-out on a page needs no more.
"""

from __future__ import annotations

import io
import zipfile

import cv2
import numpy as np

from birefnet_runtime.frame import Bytes

COLOUR, ALPHA = "color.jpg", "alpha.png"
# JPEG at 4:2:0 computes in blocks of so many pixels.
_BLOCK = 16
# The first moment that a ZIP can name: the same cut-out always gives the same bytes.
_EPOCH = (1980, 1, 1, 0, 0, 0)


def to_zip(files: dict[str, bytes]) -> bytes:
    """The archive of ``files``, stored as they are: both are compressed already."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), data)
    return stream.getvalue()


def fill(rgba: Bytes) -> Bytes:
    """uint8 [H,W,3]: the colours of ``rgba``, [H,W,4], ready for JPEG; the caller owns them.

    A pixel that alpha hides takes the mean of what is seen in its block of 16x16, if anything is:
    black beside the subject would bleed into it, as JPEG stores whole blocks.
    """
    height, width = rgba.shape[:2]
    colours = _whole_blocks(np.asarray(cv2.cvtColor(rgba, cv2.COLOR_RGBA2RGB), np.uint8))
    seen = _whole_blocks(np.asarray(cv2.extractChannel(rgba, 3), np.uint8)) > 0
    rows, columns = (length // _BLOCK for length in seen.shape)
    # The mean over a block of 0 and 255, rounded, is 0 or 255 only where all of them are.
    share = cv2.resize(seen.view(np.uint8) * 255, (columns, rows), interpolation=cv2.INTER_AREA)
    mixed = np.nonzero((share > 0) & (share < 255))
    blocks = colours.reshape(rows, _BLOCK, columns, _BLOCK, 3)
    shown = seen.reshape(rows, _BLOCK, columns, _BLOCK)[mixed[0], :, mixed[1]][..., None]
    inside = blocks[mixed[0], :, mixed[1]]
    means = (inside * shown).sum(axis=(1, 2)) / shown.sum(axis=(1, 2))
    blocks[mixed[0], :, mixed[1]] = np.where(
        shown, inside, np.rint(means).astype(np.uint8)[:, None, None]
    )
    return np.ascontiguousarray(colours[:height, :width])


def _whole_blocks(pixels: Bytes) -> Bytes:
    """``pixels``, made longer by 0 to whole blocks."""
    below, right = (-length % _BLOCK for length in pixels.shape[:2])
    if not below and not right:
        return pixels
    return np.asarray(cv2.copyMakeBorder(pixels, 0, below, 0, right, cv2.BORDER_CONSTANT), np.uint8)

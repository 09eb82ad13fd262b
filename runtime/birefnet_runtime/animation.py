"""Animated GIF, WebP, PNG and AVIF in; animated WebP, PNG and GIF out.

Frames go through the model one by one, each for itself: a mask may flicker where the model is
unsure, and nothing here evens that out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from birefnet_runtime import moving
from birefnet_runtime.cutout import Cutout
from birefnet_runtime.decode import (
    PictureSource,
    check_size,
    errors_about,
    open_header,
    open_source,
)
from birefnet_runtime.errors import OptionError, TooLargeError
from birefnet_runtime.frame import Bytes
from birefnet_runtime.matting import Matting
from birefnet_runtime.options import Options
from birefnet_runtime.picture import profile
from birefnet_runtime.shrink import size_within

# Pictures of these may move; the pages of a TIFF and the second picture of a phone's JPEG do not.
MOVING = ("GIF", "WEBP", "PNG", "AVIF")
# A small file can ask for hours of work: 3000 frames are two minutes at 25 a second, and 2**32
# pixels are 2000 frames of 1920x1080.
MAX_FRAMES = 3000
MAX_TOTAL = 2**32


@dataclass(frozen=True, eq=False)
class Shot:
    """One frame as it is seen: ``pixels`` uint8 [H,W,4], straight RGBA; how long it stands."""

    pixels: Bytes
    millis: int


class Film:
    """An animation that is open for reading; ``close`` it, or use it with ``with``.

    ``source``: a path or bytes. ``count`` is the number of frames, 1 for a still picture; ``size``
    (height, width); ``plays`` how often it is shown, 0 without end; ``icc`` its RGB profile. Raises
    InputError, TooLargeError beyond the limits on frames, pixels and both together.
    """

    def __init__(self, source: PictureSource, max_pixels: int, max_frames: int = MAX_FRAMES):
        with ExitStack() as stack:
            stream, self._name = open_source(source, stack)
            with errors_about(self._name):
                self._image = stack.enter_context(open_header(stream, self._name))
                check_size(self._name, *self._image.size, max_pixels)
                self._first = _first(self._image)
                self.count = _count(self._image) - self._first
            self._stack = stack.pop_all()
        self.size = self._image.size[::-1]
        self.icc = profile(self._image, b"RGB ")
        self.plays = _plays(self._image)
        self._check_length(max_frames)

    def _check_length(self, max_frames: int) -> None:
        total = self.count * self.size[0] * self.size[1]
        if self.count <= max_frames and (total <= MAX_TOTAL or self.count == 1):
            return
        self.close()
        raise TooLargeError(
            self._name,
            f"has {self.count} frames of {self.size[0]}x{self.size[1]}, the limits are {max_frames}"
            f" frames and {MAX_TOTAL} pixels: cut it into shorter pieces",
        )

    def __iter__(self) -> Iterator[Shot]:
        """The frames in their order, one in memory at a time."""
        for number in range(self.count):
            with errors_about(self._name):
                shot = self._read(self._first + number)
            yield shot

    def _read(self, index: int) -> Shot:
        self._image.seek(index)
        # Some readers know how long a frame stands only once it is decoded.
        self._image.load()
        pixels = np.asarray(self._image.convert("RGBA"))
        return Shot(pixels, round(float(self._image.info.get("duration", 0))))

    def close(self) -> None:
        """Close the file."""
        self._stack.close()

    def __enter__(self) -> Film:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def count(source: PictureSource, max_pixels: int) -> int:
    """How many frames a file or bytes hold; 1 for a still picture, an array or a Pillow image.

    Also 1 for what is no file, such as a pipe: looking into it would take it away.
    """
    if isinstance(source, np.ndarray | Image.Image):
        return 1
    if isinstance(source, str | os.PathLike) and not Path(source).is_file():
        return 1
    with Film(source, max_pixels) as film:
        return film.count


def remove(
    matting: Matting,
    source: PictureSource,
    suffix: str = ".webp",
    options: Options | None = None,
) -> bytes:
    """The bytes of an animation whose frames are those of ``source`` cut out.

    ``source``: a path or bytes. ``suffix``: .webp, .png, .apng or .gif. Durations, number of plays
    and, but in GIF, the profile are kept. Only the compressed frames and those in flight are in
    memory. Raises what ``Matting.remove`` raises, OutputError for a suffix that holds no animation,
    and OptionError for ``crop``, which would give each frame a size of its own.
    """
    options = options or Options()
    kind = moving.check(suffix)
    if options.crop:
        raise OptionError("the frames of an animation keep one size: leave out crop")
    with Film(source, options.max_pixels) as film:
        return _run(matting, film, kind, options)


def _run(matting: Matting, film: Film, kind: str, options: Options) -> bytes:
    millis: list[int] = []
    parts: dict[int, bytes] = {}
    channels: set[int] = set()

    def pixels() -> Iterator[Bytes]:
        for shot in film:
            millis.append(shot.millis)
            yield shot.pixels

    def keep(number: int, cutout: Cutout) -> None:
        image = np.asarray(cutout.image, np.uint8)
        parts[number] = moving.part(image, kind, options.quality)
        channels.add(1 if image.ndim == 2 else image.shape[2])

    for _ in matting.stream(pixels(), options, work=keep):
        pass
    (depth,) = channels
    icc = film.icc if depth > 1 else None
    size = size_within(film.size, options.shrink)
    reel = moving.Reel(size, depth, millis, film.plays, icc)
    return moving.join([parts[number] for number in range(len(parts))], kind, reel)


def _count(image: Image.Image) -> int:
    if image.format not in MOVING or not getattr(image, "is_animated", False):
        return 1
    return int(getattr(image, "n_frames", 1))


def _first(image: Image.Image) -> int:
    """1 where the file begins with a picture for programs that know no animation."""
    return int(image.format == "PNG" and bool(getattr(image, "default_image", False)))


def _plays(image: Image.Image) -> int:
    """How often the animation is shown, 0 without end. GIF says how often it is shown again."""
    loop = image.info.get("loop")
    if image.format != "GIF":
        return int(loop or 0)
    return 1 if loop is None else int(loop) + 1 if loop else 0

"""Pictures to compare on: the stored ones, a folder's, or a dataset's with hand-made alphas.

A dataset is recognised by its folders' names, wherever they lie below the one that is given:

    im/ gt/                            DIS5K (DIS-TE1 .. 4, DIS-VD)
    original_image/ mask/              P3M-500-NP
    blurred_image/ mask/               P3M-500-P and P3M-10k's training part
    original/ mask/                    AIM-500, AM-2k
    image/ alpha/                      PPM-100, RWP-636 and other matting sets; also matte/, mask/

A picture and its alpha have the same stem.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from birefnet_export.contract import REFERENCE_NAME
from birefnet_runtime.decode import decode
from birefnet_runtime.errors import InputError, OptionError
from birefnet_runtime.frame import Bytes, Floats
from birefnet_runtime.options import Options

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
LAYOUTS = (
    ("im", "gt"),
    ("original_image", "mask"),
    ("blurred_image", "mask"),
    ("original", "mask"),
    ("image", "alpha"),
    ("image", "matte"),
    ("image", "mask"),
)


@dataclass(frozen=True, eq=False)
class Item:
    """One picture: a file, or uint8 [H,W,3] ``pixels``; ``truth`` is the file of its alpha.

    ``stored``: float32 [h,w], what PyTorch gave for it when the model was exported, if known.
    """

    name: str
    path: Path | None = None
    pixels: Bytes | None = None
    truth: Path | None = None
    stored: Floats | None = None

    def rgb(self) -> Bytes:
        """uint8 [H,W,3]; DecodeError or TooLargeError where the file is no picture."""
        if self.pixels is not None:
            return self.pixels
        assert self.path is not None
        return decode(self.path, Options().max_pixels).rgb

    def true_alpha(self, size: tuple[int, int]) -> Floats | None:
        """float32 [H,W] in 0..1 of the hand-made alpha, or None; InputError for another size."""
        if self.truth is None:
            return None
        with Image.open(self.truth) as image:
            wide = image.mode.startswith("I")
            values = np.asarray(image if wide else image.convert("L"), np.float32)
        if values.shape != size:
            found, wanted = (" x ".join(map(str, shape)) for shape in (values.shape, size))
            raise InputError(str(self.truth), f"is {found}, its picture {wanted} (height x width)")
        alpha: Floats = values / np.float32(65535 if wide else 255)
        return alpha


def in_folder(folder: Path) -> list[Item]:
    """The pictures in ``folder`` itself, by name; OptionError where there are none."""
    if not folder.is_dir():
        raise OptionError(f"{folder} is no folder")
    found = [Item(path.name, path) for path in _files(folder)]
    if not found:
        raise OptionError(f"{folder} holds no picture ({', '.join(SUFFIXES)})")
    return found


def in_dataset(folder: Path) -> list[Item]:
    """Pictures and alphas of every known layout below ``folder``.

    Raises OptionError where none is there, or a picture has no alpha.
    """
    found = [item for pair in _pairs(folder) for item in _paired(*pair, folder)]
    if not found:
        known = ", ".join("/ + ".join(pair) + "/" for pair in LAYOUTS)
        raise OptionError(f"{folder} has none of the layouts {known} in it")
    return found


def _pairs(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Picture and alpha folders; of several layouts in one place the first."""
    if not folder.is_dir():
        raise OptionError(f"{folder} is no folder")
    for place in sorted([folder, *(path for path in folder.rglob("*") if path.is_dir())]):
        for pictures, alphas in LAYOUTS:
            if (place / pictures).is_dir() and (place / alphas).is_dir():
                yield place / pictures, place / alphas
                break


def _paired(pictures: Path, alphas: Path, root: Path) -> Iterator[Item]:
    truths = {path.stem: path for path in _files(alphas)}
    found = _files(pictures)
    alone = [path.name for path in found if path.stem not in truths]
    if alone:
        raise OptionError(
            f"{len(alone)} pictures of {pictures} have no alpha in {alphas}, {alone[0]} first"
        )
    for path in found:
        name = path.relative_to(root).as_posix()
        yield Item(name, path, truth=truths[path.stem])


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def drawn(pictures: NDArray[np.uint8]) -> list[Item]:
    """The fixed pictures [N,H,W,3]."""
    return [Item(f"fixed {place}", pixels=one) for place, one in enumerate(pictures, 1)]


def in_reference(folder: Path) -> list[Item]:
    """The pictures of a model folder's ``reference.npz`` with the alpha that PyTorch gave."""
    try:
        with np.load(folder / REFERENCE_NAME, allow_pickle=False) as data:
            pairs = list(
                zip(data["image"], np.asarray(data["alpha"], np.float32)[:, 0], strict=True)
            )
    except (OSError, KeyError, ValueError) as error:
        raise OptionError(
            f"{folder / REFERENCE_NAME} is not readable: export the model again, or give --weights"
        ) from error
    return [
        Item(f"reference {place}", pixels=image, stored=alpha)
        for place, (image, alpha) in enumerate(pairs, 1)
    ]


def spread(items: list[Item], limit: int | None) -> list[Item]:
    """At most ``limit`` of ``items``, evenly over all of them."""
    if limit is None or limit >= len(items):
        return items
    return [items[place * len(items) // limit] for place in range(limit)]

"""Texts of a request -> values, and the fields of our own routes -> options and a format.

Every function raises Problem ``bad_option`` with the field's name for a text without meaning.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from birefnet_runtime.encode import check_suffix
from birefnet_runtime.errors import OptionError, OutputError
from birefnet_runtime.options import (
    BLUR,
    CHECKER,
    DEPTHS,
    EDGES,
    FITS,
    FOREGROUNDS,
    OUTPUTS,
    SPILLS,
    Colour,
    Options,
    parse_colour,
    parse_margin,
)
from birefnet_runtime.serve.problem import Problem
from birefnet_runtime.serve.upload import File, Upload, shown

IMAGE, BACKGROUND_IMAGE = "image", "background_image"
FORMATS = ("auto", "png", "webp", "jpg", "tiff", "avif", "zip")
# Megapixels; "full" is as large as the picture.
SIZES = {"hd": 4.0, "medium": 1.5, "preview": 0.25}
FULL = "full"
# Smallest and largest size in megapixels: a few pixels, and more than any limit.
SIZE_RANGE = (0.0001, 1000.0)
_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")
_NUMBER = re.compile(r"[-+]?([0-9]{1,20}(\.[0-9]{0,30})?|\.[0-9]{1,30})([eE][-+]?[0-9]{1,3})?")


@dataclass(frozen=True)
class Asked:
    """``picture``: what is to be cut out. ``options``, ``suffix``: how, and in which format."""

    picture: File
    options: Options
    suffix: str


def read(upload: Upload, max_pixels: int) -> Asked:
    """What ``upload`` asks of one of our own routes."""
    upload.only(READERS, (IMAGE, BACKGROUND_IMAGE))
    picture = _picture(upload)
    values = {name: READERS[name](name, text) for name, text in upload.fields.items()}
    form = values.pop("format", "auto")
    behind = upload.files.get(BACKGROUND_IMAGE)
    if behind is not None:
        if "background" in values:
            raise Problem("bad_option", "Give background or background_image, not both.")
        values["background"] = behind.data
    if "size" in values:
        values["shrink"] = values.pop("size")
    options = Options(**values, max_pixels=max_pixels)
    return Asked(picture, options, suffix_of(form, options))


def suffix_of(form: str, options: Options) -> str:
    """The suffix of the format that is meant; ``auto`` is JPEG for opaque colour, else PNG."""
    opaque = not options.transparent and options.output != "alpha"
    if form == "auto":
        return ".jpg" if opaque and options.depth == 8 else ".png"
    if form == "jpg" and options.transparent:
        raise Problem(
            "bad_option", "jpg has no transparency: give a background, or another format."
        )
    try:
        return check_suffix(f".{form}", options.transparent, options.depth)
    except OutputError as error:
        reason = str(error).replace("leave out --depth 16", "depth 8")
        raise Problem("bad_option", f"format: {reason}.") from None


def boolean(name: str, text: str) -> bool:
    """true, 1, yes, on; false, 0, no, off."""
    value = text.lower()
    if value not in _TRUE + _FALSE:
        raise _wrong(name, text, "true or false")
    return value in _TRUE


def number(name: str, text: str) -> float:
    """A finite decimal number."""
    value = float(text) if _NUMBER.fullmatch(text) else math.inf
    if not math.isfinite(value):
        raise _wrong(name, text, "a number")
    return value


def integer(name: str, text: str) -> int:
    """A whole number."""
    value = number(name, text)
    if not value.is_integer():
        raise _wrong(name, text, "a whole number")
    return int(value)


def among(name: str, text: str, known: Collection[str]) -> str:
    """One of ``known``, written as there."""
    if text not in known:
        raise _wrong(name, text, "one of " + ", ".join(known))
    return text


def background(name: str, text: str) -> str | Colour:
    """A colour, blur or checker; never a file of this machine."""
    if text in (BLUR, CHECKER):
        return text
    try:
        return parse_colour(text)
    except OptionError:
        raise _wrong(name, text, "#rrggbb, a colour's name, blur or checker") from None


def _picture(upload: Upload) -> File:
    given = upload.files.get(IMAGE)
    if given is not None and upload.raw is not None:
        raise Problem("bad_request", "Give the picture once.")
    picture = given or upload.raw
    if picture is None:
        raise Problem(
            "bad_request",
            "Give the picture: as the file field image of multipart/form-data, as image in base64 "
            "of a JSON object, or as the body with a Content-Type such as image/jpeg.",
        )
    return picture


def _one_of(known: Collection[str]) -> Callable[[str, str], str]:
    return lambda name, text: among(name, text, known)


def _depth(name: str, text: str) -> int:
    return int(among(name, text, [str(depth) for depth in DEPTHS]))


def _margin(name: str, text: str) -> str:
    try:
        parse_margin(text)
    except OptionError:
        raise _wrong(name, text, "pixels, 30px, or a share of the subject, 5%") from None
    return text


def _levels(name: str, text: str) -> tuple[float, float]:
    parts = text.split(",")
    if len(parts) != 2:
        raise _wrong(name, text, "LOW,HIGH, such as 0.1,0.9")
    return (number(name, parts[0].strip()), number(name, parts[1].strip()))


def _size(name: str, text: str) -> int | None:
    if text == FULL:
        return None
    megapixels = SIZES.get(text) or number(name, text)
    if not SIZE_RANGE[0] <= megapixels <= SIZE_RANGE[1]:
        low, high = SIZE_RANGE
        raise _wrong(name, text, f"full, hd, medium, preview, or megapixels from {low} to {high:g}")
    return round(megapixels * 1e6)


def _wrong(name: str, text: str, wanted: str) -> Problem:
    return Problem("bad_option", f"{name} is {shown(text)}: give {wanted}.")


READERS: dict[str, Callable[[str, str], Any]] = {
    "output": _one_of(OUTPUTS),
    "format": _one_of(FORMATS),
    "background": background,
    "crop": boolean,
    "margin": _margin,
    "edge": _one_of(EDGES),
    "fit": _one_of(FITS),
    "foreground": _one_of(FOREGROUNDS),
    "guided": boolean,
    "feather": number,
    "levels": _levels,
    "offset": integer,
    "despill": _one_of(SPILLS),
    "depth": _depth,
    "clear": boolean,
    "quality": integer,
    "keep_exif": boolean,
    "size": _size,
}

"""Fields of remove.bg's API -> what its client asks for; nothing is passed over in silence."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from birefnet_runtime.errors import OptionError
from birefnet_runtime.options import parse_colour
from birefnet_runtime.serve.canvas import Paint
from birefnet_runtime.serve.fields import among, boolean
from birefnet_runtime.serve.geometry import Layout
from birefnet_runtime.serve.lengths import (
    Margins,
    Region,
    parse_margins,
    parse_position,
    parse_region,
    parse_scale,
)
from birefnet_runtime.serve.problem import Problem
from birefnet_runtime.serve.upload import Upload

# Megapixels of the result, as remove.bg documents them; auto is as much as there is, up to 25.
SIZES = {
    "preview": 0.25,
    "small": 0.25,
    "regular": 0.25,
    "medium": 1.5,
    "hd": 4.0,
    "full": 25.0,
    "4k": 25.0,
    "auto": 25.0,
    "50MP": 50.0,
}
FORMATS = ("auto", "png", "jpg", "zip", "webp")
CHANNELS = ("rgba", "alpha")
# Of both levels of its classification.
TYPES = (
    "auto",
    "person",
    "product",
    "animal",
    "car",
    "car_interior",
    "car_part",
    "transportation",
    "graphic",
    "graphics",
    "other",
)
LEVELS = ("none", "1", "2", "latest")
SHADOWS = ("none", "auto", "car", "3D", "drop")
FILE, ENCODED, URL = "image_file", "image_file_b64", "image_url"
BACK_COLOUR, BACK_FILE, BACK_URL = "bg_color", "bg_image_file", "bg_image_url"
FIELDS = (
    URL,
    "size",
    "type",
    "type_level",
    "format",
    "roi",
    "crop",
    "crop_margin",
    "scale",
    "position",
    "channels",
    "add_shadow",
    "shadow_type",
    "shadow_opacity",
    "semitransparency",
    BACK_COLOUR,
    BACK_URL,
)
FILES = (FILE, ENCODED, BACK_FILE)

_HEX = re.compile(r"#?([0-9a-fA-F]{3,8})")
_NAME = re.compile(r"[a-zA-Z]+")


class Refusal(Problem):
    """A problem for which remove.bg has a code of its own, ``name``, under status 400."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__("bad_option", message)
        self.name = name


@dataclass(frozen=True)
class Order:
    """``size``: pixels of the result at most. ``suffix``: its format, None for what suits it.
    ``mask``: alpha alone. ``paint``: the colour behind it, or None. ``classified``: whether the
    answer names a type. ``ignored``: fields that were given and mean nothing here."""

    size: int
    suffix: str | None
    mask: bool
    layout: Layout
    region: Region | None
    paint: Paint | None
    classified: bool
    ignored: tuple[str, ...]

    @classmethod
    def of(cls, upload: Upload) -> Order:
        """What ``upload`` asks for; Problem or OptionError for a field that is not known, or has a
        value without meaning."""
        upload.only(FIELDS, FILES)
        given = texts(upload)
        _refuse_effects(given)
        among("type", given.get("type", "auto"), TYPES)
        level = among("type_level", given.get("type_level", "1"), LEVELS)
        mask = among("channels", given.get("channels", "rgba"), CHANNELS) == "alpha"
        form = among("format", given.get("format", "auto"), FORMATS)
        paint = parse_paint(given[BACK_COLOUR]) if BACK_COLOUR in given else None
        backs = [name for name in (BACK_COLOUR, BACK_URL) if name in given]
        backs += [BACK_FILE] if BACK_FILE in upload.files else []
        _check_background(backs, mask, form, paint)
        return cls(
            size=round(SIZES[among("size", given.get("size", "preview"), tuple(SIZES))] * 1e6),
            suffix=None if form == "auto" else f".{form}",
            mask=mask,
            layout=_layout(given),
            region=parse_region(given["roi"]) if "roi" in given else None,
            paint=paint,
            classified=level != "none",
            ignored=_ignored(given),
        )


def texts(upload: Upload) -> dict[str, str]:
    """The fields of ``upload`` that say something: an empty one counts as left out."""
    return {name: text.strip() for name, text in upload.fields.items() if text.strip()}


def _layout(given: Mapping[str, str]) -> Layout:
    scale = parse_scale(given.get("scale", "original"))
    position = parse_position(given.get("position", "original" if scale is None else "center"))
    crop = boolean("crop", given.get("crop", "false"))
    margins = parse_margins(given["crop_margin"]) if "crop_margin" in given else Margins()
    return Layout(scale, position, crop, margins)


def _ignored(given: Mapping[str, str]) -> tuple[str, ...]:
    """What remove.bg's own rules or the lack of classes make meaningless."""
    crop = boolean("crop", given.get("crop", "false"))
    idle = {
        "type": given.get("type", "auto") != "auto",
        "type_level": given.get("type_level") in ("2", "latest"),
        "crop_margin": "crop_margin" in given and not crop,
        "position": "position" in given and crop,
    }
    return tuple(name for name, is_idle in idle.items() if is_idle)


def _refuse_effects(given: Mapping[str, str]) -> None:
    """Problem where something is asked for that is not done here."""
    shadow = boolean("add_shadow", given.get("add_shadow", "false"))
    kind = among("shadow_type", given.get("shadow_type", "none"), SHADOWS)
    if shadow or kind != "none" or "shadow_opacity" in given:
        raise Problem(
            "bad_option",
            "Shadows are not drawn here: leave out add_shadow, shadow_type and shadow_opacity.",
        )
    if not boolean("semitransparency", given.get("semitransparency", "true")):
        raise Problem(
            "bad_option", "What is semi-transparent stays so here: leave out semitransparency."
        )


def _check_background(backs: list[str], mask: bool, form: str, paint: Paint | None) -> None:
    if len(backs) > 1:
        raise Problem("bad_option", f"Give one background, not {' and '.join(backs)}.")
    if backs and mask:
        raise Problem("bad_option", f"A mask has no background: leave out {backs[0]} or channels.")
    if form == "zip" and (mask or (backs and (paint is None or paint[3] == 255))):
        raise Problem(
            "bad_option",
            "A ZIP holds colours and mask of a cut-out: choose another "
            "format for a mask alone or an opaque background.",
        )


def parse_paint(text: str) -> Paint:
    """(r, g, b, a) in 0..255 of 3, 4, 6 or 8 hexadecimal digits or a colour's name; OptionError."""
    match = _HEX.fullmatch(text)
    if match and len(match[1]) in (3, 4, 6, 8):
        digits = match[1] if len(match[1]) > 4 else "".join(2 * digit for digit in match[1])
        red, green, blue, alpha = bytes.fromhex(digits.ljust(8, "f"))
        return (red, green, blue, alpha)
    if _NAME.fullmatch(text):
        try:
            return (*parse_colour(text), 255)
        except OptionError:
            pass
    raise OptionError(
        f"{BACK_COLOUR} is {text!r:.60}: give 3, 4, 6 or 8 hexadecimal digits, or a colour's name"
    )

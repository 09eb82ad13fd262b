"""Options accept what has a meaning and refuse the rest."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from birefnet_runtime.errors import OptionError
from birefnet_runtime.options import MAX_PIXELS, Colour, Options, parse_colour


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("#fff", (255, 255, 255)),
        ("#102030", (16, 32, 48)),
        ("white", (255, 255, 255)),
        ("Red", (255, 0, 0)),
        ((1, 2, 3), (1, 2, 3)),
        ([0, 0, 255], (0, 0, 255)),
    ],
)
def test_colours(value: object, wanted: Colour) -> None:
    assert parse_colour(value) == wanted


@pytest.mark.parametrize(
    "value",
    ["#ffff", "#10203040", "blurple", "", 7, None, (1, 2), (1, 2, 256), (1, 2, -1), (0.5, 0, 0)],
)
def test_what_is_no_colour(value: object) -> None:
    with pytest.raises(OptionError, match="is no colour"):
        parse_colour(value)


def test_defaults_are_a_transparent_cutout() -> None:
    options = Options()
    assert (options.output, options.colour, options.max_pixels) == ("rgba", None, MAX_PIXELS)
    with pytest.raises(FrozenInstanceError):
        options.output = "alpha"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"output": "mask"}, "known values: rgba, premultiplied, alpha"),
        ({"max_pixels": 0}, "max_pixels"),
        ({"max_pixels": MAX_PIXELS + 1}, "max_pixels"),
        ({"background": "nope"}, "is no colour"),
        ({"background": "white", "output": "alpha"}, "no background"),
    ],
)
def test_refusals(arguments: dict[str, object], text: str) -> None:
    with pytest.raises(OptionError, match=text):
        Options(**arguments)  # type: ignore[arg-type]

"""What a caller may ask of one cut-out."""

from __future__ import annotations

from dataclasses import dataclass

from birefnet_runtime.errors import OptionError

Colour = tuple[int, int, int]

# Pillow refuses more on its own: twice Image.MAX_IMAGE_PIXELS, 1 GiB of pixels at 6 bytes each.
# The largest cameras sold (14204x10652) stay below it.
MAX_PIXELS = 178_956_970
OUTPUTS = ("rgba", "alpha")


@dataclass(frozen=True)
class Options:
    """What a caller may ask of one cut-out; OptionError where a value has no meaning.

    ``output``: ``rgba`` is the cut-out, ``alpha`` the grey mask alone.
    ``background``: a colour behind the cut-out, which then is opaque RGB: ``#rgb``, ``#rrggbb``, a
    CSS colour name or (r, g, b) in 0..255; None keeps it transparent.
    ``max_pixels``: height x width above which a picture is refused before it is decoded.
    """

    output: str = "rgba"
    background: str | Colour | None = None
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        if self.output not in OUTPUTS:
            raise OptionError(f"output is {self.output!r}; known values: {', '.join(OUTPUTS)}")
        if not 1 <= self.max_pixels <= MAX_PIXELS:
            raise OptionError(f"max_pixels must be from 1 to {MAX_PIXELS}, not {self.max_pixels!r}")
        if self.colour is not None and self.output == "alpha":
            raise OptionError("a mask has no background: leave out one of the two")

    @property
    def colour(self) -> Colour | None:
        """The background as (r, g, b) in 0..255, or None."""
        return None if self.background is None else parse_colour(self.background)


def parse_colour(value: object) -> Colour:
    """(r, g, b) in 0..255 from a CSS colour name, ``#rgb``, ``#rrggbb`` or three integers.

    Raises OptionError for anything else, a colour with its own alpha included.
    """
    parts: tuple[object, ...] | None = None
    if isinstance(value, str):
        parts = _parse_name(value)
    elif isinstance(value, tuple | list):
        parts = tuple(value)
    if parts is not None and len(parts) == 3:
        numbers = [part for part in parts if isinstance(part, int) and 0 <= part <= 255]
        if len(numbers) == 3:
            return (numbers[0], numbers[1], numbers[2])
    raise OptionError(f"{value!r} is no colour: give #rrggbb, a name such as white, or (r, g, b)")


def _parse_name(text: str) -> tuple[int, ...] | None:
    from PIL import ImageColor

    try:
        return ImageColor.getrgb(text)
    except ValueError:
        return None

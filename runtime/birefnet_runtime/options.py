"""What a caller may ask of one cut-out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from birefnet_runtime.errors import OptionError

Colour = tuple[int, int, int]

# Pillow refuses more on its own: twice Image.MAX_IMAGE_PIXELS, 1 GiB of pixels at 6 bytes each.
# The largest cameras sold (14204x10652) stay below it.
MAX_PIXELS = 178_956_970
OUTPUTS = ("rgba", "premultiplied", "alpha", "foreground")
EDGES = ("auto", "single", "zoom", "hr", "tiles")
FITS = ("stretch", "pad")
FOREGROUNDS = ("ml", "blur", "off")
SPILLS = ("green", "blue")
DEPTHS = (8, 16)
BLUR, CHECKER = "blur", "checker"


@dataclass(frozen=True)
class Options:
    """What a caller may ask of one cut-out; OptionError where a value has no meaning.

    ``output``: ``rgba`` is the cut-out with straight alpha, ``premultiplied`` the same with colours
    multiplied by it, ``alpha`` the grey mask alone, ``foreground`` the colours alone (RGB).
    ``background``: what lies behind the cut-out, which then is opaque RGB: a colour (``#rgb``,
    ``#rrggbb``, a CSS colour name or (r, g, b) in 0..255), ``blur`` for the picture's own
    background out of focus, ``checker`` for a preview, or a picture, as a path or its file's bytes,
    which is scaled to cover and cropped in the middle. None keeps it transparent.
    ``crop``: cut to the subject's box, ``margin`` wider on each side: ``30px``, or ``5%`` of the
    box's longer side.

    ``edge``: at what resolution the outline is found: ``single`` is one pass over the whole
    picture, ``zoom`` a second one on the subject's box, ``hr`` one pass of a model for 2048 pixels
    or more, ``tiles`` tiles at the picture's own resolution along soft edges, ``auto`` what suits
    the picture and the model. ``fit``: how a picture meets the model's size, None as the contract
    says: ``stretch`` it, or ``pad`` it and keep its shape.
    ``foreground``: how the subject's own colours are found where background shines through: ``ml``
    (multi-level), ``blur`` (blur fusion, as BiRefNet does it), ``off`` keeps the picture's.

    ``guided``: follow the picture's colours in the soft band. ``feather``: blur the mask's edge,
    sigma in pixels. ``levels``: (low, high) in 0..1 that become 0 and 1, after the feather.
    ``offset``: pixels by which the mask grows, or shrinks where negative. ``despill``: take the
    spill of a ``green`` or ``blue`` screen out of the soft band.

    ``depth``: 16 keeps 16 bits per channel of a 16-bit picture, where the file's format holds them.
    ``clear``: no colour stays where alpha is 0. ``keep_exif``: EXIF tags stay, but for orientation
    and, unless ``keep_gps``, the place. ``quality``: of lossy formats, 1..100; None for the
    format's default, which is lossless for WebP. ``max_pixels``: height x width above which a
    picture is refused before it is decoded. ``shrink``: height x width to which a larger picture is
    scaled down before anything else is done; None leaves it as it is.
    """

    output: str = "rgba"
    background: str | Path | bytes | Colour | None = None
    crop: bool = False
    margin: str = "0px"
    edge: str = "single"
    fit: str | None = None
    foreground: str = "ml"
    guided: bool = False
    feather: float = 0.0
    levels: tuple[float, float] = (0.0, 1.0)
    offset: int = 0
    despill: str | None = None
    depth: int = 8
    clear: bool = True
    keep_exif: bool = False
    keep_gps: bool = False
    quality: int | None = None
    max_pixels: int = MAX_PIXELS
    shrink: int | None = None

    def __post_init__(self) -> None:
        _among("output", self.output, OUTPUTS)
        _among("edge", self.edge, EDGES)
        _among("foreground", self.foreground, FOREGROUNDS)
        _among("depth", self.depth, DEPTHS)
        if self.fit is not None:
            _among("fit", self.fit, FITS)
        if self.despill is not None:
            _among("despill", self.despill, SPILLS)
        self._check_numbers()
        parse_margin(self.margin)
        if self.background is not None:
            self._check_background()

    def _check_numbers(self) -> None:
        if not 1 <= self.max_pixels <= MAX_PIXELS:
            raise OptionError(f"max_pixels must be from 1 to {MAX_PIXELS}, not {self.max_pixels!r}")
        if self.shrink is not None and self.shrink < 1:
            raise OptionError(f"shrink must be 1 pixel or more, not {self.shrink!r}")
        if not 0 <= self.feather <= MAX_REACH:
            raise OptionError(f"feather must be from 0 to {MAX_REACH} pixels, not {self.feather!r}")
        if not -MAX_REACH <= self.offset <= MAX_REACH:
            raise OptionError(
                f"offset must be from -{MAX_REACH} to {MAX_REACH} pixels, not {self.offset!r}"
            )
        if not (len(self.levels) == 2 and 0 <= self.levels[0] < self.levels[1] <= 1):
            raise OptionError(f"levels must be LOW < HIGH within 0..1, not {self.levels!r}")
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise OptionError(f"quality must be from 1 to 100, not {self.quality!r}")

    def _check_background(self) -> None:
        if self.output in ("alpha", "foreground"):
            raise OptionError(
                "a mask has no background, nor have the colours alone: leave out one of the two"
            )
        if self.output == "premultiplied":
            raise OptionError("on a background nothing is transparent: leave out premultiplied")
        if not (isinstance(self.background, bytes) or self.backdrop is not None):
            parse_colour(self.background)

    @property
    def colour(self) -> Colour | None:
        """The background as (r, g, b) in 0..255, or None where it is none or no colour."""
        if self.background is None or self.backdrop is not None:
            return None
        return parse_colour(self.background)

    @property
    def backdrop(self) -> str | Path | bytes | None:
        """``blur``, ``checker``, or a picture's path or bytes; None where it is none of them."""
        value = self.background
        if not isinstance(value, str):
            return value if isinstance(value, bytes | Path) else None
        if value in (BLUR, CHECKER):
            return value
        # "white.png" is a file, "white" a colour, "#fff" has no suffix.
        return Path(value) if Path(value).suffix else None

    @property
    def transparent(self) -> bool:
        """Whether the image has an alpha channel."""
        return self.output in ("rgba", "premultiplied") and self.background is None


# Pixels; more is no edge any more but another picture.
MAX_REACH = 100
# Pixels or percent: wider than any picture.
MAX_MARGIN = 100_000


def parse_margin(text: str) -> tuple[float, bool]:
    """(number, whether it is percent) from ``30px``, ``30`` or ``5%``; OptionError otherwise."""
    number, percent = text.strip(), False
    if number.endswith("%"):
        number, percent = number[:-1], True
    elif number.endswith("px"):
        number = number[:-2]
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if not 0 <= value <= MAX_MARGIN:
        raise OptionError(
            f"margin is {text!r}: give pixels, 30px, or a share of the subject, 5% (at most "
            f"{MAX_MARGIN})"
        )
    return value, percent


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
    raise OptionError(
        f"{value!r} is no colour: give #rrggbb, a name such as white, (r, g, b), blur, checker, "
        "or a picture's file"
    )


def _parse_name(text: str) -> tuple[int, ...] | None:
    from PIL import ImageColor

    try:
        return ImageColor.getrgb(text)
    except ValueError:
        return None


def _among(name: str, value: object, known: tuple[object, ...]) -> None:
    if value not in known:
        raise OptionError(f"{name} is {value!r}; known values: {', '.join(map(str, known))}")

"""What the kernels make of some options, and what is left to the host."""

from __future__ import annotations

from dataclasses import dataclass

from birefnet_runtime import launches
from birefnet_runtime.errors import OptionError
from birefnet_runtime.options import Options


@dataclass(frozen=True)
class Look:
    """``mode`` and ``colour``: what the kernels write (``launches``); 0xRRGGBB behind it.

    ``estimated``: in the subject's own colours, by the pyramid. ``host``: the colours are the
    host's work, from a mask. The images of ``MASK`` and ``COLOURS`` are the host's, too.
    """

    mode: int
    colour: int = 0
    estimated: bool = False
    host: bool = False

    @classmethod
    def of(cls, options: Options) -> Look:
        """Blur fusion and despill are the host's. So is every background but a plain colour, and so
        are 16 bits: for these the kernels make the colours alone."""
        if options.output == "alpha":
            return cls(launches.MASK)
        if options.foreground == "blur" or options.despill is not None:
            return cls(launches.MASK, host=True)
        estimated = options.foreground == "ml"
        if options.output == "foreground" or options.backdrop is not None or options.depth != 8:
            return cls(launches.COLOURS, 0, True) if estimated else cls(launches.MASK)
        if options.colour is not None:
            red, green, blue = options.colour
            return cls(launches.COLOUR, red << 16 | green << 8 | blue, estimated)
        if options.output == "premultiplied":
            return cls(launches.MULTIPLIED, 0, estimated)
        return cls(launches.RGBA if options.clear else launches.KEPT, 0, estimated)

    @property
    def channels(self) -> int:
        return launches.CHANNELS[self.mode]

    @property
    def has_alpha(self) -> bool:
        """Whether the image tells alpha."""
        return self.channels != 3

    @property
    def is_direct(self) -> bool:
        """Whether one kernel makes it from the model's answer, without a plane between."""
        return not self.estimated and self.mode in (launches.MASK, launches.RGBA, launches.COLOUR)

    @property
    def loses_colours(self) -> bool:
        """Whether the estimated colours, the picture's where alpha is 0, cannot be read off the
        image."""
        return self.estimated and self.mode not in (launches.COLOURS, launches.KEPT)


def on_device(options: Options) -> Look:
    """The look of a result that stays on the GPU; OptionError for what would be the host's work."""
    wanted = {
        "crop": options.crop,
        "despill": options.despill is not None,
        "foreground blur": options.foreground == "blur" and options.output != "alpha",
        "background but a plain colour": options.backdrop is not None,
    }
    asked = [name for name, is_asked in wanted.items() if is_asked]
    if asked:
        raise OptionError(
            f"a result that stays on the GPU has no {', '.join(asked)}: leave that out, or use "
            "remove() instead of remove_device()"
        )
    if options.output == "foreground":
        return Look(launches.COLOURS, 0, options.foreground == "ml")
    return Look.of(options)

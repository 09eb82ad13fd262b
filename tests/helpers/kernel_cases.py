"""What every kernel is held to, on a GPU, on the fake device and on the host: named cases.

A case is device-blind: upload ``inputs``, allocate ``outputs`` (fill them with anything), run
``launches`` on the addresses, download the outputs and ``check`` them. The arithmetic is the same
everywhere (kernels/common.h), so every comparison is for equality.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birefnet_runtime import launches, multilevel
from birefnet_runtime.frame import Bytes, Floats
from birefnet_runtime.launches import COLOUR, MASK, RGBA, Launch, Picture, Plane, Table
from birefnet_runtime.levels import Pyramid
from birefnet_runtime.resample import Coefficients, coefficients
from helpers import reference
from helpers.pictures import noise

Array = NDArray[Any]
Arrays = dict[str, Array]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Case:
    """``outputs``: shape and dtype by name; ``initial``: outputs that start with these contents
    (the others may start with anything); ``launches`` takes the address of every input and output
    by name; ``expected`` computes what the outputs must be, by the twins; ``scratch``: outputs
    that are memory between launches, and how many values at their start may be anything.
    """

    name: str
    inputs: Arrays
    outputs: dict[str, tuple[tuple[int, ...], type]]
    launches: Callable[[Mapping[str, int]], list[Launch]]
    expected: Callable[[], Arrays]
    initial: Arrays
    scratch: Mapping[str, int] = field(default_factory=dict)


def cases(large: bool = True) -> Iterator[Case]:
    """Every case, made as it is asked for; ``large`` adds those of 12 megapixels."""
    yield from resizes(large)
    yield from activations()
    yield from cutouts(large)
    yield from estimates()


def heavy() -> Iterator[Case]:
    """Estimates of 12 megapixels, whose twins take minutes: for a GPU alone."""
    yield _estimate((3000, 4000), RGBA)
    yield _estimate((3000, 4000), COLOUR, padding=1)


def on_host(case: Case, execute: Callable[[Launch], None]) -> Arrays:
    """The outputs after ``execute`` ran the launches on this process's memory."""
    arrays = {name: np.array(array, order="C") for name, array in case.inputs.items()}
    for name, (shape, dtype) in case.outputs.items():
        arrays[name] = np.empty(shape, dtype)
        arrays[name].view(np.uint8)[...] = 0xA5
    for name, array in case.initial.items():
        arrays[name][...] = array
    for launch in case.launches({name: array.ctypes.data for name, array in arrays.items()}):
        execute(launch)
    return {name: arrays[name] for name in case.outputs}


def check(case: Case, outputs: Mapping[str, Array]) -> None:
    """Raises AssertionError that names the output, how many values differ, and the first."""
    for name, wanted in case.expected().items():
        got, skip = outputs[name], case.scratch.get(name, 0)
        assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype), f"{case.name}: {name}"
        got, wanted = got[skip:], wanted[skip:]
        differs = got.view(np.uint8) != np.ascontiguousarray(wanted).view(np.uint8)
        if differs.any():
            at = tuple(int(i[0]) for i in np.nonzero(got != wanted)) or (0,) * got.ndim
            raise AssertionError(
                f"{case.name}: {name}: {np.count_nonzero(got != wanted)} of {got.size} differ, "
                f"first at {at}: {got[at]} instead of {wanted[at]}"
            )


def resizes(large: bool) -> Iterator[Case]:
    """Both directions, odd sizes, lines, and every way in which a row is staged."""
    yield _resize((24, 40), (24, 40))
    yield _resize((7, 5), (24, 40))
    yield _resize((7, 5), (24, 40), channels=4)
    yield _resize((301, 211), (24, 40))
    yield _resize((301, 211), (24, 40), channels=4, padding=3)
    yield _resize((300, 212), (31, 130), padding=4)
    yield _resize((300, 212), (31, 130), offset=1)
    yield _resize((64, 300), (256, 70), channels=4, offset=2)
    yield _resize((1, 1), (24, 40))
    yield _resize((1, 1), (1, 1), channels=4)
    yield _resize((1, 5000), (24, 40))
    yield _resize((5000, 1), (24, 40))
    yield _resize((9, 4000), (9, 256))
    # 64 columns reach over 1056 pixels and a few, up to which a row is staged, then over more.
    yield _resize((5, 1056), (6, 64))
    yield _resize((5, 1057), (6, 64))
    yield _resize((5, 2100), (6, 65), channels=4)
    yield _resize((997, 1003), (256, 256))
    yield _resize((40, 1100), (1024, 1024))
    if large:
        yield _resize((3000, 4000), (1024, 1024))
        yield _resize((4001, 3001), (1024, 1024), channels=4)


def activations() -> Iterator[Case]:
    """Counts round the block's 256; values that are not finite raise the flag."""
    for count in (1, 255, 256, 257, 65537):
        for activation in launches.ACTIVATIONS:
            values = np.linspace(-120, 120, count, dtype=np.float32)
            yield _activate(f"{count}", values, activation)
    for name, wrong in (("nan", np.nan), ("inf", np.inf), ("-inf", -np.inf)):
        for activation in launches.ACTIVATIONS:
            values = np.linspace(-1, 2, 300, dtype=np.float32)
            values[-1] = wrong
            yield _activate(name, values, activation)
    extremes = np.array([0, -0.0, 1e-45, -1e-45, 3e38, -3e38, 87, -87, 88, 0.99999994], np.float32)
    for activation in launches.ACTIVATIONS:
        yield _activate("extremes", extremes, activation)


def estimates() -> Iterator[Case]:
    """Sizes below, at and above that of the small levels, lines, a pixel; every mode; parts of a
    picture; mattes without a soft pixel, and soft everywhere."""
    modes = [mode for mode in launches.CHANNELS if mode != MASK]
    sizes = [(1, 1), (1, 3), (5, 4), (32, 32), (33, 32), (31, 90), (1, 600), (600, 1), (97, 203)]
    for turn, size in enumerate(sizes):
        yield _estimate(size, modes[turn % len(modes)], 3 + turn % 2, turn % 5)
    for mode in modes:
        yield _estimate((9, 34), mode, padding=mode)
        yield _plain((17, 35), mode)
    for kind in ("zero", "one", "hard", "soft"):
        yield _estimate((50, 77), RGBA, 4, kind=kind)
    # The last sweep is left for the image.
    yield _estimate((12, 530), RGBA, padding=1)


def cutouts(large: bool) -> Iterator[Case]:
    """Alpha's size, the picture's size; channels, modes and the picture's own alpha take turns."""
    sizes = [
        ((32, 32), (32, 32)),
        ((32, 32), (37, 131)),
        ((32, 32), (64, 128)),
        ((32, 48), (31, 47)),
        ((32, 32), (16, 8)),
        ((33, 31), (7, 300)),
        ((33, 31), (300, 7)),
        ((64, 64), (1, 1)),
        ((64, 64), (1, 5000)),
        ((64, 64), (5000, 1)),
        ((1, 1), (9, 129)),
        ((256, 256), (601, 997)),
        ((1000, 1000), (999, 1001)),
    ]
    turn = 0
    for small, full in sizes:
        for mode in (MASK, RGBA, COLOUR):
            for own in (None, "plane", "inside"):
                channels = 4 if own == "inside" or turn % 2 else 3
                padding = turn % 5
                yield _cutout(small, full, mode, own, channels, padding, bool(turn % 3))
                turn += 1
    yield _ties()
    if large:
        yield _cutout((1024, 1024), (3000, 4000), RGBA, None, 3, 0, True)
        yield _cutout((1024, 1024), (3001, 4001), RGBA, "plane", 3, 0, False)
        yield _cutout((1024, 1024), (3000, 4000), COLOUR, "inside", 4, 0, True)
        yield _cutout((2048, 2048), (3000, 700), MASK, None, 3, 0, False)


def _bytes(pixels: Array, pitch: int, offset: int = 0) -> Array:
    """uint8 [n]: ``pixels``' rows ``pitch`` bytes apart from ``offset`` on, and no byte more."""
    rows = pixels.reshape(len(pixels), -1)
    flat = np.full(offset + (len(rows) - 1) * pitch + rows.shape[1], 0xEE, np.uint8)
    view = np.lib.stride_tricks.as_strided(flat[offset:], rows.shape, (pitch, 1))
    view[...] = rows
    return flat


def _tables(name: str, table: Coefficients) -> Arrays:
    return {f"{name}_bounds": table.bounds, f"{name}_weights": table.weights}


def _pointers(name: str, table: Coefficients, at: Mapping[str, int]) -> Table:
    return Table(at[f"{name}_bounds"], at[f"{name}_weights"], table.taps, table.size)


def _resize(
    full: tuple[int, int],
    small: tuple[int, int],
    channels: int = 3,
    padding: int = 0,
    offset: int = 0,
) -> Case:
    (height, width), (rows, columns) = full, small
    pixels = noise(height, width, channels, seed=height + width)
    pitch = width * channels + padding
    down, across = coefficients(height, rows), coefficients(width, columns)
    levels = reference.levels(MEAN, STD)

    def launch(at: Mapping[str, int]) -> list[Launch]:
        picture = Picture(at["picture"] + offset, height, width, channels, pitch)
        return [
            launches.resize_rows(picture, _pointers("across", across, at), at["rows"]),
            launches.resize_columns(
                at["rows"], columns, _pointers("down", down, at), at["levels"], at["tensor"]
            ),
        ]

    def expected() -> Arrays:
        narrow = reference.resize_rows(pixels, across)
        return {"rows": narrow, "tensor": reference.resize_columns(narrow, down, levels)}

    name = f"resize {height}x{width}x{channels} to {rows}x{columns}"
    return Case(
        name + f" padding {padding}" * bool(padding) + f" offset {offset}" * bool(offset),
        {"picture": _bytes(pixels, pitch, offset), "levels": levels}
        | _tables("across", across)
        | _tables("down", down),
        {
            "rows": ((height, columns, 3), np.uint8),
            "tensor": ((3, rows, columns), np.float32),
        },
        launch,
        expected,
        {},
    )


def _activate(name: str, values: Floats, activation: str) -> Case:
    """Once to other memory and once in place; the flag that nobody raises stays as it was."""
    count = len(values)

    def launch(at: Mapping[str, int]) -> list[Launch]:
        return [
            launches.activate(at["values"], count, activation, at["alpha"], at["bad"]),
            launches.activate(at["same"], count, activation, at["same"], at["bad"]),
        ]

    def expected() -> Arrays:
        alpha, bad = reference.activate(values, activation)
        return {"alpha": alpha, "same": alpha, "bad": np.array([int(bad)], np.int32)}

    outputs: dict[str, tuple[tuple[int, ...], type]] = {
        "alpha": ((count,), np.float32),
        "same": ((count,), np.float32),
        "bad": ((1,), np.int32),
    }
    initial: Arrays = {"bad": np.zeros(1, np.int32), "same": values}
    label = f"activate {activation} {name}"
    return Case(label, {"values": values}, outputs, launch, expected, initial)


def matte(height: int, width: int) -> Floats:
    """float32 in 0..1: a third noise, a third 0, a third 1, so that curves overshoot and clip."""
    random = np.random.default_rng(height * width).random((height, width))
    return np.clip(random * 3 - 1, 0, 1).astype(np.float32)


def _cutout(
    small: tuple[int, int],
    full: tuple[int, int],
    mode: int,
    own: str | None,
    channels: int,
    padding: int,
    twice: bool,
) -> Case:
    """``own``: None, a "plane" of its own, or "inside" the fourth channel; ``twice``: plane too."""
    height, width = full
    pixels = noise(height, width, channels, seed=sum(full))
    mask = noise(height, width, 1, seed=1)
    pitch, colour = width * channels + padding, 0x10C0FF
    alpha = matte(*small)
    inputs: Arrays = {"alpha": alpha, "picture": _bytes(pixels, pitch)}
    if own == "plane":
        inputs["own"] = mask

    def launch(at: Mapping[str, int]) -> list[Launch]:
        picture = Picture(at["picture"], height, width, channels, pitch)
        planes = {"plane": Plane(at.get("own", 0), width), "inside": None, None: None}
        return [
            launches.cutout(
                at["alpha"],
                small,
                picture,
                at["image"],
                own=Plane.inside(picture) if own == "inside" else planes[own],
                mode=mode,
                colour=colour,
                plane=at.get("plane", 0),
            )
        ]

    def expected() -> Arrays:
        its = {"plane": mask, "inside": pixels[..., -1], None: None}[own]
        image, plane = reference.cutout(alpha, pixels, its, mode, colour)
        return {"image": image, "plane": plane} if twice else {"image": image}

    shape = (height, width) if mode == MASK else (height, width, launches.CHANNELS[mode])
    outputs: dict[str, tuple[tuple[int, ...], type]] = {"image": (shape, np.uint8)}
    if twice:
        outputs["plane"] = (full, np.uint8)
    name = f"cutout {small[0]}x{small[1]} to {height}x{width}x{channels} mode {mode}"
    name += f" own {own}" * bool(own) + " plane" * twice + f" padding {padding}" * bool(padding)
    return Case(name, inputs, outputs, launch, expected, {})


def subject(size: tuple[int, int], channels: int = 3, kind: str = "edge") -> tuple[Bytes, Bytes]:
    """A picture, uint8 [H,W,channels], and its alpha, uint8 [H,W]: a slanted ``edge`` with some
    noise in it, ``zero``, ``one``, a ``hard`` edge, or ``soft`` everywhere."""
    height, width = size
    pixels = noise(height, width, channels, seed=height * 7 + width)
    y, x = np.mgrid[:height, :width]
    slope = (x - 0.6 * y) / (0.1 * max(size)) + 0.3
    if kind == "edge":
        slope = slope + noise(height, width, 1).reshape(size) / 255 * 0.5 - 0.25
    alpha = (np.clip(slope, 0, 1) * 255).astype(np.uint8)
    if kind == "soft":
        alpha = np.clip(alpha, 1, 254)
    if kind == "hard":
        alpha = (alpha > 127).astype(np.uint8) * np.uint8(255)
    if kind in ("zero", "one"):
        alpha = np.full(size, 255 * (kind == "one"), np.uint8)
    return pixels, alpha


def _estimate(
    size: tuple[int, int], mode: int, channels: int = 3, padding: int = 0, kind: str = "edge"
) -> Case:
    """The whole pyramid, and every level of it is looked at."""
    pixels, alpha = subject(size, channels, kind)
    pitch, colour, twice = size[1] * channels + padding, 0x10C0FF, bool(padding % 2)
    pyramid = Pyramid.of(size)
    # Words of the memory: scratch, and two places for plates that take turns.
    start, words = launches.COARSE_SCRATCH // 4, pyramid.nbytes // 4
    places = [start, (start + words) // 2]

    def launch(at: Mapping[str, int]) -> list[Launch]:
        picture = Picture(at["picture"], *size, channels, pitch)
        found, plates = pyramid.launch(picture, at["alpha"], at["memory"])
        target = (at["image"], mode, colour, at.get("only", 0))
        return [*found, launches.colours_image(picture, at["alpha"], plates, *target)]

    def expected() -> Arrays:
        memory = np.full(words, 0xA5A5A5A5, np.uint32)
        levels = len(pyramid.sizes) - pyramid.small
        sweeps = multilevel.sweeps(pyramid.small, pyramid.sizes[pyramid.small])
        plates = reference.colours_coarse(pixels, alpha, levels, pyramid.small, sweeps)
        memory[places[0] : places[0] + plates.size] = plates.ravel()
        for level in range(pyramid.small - 1, pyramid.last - 1, -1):
            for turn in range(multilevel.sweeps(level, pyramid.sizes[level]) // 2):
                places.reverse()
                plates = reference.colours_level(pixels, alpha, plates, level, int(turn == 0))
                memory[places[0] : places[0] + plates.size] = plates.ravel()
        image, only = reference.colours_image(pixels, alpha, plates, mode, colour)
        found: Arrays = {"memory": memory, "image": image}
        return found | {"only": only} if twice else found

    outputs: dict[str, tuple[tuple[int, ...], type]] = {
        "memory": ((words,), np.uint32),
        "image": ((*size, launches.CHANNELS[mode]), np.uint8),
    }
    if twice:
        outputs["only"] = ((*size, 3), np.uint8)
    return Case(
        f"estimate {size[0]}x{size[1]}x{channels} {kind} mode {mode} padding {padding}",
        {"picture": _bytes(pixels, pitch), "alpha": alpha},
        outputs,
        launch,
        expected,
        {},
        {"memory": start},
    )


def _plain(size: tuple[int, int], mode: int) -> Case:
    """The image in the picture's own colours."""
    pixels, alpha = subject(size, 4)

    def launch(at: Mapping[str, int]) -> list[Launch]:
        picture = Picture(at["picture"], *size, 4)
        return [launches.colours_image(picture, at["alpha"], None, at["image"], mode, 0x10C0FF)]

    return Case(
        f"plain {size[0]}x{size[1]} mode {mode}",
        {"picture": pixels, "alpha": alpha},
        {"image": ((*size, launches.CHANNELS[mode]), np.uint8)},
        launch,
        lambda: {"image": reference.colours_image(pixels, alpha, None, mode, 0x10C0FF)[0]},
        {},
    )


def _ties() -> Case:
    """Alphas half-way between two levels, as near as float32 comes, at alpha's own size."""
    ties = ((np.arange(255) + 0.5) / 255).astype(np.float32)
    alpha = np.stack([ties, np.nextafter(ties, 0), np.nextafter(ties, 1)]).astype(np.float32)

    def launch(at: Mapping[str, int]) -> list[Launch]:
        picture = Picture(0, *alpha.shape)
        return [launches.cutout(at["alpha"], alpha.shape, picture, at["image"], mode=MASK)]

    def expected() -> Arrays:
        # Written out, not by the twin: half to even of the float32 product.
        return {"image": np.rint(alpha * np.float32(255)).astype(np.uint8)}

    return Case(
        "cutout ties", {"alpha": alpha}, {"image": (alpha.shape, np.uint8)}, launch, expected, {}
    )

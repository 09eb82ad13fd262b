"""The NumPy twin of every CUDA kernel: same name, same meaning, same bits; arrays for pointers.

``execute`` runs a ``Launch`` whose pointers are addresses of this process, so that a fake device
needs no shapes but those in the arguments. float32 stays float32 throughout (NumPy never fuses a
product and a sum), so the kernels, which do not either, can be held to equality.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from birefnet_runtime import launches, multilevel
from birefnet_runtime.frame import Bytes, Floats
from birefnet_runtime.launches import Launch
from birefnet_runtime.resample import PRECISION_BITS, Coefficients

Longs = NDArray[np.int64]
Packed = NDArray[np.uint32]
# Rows or columns worked on at a time, so that intermediates stay in cache.
_CHUNK = 128


def levels(mean: tuple[float, ...], std: tuple[float, ...]) -> Floats:
    """float32 [3,256]: the normalised value of each level; what resize_columns looks up."""
    centre, spread = (np.asarray(values)[:, None] for values in (mean, std))
    table: Floats = ((np.arange(256) / 255 - centre) / spread).astype(np.float32)
    return table


def resize_rows(src: Bytes, table: Coefficients) -> Bytes:
    """uint8 [H,out,3] from uint8 [H,W,3 or 4]; a fourth channel is left out."""
    out = np.empty((len(src), table.size, 3), np.uint8)
    for top in range(0, len(src), _CHUNK):
        rows = slice(top, top + _CHUNK)
        out[rows] = _weighted(np.ascontiguousarray(src[rows, :, :3]), table, axis=1)
    return out


def resize_columns(src: Bytes, table: Coefficients, levels: Floats) -> Floats:
    """float32 [3,out,W] from uint8 [H,W,3], through ``levels`` float32 [3,256]."""
    small = np.empty((table.size, *src.shape[1:]), np.uint8)
    for left in range(0, src.shape[1], _CHUNK):
        columns = slice(left, left + _CHUNK)
        small[:, columns] = _weighted(np.ascontiguousarray(src[:, columns]), table, axis=0)
    return np.stack([levels[channel][small[..., channel]] for channel in range(3)])


def activate(values: Floats, activation: str) -> tuple[Floats, bool]:
    """float32 in 0..1 of the shape of ``values``, and whether a value was not finite (NaN -> 0)."""
    bad = not np.isfinite(values).all()
    return _clip(sigmoid(values) if activation == "sigmoid" else values), bad


def sigmoid(values: Floats) -> Floats:
    """alpha.h's own, of additions, products and one division, so that every machine agrees.

    exp(-|v|) = 2**n * exp(r), |r| <= ln(2) / 2, by its series to r**7; |v| is cut off at 87, before
    the exponential becomes subnormal.
    """
    one: Any = np.float32(1)
    # fmin and fmax take the number where the other side is NaN.
    power = -np.fmin(np.abs(values), np.float32(87))
    n = np.rint(power * np.float32(1.44269504))
    # ln(2) in two parts, of which the first times n is exact.
    rest = (power - n * np.float32(0.693359375)) - n * np.float32(-2.12194440e-4)
    total = np.full_like(rest, np.float32(1 / 5040))
    for factorial in (720, 120, 24, 6, 2, 1, 1):
        total = total * rest + np.float32(1 / factorial)
    small = total * ((n.astype(np.int32) + 127) << 23).view(np.float32)
    answer: Floats = np.where(values < 0, small, one) / (one + small)
    return np.where(np.isnan(values), np.float32(0), answer)


def cutout(
    alpha: Floats,
    rgb: Bytes,
    own: Bytes | None = None,
    mode: int = launches.RGBA,
    colour: int = 0,
) -> tuple[Bytes, Bytes]:
    """(image, plane) in the size of ``rgb`` (uint8 [H,W,3 or 4]) from alpha, float32 [h,w].

    image is uint8 [H,W], [H,W,4] or [H,W,3] by ``mode``; plane is uint8 [H,W].
    """
    full = _clip(_resize(alpha, rgb.shape[:2]))
    if own is not None:
        full = full * (own.astype(np.float32) * np.float32(1 / 255))
    plane = np.rint(full * np.float32(255)).astype(np.uint8)
    if mode == launches.MASK:
        return plane, plane
    if mode == launches.RGBA:
        return _straight(rgb, plane), plane
    return _compose(rgb, plane, colour), plane


def colours_coarse(rgb: Bytes, alpha: Bytes, levels: int, last: int, sweeps: int) -> Packed:
    """uint32 [2,h,w] of level ``last`` (see ``launches.Plates``), from uint8 [H,W,3 or 4] and
    [H,W]."""
    plates = _mean_colours(*_sampled(rgb, alpha, last))
    for level in range(last + levels - 1, last - 1, -1):
        colours, opacity = _sampled(rgb, alpha, level)
        plates = swept(_twice(plates, opacity.shape), colours, opacity, sweeps)
    return _pack(plates)


def colours_level(rgb: Bytes, alpha: Bytes, before: Packed, level: int, shift: int) -> Packed:
    """uint32 [2,h,w]: two sweeps of the panes that are not settled; ``before`` is of this level, or
    with ``shift`` 1 of the one before."""
    colours, opacity = _sampled(rgb, alpha, level)
    known = _twice(before, opacity.shape) if shift else before
    settled = np.stack([opacity == 255, opacity != 255])
    flat = np.where(settled, _pack(np.broadcast_to(colours, (2, *colours.shape))), known)
    solved = _pack(swept(_unpack(known), colours, opacity, launches.LEVEL_SWEEPS))
    return np.where(soft_panes(opacity), solved, flat)


def colours_image(
    rgb: Bytes, alpha: Bytes, before: Packed | None, mode: int, colour: int = 0
) -> tuple[Bytes, Bytes]:
    """(image, colours): uint8 [H,W,3 or 4] by ``mode``, and [H,W,3], in the colours estimated where
    alpha is soft."""
    rgb = rgb[..., :3]
    if before is not None:
        front = _unpack(before)
        if before.shape[1:] != alpha.shape:
            front = swept(_twice(front, alpha.shape), rgb.astype(np.float32), alpha, 1)
        soft = (alpha > 0) & (alpha < 255)
        rgb = np.where(soft[..., None], np.rint(front[0]).astype(np.uint8), rgb)
    if mode == launches.COLOUR:
        return _compose(rgb, alpha, colour), rgb
    if mode == launches.RGBA:
        return _straight(rgb, alpha), rgb
    if mode == launches.COLOURS:
        return rgb, rgb
    seen = _compose(rgb, alpha, 0) if mode == launches.MULTIPLIED else rgb
    return np.concatenate([seen, alpha[..., None]], axis=2), rgb


def swept(plates: Floats, colours: Floats, opacity: Bytes, count: int) -> Floats:
    """float32 [2,h,w,3] in 0..255 after ``count`` sweeps of every pixel (see ``multilevel``).

    ``plates``: the same before; ``colours``: float32 [h,w,3]; ``opacity``: uint8 [h,w].
    """
    a: Any = opacity * np.float32(1 / 255)
    b = np.float32(1) - a
    border = np.pad(a, 1, mode="edge")
    weights = [np.abs(a - border[place]) for place in _BESIDE]
    total = np.zeros_like(a)
    for weight in weights:
        weight += np.float32(multilevel.REGULARIZATION)
        total += weight
    mean, share = np.float32(1) / total, np.float32(1) / (total + a * a + b * b)
    picture = colours.transpose(2, 0, 1)
    padded = np.empty((2, 3, *border.shape), np.float32)
    padded[..., 1:-1, 1:-1] = plates.transpose(0, 3, 1, 2)
    for _ in range(count):
        # Beyond the border a pixel is its own neighbour.
        padded[..., 0, :], padded[..., -1, :] = padded[..., 1, :], padded[..., -2, :]
        padded[..., 0], padded[..., -1] = padded[..., 1], padded[..., -2]
        sums = padded[(..., *_BESIDE[0])] * weights[0]
        for place, weight in zip(_BESIDE[1:], weights[1:], strict=True):
            sums += padded[(..., *place)] * weight
        sums *= mean
        front, back = sums
        part = (picture - a * front - b * back) * share
        front += a * part
        back += b * part
        np.clip(sums, np.float32(0), np.float32(255), out=padded[..., 1:-1, 1:-1])
    return np.ascontiguousarray(padded[..., 1:-1, 1:-1].transpose(0, 2, 3, 1))


_INNER = slice(1, -1)
# Left, right, above, below: where a pixel's neighbour lies in an array with a border of one.
_BESIDE = (
    (_INNER, slice(0, -2)),
    (_INNER, slice(2, None)),
    (slice(0, -2), _INNER),
    (slice(2, None), _INNER),
)


def _mean_colours(colours: Floats, opacity: Bytes) -> Floats:
    """float32 [2,1,1,3]: the mean colours of what is surely foreground and surely background."""
    sure = (
        opacity > 255 * multilevel.SURELY_FOREGROUND,
        opacity < 255 * multilevel.SURELY_BACKGROUND,
    )
    # Sums of up to 1024 levels are exact in float32.
    means = [colours[part].sum(axis=0) / np.float32(max(part.sum(), 1)) for part in sure]
    return np.stack(means).reshape(2, 1, 1, 3)


def soft_panes(opacity: Bytes) -> NDArray[np.bool_]:
    """[h,w]: whether a pixel of its pane, or of the two round that, is neither 0 nor 255."""
    height, width = opacity.shape
    soft = (opacity > 0) & (opacity < 255)
    found = np.zeros_like(soft)
    for top in range(0, height, launches.PANE[1]):
        for left in range(0, width, launches.PANE[0]):
            rows = slice(max(top - 2, 0), top + launches.PANE[1] + 2)
            columns = slice(max(left - 2, 0), left + launches.PANE[0] + 2)
            inside = slice(top, top + launches.PANE[1]), slice(left, left + launches.PANE[0])
            found[inside] = soft[rows, columns].any()
    return found


def _sampled(rgb: Bytes, alpha: Bytes, level: int) -> tuple[Floats, Bytes]:
    step = 1 << level
    return rgb[::step, ::step, :3].astype(np.float32), alpha[::step, ::step]


def _twice(plates: Any, size: tuple[int, ...]) -> Any:
    """[2,h,w,...] brought to ``size``, that of the next level."""
    rows, columns = (np.arange(side) // 2 for side in size)
    return plates[:, rows[:, None], columns]


def _pack(plates: Floats) -> Packed:
    steps = np.rint(plates * (np.float32(1023) / np.float32(255))).astype(np.uint32)
    packed: Packed = steps[..., 0] | steps[..., 1] << 10 | steps[..., 2] << 20
    return packed


def _unpack(packed: Packed) -> Floats:
    steps = np.stack([packed >> shift & 1023 for shift in (0, 10, 20)], axis=-1)
    return steps.astype(np.float32) * (np.float32(255) / np.float32(1023))


def _weighted(src: Bytes, table: Coefficients, axis: int) -> Bytes:
    first, count = table.bounds.T
    shape = [1, 1, 1]
    shape[axis] = table.size
    total: Any = np.int32(1 << (PRECISION_BITS - 1))
    for tap, weights in enumerate(table.weights):
        # Where there is no such tap its weight is 0 and any input will do.
        at = first + np.minimum(tap, count - 1)
        total = total + np.take(src, at, axis=axis) * weights.reshape(shape)
    result: Bytes = np.clip(total >> PRECISION_BITS, 0, 255).astype(np.uint8)
    return result


def _clip(values: Floats) -> Floats:
    zero, one = np.float32(0), np.float32(1)
    return np.where(values > zero, np.where(values < one, values, one), zero)


def _resize(alpha: Floats, size: tuple[int, ...]) -> Floats:
    """Across, then down: an axis that grows or stays is bicubic, one that shrinks is averaged."""
    for axis in (1, 0):
        at, weights = taps(alpha.shape[axis], size[axis])
        total: Any = None
        for tap, weight in zip(at, weights, strict=True):
            term = np.take(alpha, tap, axis=axis)
            term *= weight if axis else weight[:, None]
            total = term if total is None else np.add(total, term, out=total)
        alpha = total
    return alpha


def taps(small: int, full: int) -> tuple[Longs, Floats]:
    """int64 and float32 [taps,full]: the inputs of every output along an axis, and their weights.

    A tap that an output does not have weighs 0: adding 0 changes no bit.
    """
    scale = launches.scale(small, full)
    return _cubic(small, full, scale) if full >= small else _area(small, full, scale)


def _cubic(small: int, full: int, scale: float) -> tuple[Longs, Floats]:
    """OpenCV's kernel, a = -0.75: a float32 fraction of a float64 position."""
    position = (np.arange(full) + 0.5) * scale - 0.5
    first = np.floor(position)
    t, one, a = (position - first).astype(np.float32), np.float32(1), np.float32(-0.75)
    near, back = t + one, one - t
    w0 = ((a * near - np.float32(-3.75)) * near + np.float32(-6)) * near - np.float32(-3)
    w1 = (np.float32(1.25) * t - np.float32(2.25)) * t * t + one
    w2 = (np.float32(1.25) * back - np.float32(2.25)) * back * back + one
    w3 = one - w0 - w1 - w2
    at = first.astype(np.int64) + np.arange(-1, 3)[:, None]
    return np.clip(at, 0, small - 1), np.stack([w0, w1, w2, w3])


def _area(small: int, full: int, scale: float) -> tuple[Longs, Floats]:
    """The share of each input in an output's cell; slivers under 0.001 are left out, as in cv2.

    Source: computeResizeAreaTab in OpenCV's modules/imgproc/src/resize.cpp.
    """
    low = np.arange(full) * scale
    high = low + scale
    cell = np.minimum(scale, small - low)
    stop = np.minimum(np.floor(high).astype(np.int64), small - 1)
    start = np.minimum(np.ceil(low).astype(np.int64), stop)
    head = start - low > 1e-3
    tail = high - stop > 1e-3
    first = start - head
    count = stop + tail - first
    tap = np.arange(count.max())[:, None]
    at = first + np.minimum(tap, count - 1)
    inside = (at >= start) & (at < stop)
    edge = np.where(at < start, start - low, np.minimum(np.minimum(high - stop, 1.0), cell))
    weights = np.where(inside, 1.0, edge) / cell
    return at, np.where(tap < count, weights, 0).astype(np.float32)


def _straight(rgb: Bytes, plane: Bytes) -> Bytes:
    visible = np.where(plane[..., None] > 0, rgb[..., :3], np.uint8(0))
    return np.concatenate([visible, plane[..., None]], axis=2)


def _compose(rgb: Bytes, plane: Bytes, colour: int) -> Bytes:
    behind = np.array([colour >> 16, colour >> 8 & 255, colour & 255], np.uint16)
    share = plane[..., None].astype(np.uint16)
    total = rgb[..., :3] * share + behind * (255 - share) + np.uint16(128)
    composed: Bytes = ((total + (total >> 8)) >> 8).astype(np.uint8)
    return composed


def execute(launch: Launch) -> None:
    """Run ``launch`` on this process's memory: its pointers are addresses of living arrays."""
    _EXECUTE[launch.name](*(argument.item() for argument in launch.args))


def memory(
    address: int, shape: tuple[int, ...], dtype: DTypeLike, strides: tuple[int, ...] | None = None
) -> NDArray[Any]:
    """The array at ``address``: borrowed, writable, and never longer than its last element."""
    kind = np.dtype(dtype)
    if strides is None:
        strides = tuple(
            int(np.prod(shape[axis + 1 :])) * kind.itemsize for axis in range(len(shape))
        )
    reach = sum((count - 1) * step for count, step in zip(shape, strides, strict=True))
    raw: Any = (ctypes.c_char * (reach + kind.itemsize)).from_address(address)
    return np.ndarray(shape, kind, raw, strides=strides)


def _table(size: int, bounds: int, weights: int) -> Coefficients:
    limits = memory(bounds, (size, 2), np.int32)
    # The kernels need no number of taps: each output has its count.
    return Coefficients(limits, memory(weights, (int(limits[:, 1].max()), size), np.int32))


def _rows(
    src: int,
    pitch: int,
    channels: int,
    height: int,
    width: int,
    bounds: int,
    weights: int,
    dst: int,
) -> None:
    table = _table(width, bounds, weights)
    extent = int(table.bounds.sum(axis=1).max())
    pixels = memory(src, (height, extent, channels), np.uint8, (pitch, channels, 1))
    memory(dst, (height, width, 3), np.uint8)[...] = resize_rows(pixels, table)


def _columns(
    src: int, width: int, height: int, bounds: int, weights: int, values: int, dst: int,
    pitch: int, plane: int,
) -> None:  # fmt: skip
    table = _table(height, bounds, weights)
    extent = int(table.bounds.sum(axis=1).max())
    pixels = memory(src, (extent, width, 3), np.uint8)
    lookup = memory(values, (3, 256), np.float32)
    out = memory(dst, (3, height, width), np.float32, (4 * plane, 4 * pitch, 4))
    out[...] = resize_columns(pixels, table, lookup)


def _activate(values: int, count: int, activation: int, alpha: int, bad: int) -> None:
    name = next(name for name, number in launches.ACTIVATIONS.items() if number == activation)
    result, found = activate(memory(values, (count,), np.float32).copy(), name)
    memory(alpha, (count,), np.float32)[...] = result
    if found:
        memory(bad, (1,), np.int32)[0] = 1


def _cutout(
    alpha: int, h: int, w: int, src: int, pitch: int, channels: int,
    own: int, own_pitch: int, own_step: int, height: int, width: int,
    down: float, across: float, mode: int, colour: int, image: int, plane: int,
) -> None:  # fmt: skip
    assert (down, across) == (launches.scale(h, height), launches.scale(w, width))
    if mode == launches.MASK:
        rgb: Bytes = np.broadcast_to(np.uint8(0), (height, width, 3))
    else:
        rgb = memory(src, (height, width, channels), np.uint8, (pitch, channels, 1))
    mask = memory(own, (height, width), np.uint8, (own_pitch, own_step)) if own else None
    result, alone = cutout(memory(alpha, (h, w), np.float32), rgb, mask, mode, colour)
    memory(image, result.shape, np.uint8)[...] = result
    if plane:
        memory(plane, alone.shape, np.uint8)[...] = alone


def _subject(
    src: int, pitch: int, channels: int, alpha: int, height: int, width: int
) -> tuple[Bytes, Bytes]:
    pixels = memory(src, (height, width, channels), np.uint8, (pitch, channels, 1))
    return pixels, memory(alpha, (height, width), np.uint8)


def _coarse(
    src: int, pitch: int, channels: int, alpha: int, height: int, width: int,
    levels: int, last: int, sweeps: int, scratch: int, plates: int,
) -> None:  # fmt: skip
    memory(scratch, (launches.COARSE_SCRATCH,), np.uint8)[...] = 0xA5
    subject = _subject(src, pitch, channels, alpha, height, width)
    result = colours_coarse(*subject, levels, last, sweeps)
    memory(plates, result.shape, np.uint32)[...] = result


def _level(
    src: int, pitch: int, channels: int, alpha: int, height: int, width: int,
    level: int, shift: int, before: int, plates: int,
) -> None:  # fmt: skip
    subject = _subject(src, pitch, channels, alpha, height, width)
    known = memory(before, _plates(height, width, level + shift), np.uint32)
    result = colours_level(*subject, known, level, shift)
    memory(plates, result.shape, np.uint32)[...] = result


def _image(
    src: int, pitch: int, channels: int, alpha: int, height: int, width: int,
    shift: int, before: int, mode: int, colour: int, image: int, only: int,
) -> None:  # fmt: skip
    subject = _subject(src, pitch, channels, alpha, height, width)
    known = memory(before, _plates(height, width, shift), np.uint32) if before else None
    result, alone = colours_image(*subject, known, mode, colour)
    memory(image, result.shape, np.uint8)[...] = result
    if only:
        memory(only, alone.shape, np.uint8)[...] = alone


def _plates(height: int, width: int, level: int) -> tuple[int, ...]:
    return (2, *(-(-side // (1 << level)) for side in (height, width)))


_EXECUTE: dict[str, Callable[..., None]] = {
    "resize_rows": _rows,
    "resize_columns": _columns,
    "activate": _activate,
    "cutout": _cutout,
    "colours_coarse": _coarse,
    "colours_level": _level,
    "colours_image": _image,
}

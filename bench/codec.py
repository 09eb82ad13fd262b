"""Time and size of every codec at 12 megapixels, and of everything round a model that costs
nothing: ``make bench-codec``.

A photograph, a cut-out and a product shot are written by each encoder in interleaved rounds, beside
Pillow's PNG at its default level, and decoded again by Pillow and OpenCV. A photograph is read by
each decoder. With ``--rembg-python`` (a Python that has rembg) the way from JPEG bytes to PNG bytes
is timed round a session that answers at once, ours against rembg's.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
from PIL import Image

from birefnet_export.contract import write_atomically
from birefnet_runtime.decode import decode
from birefnet_runtime.encode import encode
from birefnet_runtime.frame import Bytes
from birefnet_runtime.options import MAX_PIXELS
from birefnet_runtime.strips import cores
from measuring.child import Child
from measuring.codec_material import MEGAPIXELS, materials, model_alpha
from measuring.pictures import photograph
from measuring.regions import MATERIALS
from measuring.rounds import interleave
from measuring.stats import digits, ratio
from measuring.tables import Table
from record import ROOT, Record, matmul_seconds

FIGURE = ROOT / "docs" / "bench-codec.png"
YARDSTICK = "Pillow PNG 6"
FASTEST = "Pillow PNG 1"
OURS = "PNG"
# What a model of the family answers at.
SIDE = 1024
# (name, ours: foreground, rembg: -dc) of the two ways that are compared.
WAYS = (("without foreground", "off", False), ("with foreground", "ml", True))
Encoder = Callable[[], bytes]
_BESIDE: dict[str, Any] = {"textcoords": "offset points", "size": 7}


def main() -> int:
    """Measure, print the tables, write the record and the figure."""
    args = _arguments()
    cv2.setNumThreads(args.threads)
    record = Record("codec", {"rounds": args.rounds, "threads": args.threads, "side": SIDE})
    record.add("matmul 2048x2048 float32", "s", "lower", matmul_seconds())
    tables = [encoding(record, name, rgba, args) for name, rgba in materials().items()]
    tables.append(decoding(record, args.rounds))
    if args.rembg_python:
        tables.append(way(record, args))
    else:
        record.missing["rembg"] = "no --rembg-python was given"
    for table in tables:
        print(f"\n{table.title}\n\n{table.markdown()}")
    print(f"\nrecord: {record.write()}")
    if args.figure:
        figure(record, FIGURE)
        print(f"figure: {FIGURE}")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--rembg-python", help="a Python that has rembg 2.0.86")
    parser.add_argument("--figure", action="store_true", help=f"also draw {FIGURE.name}")
    return parser.parse_args()


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# --- writing


def encoders(rgba: Bytes, threads: int) -> dict[str, Encoder]:
    """What is compared, by name, on ``rgba``."""
    bgra = cv2.cvtColor(rgba, cv2.COLOR_RGBA2BGRA)
    rgb = np.ascontiguousarray(rgba[..., :3])
    fast = [cv2.IMWRITE_PNG_COMPRESSION, 1]
    works: dict[str, Encoder] = {
        YARDSTICK: lambda: by_pillow(rgba, "PNG"),
        FASTEST: lambda: by_pillow(rgba, "PNG", compress_level=1),
        "OpenCV PNG 1": lambda: cv2.imencode(".png", bgra, fast)[1].tobytes(),
    }
    for count in sorted({1, threads}):
        works[ours(count)] = partial(encode, rgba, ".png", threads=count)
    return {
        **works,
        "ZIP": lambda: encode(rgba, ".zip", threads=threads),
        "WebP lossless": lambda: encode(rgba, ".webp"),
        "WebP 90": lambda: encode(rgba, ".webp", quality=90),
        "TIFF": lambda: encode(rgba, ".tif", threads=threads),
        "Pillow TIFF deflate": lambda: by_pillow(rgba, "TIFF", compression="tiff_adobe_deflate"),
        "JPEG on a colour": lambda: encode(rgb, ".jpg"),
        "raw": lambda: encode(rgba, ".raw"),
    }


def ours(threads: int) -> str:
    """The name of our PNG in the tables."""
    return f"{OURS}, {threads} thread{'s' * (threads > 1)}"


def by_pillow(pixels: Bytes, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


def encoding(record: Record, material: str, rgba: Bytes, args: argparse.Namespace) -> Table:
    """Time every encoder on one material, check what it wrote, and keep both."""
    works = encoders(rgba, args.threads)
    found = interleave(
        {name: partial(timed, work) for name, work in works.items()},
        args.rounds,
        say=lambda text: say(f"{material}: {text}"),
    )
    table = Table(
        f"{material}, {MEGAPIXELS} megapixels RGBA: milliseconds, medians of {args.rounds}",
        ("", "ms", "of a core", "MB", f"{YARDSTICK} takes", "of a core"),
    )
    exact = {}
    base = [one[0] for one in found[YARDSTICK]]
    base_cpu = [one[1] for one in found[YARDSTICK]]
    for name, samples in found.items():
        seconds, cpu, data = [one[0] for one in samples], [one[1] for one in samples], samples[0][2]
        exact[name] = same(data, rgba)
        record.add(f"encode {material} {name}", "s", "lower", seconds)
        record.add(f"cpu {material} {name}", "s", "lower", cpu)
        record.add(f"size {material} {name}", "B", "lower", [float(len(data))])
        cells = [digits(np.median(values) * 1e3) for values in (seconds, cpu)]
        times = [f"{ratio(base, seconds).text()} times", f"{ratio(base_cpu, cpu).text()} times"]
        table.rows.append([name, *cells, digits(len(data) / 1e6), *times])
    record.findings[f"{material} read back bit for bit"] = exact
    return table


def timed(work: Encoder) -> tuple[float, float, bytes]:
    """Seconds, seconds of all cores together, which other load hardly changes, and the file."""
    cpu, start = time.process_time(), time.perf_counter()
    data = work()
    return time.perf_counter() - start, time.process_time() - cpu, data


def same(data: bytes, rgba: Bytes) -> dict[str, bool | None]:
    """Whether Pillow and OpenCV read ``rgba`` from ``data``; None for no picture's file or an
    opaque one."""
    if data[:2] == b"PK" or len(data) == rgba.size or data[:2] == b"\xff\xd8":
        return {"Pillow": None, "OpenCV": None}
    with Image.open(io.BytesIO(data)) as image:
        pillow = bool(np.array_equal(np.asarray(image), rgba))
    bgra = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if bgra is None or bgra.ndim != 3 or bgra.shape[2] != 4:
        return {"Pillow": pillow, "OpenCV": None}
    opencv = bool(np.array_equal(cv2.cvtColor(bgra, cv2.COLOR_BGRA2RGBA), rgba))
    return {"Pillow": pillow, "OpenCV": opencv}


# --- reading


def decoding(record: Record, rounds: int) -> Table:
    """Time every decoder on the photograph as JPEG and as our own PNG."""
    jpeg = photograph(MEGAPIXELS)
    png = encode(decode(jpeg, MAX_PIXELS).rgb)
    works: dict[str, Callable[[], object]] = {
        "JPEG, ours (simplejpeg)": lambda: decode(jpeg, MAX_PIXELS),
        "JPEG, simplejpeg alone": lambda: simplejpeg.decode_jpeg(jpeg, "RGB"),
        "JPEG, OpenCV": lambda: by_opencv(jpeg),
        "JPEG, Pillow": lambda: np.asarray(Image.open(io.BytesIO(jpeg))),
        "PNG, ours (Pillow)": lambda: decode(png, MAX_PIXELS),
        "PNG, OpenCV": lambda: by_opencv(png),
    }
    found = interleave(
        {name: partial(seconds_of, work) for name, work in works.items()},
        rounds,
        say=lambda text: say(f"decoders: {text}"),
    )
    table = Table(
        f"reading the photograph, {MEGAPIXELS} megapixels: milliseconds, medians of {rounds}",
        ("", "ms", "beside ours"),
    )
    for name, seconds in found.items():
        record.add(f"decode {name}", "s", "lower", seconds)
        base = next(key for key in works if key[:4] == name[:4])
        cells = [digits(np.median(seconds) * 1e3), ratio(seconds, found[base]).text()]
        table.rows.append([name, *cells])
    return table


def by_opencv(data: bytes) -> Bytes:
    """RGB, as its own order of channels would have to be turned for us too."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)


def seconds_of(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


# --- the whole way


def way(record: Record, args: argparse.Namespace) -> Table:
    """JPEG bytes to PNG bytes round a model of no cost, ours against rembg's, both ways."""
    record.findings["the whole way"] = (
        f"JPEG bytes to PNG bytes at {MEGAPIXELS} megapixels; both models answer the embedded "
        f"model's mask at {SIDE}x{SIDE} at once; equal threads"
    )
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        picture, answer = Path(place) / "photo.jpg", Path(place) / "answer.npy"
        picture.write_bytes(photograph(MEGAPIXELS))
        np.save(answer, model_alpha(SIDE))
        works: dict[str, Callable[[], dict[str, Any]]] = {}
        for name, foreground, decontaminate in WAYS:
            mine = stack.enter_context(Child("codec_ours", args.threads))
            mine.ask("open", answer=str(answer))
            rival = stack.enter_context(Child("codec_rembg", args.threads, args.rembg_python))
            opened = rival.ask("open", answer=str(answer), decontaminate=decontaminate)
            record.libraries.update(opened["libraries"])
            options = {"foreground": foreground}
            works[f"{name}, ours"] = partial(mine.ask, "cut", path=str(picture), options=options)
            works[f"{name}, rembg"] = partial(rival.ask, "cut", path=str(picture))
        found = interleave(works, args.rounds, say=lambda text: say(f"the whole way: {text}"))
    return way_table(record, found)


def way_table(record: Record, found: dict[str, list[dict[str, Any]]]) -> Table:
    """Keep the samples; milliseconds by step, and the ratio."""
    steps = list(dict.fromkeys(step for name in found for step in found[name][0]["steps"]))
    table = Table("JPEG bytes to PNG bytes round a model of no cost", ("", *steps, "total", "ours"))
    for name, samples in found.items():
        total = [one["seconds"] for one in samples]
        record.add(f"way {name}", "s", "lower", total)
        cells = []
        for step in steps:
            seconds = [one["steps"][step] for one in samples if step in one["steps"]]
            cells.append(digits(np.median(seconds) * 1e3) if seconds else "-")
            if seconds:
                record.add(f"way {name} {step}", "s", "lower", seconds)
        mine = [one["seconds"] for one in found[name.rpartition(", ")[0] + ", ours"]]
        share = "" if name.endswith("ours") else f"{ratio(mine, total).text()} of this"
        table.rows.append([name, *cells, digits(np.median(total) * 1e3), share])
    return table


# --- figure


def figure(record: Record, target: Path) -> None:
    """Time of every encoder and, beside each bar, its size; a panel a material."""
    try:
        from matplotlib import pyplot
    except ImportError:
        raise SystemExit("--figure needs matplotlib: pip install matplotlib") from None
    median = {measure.name: measure.median for measure in record.measures}
    first = f"size {MATERIALS[0]} "
    names = [name.removeprefix(first) for name in median if name.startswith(first)][::-1]
    drawing, axes = pyplot.subplots(1, len(MATERIALS), figsize=(11, 3.6), sharey=True)
    for axis, material in zip(axes, MATERIALS, strict=True):
        seconds = [median[f"cpu {material} {name}"] for name in names]
        colours = ["#e15759" if name.startswith(OURS) else "#4e79a7" for name in names]
        axis.barh(names, seconds, color=colours)
        for row, name in enumerate(names):
            megabytes = digits(median[f"size {material} {name}"] / 1e6)
            axis.annotate(f"{megabytes} MB", (seconds[row], row), (3, -3), **_BESIDE)
        axis.set(title=material, xlabel="seconds of a core", xscale="log")
        axis.set_xlim(min(seconds) / 2, max(seconds) * 6)
    drawing.tight_layout()
    stream = io.BytesIO()
    drawing.savefig(stream, dpi=90)
    pyplot.close(drawing)
    small = io.BytesIO()
    # Few colours are in it; all of them in a table make a quarter of the bytes.
    Image.open(stream).convert("RGB").quantize(48).save(small, "PNG", optimize=True)
    write_atomically(target, small.getvalue())


if __name__ == "__main__":
    sys.exit(main())

"""The command ``birefnet video``: raw frames through pipes, or files by ffmpeg.

Frames are cut out one by one, in order, few at a time, so memory does not grow. Nothing is smoothed
over time: what flickers in the mask flickers in the result.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

import numpy as np

from birefnet_runtime import encode, ffmpeg, flags
from birefnet_runtime.cutout import Cutout
from birefnet_runtime.errors import InputError, OptionError, OutputError
from birefnet_runtime.ffmpeg import Decoder, Encoder, fill
from birefnet_runtime.frame import Bytes
from birefnet_runtime.matting import Matting
from birefnet_runtime.options import Options
from birefnet_runtime.progress import Progress


def run(args: argparse.Namespace) -> int:
    """Cut out the frames that ``args`` names; 0, or an error is raised."""
    options = flags.options(args)
    _check(options)
    if args.source is None or args.source == "-":
        return _pipe(args, options)
    if args.size is not None:
        raise OptionError("a file says its own size: leave out --size")
    if args.target is None:
        raise OptionError("name OUT, too: a .mov, .webm or .mp4 file, or a folder for PNG files")
    return _convert(args, Path(args.source), args.target, options)


def _check(options: Options) -> None:
    """OptionError for what has no meaning for a video, so that nothing is quietly left out."""
    refused = {
        "--crop": options.crop,
        "--depth 16": options.depth == 16,
        "--keep-exif": options.keep_exif,
        "--quality": options.quality is not None,
        "--shrink": options.shrink is not None,
    }
    for flag, asked in refused.items():
        if asked:
            raise OptionError(f"{flag} is for pictures, not for a video's frames: leave it out")


# --- pipes


def _pipe(args: argparse.Namespace, options: Options) -> int:
    if args.target is not None or args.size is None:
        raise OptionError("raw frames go from stdin to stdout and need --size WxH")
    width, height = _parse_size(args.size)
    if width * height > options.max_pixels:
        raise OptionError(
            f"frames of {width * height} pixels, the limit is {options.max_pixels}: raise it "
            "(--max-pixels)"
        )
    if sys.stdin.isatty() or sys.stdout.isatty():
        raise OptionError(
            "raw frames come from a pipe and go into one: ffmpeg ... | birefnet video --size WxH "
            "| ffmpeg ..."
        )
    with Matting.open(**flags.model(args)) as matting:
        if args.device == "auto":
            print(f"birefnet: {matting.describe()}", file=sys.stderr)
        source = RawFrames(sys.stdin.buffer, (height, width), matting.empty)
        for image in render(matting, source, options):
            sys.stdout.buffer.write(image.data.cast("B"))
        sys.stdout.buffer.flush()
    source.check()
    return 0


class RawFrames:
    """Frames of ``size`` (height, width), 3 bytes per pixel, from a stream.

    Each is uint8 [H,W,3] in memory of its own, given by ``lend``.
    """

    def __init__(
        self, stream: IO[bytes], size: tuple[int, int], lend: Callable[[tuple[int, ...]], Bytes]
    ) -> None:
        self._stream, self._shape, self._lend = stream, (*size, 3), lend
        self._count = self._rest = 0

    def __iter__(self) -> Iterator[Bytes]:
        while True:
            frame = self._lend(self._shape)
            self._rest = fill(self._stream, frame)
            if self._rest < frame.nbytes:
                return
            self._count += 1
            yield frame

    def check(self) -> None:
        """InputError where the stream ended within a frame."""
        if self._rest:
            height, width, _ = self._shape
            whole = height * width * 3
            raise InputError(
                "stdin",
                f"ended {self._rest} bytes into frame {self._count + 1}, and a frame of "
                f"{width}x{height} has {whole}: is --size right, and are the pixels rgb24?",
            )


def render(matting: Matting, frames: Iterable[Bytes], options: Options) -> Iterator[Bytes]:
    """The image of each frame, in order and C-contiguous: uint8 [H,W], [H,W,3] or [H,W,4]."""
    images: dict[int, Bytes] = {}

    def compose(number: int, cutout: Cutout) -> None:
        images[number] = np.ascontiguousarray(cutout.image)

    for number, _ in enumerate(matting.stream(frames, options, work=compose)):
        yield images.pop(number)


# --- files


def _convert(args: argparse.Namespace, source: Path, out: str, options: Options) -> int:
    target = Path(out)
    folder = out.endswith("/") or target.is_dir() or not target.suffix
    container = None if folder else ffmpeg.container_of(target, options.transparent)
    if source.resolve() == target.resolve():
        raise OptionError(f"{out} is the video to be read: choose another OUT")
    clip = ffmpeg.probe(source)
    with Matting.open(**flags.model(args)) as matting, Decoder(clip, matting.empty) as decoder:
        if args.device == "auto":
            print(f"birefnet: {matting.describe()}", file=sys.stderr)
        progress = Progress(clip.frames, pace=True)
        if container is None:
            _write_pictures(matting, decoder, target, options, progress)
        else:
            with Encoder(target, container, clip) as encoder:
                for codec in encoder.left_out():
                    text = f"its {codec} sound does not go into {target.suffix}, and is left out"
                    progress.say(f"birefnet: {source}: {text}")
                _write_video(matting, decoder, encoder, options, progress)
        progress.clear()
    return 0


def _write_video(
    matting: Matting, decoder: Decoder, encoder: Encoder, options: Options, progress: Progress
) -> None:
    count = 0
    for image in render(matting, decoder.frames(), options):
        encoder.write(image)
        progress.step()
        count += 1
    _check_end(decoder, count)


def _write_pictures(
    matting: Matting, decoder: Decoder, folder: Path, options: Options, progress: Progress
) -> None:
    """``000001.png`` and so on, written beside the model's work."""

    def save(number: int, cutout: Cutout) -> None:
        encode.write(folder / f"{number + 1:06}.png", cutout.encode(".png"))

    count = 0
    for _ in matting.stream(decoder.frames(), options, work=save):
        progress.step()
        count += 1
    _check_end(decoder, count)


def _check_end(decoder: Decoder, count: int) -> None:
    """An error where ffmpeg failed, or gave nothing, so that no half file is put in place."""
    decoder.check()
    if not count:
        raise OutputError("the video has no frames: nothing was written")


def _parse_size(text: str) -> tuple[int, int]:
    """(width, height) from ``1920x1080``; OptionError."""
    width, _, height = text.lower().partition("x")
    if width.isdecimal() and height.isdecimal() and int(width) and int(height):
        return int(width), int(height)
    raise OptionError(f"size is {text!r}: give WxH, such as 1920x1080")

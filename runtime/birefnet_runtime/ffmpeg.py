"""Video files by the ffmpeg program: what is in one, its frames, and a file made of frames.

A file is named ``file:PATH`` and nothing but files may be opened, so that no name and no playlist
makes ffmpeg go to the network. Frames come as PPM, which says its own size: a rotation that the
file asks for has been done by then.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from birefnet_runtime.errors import InputError, OptionError, OutputError
from birefnet_runtime.frame import Bytes

# What one may read: files, and pipes where a pipe is the input.
_FILES = ("-protocol_whitelist", "file,pipe")
_MISSING = (
    "needs ffmpeg and ffprobe, which are not on the PATH: install the package ffmpeg "
    "(apt install ffmpeg, brew install ffmpeg, winget install ffmpeg), or pipe raw frames"
)
# Untagged video of more lines than PAL has is BT.709 by common understanding.
_PAL = 576
# sRGB frames -> BT.709 of limited range, and tagged so.
_COLOURS = (
    "-vf",
    "scale=out_color_matrix=bt709:out_range=tv,"
    "setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709",
)
_TAGS = ("-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709")
_PRORES = ("-c:v", "prores_ks", "-profile:v", "4444", "-vendor", "apl0")
_VP9 = ("-c:v", "libvpx-vp9", "-crf", "20", "-b:v", "0", "-row-mt", "1")
_X264 = ("-c:v", "libx264", "-crf", "18")
_FORMATS = {1: "gray", 3: "rgb24", 4: "rgba"}


@dataclass(frozen=True)
class Container:
    """A kind of file: ffmpeg's name, the video encoder's arguments, its pixel format without and
    with alpha (None where there is none), and the audio codecs it can hold (None for most)."""

    muxer: str
    video: Sequence[str]
    opaque: str
    transparent: str | None
    audio: tuple[str, ...] | None


CONTAINERS = {
    ".mov": Container("mov", _PRORES, "yuv444p10le", "yuva444p10le", None),
    ".webm": Container("webm", _VP9, "yuv420p", "yuva420p", ("opus", "vorbis")),
    ".mp4": Container("mp4", _X264, "yuv420p", None, ("aac", "mp3", "ac3", "eac3", "alac", "opus")),
}


@dataclass(frozen=True)
class Clip:
    """What ``ffprobe`` says about a file: index of its video stream, frames per second, about how
    many frames (0 for unknown), the filter that makes them RGB, (index, codec) of its sounds."""

    path: Path
    index: int
    rate: Fraction
    frames: int
    colours: str
    sounds: tuple[tuple[int, str], ...]


def container_of(path: Path, transparent: bool) -> Container:
    """The kind of file that ``path`` names; OptionError where it cannot hold the frames."""
    found = CONTAINERS.get(path.suffix.lower())
    if found is None:
        known = ", ".join(CONTAINERS)
        raise OptionError(f"{path} is no video file that is written: use {known}, or a folder")
    if transparent and found.transparent is None:
        raise OptionError(
            f"{path.suffix} holds no transparency: use .mov or .webm, or a background "
            "(--background white)"
        )
    return found


def probe(path: Path) -> Clip:
    """Look into a video file. Raises InputError where it is none, or ffmpeg is not there."""
    if not path.is_file():
        raise InputError(str(path), "no such file")
    command = [_find("ffprobe", path), "-v", "error", *_FILES, "-of", "json"]
    command += ["-show_streams", "-show_format", f"file:{path}"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode:
        raise InputError(str(path), f"ffprobe cannot read it: {_last_line(done.stderr)}")
    return _read_clip(path, json.loads(done.stdout))


def _read_clip(path: Path, found: dict[str, Any]) -> Clip:
    streams = found.get("streams", [])
    # A cover picture of a sound file is a video stream, too.
    videos = [
        one
        for one in streams
        if one.get("codec_type") == "video" and not one.get("disposition", {}).get("attached_pic")
    ]
    if not videos:
        raise InputError(str(path), "has no video in it")
    video = videos[0]
    rate = _fraction(video.get("avg_frame_rate")) or _fraction(video.get("r_frame_rate"))
    if rate is None:
        raise InputError(str(path), "does not say how many frames it has per second")
    seconds = float(video.get("duration") or found.get("format", {}).get("duration") or 0)
    frames = int(video.get("nb_frames") or 0) or round(seconds * rate)
    sounds = tuple(
        (one["index"], one.get("codec_name", "unknown"))
        for one in streams
        if one.get("codec_type") == "audio"
    )
    untagged = video.get("color_space", "unknown") in ("unknown", "reserved")
    high = int(video.get("height") or 0) > _PAL
    colours = "scale=in_color_matrix=bt709," if untagged and high else ""
    return Clip(path, video["index"], rate, frames, colours, sounds)


class Decoder:
    """The frames of a clip, at a steady rate from its start on, upright.

    As a context: leaving it ends ffmpeg. ``lend`` gives the memory of a frame.
    """

    def __init__(self, clip: Clip, lend: Callable[[tuple[int, ...]], Bytes]) -> None:
        self._clip, self._lend = clip, lend
        # From time 0 on, so that the sound stays where it was.
        steady = f"fps={clip.rate}:start_time=0,{clip.colours}format=rgb24"
        command = [_find("ffmpeg", clip.path), "-v", "error", "-nostdin", *_FILES]
        command += ["-i", f"file:{clip.path}", "-map", f"0:{clip.index}", "-vf", steady]
        command += ["-f", "image2pipe", "-c:v", "ppm", "pipe:1"]
        self._process = _Process(command, read=True)

    def frames(self) -> Iterator[Bytes]:
        """uint8 [H,W,3], RGB, each in memory of its own. Ends early where ffmpeg does: ``check``
        tells."""
        stream = self._process.pipe
        while (size := _read_header(stream)) is not None:
            frame = self._lend((*size, 3))
            if fill(stream, frame) < frame.nbytes:
                return
            yield frame

    def check(self) -> None:
        """InputError where ffmpeg could not read to the end."""
        reason = self._process.end()
        if reason is not None:
            raise InputError(str(self._clip.path), f"ffmpeg could not read it: {reason}")

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()


class Encoder:
    """A video file made of frames, with the sound of ``clip`` where the container holds it.

    It is written under another name and put in place when the context is left without an error.
    """

    def __init__(self, target: Path, container: Container, clip: Clip) -> None:
        self._target, self._container, self._clip = target, container, clip
        self._part = target.with_name(f".{target.name}.part")
        self._process: _Process | None = None

    def write(self, frame: Bytes) -> None:
        """One more frame, uint8 [H,W], [H,W,3] or [H,W,4], each as the first; OutputError."""
        if self._process is None:
            self._process = _Process(self._command(frame), read=False)
        try:
            self._process.pipe.write(frame.data.cast("B"))
        except BrokenPipeError:
            raise self._failure(self._process.end() or "it ended early") from None

    def left_out(self) -> list[str]:
        """Codecs of sounds that the container cannot hold."""
        return [codec for _, codec in self._clip.sounds if not self._holds(codec)]

    def _holds(self, codec: str) -> bool:
        return self._container.audio is None or codec in self._container.audio

    def _command(self, frame: Bytes) -> list[str]:
        height, width = frame.shape[:2]
        channels = frame.shape[2] if frame.ndim == 3 else 1
        kind, clip = self._container, self._clip
        pixels = (kind.transparent if channels == 4 else None) or kind.opaque
        command = [_find("ffmpeg", self._target), "-v", "error", "-y", "-f", "rawvideo"]
        command += ["-pix_fmt", _FORMATS[channels], "-s:v", f"{width}x{height}"]
        command += ["-r", str(clip.rate), "-i", "pipe:0", *_FILES, "-i", f"file:{clip.path}"]
        command += ["-map", "0:v:0"]
        for index, codec in clip.sounds:
            command += ["-map", f"1:{index}"] if self._holds(codec) else []
        command += ["-c:a", "copy", *_COLOURS, *_TAGS, *kind.video, "-pix_fmt", pixels]
        return [*command, "-f", kind.muxer, f"file:{self._part}"]

    def _failure(self, reason: str) -> OutputError:
        return OutputError(f"{self._target} was not written, ffmpeg failed: {reason}")

    def __enter__(self) -> Encoder:
        self._target.parent.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None and self._process is not None:
                self._process.pipe.close()
                reason = self._process.end()
                if reason is not None:
                    raise self._failure(reason)
                self._part.replace(self._target)
        finally:
            if self._process is not None:
                self._process.kill()
            self._part.unlink(missing_ok=True)


class _Process:
    """One ffmpeg with a pipe out of it or into it. What it says is kept in a file, so that it never
    waits for a reader."""

    def __init__(self, command: list[str], read: bool) -> None:
        # Closed by `kill`.
        self._words = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL if read else subprocess.PIPE,
            stdout=subprocess.PIPE if read else subprocess.DEVNULL,
            stderr=self._words,
            # Ctrl-C is for this process, which ends the other one.
            start_new_session=True,
        )
        pipe = self._process.stdout if read else self._process.stdin
        assert pipe is not None
        self.pipe: IO[bytes] = pipe

    def end(self) -> str | None:
        """Wait for the end; why it failed, or None."""
        if self._process.wait() == 0:
            return None
        self._words.seek(0)
        return _last_line(self._words.read()) or f"status {self._process.returncode}"

    def kill(self) -> None:
        """End it, if it still runs. May be called again."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        with suppress(BrokenPipeError):
            self.pipe.close()
        self._words.close()


def fill(stream: IO[bytes], frame: Bytes) -> int:
    """Read ``frame`` full from ``stream``, a pipe as a rule; how many bytes came before its end."""
    view = frame.data.cast("B")
    count = 0
    while count < len(view):
        # readinto is there on every binary stream that has a file below it.
        got = stream.readinto(view[count:])  # type: ignore[attr-defined]
        if not got:
            break
        count += got
    return count


def _read_header(stream: IO[bytes]) -> tuple[int, int] | None:
    """(height, width) of the next PPM picture, or None at the end."""
    if stream.readline() != b"P6\n":
        return None
    width, height = (int(part) for part in stream.readline().split())
    stream.readline()
    return height, width


def _fraction(text: str | None) -> Fraction | None:
    """Frames per second from ``30000/1001``; None for ``0/0`` and nonsense."""
    try:
        found = Fraction(text or "")
    except (ValueError, ZeroDivisionError):
        return None
    return found if found > 0 else None


def _find(name: str, path: Path) -> str:
    found = shutil.which(name)
    if found is None:
        raise InputError(os.fspath(path), _MISSING)
    return found


def _last_line(text: bytes) -> str:
    lines = text.decode(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else ""

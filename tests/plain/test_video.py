"""Videos: raw frames through pipes, and files by a program that stands for ffmpeg."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from birefnet_runtime import Options, ffmpeg
from birefnet_runtime.__main__ import main
from birefnet_runtime.errors import InputError
from birefnet_runtime.matting import Matting
from birefnet_runtime.video import RawFrames, render
from helpers.pictures import Pixels, decoded, disc, noise

Capture = pytest.CaptureFixture[str]


def scene(count: int, height: int = 24, width: int = 32) -> Pixels:
    """uint8 [N,H,W,3]: frames of noise on a disc, each another."""
    ground = disc(height, width).astype(int)
    frames = [(ground + noise(height, width, seed=n)) // 2 for n in range(count)]
    return np.stack(frames).astype(np.uint8)


# --- pipes


def pipe(tiny: Path, data: bytes, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "birefnet_runtime", "video", *arguments]
    command += ["--model", str(tiny), "--device", "cpu", "--threads", "1"]
    return subprocess.run(command, input=data, capture_output=True, check=False)


def test_raw_frames(tiny: Path, matting: Matting) -> None:
    frames = scene(7)
    done = pipe(tiny, frames.tobytes(), "--size", "32x24")
    assert (done.returncode, done.stderr) == (0, b"")
    found = np.frombuffer(done.stdout, np.uint8).reshape(7, 24, 32, 4)
    for frame, image in zip(frames, found, strict=True):
        np.testing.assert_array_equal(matting.remove(frame).rgba, image)


def test_a_torn_last_frame(tiny: Path) -> None:
    done = pipe(tiny, scene(3).tobytes()[:-5], "--size", "32x24")
    assert done.returncode == 1
    # The whole ones were delivered.
    assert len(done.stdout) == 2 * 24 * 32 * 4
    assert done.stderr.decode().startswith("birefnet: stdin: ended 2299 bytes into frame 3, ")


def test_a_reader_that_goes_away(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "raw").write_bytes(scene(40, 100, 100).tobytes())
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "birefnet_runtime", "video", "--size", "100x100"]
    with (tmp_path / "raw").open("rb") as raw:
        done = subprocess.run(
            [*command, "--model", str(tiny), "--device", "cpu"],
            stdin=raw,
            stdout=writer,
            stderr=subprocess.PIPE,
            check=False,
        )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        (Options(), (24, 32, 4)),
        (Options(output="alpha"), (24, 32)),
        (Options(background="red"), (24, 32, 3)),
    ],
)
def test_images_are_in_order_and_whole(
    matting: Matting, options: Options, shape: tuple[int, ...]
) -> None:
    frames = scene(9)
    images = list(render(matting, iter(frames), options))
    assert len(images) == 9
    for frame, image in zip(frames, images, strict=True):
        assert image.shape == shape
        assert image.flags.c_contiguous
        np.testing.assert_array_equal(image, matting.remove(frame, options).image)


def test_few_frames_are_taken_ahead(matting: Matting) -> None:
    taken = []

    def frames() -> Any:
        for frame in scene(12):
            taken.append(frame)
            yield frame

    images = render(matting, frames(), Options())
    for number, _ in enumerate(images, 1):
        assert len(taken) <= number + matting.ahead


def test_pipes_that_give_little_at_a_time() -> None:
    frames = scene(2, 5, 7)
    reader, writer = os.pipe()

    def send() -> None:
        for byte in frames.tobytes():
            os.write(writer, bytes([byte]))
        os.close(writer)

    sender = threading.Thread(target=send)
    sender.start()
    with os.fdopen(reader, "rb", buffering=0) as stream:
        source = RawFrames(stream, (5, 7), lambda shape: np.empty(shape, np.uint8))
        np.testing.assert_array_equal(np.stack(list(source)), frames)
        source.check()
    sender.join()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "need --size WxH"),
        (["--size", "12"], "give WxH"),
        (["--size", "0x5"], "give WxH"),
        (["--size", "99999x99999"], "--max-pixels"),
        (["--size", "4x4", "--crop"], "--crop is for pictures"),
        (["--size", "4x4", "--depth", "16"], "--depth 16 is for pictures"),
        (["--size", "4x4", "--quality", "9"], "--quality is for pictures"),
        (["in.mp4", "out.mov", "--size", "4x4"], "leave out --size"),
        (["in.mp4"], "name OUT"),
        (["in.mp4", "out.avi"], "use .mov, .webm, .mp4, or a folder"),
        (["in.mp4", "out.mp4"], ".mp4 holds no transparency"),
        (["in.mov", "in.mov"], "is the video to be read"),
    ],
)
def test_arguments_without_sense(arguments: list[str], text: str, capsys: Capture) -> None:
    assert main(["video", *arguments, "--device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1


# --- files

# Reads and writes what the real ones would, and notes what it was asked.
FAKE = """#!{python}
import json, os, sys
folder, args = {folder!r}, sys.argv[1:]
with open(folder + "/calls", "a") as calls:
    calls.write(json.dumps([os.path.basename(sys.argv[0]), *args]) + "\\n")
say = open(folder + "/say").read() if os.path.exists(folder + "/say") else ""
def fail(what):
    if say == what:
        print("first line\\nthe reason", file=sys.stderr)
        sys.exit(3)
if sys.argv[0].endswith("ffprobe"):
    fail("probe")
    print(open(folder + "/probe.json").read())
elif "image2pipe" in args:
    data = open(folder + "/frames", "rb").read()
    for start in range(0, len(data), 32 * 24 * 3):
        sys.stdout.buffer.write(b"P6\\n32 24\\n255\\n" + data[start : start + 32 * 24 * 3])
    sys.stdout.buffer.flush()
    fail("decode")
else:
    if say == "early":
        sys.stdin.buffer.read(10)
        fail("early")
    data = sys.stdin.buffer.read()
    with open(args[-1].partition(":")[2], "wb") as out:
        out.write(data)
    fail("encode")
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the PATH with ffmpeg and ffprobe, and in.mp4 with 5 frames and a sound."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("ffmpeg", "ffprobe"):
        (folder / name).write_text(FAKE.format(python=sys.executable, folder=str(folder)))
        (folder / name).chmod(0o755)
    write_probe(folder)
    (folder / "frames").write_bytes(scene(5).tobytes())
    (tmp_path / "in.mp4").write_bytes(b"a video")
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


def write_probe(folder: Path, audio: str = "aac", **changes: Any) -> None:
    cover = {"index": 0, "codec_type": "video", "disposition": {"attached_pic": 1}}
    video = {"index": 1, "codec_type": "video", "avg_frame_rate": "30000/1001", "height": 720}
    sound = {"index": 2, "codec_type": "audio", "codec_name": audio}
    found = {"streams": [cover, {**video, **changes}, sound], "format": {"duration": "0.16683"}}
    (folder / "probe.json").write_text(json.dumps(found))


def calls(folder: Path) -> list[list[str]]:
    return [json.loads(line) for line in (folder / "calls").read_text().splitlines()]


def convert(tiny: Path, *arguments: str) -> int:
    return main(["video", "in.mp4", *arguments, "--model", str(tiny), "--device", "cpu"])


def test_a_file(tiny: Path, fake: Path, matting: Matting, capsys: Capture) -> None:
    assert convert(tiny, "new/out.mov") == 0
    found = np.fromfile("new/out.mov", np.uint8).reshape(5, 24, 32, 4)
    for frame, image in zip(scene(5), found, strict=True):
        np.testing.assert_array_equal(matting.remove(frame).rgba, image)
    probe, decode, encode = calls(fake)
    assert probe[-1] == "file:in.mp4"
    assert decode[decode.index("-map") + 1] == "0:1"
    assert "fps=30000/1001:start_time=0,scale=in_color_matrix=bt709,format=rgb24" in decode
    text = " ".join(encode)
    assert "-f rawvideo -pix_fmt rgba -s:v 32x24 -r 30000/1001 -i pipe:0" in text
    assert "-map 0:v:0 -map 1:2 -c:a copy" in text
    assert "-c:v prores_ks" in text
    assert "-pix_fmt yuva444p10le -f mov file:new/.out.mov.part" in text
    assert [path.name for path in Path("new").iterdir()] == ["out.mov"]
    assert capsys.readouterr().err == ""


def test_other_containers(tiny: Path, fake: Path, capsys: Capture) -> None:
    assert convert(tiny, "out.webm") == 0
    assert "its aac sound does not go into .webm" in capsys.readouterr().err
    assert "-map 1:2" not in " ".join(calls(fake)[-1])
    assert "yuva420p -f webm" in " ".join(calls(fake)[-1])
    write_probe(fake, "opus", color_space="bt470bg")
    assert convert(tiny, "out.webm", "--background", "white") == 0
    assert "bt709,format" not in " ".join(calls(fake)[-2])
    assert "-map 1:2" in " ".join(calls(fake)[-1])
    assert convert(tiny, "out.mp4", "--mask") == 0
    assert "-pix_fmt gray" in " ".join(calls(fake)[-1])
    assert Path("out.mp4").stat().st_size == 5 * 24 * 32


def test_pictures(tiny: Path, fake: Path, matting: Matting) -> None:
    assert convert(tiny, "frames") == 0
    names = sorted(path.name for path in Path("frames").iterdir())
    assert names == [f"{number:06}.png" for number in range(1, 6)]
    image = decoded(Path("frames/000004.png").read_bytes())
    np.testing.assert_array_equal(image, matting.remove(scene(5)[3]).rgba)


@pytest.mark.parametrize(
    ("say", "text"),
    [
        ("probe", "in.mp4: ffprobe cannot read it: the reason"),
        ("decode", "in.mp4: ffmpeg could not read it: the reason"),
        ("encode", "out.mov was not written, ffmpeg failed: the reason"),
        ("early", "out.mov was not written, ffmpeg failed: the reason"),
    ],
)
def test_a_failure_leaves_no_file(
    tiny: Path, fake: Path, say: str, text: str, capsys: Capture
) -> None:
    if say == "early":
        # More than a pipe holds, so that the writer notices.
        (fake / "frames").write_bytes(scene(60).tobytes())
    (fake / "say").write_text(say)
    Path("out.mov").write_bytes(b"earlier")
    assert convert(tiny, "out.mov") == 1
    assert capsys.readouterr().err == f"birefnet: {text}\n"
    assert Path("out.mov").read_bytes() == b"earlier"
    assert not list(Path().glob(".out*"))


def test_files_that_are_no_video(tiny: Path, fake: Path, capsys: Capture) -> None:
    write_probe(fake, codec_type="data")
    assert convert(tiny, "out.mov") == 1
    assert "has no video in it" in capsys.readouterr().err
    write_probe(fake, avg_frame_rate="0/0")
    assert convert(tiny, "out.mov") == 1
    assert "frames it has per second" in capsys.readouterr().err
    write_probe(fake)
    (fake / "frames").write_bytes(b"")
    assert convert(tiny, "out.mov") == 1
    assert "has no frames" in capsys.readouterr().err
    Path("in.mp4").unlink()
    assert convert(tiny, "out.mov") == 1
    assert "no such file" in capsys.readouterr().err


def test_without_ffmpeg(
    tiny: Path, fake: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("PATH", "")
    assert convert(tiny, "out.mov") == 1
    assert "in.mp4: needs ffmpeg" in capsys.readouterr().err
    with pytest.raises(InputError, match="apt install ffmpeg"):
        ffmpeg.probe(Path("in.mp4"))


def test_what_a_clip_says(fake: Path) -> None:
    clip = ffmpeg.probe(Path("in.mp4"))
    assert (clip.index, clip.rate, clip.frames) == (1, Fraction(30000, 1001), 5)
    write_probe(fake, avg_frame_rate="0/0", r_frame_rate="25/1", nb_frames="8")
    clip = ffmpeg.probe(Path("in.mp4"))
    assert (clip.rate, clip.frames) == (Fraction(25), 8)

"""The command line: what it writes, says and ends with."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from birefnet_runtime import encode, progress
from birefnet_runtime.__main__ import main
from birefnet_runtime.cutout import Cutout
from birefnet_runtime.errors import OutputError
from birefnet_runtime.progress import Progress
from helpers.pictures import decoded, disc, encoded, noise
from helpers.tiny_onnx import write_mask_model

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded(disc(), "JPEG", quality=95))
    return path


def remove(tiny: Path, *arguments: object) -> int:
    return main(["remove", *map(str, arguments), "--model", str(tiny), "--device", "cpu"])


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "birefnet_runtime", *map(str, arguments)]


def test_one_picture(tiny: Path, photo: Path, capsys: Capture) -> None:
    assert remove(tiny, photo) == 0
    pixels = decoded((photo.parent / "photo.cutout.png").read_bytes())
    assert pixels.shape == (48, 64, 4)
    # The disc is kept, the dark ground is not.
    assert pixels[24, 32, 3] > 250
    assert pixels[0, 0].tolist() == [0, 0, 0, 0]
    assert capsys.readouterr() == ("", "")


def test_mask_and_background(tiny: Path, photo: Path) -> None:
    folder = photo.parent
    assert remove(tiny, photo, "--mask") == 0
    assert decoded((folder / "photo.mask.png").read_bytes()).shape == (48, 64)
    assert remove(tiny, photo, "--background", "#ff0000", "-o", folder / "red.jpg") == 0
    red = decoded((folder / "red.jpg").read_bytes())
    # JPEG keeps a flat colour within a few levels.
    assert np.abs(red[0, 0].astype(int) - (255, 0, 0)).max() < 5


def test_an_empty_result_and_how_it_was_done(
    tiny: Path, photo: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert remove(tiny, photo, "--verbose") == 0
    first, second = capsys.readouterr().err.splitlines()
    assert first == "birefnet: tiny 32x32 on cpu"
    assert second.startswith(f"birefnet: {photo}: 48x64, edge single, ")
    empty = SimpleNamespace(found=False)
    monkeypatch.setattr(Cutout, "score", empty, raising=False)
    assert remove(tiny, photo) == 0
    said = capsys.readouterr().err
    assert said == f"birefnet: {photo}: nothing found: the result is empty, or nearly so\n"


def test_auto_says_what_it_took(tiny: Path, photo: Path, capsys: Capture) -> None:
    assert main(["remove", str(photo), "--model", str(tiny), "--threads", "1"]) == 0
    assert capsys.readouterr().err.startswith("birefnet: tiny 32x32 on c")


def test_several_pictures_and_bad_ones(tiny: Path, tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.png").write_bytes(encoded(noise(10, 10 + number)))
    (folder / "3.png").write_bytes(b"not a picture")
    out = tmp_path / "new" / "out"
    missing = tmp_path / "missing.jpg"
    assert remove(tiny, folder, missing, "-o", out) == 1
    assert sorted(path.name for path in out.iterdir()) == [
        f"{number}.cutout.png" for number in (0, 1, 2, 4)
    ]
    assert decoded((out / "4.cutout.png").read_bytes()).shape == (10, 14, 4)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(f"birefnet: {folder / '3.png'}: is none of JPEG")
    assert lines[1] == f"birefnet: {missing}: no such file"
    assert lines[2] == f"birefnet: 2 of 6 failed: {folder / '3.png'}, {missing}"
    assert len(lines) == 3


def test_a_folder_can_be_done_again(tiny: Path, photo: Path) -> None:
    for _ in range(2):
        assert remove(tiny, photo.parent) == 0
        assert len(list(photo.parent.iterdir())) == 2


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """A GIF of three frames."""
    frames = [Image.fromarray(disc(24, 24) // (n + 1)) for n in range(3)]
    path = tmp_path / "film.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=[40, 80, 120], loop=0)
    return path


def test_an_animation(tiny: Path, film: Path, capsys: Capture) -> None:
    for suffix in (".webp", ".gif", ".apng"):
        out = film.with_name("out" + suffix)
        assert remove(tiny, film, "-o", out) == 0
        with Image.open(out) as image:
            assert getattr(image, "n_frames", 1) == 3
            assert image.size == (24, 24)
    assert capsys.readouterr().err == ""


def test_a_still_result_of_an_animation(tiny: Path, film: Path, capsys: Capture) -> None:
    assert remove(tiny, film) == 0
    assert decoded((film.parent / "film.cutout.png").read_bytes()).shape == (24, 24, 4)
    said = capsys.readouterr().err
    assert said == (
        f"birefnet: {film}: only the first of its 3 frames is cut out: name a .webp, .gif or .apng "
        "with -o for all of them\n"
    )
    assert remove(tiny, film, "-o", film.parent / "still.webp", "--crop") == 2
    assert "leave out crop" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["-o", "out.jpg"], "transparency"),
        (["-o", "photo.jpg"], "is a picture to be read"),
        (["--background", "nope"], "is no colour"),
        (["--background", "white", "--mask"], "no background"),
        (["--max-pixels", "0"], "max_pixels"),
        (["photo.jpg", "other/photo.png", "-o", "out/"], "would both be written"),
    ],
)
def test_arguments_without_sense(
    arguments: list[str],
    text: str,
    tiny: Path,
    photo: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(photo.parent)
    before = photo.read_bytes()
    assert remove(tiny, "photo.jpg", *arguments) == 2
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1
    assert photo.read_bytes() == before
    assert [path.name for path in photo.parent.iterdir()] == ["photo.jpg"]


@pytest.mark.parametrize(
    "arguments",
    [[], ["remove"], ["remove", "a", "--size", "0x1"], ["remove", "a", "--mean", "1,2"], ["nope"]],
)
def test_usage(arguments: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: birefnet" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--device", "tensorrt"], "TensorRT"),
        (["--device", "nope"], "known devices"),
        (["--model", "missing.onnx"], "no such model"),
        (["--activation", "none"], "has a contract"),
    ],
)
def test_what_is_not_there(
    arguments: list[str], text: str, tiny: Path, photo: Path, capsys: Capture
) -> None:
    given = ["--model", str(tiny), *arguments]
    assert main(["remove", str(photo), *given]) == 1
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1


def test_a_bare_onnx_file(photo: Path, capsys: Capture) -> None:
    model = write_mask_model(photo.parent / "a.onnx", (1, 3, "h", "w"), ("x", "y"), sigmoid=False)
    given = ["remove", str(photo), "--model", str(model), "--device", "cpu"]
    assert main(given) == 1
    assert "--size" in capsys.readouterr().err
    assert main([*given, "--size", "32"]) == 1
    assert "--activation" in capsys.readouterr().err
    given += ["--size", "32x48", "--activation", "sigmoid", "--mean", ".5,.5,.5", "--std", "1,1,1"]
    assert main(given) == 0
    alpha = decoded((photo.parent / "photo.cutout.png").read_bytes())[..., 3].astype(int)
    # sigmoid(4 * (220 / 255 - 0.5)) in the disc, sigmoid(4 * (20 / 255 - 0.5)) on the ground, of
    # 255; JPEG costs a level or two.
    assert alpha[24, 32] == pytest.approx(207, abs=3)
    assert alpha[0, 0] == pytest.approx(40, abs=3)


def test_a_failure_while_writing_leaves_no_file(
    tiny: Path, photo: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Path, target: object) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    assert remove(tiny, photo) == 1
    assert "cannot be written: No space left on device" in capsys.readouterr().err
    assert [path.name for path in photo.parent.iterdir()] == ["photo.jpg"]


def test_a_failure_while_encoding_leaves_no_file(
    tiny: Path, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bytes:
        raise OutputError("half-way")

    monkeypatch.setattr(encode, "to_png", fail)
    assert remove(tiny, photo) == 1
    assert [path.name for path in photo.parent.iterdir()] == ["photo.jpg"]


# --- as a process


def test_stdin_to_stdout(tiny: Path) -> None:
    done = subprocess.run(
        command("remove", "-", "--model", tiny),
        input=encoded(disc()),
        capture_output=True,
        check=True,
    )
    assert decoded(done.stdout).shape == (48, 64, 4)
    assert done.stderr.decode() == "birefnet: tiny 32x32 on cpu\n"


def test_bad_stdin(tiny: Path) -> None:
    arguments = command("remove", "-", "-o", "-", "--model", tiny, "--device", "cpu")
    done = subprocess.run(arguments, input=b"", capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == b"birefnet: stdin: is empty\n"


def test_a_damaged_picture_is_one_line(tiny: Path, tmp_path: Path) -> None:
    # Of these Pillow would warn in several lines.
    data = encoded(disc(), "TIFF", compression="tiff_lzw")
    names = [f"{share}.tif" for share in (2, 5, 9)]
    for name in names:
        (tmp_path / name).write_bytes(data[: len(data) * int(name[0]) // 10])
    paths = [tmp_path / name for name in names]
    arguments = command("remove", *paths, "--model", tiny, "--device", "cpu")
    done = subprocess.run(arguments, capture_output=True, check=False)
    lines = done.stderr.decode().splitlines()
    assert done.returncode == 1
    assert len(lines) == 4
    assert all(f"{path}: is" in line for path, line in zip(paths, lines, strict=False))


def test_version_does_not_load_the_libraries() -> None:
    code = (
        "import sys, birefnet_runtime.__main__ as m\n"
        "try: m.main(['--version'])\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'cv2', 'numpy', 'PIL', 'onnxruntime', 'torch'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout.startswith(b"birefnet-trt ")


def test_ctrl_c(tiny: Path) -> None:
    with subprocess.Popen(
        command("remove", "-", "--model", tiny),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stderr is not None
        # The line about the device comes when the model is loaded; then stdin is waited for.
        process.stderr.readline()
        # Python does not look for signals between its last instruction and the read() of stdin: one
        # that comes there waits for the next.
        while _state(process.pid) in "RD":
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert rest == b""


def _state(pid: int) -> str:
    """proc(5)'s letter for the main thread of ``pid``: R runs, D waits for a disk, S sleeps."""
    return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]


def test_a_reader_that_goes_away(tiny: Path, tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    picture.write_bytes(encoded(noise(400, 400)))
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        command("remove", picture, "-o", "-", "--model", tiny, "--device", "cpu"),
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


# --- progress


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_progress_bar() -> None:
    stream = Terminal()
    bar = Progress(2, stream)
    bar.step()
    bar.say("a.png: bad")
    bar.step()
    bar.clear()
    drawn = stream.getvalue().split(progress._CLEAR_LINE)
    half, full = "#" * 15 + "." * 15, "#" * 30
    assert drawn == ["", f"[{half}] 1/2", "a.png: bad\n", f"[{half}] 1/2", f"[{full}] 2/2", ""]


def test_pace_on_a_terminal() -> None:
    stream, times = Terminal(), iter([0.0, 9.0, 13.0])
    bar = Progress(3, stream, pace=True, clock=lambda: next(times))
    bar.step()
    bar.step()
    drawn = stream.getvalue().split(progress._CLEAR_LINE)
    assert [text.partition("] ")[2] for text in drawn[1:]] == [
        "1/3",
        "2/3, 15.0/min, 4 s left",
    ]


def test_plain_lines_now_and_then() -> None:
    now = 0.0
    stream = io.StringIO()
    bar = Progress(1000, stream, pace=True, clock=lambda: now)
    for step in range(1, 9):
        now = 10.0 * step
        bar.step()
    bar.clear()
    assert stream.getvalue().splitlines() == [
        "birefnet: 3/1000, 6.0/min, 2 h 46 min left",
        "birefnet: 6/1000, 6.0/min, 2 h 46 min left",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (99, "99 s"), (100, "2 min"), (5940, "99 min"), (7500, "2 h 05 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert progress.duration(seconds) == text


def test_no_bar_for_one_picture_or_a_file() -> None:
    for bar, stream in (
        (Progress(1, Terminal()), Terminal()),
        (Progress(9, s := io.StringIO()), s),
    ):
        bar.step()
        bar.clear()
        assert stream.getvalue() == ""

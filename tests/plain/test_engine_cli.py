"""``birefnet-build``: what it prints, what it ends with, and how it stops."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from birefnet_engine import build as builds
from birefnet_engine import manifest as manifests
from birefnet_engine.__main__ import main
from helpers.engine_kit import PASSED, Kit, write_folder
from helpers.fake_driver import compile_driver

TESTS = Path(__file__).resolve().parents[1]
KEY = "trt10.16.1.11-nvidia-h200-sm90-fp16-b1"
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kit:
    """Fakes that the command finds where it would find the machine."""
    found = Kit(write_folder(tmp_path / "m", (1, 4)))
    monkeypatch.setattr(builds, "Tools", found.tools)
    return found


def test_a_build(kit: Kit, capsys: Capture) -> None:
    assert main([str(kit.folder)]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].startswith(f"{KEY}: built in 0.")
    assert lines[0].endswith("s, 0.0 MB, level 5")
    # PASSED, in 255ths.
    assert lines[1:] == [
        "  alpha against PyTorch fp32: mean 0.051/255 of 0.25/255 allowed, "
        "99.9th percentile 1.02/255 of 1.99/255 allowed, largest 5.1/255",
        "  engine alone: median 8.10 ms of 3 runs",
        "  2 layers (1 fp16, 1 fp32)",
        "  attention: 1 fused, 0 softmax alone",
        "  GridSample, by input types: 1 fp32+fp32",
        "  device memory: 300 MB a context, weights 200 MB",
        f"in {kit.engines}; try: birefnet remove PHOTO.jpg --model {kit.folder} --device tensorrt",
    ]
    steps = [line.partition(":")[0] for line in err.splitlines()]
    assert steps == [
        "compile the kernels with nvcc 13.0",
        "parse model.trt.onnx",
        "build the plan",
        "inspect the plan",
        f"prove {KEY} against reference.npz",
    ]


def test_a_second_time_there_is_nothing_to_do(kit: Kit, capsys: Capture) -> None:
    assert main([str(kit.folder)]) == 0
    capsys.readouterr()
    assert main([str(kit.folder)]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"{KEY}: up to date, ")
    assert err == ""


def test_options(kit: Kit, capsys: Capture) -> None:
    arguments = [str(kit.folder), "--batch", "4,1,4", "--level", "2", "--inspect", "-v"]
    assert main(arguments) == 0
    assert [found.batch for found in manifests.find(kit.folder)] == [1, 4]
    assert {found.options["level"] for found in manifests.find(kit.folder)} == {2}
    out = capsys.readouterr().out
    assert out.count("GridSample           fp32 -> fp32           dec/fp32/sample\n") == 2
    assert main([*arguments, "--force"]) == 0
    assert capsys.readouterr().out.count("built in") == 2


def test_verbose_shows_what_tensorrt_says(kit: Kit, capsys: Capture) -> None:
    kit.script.plan, kit.script.complaint = None, "no tactic\nfor this"
    assert main([str(kit.folder)]) == 1
    assert "TensorRT error:" not in capsys.readouterr().err
    assert main([str(kit.folder), "--verbose"]) == 1
    assert "TensorRT error: no tactic for this\n" in capsys.readouterr().err


@pytest.mark.parametrize("model", ["nano", "nowhere"])
def test_errors_are_one_line(kit: Kit, capsys: Capture, model: str) -> None:
    assert main([model]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("birefnet-build: ")
    assert err.count("\n") == 1


def test_a_failed_proof(kit: Kit, capsys: Capture) -> None:
    kit.answer = {**PASSED, "passed": False}
    assert main([str(kit.folder)]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"birefnet-build: {KEY} is deleted: the plan is too far from PyTorch")


def test_a_full_disk_is_one_line(
    kit: Kit, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Path, data: object) -> int:
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", fail)
    assert main([str(kit.folder)]) == 1
    assert "No space left on device" in capsys.readouterr().err.splitlines()[-1]
    assert list(kit.engines.glob("*.plan")) == []


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["m", "--batch", "0"],
        ["m", "--batch", "x"],
        ["m", "--level", "6"],
        ["m", "--precision", "int8"],
    ],
)
def test_usage(arguments: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: birefnet-build" in capsys.readouterr().err


# --- as a process


def run(code: str, tmp_path: Path, init: int) -> subprocess.CompletedProcess[str]:
    """``code`` where libcuda's cuInit answers ``init`` and ``tensorrt`` is not there."""
    compile_driver(tmp_path, init)
    return subprocess.run(
        [sys.executable, "-c", f"import sys\nsys.modules['tensorrt'] = None\n{code}"],
        env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("init", "text"),
    [(100, "the NVIDIA driver finds no GPU"), (0, "TensorRT is not installed")],
)
def test_on_a_machine_without(tmp_path: Path, init: int, text: str) -> None:
    code = "from birefnet_engine.__main__ import main\nsys.exit(main(['nano']))"
    done = run(code, tmp_path, init)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"birefnet-build: {text}")
    assert done.stderr.count("\n") == 1


def test_every_module_is_imported_without_tensorrt_and_numpy() -> None:
    names = [path.stem for path in (TESTS.parent / "engine/birefnet_engine").glob("*.py")]
    code = (
        "import sys, importlib; sys.modules['tensorrt'] = None; before = set(sys.modules)\n"
        f"for name in {names!r}: importlib.import_module('birefnet_engine.' + name)\n"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ours = {"birefnet_engine", "birefnet_export"}
    assert set(done.stdout.split()) - set(sys.stdlib_module_names) == ours


STUCK = """
import sys, threading
from pathlib import Path
from birefnet_engine import build
from birefnet_engine.__main__ import main
from helpers.engine_kit import Kit
kit = Kit(Path(sys.argv[1]), sys.argv[2])
kit.script.steps, kit.script.pause = 36000, 0.1
kit.script.on_step = lambda step: step or print("building", flush=True)
build.Tools = kit.tools
sys.exit(main([sys.argv[1]]))
"""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("version", ["8.6.0", "11.4"])
def test_a_stopped_build_leaves_nothing_half_written(
    tmp_path: Path, version: str, sent: signal.Signals
) -> None:
    kit = Kit(write_folder(tmp_path / "m"), version)
    start = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-c", STUCK, str(kit.folder), version],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "building\n"
        process.send_signal(sent)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "birefnet-build: stopped; nothing is half-written"
    # 8.6 cannot be stopped: its process ends, and its timings with it.
    kept = [] if version == "8.6.0" else [".cache"]
    assert [Path(name).suffix for name in kit.names()] == kept
    assert time.monotonic() - start < 30
    kit.build()


def test_the_command_and_its_make_target() -> None:
    root = TESTS.parent
    data = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    assert data["project"]["scripts"]["birefnet-build"] == "birefnet_engine.__main__:main"
    dry = ["make", "-n", "engine", "MODEL=out/m", "ARGS=--batch 1,4"]
    # Under `make test`, make would tell which folder it is in as well.
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(dry, cwd=root, capture_output=True, text=True, check=True, env=env)
    told = done.stdout
    assert told.splitlines()[-1].endswith("python -m birefnet_engine out/m --batch 1,4")

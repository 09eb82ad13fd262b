"""The doctor says what works and how to get what does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from birefnet_runtime import model
from birefnet_runtime.__main__ import main

Capture = pytest.CaptureFixture[str]


def test_a_healthy_machine(tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr(model, "NANO_FOLDER", tiny)
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    for text in (
        "python ",
        "numpy ",
        "CPUExecutionProvider",
        "works: tiny 32x32 on c",
    ):
        assert text in out


def test_without_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(model, "NANO_FOLDER", tmp_path)
    assert main(["doctor"]) == 1
    assert "not possible: the embedded model nano is not" in capsys.readouterr().out


@pytest.mark.parametrize("module", ["cv2", "numpy", "PIL"])
def test_without_a_library(module: str) -> None:
    code = (
        f"import sys; sys.modules['{module}'] = None\n"
        "from birefnet_runtime.__main__ import main\n"
        "assert main(['doctor']) == 1\n"
        "assert main(['remove', 'a.png']) == 1"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert "not possible" in done.stdout.decode().splitlines()[-1]
    assert done.stderr.decode().endswith("birefnet doctor says what to do\n")
    assert done.stderr.count(b"\n") == 1


def test_without_onnxruntime(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main(["doctor"]) == 1
    assert "pip install 'birefnet-trt[cpu]'" in capsys.readouterr().out

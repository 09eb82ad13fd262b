"""A tiny model and an open Matting for the whole run."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from birefnet_runtime import Matting
from helpers.tiny_onnx import write_model_folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder, 32x32, in which bright pixels are foreground."""
    return write_model_folder(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def matting(tiny: Path) -> Iterator[Matting]:
    with Matting.open(tiny, device="cpu", threads=1) as opened:
        yield opened


# A shell's background job ignores SIGINT, and so would this process and every command it starts:
# tests of Ctrl-C would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

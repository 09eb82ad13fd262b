"""A tiny model, open for the whole run, and an application on it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from birefnet_runtime.async_matting import AsyncMatting
from birefnet_runtime.matting import Matting
from birefnet_runtime.serve.app import create_app
from helpers.asking import Asker
from helpers.tiny_onnx import write_model_folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder, 32x32, in which bright pixels are foreground."""
    return write_model_folder(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def matting(tiny: Path) -> Iterator[AsyncMatting]:
    with Matting.open(tiny, device="cpu", threads=1) as opened:
        yield AsyncMatting(opened)


@pytest.fixture(scope="session")
def ask(matting: AsyncMatting) -> Asker:
    """Asks an application with the usual settings."""
    return Asker(create_app(matting))


# A shell's background job ignores SIGINT, and so would every command that is started here.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

"""What the package promises to whoever imports it."""

from __future__ import annotations

import subprocess
import sys

import pytest

import birefnet_runtime
from birefnet_runtime import errors

# What must not be loaded before it is needed, or ever.
HEAVY = {
    "onnxruntime",
    "torch",
    "onnx",
    "transformers",
    "tensorrt",
    "fastapi",
    "uvicorn",
    "pydantic",
}


def loaded_by(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after ``code``."""
    script = f"{code}\nimport sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    return set(done.stdout.decode().split())


def test_import_is_light() -> None:
    assert not loaded_by("import birefnet_runtime") & {*HEAVY, "cv2", "numpy", "PIL"}
    door = loaded_by("from birefnet_runtime import AsyncMatting, Matting, Options, Cutout")
    assert not door & HEAVY
    assert "numpy" in door


def test_every_public_name_is_there() -> None:
    for name in birefnet_runtime.__all__:
        assert getattr(birefnet_runtime, name).__name__ == name
        assert name in dir(birefnet_runtime)
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        birefnet_runtime.nope  # noqa: B018


def test_one_exception_tree() -> None:
    for name in errors.__all__:
        value = getattr(errors, name)
        if isinstance(value, type):
            assert issubclass(value, errors.BirefnetError)
            assert name in birefnet_runtime.__all__


def test_one_line() -> None:
    assert errors.one_line(ValueError("a\n  b")) == "a b"
    assert errors.one_line(ValueError()) == "ValueError"

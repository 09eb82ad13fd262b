"""The command ``birefnet doctor``: what is here, what is missing, and the command that fixes it.

Nothing beyond the standard library is imported before it was looked for.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec

from birefnet_runtime.errors import BirefnetError, one_line

DISTRIBUTION = "birefnet-trt"
# Distribution -> the module it brings.
PACKAGES = {
    "numpy": "numpy",
    "pillow": "PIL",
    "opencv-python-headless": "cv2",
    "simplejpeg": "simplejpeg",
    "isal": "isal",
}
# One of these is wanted, for one machine never both; an engine needs the last.
EXTRAS = ("onnxruntime", "onnxruntime-gpu", "tensorrt")
# Large enough to see that every step works, small enough to take no time.
_SIZE = 256
_WIDTH = 24


def run() -> int:
    """Print the report; 0 when a cut-out is possible, 1 when not."""
    for name, text in _report():
        print(f"{name:<{_WIDTH}}{text}")
    try:
        text, status = _prove(), 0
    except (BirefnetError, ImportError) as error:
        text, status = f"not possible: {one_line(error)}", 1
    print(f"{'cut-out':<{_WIDTH}}{text}")
    return status


def version_of(package: str) -> str | None:
    """The installed version of ``package``, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _report() -> Iterator[tuple[str, str]]:
    yield "python", f"{platform.python_version()} ({sys.executable})"
    yield "platform", platform.platform()
    yield DISTRIBUTION, version_of(DISTRIBUTION) or "not installed: run from a source tree"
    for package, module in PACKAGES.items():
        yield package, version_of(package) or _missing(package, module)
    for package in EXTRAS:
        yield package, version_of(package) or "not installed"
    yield from _devices()


def _missing(package: str, module: str) -> str:
    if find_spec(module) is None:
        return f"not installed: pip install {package}"
    return f"{module} comes from another package"


def _devices() -> Iterator[tuple[str, str]]:
    try:
        from birefnet_runtime import executor

        found = executor.providers()
    except (BirefnetError, ImportError) as error:
        yield "devices", f"none: {one_line(error)}"
        return
    yield "providers", ", ".join(found)
    yield "cpu", "yes"
    fix = "no: with an NVIDIA GPU, pip uninstall onnxruntime, pip install 'birefnet-trt[gpu]'"
    yield "cuda", "in ONNX Runtime" if "CUDAExecutionProvider" in found else fix
    yield "tensorrt", "no: this version runs no TensorRT engines yet"


def _prove() -> str:
    """Cut out a made-up picture, a grey square on white, with the embedded model."""
    import numpy as np

    from birefnet_runtime.matting import Matting

    picture = np.full((_SIZE, _SIZE, 3), 255, np.uint8)
    picture[_SIZE // 4 : -_SIZE // 4, _SIZE // 4 : -_SIZE // 4] = 96
    with Matting.open() as matting:
        cutout = matting.remove(picture)
        contract = matting.contract
    seconds = sum(cutout.timings.values())
    return f"works: {matting.describe()}, {seconds:.3f} s, licence {contract.licence}"

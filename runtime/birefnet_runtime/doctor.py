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
# One of these is wanted, for one machine never both.
EXTRAS = ("onnxruntime", "onnxruntime-gpu")
# Names under which TensorRT is distributed, by version and CUDA.
TENSORRT = ("tensorrt", "tensorrt-cu13", "tensorrt-cu12", "tensorrt-bindings")
# Large enough to see that every step works, small enough to take no time.
_SIZE = 256
_WIDTH = 24


def run(model: str | None = None) -> int:
    """Print the report, with the plans of ``model``; 0 when a cut-out is possible, 1 when not."""
    for name, text in _report(model):
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


def _report(model: str | None) -> Iterator[tuple[str, str]]:
    yield "python", f"{platform.python_version()} ({sys.executable})"
    yield "platform", platform.platform()
    yield DISTRIBUTION, version_of(DISTRIBUTION) or "not installed: run from a source tree"
    for package, module in PACKAGES.items():
        yield package, version_of(package) or _missing(package, module)
    for package in EXTRAS:
        yield package, version_of(package) or "not installed"
    yield from _devices()
    yield from _gpu()
    yield from _plans(model)


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


def _gpu() -> Iterator[tuple[str, str]]:
    """What the CUDA path needs: driver and GPU, PyCUDA, cuda-bindings, TensorRT."""
    try:
        from birefnet_runtime import device

        gpu = device.probe()
    except ImportError as error:
        yield "gpu", f"not looked at: {one_line(error)}"
        return
    except BirefnetError as error:
        yield "gpu", one_line(error)
    else:
        yield "driver", "runs CUDA up to {}.{}".format(*gpu.driver)
        yield "gpu", "{}, compute capability {}.{}".format(gpu.name, *gpu.capability)
    yield "pycuda", version_of("pycuda") or f"not installed: {device.INSTALL_PYCUDA}"
    yield (
        "cuda-bindings",
        version_of("cuda-bindings")
        or ("not installed: runs are not replayed from a CUDA graph; it comes with the same extra"),
    )
    found = (f"{name} {version_of(name)}" for name in TENSORRT if version_of(name))
    yield (
        "tensorrt",
        next(found, "not installed: pip install 'birefnet-trt[tensorrt-cu13]' (-cu12)"),
    )


def _plans(model: str | None) -> Iterator[tuple[str, str]]:
    """The plans in the folder of ``model``, and whether one of them would be taken here."""
    if model is None:
        return
    from birefnet_engine import manifest
    from birefnet_runtime import model as models

    try:
        folder, _ = models.locate_folder(model)
        found = manifest.find(folder)
    except BirefnetError as error:
        yield "plans", one_line(error)
        return
    for one in found:
        yield "plan", f"{one.key}, {one.plan_bytes / 1e6:.0f} MB, parity {one.parity}"
    yield "plans", _usable(model) if found else f"none: birefnet-build {folder}"


def _usable(model: str) -> str:
    """The plan that would be taken, tried; what a second slot costs."""
    from birefnet_runtime import backend, cuda
    from birefnet_runtime.matting import Matting
    from birefnet_runtime.model import Overrides

    try:
        opened = backend.open_backend(model, Overrides(), backend.Request("tensorrt"))
        with Matting(opened) as matting:
            size = opened.context_bytes / 1e6 if isinstance(opened, cuda.CudaBackend) else 0
            return (
                f"works: {matting.describe()}; {size:.0f} MB of GPU memory for each slot's context"
            )
    except (BirefnetError, ImportError) as error:
        return f"none of them here: {one_line(error)}"


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

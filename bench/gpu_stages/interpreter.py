"""Other Pythons: PyTorch seldom lives where TensorRT does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from gpu_stages.options import ROOMS, ROOT, Options
from gpu_stages.stage import StageError

EXPORT = ("torch", "onnx", "onnxruntime", "safetensors")
TORCH = ("torch",)


def for_export(options: Options) -> str:
    """The interpreter that exports; StageError where none was named and this one cannot."""
    return _choose(options.export_python, EXPORT, "--export-python")


def for_torch(options: Options) -> str:
    """The interpreter with PyTorch for CUDA; StageError likewise."""
    return _choose(options.torch_python or options.export_python, TORCH, "--torch-python")


def _choose(named: str, modules: tuple[str, ...], option: str) -> str:
    if named:
        found = shutil.which(named)
        if found is None:
            raise StageError(f"{option} {named} is no program: give the path of a Python")
        return str(Path(found).absolute())
    if absent := [name for name in modules if find_spec(name) is None]:
        raise StageError(
            f"this Python has no {' and no '.join(absent)}: give {option} PYTHON, one that has"
        )
    return sys.executable


def environment(python: str) -> dict[str, str]:
    """The environment for ``python`` to run this clone's rooms.

    Another interpreter gets nothing of what this one may need to start: a packed Python brings
    libraries of its own that another one must not load.
    """
    values = dict(os.environ)
    rooms = [str(ROOT / room) for room in ROOMS]
    if python == sys.executable:
        inherited = values.get("PYTHONPATH", "").split(os.pathsep)
        # Relative to where we were started, which need not be where the child starts.
        rooms += [str(Path(path).absolute()) for path in inherited if path]
    elif home := values.pop("PYTHONHOME", ""):
        kit = Path(home).parent
        libraries = values.get("LD_LIBRARY_PATH", "").split(os.pathsep)
        kept = [path for path in libraries if path and not Path(path).is_relative_to(kit)]
        values["LD_LIBRARY_PATH"] = os.pathsep.join(kept)
    values["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(rooms))
    return values


def run(command: Sequence[str], patience: float = 0.0, grace: float = 20.0) -> int:
    """Run a command, whose first word is a Python, its output to ours; the exit status.

    Interrupted, it is not killed at once: ``patience`` seconds to end by itself, as it does where
    the signal reached it too, then it is told to, and ``grace`` seconds to tidy up.
    """
    process = subprocess.Popen(command, cwd=ROOT, env=environment(command[0]))
    try:
        return process.wait()
    except KeyboardInterrupt:
        _end(process, patience, grace)
        raise


def _end(process: subprocess.Popen[bytes], patience: float, grace: float) -> None:
    for seconds, push in ((patience, process.terminate), (grace, process.kill)):
        try:
            process.wait(seconds)
            return
        except subprocess.TimeoutExpired:
            push()
    process.wait()

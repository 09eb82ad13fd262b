"""The CUDA toolkit's compiler."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import KernelError, one_line

# nvcc preprocesses with one of these.
_HOST_COMPILERS = ("g++", "c++", "clang++")
# Lines of a compiler's complaint that a message can hold.
_SHOWN = 5


@dataclass(frozen=True)
class Nvcc:
    """The program at ``path``, of CUDA ``release``."""

    path: str
    release: tuple[int, int]

    @property
    def name(self) -> str:
        """Such as ``nvcc 13.0``."""
        return "nvcc {}.{}".format(*self.release)

    def compile(
        self, sources: dict[str, bytes], main: str, target: str, flags: Sequence[str]
    ) -> bytes:
        """``main`` compiled for ``sm_90`` (a cubin) or ``compute_75`` (PTX).

        Raises KernelError with the first lines of what nvcc says.
        """
        kind = "-cubin" if target.startswith("sm_") else "-ptx"
        with tempfile.TemporaryDirectory() as folder:
            for name, data in sources.items():
                (Path(folder) / name).write_bytes(data)
            out = Path(folder) / "out"
            command = [self.path, kind, f"-arch={target}", *flags, "-o", str(out), main]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                lines = (done.stderr or done.stdout).splitlines()[:_SHOWN]
                raise KernelError(
                    f"{self.name} does not compile {main} for {target}, install a CUDA toolkit "
                    f"that knows this GPU: {one_line(' '.join(lines))}"
                )
            return out.read_bytes()


def find() -> Nvcc | None:
    """nvcc from the PATH, CUDA_HOME or /usr/local/cuda, if a C++ compiler is there for it too."""
    homes = [os.environ[name] for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    places = [f"{home}/bin" for home in (*homes, "/usr/local/cuda")]
    path = shutil.which("nvcc") or shutil.which("nvcc", path=os.pathsep.join(places))
    if path is None or not any(shutil.which(name) for name in _HOST_COMPILERS):
        return None
    done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"release (\d+)\.(\d+)", done.stdout)
    return Nvcc(path, (int(found[1]), int(found[2]))) if found else None

"""A model folder to build plans for, and the fakes of everything that a build asks of a machine."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from birefnet_engine.build import Request, Result, Tools, Workshop, build, open_workshop
from birefnet_engine.driver import Gpu
from birefnet_engine.kernels import Sources
from birefnet_engine.messages import Messages
from birefnet_engine.progress import Screen
from birefnet_export.contract import Contract, sha256, typed_name
from helpers.fake_tensorrt import Script, make

GPU = Gpu("NVIDIA H200", (9, 0), 150 << 30, (13, 0))
PASSED = {
    "mean": 0.0002,
    "p999": 0.004,
    "max": 0.02,
    "finite": True,
    "rows_equal": True,
    "pictures": 2,
    "gate": {"mean": 0.00098, "p999": 0.0078},
    "passed": True,
    "milliseconds": [8.0, 8.2, 8.1],
}
# The real proof's command line and answer; it writes down how it was called.
PROVER = """
import json, os, signal, sys
folder, plan, *rest = sys.argv[2:]
options = dict(zip(rest[::2], rest[1::2]))
seen = {"folder": folder, "plan": open(plan, "rb").read().decode(), **options}
seen["kernels"] = open(options["--kernels"], "rb").read().decode()
with open(os.path.join(os.path.dirname(sys.argv[0]), "calls.jsonl"), "a") as stream:
    stream.write(json.dumps(seen) + "\\n")
answer = sys.argv[1]
if answer == "crash":
    os.kill(os.getpid(), signal.SIGSEGV)
if answer == "error":
    sys.exit("birefnet_runtime.prove: the GPU is out of memory")
print("a library says hello")
print(answer)
"""


class FakeCompiler:
    """A compiler whose output says what it was asked for."""

    name = "nvcc 13.0"
    release = (13, 0)

    def compile(
        self, sources: dict[str, bytes], main: str, target: str, flags: Sequence[str]
    ) -> bytes:
        return b"%s for %s" % (sources[main], target.encode())


def write_folder(
    folder: Path, batches: Sequence[int] = (1,), precision: str = "fp16", **change: Any
) -> Path:
    """A model folder with a graph for each batch; the contents of its files mean nothing."""
    folder.mkdir(exist_ok=True)
    names = [typed_name(precision, batch, batches[0]) for batch in batches]
    for name in (*names, f"{names[0]}.data", "reference.npz"):
        (folder / name).write_bytes(name.encode())
    files = {path.name: sha256(path) for path in folder.iterdir() if path.is_file()}
    parity = {"tensorrt": {"precision": precision, "gate": PASSED["gate"]}}
    contract = Contract(name="m", height=64, width=64, batch=batches[0], files=files, parity=parity)
    replace(contract, **change).write(folder)
    return folder


class Kit:
    """Fakes for one model ``folder`` and one TensorRT ``version``; all of them can be changed."""

    def __init__(self, folder: Path, version: str = "10.16") -> None:
        self.folder, self.script = folder, Script()
        self.trt = make(version, self.script)
        self.kernels = Sources({"birefnet.cu": b"kernels"})
        self.answer: str | dict[str, Any] = PASSED
        self.said = io.StringIO()
        self._prover = folder.parent / "prover" / "prove.py"
        self._prover.parent.mkdir(exist_ok=True)
        self._prover.write_text(PROVER)

    @property
    def engines(self) -> Path:
        return self.folder / "engines"

    @property
    def calls(self) -> list[dict[str, str]]:
        """How the proof was called, call by call."""
        path = self._prover.with_name("calls.jsonl")
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def tools(self) -> Tools:
        answer = self.answer if isinstance(self.answer, str) else json.dumps(self.answer)
        return Tools(
            probe=lambda: GPU,
            tensorrt=lambda: self.trt,
            compiler=lambda gpu: FakeCompiler(),
            sources=lambda: self.kernels,
            prove=(sys.executable, str(self._prover), answer),
        )

    def shop(self, request: Request, messages: Callable[[], Messages] = Messages) -> Workshop:
        return open_workshop(request, self.tools(), Screen(self.said), messages)

    def build(self, *batches: int, **options: Any) -> list[Result]:
        """Run a whole build; the results."""
        request = Request(str(self.folder), batches, **options)
        return list(build(self.shop(request), request))

    def names(self) -> list[str]:
        """What lies in ``engines/``, lock files left out."""
        return sorted(path.name for path in self.engines.iterdir() if path.suffix != ".lock")

"""Who takes part, by name: how each is started, or why it cannot be.

ort-cpu, ort-cuda, ort-tensorrt   the runtime on ONNX Runtime, by that provider
tensorrt                          the runtime on a plan
torch-fp32, torch-fp16            PyTorch eager, with the steps of the models' own cards
torch-compile                     the same through torch.compile
rembg, rembg-dc                   rembg with the same ONNX file, plain and with its -dc

``NAME+ml`` is the runtime with Options(foreground="ml"), the rival of rembg-dc.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from birefnet_runtime.errors import OptionError
from measuring.child import Child, ContestantError
from measuring.options import Subject, Wanted

OURS = {
    "ort-cpu": {"device": "cpu"},
    "ort-cuda": {"device": "cuda"},
    "ort-tensorrt": {"device": "cuda", "provider": "tensorrt"},
    "tensorrt": {"device": "tensorrt"},
}
TORCH = {"torch-fp32": "fp32", "torch-fp16": "fp16", "torch-compile": "compile"}
REMBG = {"rembg": False, "rembg-dc": True}
# What a rival is compared with: the runtime doing the same work on the same kind of processor.
BASE = "ort-cpu"
BEST = ("tensorrt", "ort-cuda", BASE)
NO_REMBG = (
    "not asked for: make bench REMBG=PYTHON, the interpreter of an environment with rembg[cpu]"
)


@dataclass(frozen=True)
class Contestant:
    """One that may take part: ``module`` is run by ``python``, ``request`` opens it, and
    ``options`` go with each picture. ``absent``: why it cannot take part, known beforehand."""

    name: str
    module: str
    request: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    python: str | None = None
    absent: str = ""

    def start(self, threads: int) -> Child:
        """A process of its own, not yet opened; ContestantError where it cannot be."""
        if self.absent:
            raise ContestantError(self.absent)
        if self.python is None:
            return Child(self.module, threads)
        return Child(self.module, threads, self.python)


@dataclass(frozen=True)
class Opened:
    """One that takes part: ``load`` is the seconds that opening took."""

    contestant: Contestant
    child: Child
    load: float
    about: str
    libraries: dict[str, str]

    def cut(self, path: str, keep: str | None = None) -> dict[str, Any]:
        """See ``ours_child.Ours.cut``."""
        return self.child.ask("cut", path=path, keep=keep, options=self.contestant.options)

    def stream(self, paths: list[str], out: str) -> dict[str, Any]:
        """See ``ours_child.Ours.stream``."""
        return self.child.ask("stream", paths=paths, out=out, options=self.contestant.options)


def line_up(wanted: Wanted, subject: Subject) -> list[Contestant]:
    """Everyone there is for ``wanted``, those that cannot take part among them.

    Raises OptionError for a name that is not known.
    """
    everyone = [*_ours(wanted, subject), *_torch(wanted, subject), *_rembg(wanted, subject)]
    names = {one.name for one in everyone}
    unknown = set(wanted.executors) - names
    if unknown:
        raise OptionError(f"no contestant {sorted(unknown)}: there are {', '.join(sorted(names))}")
    return [one for one in everyone if not wanted.executors or one.name in wanted.executors]


def _ours(wanted: Wanted, subject: Subject) -> list[Contestant]:
    found = []
    for foreground in wanted.foregrounds or (None,):
        for name, request in OURS.items():
            label = name if foreground in (None, "off") else f"{name}+{foreground}"
            opening = {"model": subject.model, "threads": wanted.threads, **request}
            options = {} if foreground is None else {"foreground": foreground}
            found.append(Contestant(label, "ours_child", opening, options))
    return found


def _torch(wanted: Wanted, subject: Subject) -> list[Contestant]:
    absent = "" if subject.weights else "needs the weights: --weights FILE (or WEIGHTS= with make)"
    order = subject.contract.patch_order
    shared = {
        "threads": wanted.threads,
        "contract": subject.fields,
        "weights": subject.weights,
        "patch_order": "auto" if order == "unknown" else order,
        "compiled": wanted.compiled or "torch-compile" in wanted.executors,
    }
    return [
        Contestant(name, "pytorch_child", {"kind": kind, **shared}, absent=absent)
        for name, kind in TORCH.items()
    ]


def _rembg(wanted: Wanted, subject: Subject) -> list[Contestant]:
    python = wanted.rembg_python
    shared = {"threads": wanted.threads, "contract": subject.fields}
    return [
        Contestant(
            name,
            "rembg_child",
            {**shared, "decontaminate": decontaminate},
            python=python,
            absent="" if python else NO_REMBG,
        )
        for name, decontaminate in REMBG.items()
    ]


def rival_base(name: str, present: list[str]) -> str | None:
    """Whom ``name`` is compared with: the runtime with the same work to do, if it is present.

    rembg-dc estimates foreground colours, so its rival is the runtime that does so too. PyTorch
    takes a GPU where there is one, so its rival is the best of the runtime that is present.
    """
    wanted = f"{BASE}+ml" if name == "rembg-dc" or name.endswith("+ml") else BASE
    if name in TORCH:
        wanted = next((best for best in BEST if best in present), BASE)
    return wanted if wanted in present and wanted != name else None


def open_one(one: Contestant, threads: int, stack: ExitStack, batch: int = 1) -> Opened:
    """Start and open it; ContestantError says why not. ``stack`` ends it."""
    request = dict(one.request)
    if batch != 1 and one.module == "ours_child":
        request["batch"] = batch
    child = one.start(threads)
    try:
        answer = child.ask("open", **request)
    except BaseException:
        child.close()
        raise
    stack.callback(child.close)
    return Opened(one, child, answer["seconds"], answer["about"], answer["libraries"])


def open_all(
    everyone: list[Contestant],
    threads: int,
    stack: ExitStack,
    named: bool = False,
    batch: int = 1,
) -> tuple[dict[str, Opened], dict[str, str]]:
    """Those that work, and why the others do not; where ``named``, OptionError for one that does
    not."""
    found: dict[str, Opened] = {}
    missing: dict[str, str] = {}
    for one in everyone:
        try:
            found[one.name] = open_one(one, threads, stack, batch)
        except ContestantError as error:
            if named:
                raise OptionError(f"{one.name} cannot run here: {error}") from error
            missing[one.name] = str(error)
    return found, missing


def refuse_none(opened: dict[str, Opened], missing: dict[str, str]) -> None:
    """OptionError where nobody takes part."""
    if not opened:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in missing.items())
        raise OptionError(f"nothing to measure, no contestant works here ({reasons})")

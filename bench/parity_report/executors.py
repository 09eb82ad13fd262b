"""The executors by name: how each is opened here, or why it cannot be.

torch-fp32       the network in float32: on CUDA where there is one (TF32 off), else on the CPU
torch-half       in half precision: on CUDA, or on any CPU operator by operator, each rounded
torch-compile    in half precision through torch.compile; CUDA only
ort-cpu          model.onnx on ONNX Runtime; ort-cuda and ort-tensorrt: by that provider
emulated-fp16    the typed graph for TensorRT, every FP16 result rounded, on the CPU
tensorrt         the plan, CUDA graph replayed; tensorrt-eager: the same queued anew each time
reference        what PyTorch gave at export, from reference.npz
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from birefnet_engine import manifest as manifests
from birefnet_export.contract import BirefnetError, Contract
from birefnet_export.parity import Array, batches
from birefnet_runtime.errors import OptionError, one_line
from birefnet_runtime.frame import Bytes, Floats, Frame
from birefnet_runtime.preprocess import table

from .errors import Unavailable
from .executor import Executor, Settings
from .inputs import Item
from .sessions import Emulated, open_cpu
from .subject import Subject

REFERENCE = "reference"


class TensorExecutor:
    """An executor that takes normalised tensors [batch,3,h,w] and gives alphas [batch,h,w].

    ``start`` makes the function for one batch, or raises Unavailable; its result is kept.
    """

    def __init__(
        self,
        name: str,
        detail: str,
        precision: str,
        contract: Contract,
        start: Callable[[int], Callable[[Array], Array]],
        own: int = 1,
    ) -> None:
        self.name, self.detail, self.precision = name, detail, precision
        self._contract, self._start, self._own = contract, start, own
        self._runs = {own: start(own)}

    def alphas(self, pictures: Bytes) -> Floats:
        images = to_tensor(pictures, self._contract)
        return np.concatenate([self._run(image[None], self._own) for image in images])

    def rows(self, pictures: Bytes, batch: int) -> Floats:
        return self._run(to_tensor(pictures, self._contract), batch)

    def _run(self, images: Array, batch: int) -> Floats:
        if batch not in self._runs:
            self._runs[batch] = self._start(batch)
        parts = [self._runs[batch](part) for part in batches(images, batch)]
        return np.concatenate(parts)[: len(images)]

    def close(self) -> None:
        self._runs.clear()


def to_tensor(pictures: Bytes, contract: Contract) -> Array:
    """float32 [N,3,h,w] of uint8 [N,h,w,3], exactly as the runtime normalises."""
    levels = table(contract)
    planes = [levels[channel][pictures[..., channel]] for channel in range(3)]
    return np.ascontiguousarray(np.stack(planes, 1))


def to_alpha(values: Any, activation: str) -> Floats:
    """float32 [N,h,w] in 0..1 from an output [N,1,h,w] or [N,h,w]; NaN stays NaN."""
    from birefnet_runtime.refine import activate

    array = np.asarray(values, np.float32)
    return activate(array[:, 0] if array.ndim == 4 else array, activation)


def open_torch(name: str, subject: Subject, settings: Settings) -> Executor:
    """One of the three PyTorch executors."""
    import torch

    from . import networks

    network, cuda = subject.torch(), torch.cuda.is_available()
    if name == "torch-compile" and not cuda:
        raise Unavailable("PyTorch sees no CUDA device")
    start, detail = networks.starter(name, network, cuda)
    precision = "fp32" if name == "torch-fp32" else "fp16"
    return TensorExecutor(name, detail, precision, subject.contract, start)


def open_ort(name: str, subject: Subject, settings: Settings) -> Executor:
    """model.onnx on one of ONNX Runtime's providers."""
    contract = subject.contract
    if name == "ort-cpu":
        model = subject.plain if subject.source is None else subject.source.path
        session = open_cpu(model, settings.threads)
    else:
        from birefnet_runtime.executor import open_on_gpu

        if subject.source is None:
            raise Unavailable("needs a model folder: birefnet-export WEIGHTS OUT")
        session = open_on_gpu(subject.source, settings.threads, name.removeprefix("ort-"))

    def start(batch: int) -> Callable[[Array], Array]:
        if batch != contract.batch:
            raise Unavailable(f"the file was exported for batch {contract.batch}")
        return lambda part: to_alpha(
            session.run([contract.output], {contract.input: part})[0], contract.activation
        )

    detail = str(session.get_providers()[0])
    return TensorExecutor(name, detail, "fp32", contract, start, contract.batch)


def open_emulated(name: str, subject: Subject, settings: Settings) -> Executor:
    """The typed graph, rounded."""
    contract = subject.contract

    def start(batch: int) -> Callable[[Array], Array]:
        graph = Emulated(subject.typed(batch), settings.threads)
        return lambda part: to_alpha(graph.run([contract.output], part)[0], contract.activation)

    detail = "typed graph, every FP16 result rounded"
    return TensorExecutor(name, detail, "fp16", contract, start, contract.batch)


class PlanExecutor:
    """A TensorRT plan behind the runtime's own kernels; a second one for the row check."""

    def __init__(self, name: str, subject: Subject) -> None:
        if subject.folder is None:
            raise Unavailable("needs a model folder with a plan: birefnet-build MODEL")
        self.name, self._subject = name, subject
        gate = subject.contract.parity.get("tensorrt", {})
        self.precision = str(gate.get("precision", "fp16"))
        self._backend = self._open(None)
        plans = manifests.find(subject.folder)
        subject.hashes.update({f"{one.key}.plan": one.plan_sha256 for one in plans})
        self.detail = self._backend.notes

    def _open(self, batch: int | None) -> Any:
        from birefnet_runtime.backend import Request, open_backend
        from birefnet_runtime.model import Overrides

        graphs = self.name == "tensorrt"
        request = Request("tensorrt", precision=self.precision, batch=batch, graphs=graphs)
        return open_backend(str(self._subject.folder), Overrides(), request)

    def alphas(self, pictures: Bytes) -> Floats:
        return np.concatenate([self._run(self._backend, one[None]) for one in pictures])

    def rows(self, pictures: Bytes, batch: int) -> Floats:
        try:
            backend = self._open(batch)
        except BirefnetError as error:
            raise Unavailable(one_line(error)) from error
        try:
            parts = range(0, len(pictures), batch)
            return np.concatenate([self._run(backend, pictures[i : i + batch]) for i in parts])
        finally:
            backend.close(backend.open_slots())

    @staticmethod
    def _run(backend: Any, pictures: Bytes) -> Floats:
        """At most one batch; rows left over take the last picture. Not finite: all NaN."""
        slot = backend.open_slots()[0]
        backend.begin(slot)
        for row in range(backend.batch):
            one = np.ascontiguousarray(pictures[min(row, len(pictures) - 1)])
            backend.preprocess(slot, row, backend.stage(Frame(one, None, "parity")))
        backend.infer(slot)
        alphas, finite = backend.alphas(slot, len(pictures))
        found: Floats = alphas if finite else np.full_like(alphas, np.nan)
        return found

    def close(self) -> None:
        self._backend.close(self._backend.open_slots())


class StoredExecutor:
    """Answers from ``reference.npz``, for its own pictures only."""

    def __init__(self, items: list[Item]) -> None:
        self.name, self.detail = REFERENCE, "PyTorch float32 at export, stored"
        self.precision = "fp32"
        self._known = {
            item.pixels.tobytes(): item.stored
            for item in items
            if item.pixels is not None and item.stored is not None
        }

    def alphas(self, pictures: Bytes) -> Floats:
        found = [self._known.get(one.tobytes()) for one in pictures]
        if any(one is None for one in found):
            raise OptionError(
                "reference.npz has answers for its own pictures only: give --weights, or name "
                "executors"
            )
        return np.stack([one for one in found if one is not None])

    def rows(self, pictures: Bytes, batch: int) -> Floats:
        raise Unavailable("stored answers have no batch")

    def close(self) -> None:
        self._known.clear()


def _open_plan(name: str, subject: Subject, settings: Settings) -> Executor:
    return PlanExecutor(name, subject)


OPENERS: dict[str, Callable[[str, Subject, Settings], Executor]] = {
    "torch-fp32": open_torch,
    "torch-half": open_torch,
    "torch-compile": open_torch,
    "ort-cpu": open_ort,
    "ort-cuda": open_ort,
    "ort-tensorrt": open_ort,
    "emulated-fp16": open_emulated,
    "tensorrt": _open_plan,
    "tensorrt-eager": _open_plan,
}


def open_all(
    names: tuple[str, ...], subject: Subject, settings: Settings, items: list[Item]
) -> tuple[list[Executor], dict[str, str]]:
    """The executors ``names``, or without names all that work here, and why the others do not.

    Raises OptionError for a named one that is not here, or where fewer than two are.
    """
    stored = any(item.stored is not None for item in items)
    wanted = names or ((REFERENCE, *OPENERS) if stored else tuple(OPENERS))
    found: list[Executor] = []
    missing: dict[str, str] = {}
    for name in wanted:
        try:
            found.append(_open(name, subject, settings, items))
        except (BirefnetError, ImportError) as error:
            if names:
                raise OptionError(f"{name} cannot run here: {one_line(error)}") from error
            missing[name] = one_line(error)
    if len(found) < 2:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in missing.items())
        raise OptionError(f"nothing to compare, fewer than two executors work here ({reasons})")
    return found, missing


def _open(name: str, subject: Subject, settings: Settings, items: list[Item]) -> Executor:
    if name == REFERENCE:
        return StoredExecutor(items)
    if name not in OPENERS:
        raise OptionError(f"no such executor; known: {', '.join((*OPENERS, REFERENCE))}")
    return OPENERS[name](name, subject, settings)

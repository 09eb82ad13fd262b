"""The order of an export: weights, PyTorch, typed graph, trace, ONNX Runtime, verdict, files."""

from __future__ import annotations

import gc
import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from onnx import ModelProto

from . import graph, parity, trace
from .checkpoint import Hub, Loaded, load
from .contract import (
    FILE_NAME,
    ONNX_NAME,
    PRECISIONS,
    REFERENCE_NAME,
    Contract,
    sha256,
)
from .errors import ExportError, ParityError
from .network import check_size
from .parity import Parity
from .progress import Steps
from .reference import Work
from .rewrites import norm_scales
from .typed.layers import Choices
from .typed.target import Typed, TypedVerdict
from .verdict import Verdict

DEFAULT_SIZE = 1024
TARGETS = ("onnxruntime", "tensorrt")
LIBRARIES = ("birefnet-trt", "torch", "onnx", "onnxscript", "onnxruntime", "numpy")


@dataclass(frozen=True)
class ExportOptions:
    """What to export.

    ``size`` is (height, width) or None for the checkpoint's own, else 1024. ``batch`` is that of
    both graphs; the typed graph for TensorRT is also written for ``batches``. ``targets``: any of
    TARGETS. ``precision``: ``fp16`` or ``fp32``, of the typed graph's body. ``compact``: model.onnx
    stores what it can in float16, without loss: see ``graph.compact``. ``mirror``: the graphs
    answer from three images of a picture, see ``mirror``.
    """

    size: tuple[int, int] | None = None
    batch: int = 1
    batches: tuple[int, ...] = ()
    targets: tuple[str, ...] = TARGETS
    precision: str = PRECISIONS[0]
    compact: bool = False
    choices: Choices = field(default_factory=Choices)
    mirror: bool = False
    patch_order: str = "auto"
    backbone: str = "auto"
    head: str = graph.ALPHA
    name: str | None = None
    release: str | None = None
    hub: Hub = field(default_factory=Hub)


def export(weights: str, out: Path, options: ExportOptions, steps: Steps | None = None) -> Contract:
    """Write ``contract.json``, ``reference.npz``, ``model.onnx`` and ``model.trt.onnx`` into the
    model folder ``out``; returns the contract.

    The files appear together, once the graphs were found equal to PyTorch within their gates.
    Raises CheckpointError, SizeError, or ParityError (the files are then in ``out`` +
    ``.rejected``).
    """
    steps = steps or Steps(3 + 2 * len(options.targets))
    _check(out, options)
    with steps.step(f"load {weights}"):
        order, backbone = options.patch_order, options.backbone
        loaded = load(weights, order, backbone, options.hub, options.release)
    contract = describe(loaded, options)
    with _partial(out) as folder:
        with steps.step(f"run PyTorch at {contract.height}x{contract.width}"):
            work = Work.begin(loaded.network, contract, folder)
            del loaded
        verdicts: dict[str, Verdict] = {}
        if "tensorrt" in options.targets:
            verdicts["tensorrt"] = _tensorrt(work, options, steps)
        if "onnxruntime" in options.targets:
            verdicts["onnxruntime"] = _onnxruntime(work, options, steps)
        passed = all(verdict.passed for verdict in verdicts.values())
        with steps.step("write the model folder"):
            contract = finish(work, verdicts)
            publish(folder, out if passed else rejected(out))
    if not passed:
        tables = "\n".join(verdict.table() for verdict in verdicts.values())
        raise ParityError(f"{tables}\nThe files are kept in {rejected(out)} for inspection")
    return contract


def _tensorrt(work: Work, options: ExportOptions, steps: Steps) -> Verdict:
    """The typed graphs for TensorRT and what the emulation says of the first."""
    batches = tuple(dict.fromkeys((options.batch, *options.batches)))
    typed = Typed(options.precision, batches, options.choices)
    with steps.step(f"write the typed graph ({options.precision})"):
        cost = typed.write(work)
    half = options.precision == "fp16"
    with steps.step("emulate it beside PyTorch in half precision" if half else "run it"):
        return TypedVerdict(typed.prove(work), cost)


def _onnxruntime(work: Work, options: ExportOptions, steps: Steps) -> Verdict:
    """``model.onnx`` and how far ONNX Runtime's answer is from PyTorch's."""
    with steps.step("trace to ONNX"):
        model = trace.to_onnx(work.fixed, work.contract.batch, work.contract.name)
        gc.collect()
        if options.compact:
            graph.compact(model, [scale.numpy() for scale in norm_scales(work.network)])
        _write_models(model, work.folder, options.head)
        del model
    with steps.step("run ONNX Runtime"):
        return _verify(work)


def _check(out: Path, options: ExportOptions) -> None:
    if out.exists() and not out.is_dir():
        raise ExportError(f"{out} is a file: OUT is the model folder to write")
    if options.size is not None:
        check_size(*options.size)
    if min(options.batch, *options.batches, options.batch) < 1:
        raise ExportError(f"--batch is at least 1, not {min(options.batch, *options.batches)}")
    if not options.targets or set(options.targets) - set(TARGETS):
        raise ExportError(f"--target is any of {', '.join(TARGETS)}, not {options.targets}")
    if options.compact and "onnxruntime" not in options.targets:
        raise ExportError("--compact is for model.onnx: leave it out, or add --target onnxruntime")
    if options.precision not in PRECISIONS:
        raise ExportError(f"--precision is one of {', '.join(PRECISIONS)}")


def describe(loaded: Loaded, options: ExportOptions) -> Contract:
    """The contract of what is about to be exported, hashes and figures still missing."""
    release, checkpoint = loaded.checkpoint.release, loaded.checkpoint
    own = (release.height, release.width) if release else (DEFAULT_SIZE, DEFAULT_SIZE)
    height, width = options.size or own
    check_size(height, width)
    return Contract(
        name=options.name or (release.name if release else checkpoint.path.stem),
        height=height,
        width=width,
        batch=options.batch,
        mirror=options.mirror,
        task=release.task if release else "general",
        output=options.head,
        activation="none" if options.head == graph.ALPHA else "sigmoid",
        patch_order=loaded.network.config.patch_order,
        backbone=loaded.backbone,
        licence=checkpoint.licence,
        notice=release.notice if release else "",
        checkpoint={
            "name": release.repo if release else checkpoint.path.name,
            "file": checkpoint.path.name,
            "sha256": checkpoint.digest,
        },
        versions=_versions(),
    )


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            found[library] = "from source"
    return found


def _write_models(model: ModelProto, folder: Path, head: str) -> None:
    """The model itself, and a probe of the same graph that also gives the logits."""
    graph.save(graph.with_outputs(model, (head,)), folder / ONNX_NAME)
    if head != graph.LOGITS:
        graph.save(graph.with_outputs(model, (graph.LOGITS, head)), folder / "probe.onnx")


def _verify(work: Work) -> Parity:
    probe = work.folder / "probe.onnx"
    path = probe if probe.exists() else work.folder / ONNX_NAME
    logits = parity.run_onnx(path, work.answer.images, work.contract.batch, graph.LOGITS)
    for file in work.folder.glob("probe.onnx*"):
        file.unlink()
    return parity.compare(work.answer.logits, logits)


def finish(work: Work, verdicts: Mapping[str, Verdict]) -> Contract:
    """Write ``reference.npz`` and the completed contract; returns the contract."""
    folder, answer = work.folder, work.answer
    # To 20 bits, which is a millionth: the noise below takes four times the room.
    alpha = (np.rint(parity.sigmoid(answer.logits) * 2**20) / 2**20).astype(np.float32)
    np.savez_compressed(folder / REFERENCE_NAME, image=answer.pictures, alpha=alpha)
    files = {path.name: sha256(path) for path in sorted(folder.iterdir())}
    figures = {target: verdict.as_dict() for target, verdict in verdicts.items()}
    done = Contract(**{**vars(work.contract), "files": files, "parity": figures})
    done.write(folder)
    return done


@contextmanager
def _partial(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` that is gone afterwards, whatever happens."""
    parent = out.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=parent, prefix=f".{out.name}."))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(folder: Path, out: Path) -> None:
    """Move the files of ``folder`` into ``out``, contract last: it vouches for the others."""
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.iterdir(), key=lambda path: path.name == FILE_NAME):
        path.replace(out / path.name)


def rejected(out: Path) -> Path:
    """Where files go that failed parity."""
    return out.with_name(f"{out.name}.rejected")

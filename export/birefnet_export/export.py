"""The order of an export: weights, PyTorch, trace, ONNX Runtime, verdict, files."""

from __future__ import annotations

import gc
import platform
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from onnx import ModelProto

from . import graph, parity, trace
from .checkpoint import Hub, Loaded, load
from .contract import FILE_NAME, ONNX_NAME, REFERENCE_NAME, Contract, sha256
from .errors import ExportError, ParityError
from .fixed import FixedBiRefNet
from .network import BiRefNet, check_size
from .parity import Array, Parity
from .pictures import Picture, fixed_pictures, normalise
from .progress import Steps

# Pictures that parity is measured on and reference.npz carries.
PICTURES = 2
DEFAULT_SIZE = 1024
LIBRARIES = ("birefnet-trt", "torch", "onnx", "onnxscript", "onnxruntime", "numpy")


@dataclass(frozen=True)
class ExportOptions:
    """What to export. ``size`` is (height, width) or None for the checkpoint's own, else 1024."""

    size: tuple[int, int] | None = None
    batch: int = 1
    patch_order: str = "auto"
    backbone: str = "auto"
    head: str = graph.ALPHA
    name: str | None = None
    release: str | None = None
    hub: Hub = field(default_factory=Hub)


@dataclass(frozen=True)
class Answer:
    """PyTorch's float32 answer on the fixed pictures: uint8 [N,H,W,3], normalised input, logits."""

    pictures: Picture
    images: Array
    logits: Array


def export(weights: str, out: Path, options: ExportOptions, steps: Steps | None = None) -> Contract:
    """Write ``model.onnx``, ``contract.json`` and ``reference.npz`` into the model folder ``out``.

    The files appear together once ONNX Runtime was found equal to PyTorch; returns the contract.
    Raises CheckpointError, SizeError, or ParityError (the files are then in ``out`` +
    ``.rejected``).
    """
    steps = steps or Steps(5)
    _check(out, options)
    with steps.step(f"load {weights}"):
        order, backbone = options.patch_order, options.backbone
        loaded = load(weights, order, backbone, options.hub, options.release)
    contract = describe(loaded, options)
    with _partial(out) as folder:
        with steps.step(f"run PyTorch at {contract.height}x{contract.width}"):
            answer = reference(loaded.network, contract)
        with steps.step("trace to ONNX"):
            fixed = FixedBiRefNet(loaded.network, contract.height, contract.width)
            del loaded
            model = trace.to_onnx(fixed, contract.batch, contract.name)
            del fixed
            gc.collect()
            _write_models(model, folder, options.head)
            del model
        with steps.step("run ONNX Runtime"):
            figures = _verify(folder, answer, contract)
        with steps.step("write the model folder"):
            contract = finish(folder, contract, answer, figures)
            publish(folder, out if figures.passed else rejected(out))
    if not figures.passed:
        raise ParityError(
            f"{figures.table()}\nThe files are kept in {rejected(out)} for inspection"
        )
    return contract


def _check(out: Path, options: ExportOptions) -> None:
    if out.exists() and not out.is_dir():
        raise ExportError(f"{out} is a file: OUT is the model folder to write")
    if options.size is not None:
        check_size(*options.size)
    if options.batch < 1:
        raise ExportError(f"--batch is at least 1, not {options.batch}")


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


def reference(network: BiRefNet, contract: Contract) -> Answer:
    """PyTorch's answer on the fixed pictures."""
    pictures = fixed_pictures(PICTURES, contract.height, contract.width)
    images = normalise(pictures, contract.mean, contract.std)
    return Answer(pictures, images, parity.run_torch(network, images, contract.batch))


def _write_models(model: ModelProto, folder: Path, head: str) -> None:
    """The model itself, and a probe of the same graph that also gives the logits."""
    graph.save(graph.with_outputs(model, (head,)), folder / ONNX_NAME)
    if head != graph.LOGITS:
        graph.save(graph.with_outputs(model, (graph.LOGITS, head)), folder / "probe.onnx")


def _verify(folder: Path, answer: Answer, contract: Contract) -> Parity:
    probe = folder / "probe.onnx"
    path = probe if probe.exists() else folder / ONNX_NAME
    logits = parity.run_onnx(path, answer.images, contract.batch, graph.LOGITS)
    for file in folder.glob("probe.onnx*"):
        file.unlink()
    return parity.compare(answer.logits, logits)


def finish(folder: Path, contract: Contract, answer: Answer, figures: Parity) -> Contract:
    """Write ``reference.npz`` and the completed contract into ``folder``; returns the contract."""
    alpha = parity.sigmoid(answer.logits).astype(np.float32)
    np.savez_compressed(folder / REFERENCE_NAME, image=answer.pictures, alpha=alpha)
    files = {path.name: sha256(path) for path in sorted(folder.iterdir())}
    done = Contract(
        **{**vars(contract), "files": files, "parity": {"onnxruntime": figures.as_dict()}}
    )
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

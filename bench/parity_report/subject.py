"""What is compared: a model folder, a bare ONNX file, weights, or a folder and its weights."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import onnx
from torch import nn

from birefnet_export import checkpoint, graph, trace
from birefnet_export.checkpoint import SUFFIXES, assemble
from birefnet_export.config import BACKBONES
from birefnet_export.contract import (
    FILE_NAME,
    REFERENCE_NAME,
    Contract,
    ContractError,
    sha256,
    typed_name,
    verify,
)
from birefnet_export.errors import CheckpointError
from birefnet_export.export import DEFAULT_SIZE
from birefnet_export.fixed import FixedBiRefNet
from birefnet_export.mirror import answering
from birefnet_export.network import BiRefNet, check_size
from birefnet_export.typed.network import typed_graph
from birefnet_runtime import model as models
from birefnet_runtime.errors import OptionError
from birefnet_runtime.executor import Executor
from birefnet_runtime.model import NANO, Source

from .errors import Unavailable

ROOT = Path(__file__).resolve().parents[2]
NANO_WEIGHTS = ROOT / "export" / "birefnet_export" / "nano" / "nano.safetensors"


@dataclass(frozen=True)
class Wanted:
    """What the command line says: see ``bench/parity.py --help``."""

    model: str | None = None
    weights: str | None = None
    size: int | None = None
    patch_order: str = "auto"


@dataclass
class Subject:
    """``source`` is None where there is no model file, ``network`` where there are no weights.

    ``model``: what the runtime opens. ``hashes``: of every file that took part.
    """

    contract: Contract
    model: str | None = None
    source: Source | None = None
    network: BiRefNet | None = None
    hashes: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path | None:
        """The model folder, or None for bare files and weights."""
        return None if self.model is None else models.folder_of(self.model)

    def torch(self) -> nn.Module:
        """The float32 network as the contract has it answer; Unavailable without weights."""
        return answering(self.inner(), self.contract.mirror)

    def inner(self) -> BiRefNet:
        """The float32 network itself; Unavailable without weights."""
        if self.network is None:
            raise Unavailable("needs the weights: --weights FILE (or WEIGHTS= with make)")
        return self.network

    @cached_property
    def fixed(self) -> FixedBiRefNet:
        """The network rewritten for export."""
        contract = self.contract
        return FixedBiRefNet(self.inner(), contract.height, contract.width, contract.mirror)

    @cached_property
    def plain(self) -> onnx.ModelProto:
        """The ONNX graph for ONNX Runtime: the model's file, or made from the weights here."""
        if self.source is not None:
            return onnx.load(self.source.path)
        model = trace.to_onnx(self.fixed, self.contract.batch, self.contract.name)
        return graph.with_outputs(model, (self.contract.output,))

    def typed(self, batch: int) -> onnx.ModelProto:
        """The typed FP16 graph for ``batch``: the folder's file, or made from the weights here."""
        name = typed_name("fp16", batch, self.contract.batch)
        if self.folder is not None and name in self.contract.files:
            path = verify(self.contract, self.folder, name)
            self.hashes[name] = self.contract.files[name]
            return onnx.load(path)
        if self.network is None:
            raise Unavailable(f"{self.contract.name} has no {name}, and there are no --weights")
        output = self.contract.output
        return typed_graph(self.fixed, batch, self.contract.name, "fp16", output)


def load(wanted: Wanted) -> Subject:
    """Find and read what was named. Raises BirefnetError."""
    if wanted.model is None and wanted.weights is not None:
        return _from_weights(wanted.weights, wanted)
    model = wanted.model or NANO
    if model in BACKBONES or Path(model).suffix in SUFFIXES:
        if wanted.weights not in (None, model):
            raise OptionError(f"{model} are weights themselves: leave --weights out")
        return _from_weights(model, wanted)
    if wanted.size is not None:
        raise OptionError("--size is for weights alone: a model has its size in its contract")
    return _from_model(model, wanted)


def _from_weights(weights: str, wanted: Wanted) -> Subject:
    size = wanted.size or DEFAULT_SIZE
    check_size(size, size)
    network, name, digest = _read(weights, wanted.patch_order)
    contract = Contract(name, size, size, patch_order=network.config.patch_order)
    return Subject(contract, network=network, hashes={"weights": digest})


def _from_model(model: str, wanted: Wanted) -> Subject:
    source = models.locate(model)
    contract = source.contract or Executor.open(source, "cpu").contract
    subject = Subject(contract, model, source, hashes={source.path.name: sha256(source.path)})
    for path in (source.path.parent / FILE_NAME, source.path.parent / REFERENCE_NAME):
        if path.is_file():
            subject.hashes[path.name] = sha256(path)
    weights = wanted.weights or (str(NANO_WEIGHTS) if model == NANO else None)
    if weights is not None:
        order = contract.patch_order if contract.patch_order != "unknown" else wanted.patch_order
        subject.network, _, digest = _read(weights, order)
        known = contract.checkpoint.get("sha256")
        if known not in (None, digest):
            raise ContractError(f"{weights} is not the file that {contract.name} was exported from")
        subject.hashes["weights"] = digest
    return subject


def _read(weights: str, order: str) -> tuple[BiRefNet, str, str]:
    """Network, name and sha256; ``swin_v1_t`` and the like are the tests' deterministic ones."""
    if weights in BACKBONES:
        return _deterministic(weights), weights, "deterministic"
    loaded = checkpoint.load(weights, order)
    return loaded.network, loaded.checkpoint.path.stem, loaded.checkpoint.digest


def _deterministic(backbone: str) -> BiRefNet:
    tests = str(ROOT / "tests")
    if tests not in sys.path:
        sys.path.append(tests)
    try:
        from helpers import golden
    except ImportError as error:
        raise CheckpointError(f"{backbone} comes from the tests of a clone: {error}") from error
    return assemble(BACKBONES[backbone], golden.state(backbone), backbone)

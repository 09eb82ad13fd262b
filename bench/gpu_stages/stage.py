"""What every stage gets: the options, the machine's tools, its record, and how parts may fail."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from birefnet_engine import api, driver, kernels
from birefnet_engine.driver import Gpu
from birefnet_engine.errors import one_line
from birefnet_engine.kernels import Compiler
from birefnet_engine.manifest import Manifest
from birefnet_export.contract import BirefnetError, Contract
from birefnet_runtime import cubin, device, plan
from birefnet_runtime.gpu import Device
from birefnet_runtime.model import locate_folder
from birefnet_runtime.slot import Engine
from gpu_stages import smi
from gpu_stages.options import ROOT, Options
from gpu_stages.targets import judge
from gpu_stages.timing import HEADER, WIDTH, Effort, Times, line
from record import Record

Say = Callable[[str], None]
PRECISION, BATCH = "fp16", 1
# Under this name a record says why it is incomplete.
REST = "the rest of the stage"


class StageError(BirefnetError):
    """A stage, or a part of one, that cannot be measured; the text says what to do."""


@dataclass(frozen=True)
class Loaded:
    """A plan that is on the GPU: ``engine`` is the caller's to close, ``kernels`` a cubin."""

    manifest: Manifest
    contract: Contract
    engine: Engine
    kernels: bytes


def load_plan(folder: Path, gpu: Device) -> Loaded:
    """The FP16 plan of batch 1 in the model ``folder``; the device is active.

    Raises PlanError or DeviceError, with the command to run.
    """
    folder, contract = locate_folder(folder)
    (manifest, *_) = plan.choose(folder, contract, gpu, PRECISION, BATCH)
    compiled = cubin.of_plan(manifest, folder)
    return Loaded(manifest, contract, plan.open_plan(manifest, folder, contract, gpu), compiled)


@dataclass(frozen=True)
class Tools:
    """What stages ask of the machine; tests put fakes here.

    ``prepare``: the command that exports and builds. ``build``: birefnet-build. ``watch``: the
    command behind ``smi.Watch``.
    """

    probe: Callable[[], Gpu] = driver.probe
    device: Callable[[], Device] = device.open_device
    tensorrt: Callable[[], Any] = api.load
    compiler: Callable[[Gpu], Compiler] = kernels.choose
    load: Callable[[Path, Device], Loaded] = load_plan
    stage: Sequence[str] = (sys.executable, str(ROOT / "bench" / "gpu.py"))
    build: Sequence[str] = (sys.executable, "-m", "birefnet_engine")
    watch: tuple[str, ...] = smi.COMMAND


@dataclass
class Run:
    """One stage under way. ``failures``: what went wrong in its parts, in order."""

    name: str
    options: Options
    tools: Tools
    gpu: Gpu
    record: Record
    say: Say
    failures: list[str] = field(default_factory=list)

    @property
    def effort(self) -> Effort:
        """How often things are timed."""
        return Effort(self.options.warm, self.options.samples)

    @contextmanager
    def part(self, name: str, needed: bool = True) -> Iterator[None]:
        """A part of the stage: where it fails the record says so and the stage goes on.

        ``needed`` False: a part that may be missing, without failing the stage.
        """
        try:
            yield
        except Exception as error:
            reason = describe(error)
            self.record.missing[name] = reason
            self.say(f"  {'FAILED' if needed else 'not measured'}: {name}: {reason}")
            if needed:
                self.failures.append(f"{name}: {reason}")
        self.checkpoint()

    def checkpoint(self) -> Path:
        """Write what is known so far."""
        return self.record.write(self.options.results)

    def keep(self, name: str, times: Times) -> None:
        """Keep the samples of ``name`` and print them."""
        for kind, samples in (("GPU", times.gpu), ("wall", times.wall)):
            if samples:
                self.record.add(f"{name}, {kind}", "s", "lower", samples)
                self.say(line(f"{name}, {kind}", samples))

    def head(self, title: str) -> None:
        """A heading over times."""
        self.say(f"{title}\n{HEADER}")

    def judge(self, key: str, network: str, value: float) -> None:
        """Print and keep ``value`` beside its target."""
        verdict = judge(key, network, value, self.gpu.name)
        self.record.findings.setdefault("targets", []).append(verdict.as_dict())
        self.say(verdict.line())

    @contextmanager
    def watched(self, name: str) -> Iterator[smi.Watch]:
        """Sample the GPU's state meanwhile and keep it."""
        with smi.Watch(self.tools.watch) as watch:
            yield watch
        for label, unit, better in smi.FIELDS.values():
            if samples := watch.samples[label]:
                measure = self.record.add(f"{name}, {label}", unit, better, samples)
                self.say(f"  {f'meanwhile, {label}':<{WIDTH}}{measure.median:>12.0f}  {unit}")
        if watch.reason:
            self.record.missing[f"{name}, clocks and power"] = watch.reason


def describe(error: BaseException) -> str:
    """One line: our own errors by their text, others with their kind."""
    text = one_line(error)
    if isinstance(error, BirefnetError):
        return text
    kind = type(error).__name__
    return f"{kind}: {text}" if text else kind


def hashes(manifest: Manifest) -> dict[str, str]:
    """sha256 by file name of everything that a plan's figures hang on."""
    return {
        "contract.json": manifest.contract_sha256,
        manifest.onnx: manifest.onnx_sha256,
        **manifest.onnx_data,
        manifest.plan: manifest.plan_sha256,
        **manifest.kernels,
    }

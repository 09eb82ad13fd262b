"""Stages ``swin_v1_t`` and ``swin_v1_l``: export, build, proof, inspection, memory, latency."""

from __future__ import annotations

from statistics import median
from typing import Any

from birefnet_engine import report
from birefnet_engine.manifest import Manifest
from birefnet_engine.proof import describe
from birefnet_runtime.prove import Reference
from gpu_stages import builds, latency
from gpu_stages.stage import Loaded, Run, hashes


def run(stage: Run) -> None:
    """Build what is to be built, then measure."""
    with stage.part("export and build"):
        builds.ensure(stage)
    if not stage.failures:
        with stage.part("latency"):
            measure(stage)


def measure(stage: Run) -> None:
    """Everything about the plan that was built."""
    device, folder = stage.tools.device(), stage.options.folder(stage.name)
    with device.active():
        free = device.memory()[0]
        loaded = stage.tools.load(folder, device)
        try:
            taken = (free - device.memory()[0]) / latency.MIB
            stage.record.add("memory of the engine, weights included", "MiB", "lower", [taken])
            describe_plan(stage, loaded.manifest)
            latency.contexts(stage, device, loaded.engine)
            image = Reference.read(folder, loaded.contract).image[0]
        except BaseException:
            loaded.engine.close()
            raise
    times(stage, device, loaded, image)


def times(stage: Run, device: Any, loaded: Loaded, image: Any) -> None:
    """The engine alone, then the whole path, and both beside their targets."""
    with device.active():
        backend, slot = latency.open_slot(device, loaded)
    try:
        stage.head(f"{stage.name}, FP16, {image.shape[0]}x{image.shape[1]}")
        with stage.watched("latency"):
            alone = latency.engine(stage, device, backend, slot, image, "engine")
            stage.checkpoint()
            whole = latency.path(stage, backend, slot)
    finally:
        backend.close([slot])
    stage.judge("engine", stage.name, median(alone.wall) * 1e3)
    stage.judge("path", stage.name, median(whole.wall) / median(alone.wall))


def describe_plan(stage: Run, manifest: Manifest) -> None:
    """Keep and print what the build found out: the proof's figures and the inspection."""
    record = stage.record
    record.hashes.update(hashes(manifest))
    record.findings["plan"] = manifest.key
    record.findings["build options"] = manifest.options
    record.findings["build versions"] = manifest.versions
    record.findings["inspection"] = manifest.layers
    record.add("build", "s", "lower", [float(manifest.seconds)])
    record.add("plan", "MB", "lower", [manifest.plan_bytes / 1e6])
    proof = dict(manifest.parity)
    if samples := proof.pop("milliseconds", None):
        record.add("engine at the proof, GPU", "ms", "lower", [float(item) for item in samples])
    for name in ("mean", "p999", "max"):
        if name in proof:
            record.add(f"alpha against PyTorch fp32, {name}", "1", "lower", [float(proof[name])])
    record.findings["proof"] = proof
    stage.say(f"{manifest.key}: alpha against PyTorch fp32: {describe(manifest.parity)}")
    for line in report.summary(manifest.layers):
        stage.say(f"  {line}")

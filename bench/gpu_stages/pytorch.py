"""Stage ``pytorch``: the same network and weights in PyTorch and ONNX Runtime beside TensorRT."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birefnet_export.contract import FILE_NAME, ONNX_NAME, read
from birefnet_runtime.backend import Request, open_backend
from birefnet_runtime.cuda import CudaBackend
from birefnet_runtime.model import Overrides
from birefnet_runtime.prove import Reference
from gpu_stages import interpreter, latency
from gpu_stages.options import ROOT
from gpu_stages.stage import Run, StageError, hashes
from gpu_stages.timing import Times

_CHILD = ROOT / "bench" / "gpu_stages" / "torch_child.py"
ENGINE = "TensorRT"
# Alphas in alphas.npz: how they were computed.
HALVES = {
    "fp16": "PyTorch FP16",
    "fp16_sampled": "PyTorch FP16, float32 sampling",
    "compiled": "torch.compile FP16",
}
Alphas = dict[str, NDArray[Any]]


def run(stage: Run) -> None:
    """Each network that was exported: PyTorch, TensorRT, ONNX Runtime, and how they compare."""
    found = [name for name in stage.options.networks if exported(stage, name)]
    if not found:
        stage.failures.append("no network was exported: run bench/gpu.py swin_v1_t first")
    for network in found:
        one(stage, network)


def exported(stage: Run, network: str) -> bool:
    """Whether its model folder is there; the record says where not."""
    folder = stage.options.folder(network)
    if (folder / FILE_NAME).is_file():
        return True
    stage.record.missing[network] = f"{folder} was not exported: run bench/gpu.py {network}"
    stage.say(f"  not measured: {network}: {stage.record.missing[network]}")
    return False


def one(stage: Run, network: str) -> None:
    """One network on each of them in turn."""
    stage.head(network)
    times: dict[str, Times] = {}
    alphas: Alphas = {}
    with stage.part(f"{network}: PyTorch"):
        torch(stage, network, times, alphas)
    with stage.part(f"{network}: TensorRT"):
        tensorrt(stage, network, times, alphas)
    with stage.part(f"{network}: ONNX Runtime CUDA", needed=False):
        onnxruntime(stage, network)
    with stage.part(f"{network}: comparison"):
        compare(stage, network, times, alphas)


def torch(stage: Run, network: str, times: dict[str, Times], alphas: Alphas) -> None:
    """Fill in PyTorch's times and alphas."""
    python = interpreter.for_torch(stage.options)
    out, folder = stage.options.work / f"torch-{network}", stage.options.folder(network)
    for answer in ask(stage, python, [network, f"--folder={folder}"], out):
        name = answer["name"]
        times[name] = Times(answer["gpu"], answer["wall"])
        stage.keep(f"{network}: {name}", times[name])
        record = stage.record
        record.add(f"{network}: {name}, first call", "s", "lower", [answer["first"]])
        peak = answer["peak_bytes"] / latency.MIB
        record.add(f"{network}: {name}, peak memory", "MiB", "lower", [peak])
        record.findings["PyTorch uses"] = answer["uses"]
    if (out / "alphas.npz").is_file():
        with np.load(out / "alphas.npz", allow_pickle=False) as data:
            alphas.update({key: np.asarray(data[key], np.float32)[:, 0] for key in data})


def ask(stage: Run, python: str, arguments: Sequence[str], out: Path) -> list[dict[str, Any]]:
    """What torch_child.py measured; what it could not stands in the record.

    Raises StageError where it measured nothing.
    """
    out.mkdir(parents=True, exist_ok=True)
    for name in ("results.jsonl", "alphas.npz"):
        (out / name).unlink(missing_ok=True)
    effort = [f"--warm={stage.effort.warm}", f"--samples={stage.effort.samples}", f"--out={out}"]
    command = [python, str(_CHILD), *arguments, *effort]
    limit = stage.options.torch_limit
    try:
        status: int | str = subprocess.run(
            command, cwd=ROOT, env=interpreter.environment(python), timeout=limit, check=False
        ).returncode
    except subprocess.TimeoutExpired:
        status = f"nothing more within {limit:g} s"
    answers = _read(stage, out / "results.jsonl", arguments[0])
    if not answers:
        raise StageError(f"PyTorch measured nothing (status {status}): what it said stands above")
    if status != 0:
        stage.record.missing[f"{arguments[0]}: more of PyTorch"] = f"it ended with {status}"
    return answers


def _read(stage: Run, path: Path, label: str) -> list[dict[str, Any]]:
    answers = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        answer = json.loads(line)
        if "libraries" in answer:
            stage.record.libraries.update(answer["libraries"])
        elif "missing" in answer:
            stage.record.missing[f"{label}: {answer['name']}"] = answer["missing"]
            stage.say(f"  not measured: {answer['name']}: {answer['missing']}")
        else:
            answers.append(answer)
    return answers


def tensorrt(stage: Run, network: str, times: dict[str, Times], alphas: Alphas) -> None:
    """Fill in the times of TensorRT's engine, by the captured graph, and its alphas."""
    device, folder = stage.tools.device(), stage.options.folder(network)
    with device.active():
        loaded = stage.tools.load(folder, device)
        backend, slot = latency.open_slot(device, loaded)
    try:
        reference = Reference.read(folder, loaded.contract)
        found = hashes(loaded.manifest)
        stage.record.hashes.update({f"{network}/{name}": value for name, value in found.items()})
        alphas[ENGINE] = latency.alphas(backend, slot, reference)
        label, image = f"{network}: {ENGINE}", reference.image[0]
        with stage.watched(label):
            times[ENGINE] = latency.engine(stage, device, backend, slot, image, label)
    finally:
        backend.close([slot])


def onnxruntime(stage: Run, network: str) -> None:
    """Times of model.onnx, fp32, on ONNX Runtime's CUDA provider."""
    folder = stage.options.folder(network)
    contract = read(folder)
    if ONNX_NAME not in contract.files:
        raise StageError(f"{folder} has no {ONNX_NAME}: --targets onnxruntime,tensorrt")
    backend = open_backend(folder, Overrides(), Request("cuda"))
    if not isinstance(backend, CudaBackend):
        backend.close(backend.open_slots())
        raise StageError(f"ONNX Runtime has no kernels round it: {backend.notes}")
    slots = backend.open_slots()
    try:
        stage.record.findings[f"{network}: ONNX Runtime"] = backend.notes
        image, label = Reference.read(folder, contract).image[0], f"{network}: ONNX Runtime"
        latency.engine(stage, stage.tools.device(), backend, slots[0], image, label)
    finally:
        backend.close(slots)


def compare(stage: Run, network: str, times: dict[str, Times], alphas: Alphas) -> None:
    """Ratios of medians of what a caller waits, and distances from PyTorch's float32 alpha."""
    engine = times.get(ENGINE)
    for key, name in (
        ("eager", "PyTorch eager FP16"),
        ("compile", "torch.compile max-autotune FP16"),
    ):
        if engine and name in times:
            stage.judge(key, network, median(times[name].wall) / median(engine.wall))
    if ENGINE not in alphas or "fp32" not in alphas:
        raise StageError("TensorRT's or PyTorch's alphas are missing, as said above")
    names = {ENGINE: ENGINE, **HALVES}
    gaps = {
        key: distance(stage, network, names[key], alphas[key], alphas["fp32"])
        for key in names
        if key in alphas
    }
    if "fp16_sampled" in gaps:
        stage.judge("half", network, ratio(gaps[ENGINE], gaps["fp16_sampled"]))


def ratio(ours: float, theirs: float) -> float:
    """``ours`` over ``theirs``; equal zeros are as far away as each other."""
    if theirs == 0:
        return 1.0 if ours == 0 else float("inf")
    return ours / theirs


def distance(
    stage: Run, network: str, name: str, alpha: NDArray[Any], wanted: NDArray[Any]
) -> float:
    """Keep how far ``alpha`` is from ``wanted``, both [N,h,w] in 0..1; the mean."""
    gap = np.abs(alpha.astype(np.float64) - wanted)
    figures = {"mean": float(gap.mean()), "p999": float(np.quantile(gap, 0.999))}
    figures["max"] = float(gap.max())
    for kind, value in figures.items():
        label = f"{network}: {name} from PyTorch FP32 on this GPU, {kind}"
        stage.record.add(label, "1", "lower", [value])
    stage.say(
        f"  {name + ' from PyTorch FP32':<56} mean {figures['mean'] * 255:.4f}/255, "
        f"99.9 % {figures['p999'] * 255:.3f}/255, max {figures['max'] * 255:.2f}/255"
    )
    return figures["mean"]

"""Stage ``device``: what is here, whether TensorRT works at all, and how fast memory is."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np

from birefnet_engine import api
from birefnet_engine.config import BuildOptions, configure
from birefnet_engine.messages import Messages
from birefnet_export.contract import Contract
from birefnet_runtime.gpu import Device
from birefnet_runtime.plan import Plan
from gpu_stages import interpreter, timing
from gpu_stages.pytorch import ask
from gpu_stages.stage import Run, StageError
from gpu_stages.timing import WIDTH

# Large enough that neither caches nor the start of a copy matter.
COPIED = 256 << 20
SIDE = 64
# What TensorRT calls the ends of the network of one layer: the contract's defaults.
CONTRACT = Contract(name="one layer", height=SIDE, width=SIDE)


def run(stage: Run) -> None:
    """Measure; parts that fail are in ``stage.failures``."""
    gpu = stage.gpu
    version = "{}.{}".format(*gpu.cuda)
    capability = "sm_{}{}".format(*gpu.capability)
    stage.say(f"{gpu.name}, {capability}, {gpu.memory / 2**30:.1f} GiB, driver runs CUDA {version}")
    stage.record.findings["gpu"] = {
        "name": gpu.name,
        "capability": list(gpu.capability),
        "memory_bytes": gpu.memory,
        "driver_cuda": version,
    }
    with stage.part("copies"):
        copies(stage, stage.tools.device())
    with stage.part("tensorrt, a network of one layer"):
        one_layer(stage, stage.tools.device())
    with stage.part("matrix product", needed=False):
        matrix_product(stage)


def copies(stage: Run, device: Device) -> None:
    """Rates of copies between page-locked memory and the GPU, and on the GPU itself."""
    with device.active(), ExitStack() as stack:
        free, total = device.memory()
        stage.record.findings["memory"] = {"free_bytes": free, "total_bytes": total}
        host = device.allocate_host(COPIED)
        stack.callback(host.free)
        first, second = device.allocate(COPIED), device.allocate(COPIED)
        for block in (first, second):
            stack.callback(block.free)
        # Not zeros, which may travel compressed.
        host.array[:] = np.random.default_rng(0).integers(0, 256, COPIED, np.uint8)
        stream = device.open_stream()
        works = {
            "host to device, pinned": lambda: device.upload(first.pointer, host.array, stream),
            "device to host, pinned": lambda: device.download(host.array, first.pointer, stream),
            # Read once, written once.
            "device to device": lambda: device.copy(second.pointer, first.pointer, COPIED, stream),
        }
        effort = timing.Effort(min(stage.effort.warm, 5), min(stage.effort.samples, 30))
        for name, work in works.items():
            times = timing.timed(device, stream, work, effort)
            moved = COPIED * (2 if name == "device to device" else 1)
            rates = [moved / seconds / 1e9 for seconds in times.gpu]
            measure = stage.record.add(name, "GB/s", "higher", rates)
            stage.say(f"  {name:<{WIDTH}}{measure.median:>12.1f}  GB/s of {len(rates)}")


def one_layer(stage: Run, device: Device) -> None:
    """Build the mean over three channels, run it on the GPU, compare with NumPy's."""
    trt = stage.tools.tensorrt()
    stage.record.findings["tensorrt"] = str(trt.__version__)
    stage.say(f"  TensorRT {trt.__version__}: building a network of one layer ...")
    with device.active():
        plan = Plan(build_mean(trt), CONTRACT, device, 1, "gpu.py device")
        try:
            off = run_mean(device, plan)
        finally:
            plan.close()
    stage.record.findings["one layer, largest difference"] = off
    # Three additions and a division in float32.
    if not off <= 1e-6:
        raise StageError(
            f"a mean of three channels is {off:g} off: this TensorRT does not work on this GPU, "
            "use another version"
        )
    stage.say(f"  TensorRT {trt.__version__} runs: {off:.1g} from NumPy")


def build_mean(trt: Any) -> bytes:
    """The plan of a network with one layer, ``image`` [1,3,H,W] to its mean ``alpha`` [1,1,H,W]."""
    messages = Messages()
    logger = api.make_logger(trt, messages.add)
    builder = api.make_builder(trt, logger)
    network = api.create_network(trt, builder)
    image = network.add_input(CONTRACT.input, trt.DataType.FLOAT, CONTRACT.shape)
    # axes is a set of bits: axis 1, the channels.
    layer = network.add_reduce(image, trt.ReduceOperation.AVG, 1 << 1, True)
    answer = layer.get_output(0)
    answer.name = CONTRACT.output
    network.mark_output(answer)
    config = configure(trt, builder, BuildOptions(level=0, precision="fp32"))
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise StageError(
            f"TensorRT {trt.__version__} builds no network of one layer ({messages.cause()}): use "
            "a version for this GPU and driver"
        )
    return bytes(memoryview(plan))


def run_mean(device: Device, plan: Plan) -> float:
    """The largest difference of the plan's mean from NumPy's, on random numbers in 0..1."""
    image = np.random.default_rng(0).random(CONTRACT.shape, np.float32)
    mean = np.empty((1, 1, SIDE, SIDE), np.float32)
    with ExitStack() as stack:
        source, target = device.allocate(image.nbytes), device.allocate(mean.nbytes)
        for block in (source, target):
            stack.callback(block.free)
        stream = device.open_stream()
        bound = plan.bind(source.pointer, target.pointer, stream)
        stack.callback(bound.close)
        device.upload(source.pointer, image, stream)
        bound.enqueue(stream)
        device.download(mean, target.pointer, stream)
        device.finish(stream)
    return float(np.abs(mean - image.mean(1, keepdims=True)).max())


def matrix_product(stage: Run) -> None:
    """FP16 products of cuBLAS through PyTorch: the most that any network can reach here."""
    python = interpreter.for_torch(stage.options)
    out = stage.options.work / "matmul"
    answers = ask(stage, python, ["matmul"], out)
    for answer in answers:
        rates = [answer["operations"] / seconds / 1e12 for seconds in answer["gpu"]]
        measure = stage.record.add(answer["name"], "TFLOP/s", "higher", rates)
        stage.say(f"  {answer['name']:<{WIDTH}}{measure.median:>12.1f}  TFLOP/s of {len(rates)}")

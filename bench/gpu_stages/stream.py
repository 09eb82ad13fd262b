"""Stage ``stream``: Matting.stream() over pictures of mixed sizes, and remove() beside it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

from birefnet_export.contract import FILE_NAME
from birefnet_runtime.cuda import CudaBackend
from birefnet_runtime.cutout import Cutout
from birefnet_runtime.gpu import Device
from birefnet_runtime.matting import Matting
from gpu_stages.latency import MIB
from gpu_stages.stage import Run, StageError, hashes
from gpu_stages.timing import WIDTH, Times

# Megapixels: from a web picture to a large camera's.
SMALLEST, LARGEST = 0.3, 24.0
SHAPES = ((3, 2), (4, 3), (1, 1), (9, 16))
QUALITY = 90
# The largest picture comes so often first that every slot has seen it: their memory is then as
# large as it will be.
FIRST = 8
ON_GPU = ("preprocess", "model", "refine")


def run(stage: Run) -> None:
    """Each network that was built; not being built is no failure unless none was."""
    folders = {name: stage.options.folder(name) for name in stage.options.networks}
    found = [name for name, folder in folders.items() if (folder / FILE_NAME).is_file()]
    for name in set(folders) - set(found):
        stage.record.missing[name] = f"{folders[name]} is not there: run bench/gpu.py {name}"
    if not found:
        stage.failures.append("no network was built: run bench/gpu.py swin_v1_t first")
        return
    count = stage.options.pictures
    stage.say(f"making {count} pictures of {SMALLEST:g} to {LARGEST:g} megapixels ...")
    data = pictures(count, LARGEST)
    stage.record.findings["pictures"] = {
        "count": count,
        "megapixels": [SMALLEST, LARGEST],
        "bytes": sum(len(item) for item in data),
    }
    for name in found:
        with stage.part(f"{name}: stream"):
            one(stage, name, data)


def pictures(count: int, largest: float) -> list[bytes]:
    """JPEG files; the first is the largest, the others are spread evenly over the logarithm of
    their megapixels, in an order drawn once for all."""
    spread = np.geomspace(largest, min(SMALLEST, largest), count)
    order = [0, *(1 + np.random.default_rng(0).permutation(count - 1))]
    with ThreadPoolExecutor() as pool:
        sizes = [
            (float(spread[index]), SHAPES[place % len(SHAPES)]) for place, index in enumerate(order)
        ]
        return list(pool.map(jpeg, sizes, range(count)))


def jpeg(size: tuple[float, tuple[int, int]], seed: int) -> bytes:
    """A picture of so many megapixels and that shape: blobs of colour under grain."""
    megapixels, (across, down) = size
    unit = (megapixels * 1e6 / (across * down)) ** 0.5
    height, width = max(round(unit * down), 1), max(round(unit * across), 1)
    random = np.random.default_rng(seed)
    coarse = random.integers(40, 216, (6, 6, 3), np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    grain = random.integers(0, 16, (64, 64, 3), np.uint8)
    tiles = np.tile(grain, (-(-height // 64), -(-width // 64), 1))[:height, :width]
    _, data = cv2.imencode(".jpg", cv2.add(smooth, tiles), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return bytes(data)


def one(stage: Run, network: str, data: list[bytes]) -> None:
    """Warm up, stream, stream with encoding, then one by one; memory after each."""
    device = stage.tools.device()
    with device.active():
        loaded = stage.tools.load(stage.options.folder(network), device)
        contract = loaded.contract
        backend = CudaBackend(device, loaded.engine, loaded.kernels, contract, "tensorrt")
    found = hashes(loaded.manifest)
    stage.record.hashes.update({f"{network}/{name}": value for name, value in found.items()})
    stage.head(network)
    with Matting(backend) as matting:
        stage.say(f"  {matting.describe()}")
        for _ in matting.stream(data[:1] * FIRST + data):
            pass
        used = [memory(device)]
        streamed(stage, network, matting, data, "stream", None)
        used.append(memory(device))
        streamed(stage, network, matting, data, "stream with PNG files", encode)
        used.append(memory(device))
        sequential(stage, network, matting, data)
        used.append(memory(device))
    label = f"{network}: device memory in use after warm-up and after each pass"
    stage.record.add(label, "MiB", "lower", used)
    stage.judge("growth", network, max(used) - used[0])


def memory(device: Device) -> float:
    """MiB in use on the GPU, by every program on it."""
    with device.active():
        free, total = device.memory()
    return (total - free) / MIB


def encode(number: int, cutout: Cutout) -> None:
    """What a user does with a result, without the disk."""
    cutout.encode(".png")


def streamed(
    stage: Run,
    network: str,
    matting: Matting,
    data: list[bytes],
    label: str,
    work: Callable[[int, Cutout], object] | None,
) -> None:
    """One pass of stream(): rate, time per picture from its being taken, and how busy the GPU is.

    The engines of two pictures never run at once, so their time over the wall time is a share of
    it. Copies and kernels of one picture run beside another's engine: their sum may pass 100 %.
    """
    taken: list[float] = []
    waited: list[float] = []
    steps: defaultdict[str, list[float]] = defaultdict(list)
    name = f"{network}: {label}"
    with stage.watched(name):
        start = time.perf_counter()
        for cutout in matting.stream(clocked(data, taken), work=work):
            waited.append(time.perf_counter() - taken[len(waited)])
            for step, value in cutout.timings.items():
                steps[step].append(value)
        wall = time.perf_counter() - start
    if len(waited) != len(data):
        raise StageError(f"{len(waited)} of {len(data)} pictures came out of stream()")
    rate(stage, name, len(data), wall)
    stage.keep(f"{name}, per picture", Times(wall=waited))
    for step, seconds in steps.items():
        on_host = step == "decode"
        times = Times(wall=seconds) if on_host else Times(gpu=seconds)
        stage.keep(f"{name}, step {step}", times)
    busy = 100 * sum(steps["model"]) / wall
    together = 100 * sum(sum(steps[step]) for step in ON_GPU) / wall
    stage.record.add(f"{name}, engines over wall time", "%", "higher", [busy])
    stage.record.add(f"{name}, engines, kernels and copies over wall", "%", "higher", [together])
    stage.say(f"  engines {busy:.1f} % of the wall time, with kernels and copies {together:.1f} %")
    if work is None:
        stage.judge("busy", network, busy)


def clocked(data: list[bytes], taken: list[float]) -> Iterator[bytes]:
    """``data``, the moment at which each is taken noted in ``taken``."""
    for item in data:
        taken.append(time.perf_counter())
        yield item


def sequential(stage: Run, network: str, matting: Matting, data: list[bytes]) -> None:
    """remove(), one picture after the other."""
    waited = []
    start = time.perf_counter()
    for item in data:
        begun = time.perf_counter()
        matting.remove(item)
        waited.append(time.perf_counter() - begun)
    rate(stage, f"{network}: remove() one by one", len(data), time.perf_counter() - start)
    stage.keep(f"{network}: remove() one by one, per picture", Times(wall=waited))


def rate(stage: Run, name: str, count: int, wall: float) -> None:
    """Keep and print pictures per second."""
    measure = stage.record.add(f"{name}, rate", "1/s", "higher", [count / wall])
    stage.say(f"  {name:<{WIDTH}}{measure.median:>12.2f}  pictures per second")

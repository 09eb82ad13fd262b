"""How near foreground estimation comes to the truth, and what it costs, beside PyMatting's.

    foreground.py [--pymatting-python P] [--lemur FOLDER] [--megapixels 12] [--rounds 3]

Scenes whose colours are known: drawn hair, of which alpha is exact, and with ``--lemur`` that of
PyMatting's lemur (a folder with its ``lemur_alpha.png``), over photographs, with a photograph as
the foreground. The error is the mean of alpha |found - truth| over the soft band, in levels of 255:
what is seen of it. ``true``: the alpha that the picture was composed with. ``1024``: the same
through a mask of at most 1024 pixels a side, as a perfect network gives it. ``rembg``: colours
multiplied by alpha and shown as straight, as rembg's default does; ``off``: the picture's own.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from birefnet_runtime import foreground, refine
from birefnet_runtime.background import cover
from birefnet_runtime.frame import Bytes
from outlines import hair
from record import ROOT, Record, matmul_seconds

PHOTOS = ROOT / "examples"
SIDE = 1024
# What runs in PyMatting's interpreter: it answers each line with the seconds that it took.
CHILD = """
import sys, time, importlib.metadata as m
import numpy as np
from pymatting import estimate_foreground_ml as estimate
print(m.version("pymatting"), m.version("numba"), m.version("numpy"), flush=True)
for line in sys.stdin:
    folder = line.strip()
    image, alpha = np.load(folder + "/image.npy") / 255, np.load(folder + "/alpha.npy") / 255
    start = time.perf_counter()
    found = estimate(image, alpha)
    seconds = time.perf_counter() - start
    np.save(folder + "/found.npy", np.rint(255 * found).astype(np.uint8))
    print(seconds, flush=True)
"""

Method = Callable[[Bytes, Bytes], tuple[Bytes, float]]


@dataclass(frozen=True, eq=False)
class Scene:
    """``picture``, uint8 [H,W,3]: ``truth`` by ``alpha``, uint8 [H,W], over something else."""

    name: str
    picture: Bytes
    truth: Bytes
    alpha: Bytes


def compose(name: str, alpha: Bytes, front: str, behind: str) -> Scene:
    """The photograph ``front`` by ``alpha`` over the photograph ``behind``."""
    size = (alpha.shape[0], alpha.shape[1])
    truth, ground = (
        cover(np.asarray(Image.open(PHOTOS / f"{one}.jpg").convert("RGB")), size)
        for one in (front, behind)
    )
    return Scene(
        f"{name}, {front} over {behind}", refine.compose(truth, alpha, ground), truth, alpha
    )


def scenes(megapixels: float, lemur: Path | None) -> Iterator[Scene]:
    """Drawn hair at ``megapixels``, and the lemur at its own size where it is at hand."""
    size = (round((megapixels * 1e6 * 3 / 4) ** 0.5), round((megapixels * 1e6 * 4 / 3) ** 0.5))
    for coat in ("fur", "wisps"):
        alpha = np.rint(hair.scene(coat, size, 0.7, seed=1).alpha * 255).astype(np.uint8)
        yield compose(coat, alpha, "chelsea", "dahlia")
        yield compose(coat, alpha, "dahlia", "lemur")
    if lemur is not None:
        alpha = np.asarray(Image.open(lemur / "lemur_alpha.png").convert("L"))
        yield compose("lemur", alpha, "chelsea", "dahlia")
        yield compose("lemur", alpha, "dahlia", "chelsea")


def through_a_mask(alpha: Bytes) -> Bytes:
    """``alpha`` by way of a mask of at most SIDE pixels a side, in float."""
    height, width = alpha.shape
    small = (min(SIDE, width), min(SIDE, height))
    mask = cv2.resize(alpha, small, interpolation=cv2.INTER_AREA) * np.float32(1 / 255)
    return refine.to_alpha(np.asarray(mask, np.float32), (height, width))


def error(found: Bytes, scene: Scene) -> float:
    """Mean of alpha |found - truth| over the soft band, in levels."""
    band = (scene.alpha != 0) & (scene.alpha != 255)
    gaps = np.abs(found[band].astype(np.float64) - scene.truth[band])
    return float((gaps * (scene.alpha[band][:, None] / 255)).mean())


def ours(method: str) -> Method:
    def run(picture: Bytes, alpha: Bytes) -> tuple[Bytes, float]:
        start = time.perf_counter()
        found = foreground.estimate(picture, alpha, method)
        return found, time.perf_counter() - start

    return run


def multiplied(picture: Bytes, alpha: Bytes) -> tuple[Bytes, float]:
    """What is left when colours are multiplied by alpha, and alpha is kept as well."""
    start = time.perf_counter()
    return refine.compose(picture, alpha, (0, 0, 0)), time.perf_counter() - start


@contextmanager
def pymatting(python: str | None, record: Record) -> Iterator[dict[str, Method]]:
    """PyMatting's multi-level estimation, run by the interpreter ``python`` that has it."""
    if python is None:
        record.missing["pymatting"] = "no --pymatting-python"
        yield {}
        return
    with (
        subprocess.Popen(
            [python, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as child,
        tempfile.TemporaryDirectory() as folder,
    ):
        assert child.stdin is not None
        assert child.stdout is not None
        put, get = child.stdin, child.stdout
        versions = get.readline().split()
        record.libraries.update(zip(("pymatting", "numba", "its numpy"), versions, strict=True))

        def run(picture: Bytes, alpha: Bytes) -> tuple[Bytes, float]:
            np.save(f"{folder}/image.npy", picture)
            np.save(f"{folder}/alpha.npy", alpha)
            print(folder, file=put, flush=True)
            seconds = float(get.readline())
            return np.load(f"{folder}/found.npy"), seconds

        yield {"pymatting": run}
        put.close()


def measure(record: Record, scene: Scene, methods: dict[str, Method], rounds: int) -> None:
    """Errors of every method on ``scene``, and times where there are rounds."""
    alphas = {"true": scene.alpha, "1024": through_a_mask(scene.alpha)}
    print(f"\n{scene.name}, {scene.picture.shape[1]}x{scene.picture.shape[0]}", flush=True)
    for kind, alpha in alphas.items():
        found = {}
        for name, method in methods.items():
            found[name] = error(method(scene.picture, alpha)[0], scene)
            record.add(
                f"error {scene.name}, {kind} alpha, {name}", "levels", "lower", [found[name]]
            )
        print(f"  {kind:5}", *(f"{name} {value:.2f}" for name, value in found.items()), flush=True)
    times: dict[str, list[float]] = {name: [] for name in methods if name not in ("rembg", "off")}
    for _ in range(rounds):
        for name, samples in times.items():
            samples.append(methods[name](scene.picture, scene.alpha)[1])
    for name, samples in times.items() if rounds else ():
        median = record.add(f"time {scene.name}, {name}", "s", "lower", samples).median
        print(f"  {name} {median:.2f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pymatting-python", metavar="P", help="an interpreter with pymatting")
    parser.add_argument("--lemur", type=Path, metavar="FOLDER", help="holds lemur_alpha.png")
    parser.add_argument("--megapixels", type=float, default=12)
    parser.add_argument("--rounds", type=int, default=3, help="of times, on the first of a coat")
    args = parser.parse_args()
    record = Record(
        "foreground", {"megapixels": args.megapixels, "rounds": args.rounds, "side": SIDE}
    )
    record.add("matmul 2048", "s", "lower", matmul_seconds())
    own = {"rembg": multiplied, "off": ours("off"), "blur": ours("blur"), "ml": ours("ml")}
    with pymatting(args.pymatting_python, record) as other:
        methods: dict[str, Method] = {**own, **other}
        seen: set[str] = set()
        for scene in scenes(args.megapixels, args.lemur):
            coat = scene.name.split(",")[0]
            measure(record, scene, methods, 0 if coat in seen else args.rounds)
            seen.add(coat)
            band = (scene.alpha != 0) & (scene.alpha != 255)
            record.findings[f"soft band of {coat}"] = round(float(band.mean()), 4)
    print(f"\n{record.write().relative_to(ROOT)}")


if __name__ == "__main__":
    main()

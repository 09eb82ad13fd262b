"""``python -m birefnet_export.nano OUT``: scenes, training, weights and record into OUT.

With ``--evaluate`` nothing is trained: the committed weights are scored on the held-out scenes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from functools import cache, partial
from pathlib import Path

import torch

from birefnet_export.network import BiRefNet

from . import record, sources, weights
from .config import NANO, SIZE
from .evaluate import by_kind, rounded
from .pool import Recipe, pool
from .raster import Bytes
from .train import Plan, Stage, Trainer

# Held-out scenes have seeds and source pictures of their own. Their kinds, ten times over:
HELD_KINDS = (
    "", "", "", "", "", "", "hair", "glass", "shadow", "dark",
    "clutter", "", "", "hair", "glass", "shadow", "dark", "empty", "", "",
)  # fmt: skip
HELD = Recipe(9_000_000, 200, SIZE, kinds=HELD_KINDS)
STAGES = (
    Stage(0.22, 96, 16, rigid=True),
    Stage(0.45, 128, 12, rigid=True),
    Stage(0.78, 192, 8),
    Stage(1.0, SIZE, 4),
)
TESTED = 40  # held-out scenes that a test during the run takes
LARGE = 4  # one scene at full size for so many at 256 pixels: the last stage sees few


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser("python -m birefnet_export.nano", description=__doc__)
    parser.add_argument("out", type=Path, help="folder for nano.safetensors, nano.json, checkpoint")
    parser.add_argument("--evaluate", action="store_true", help="score the committed weights only")
    parser.add_argument("--minutes", type=float, default=60.0, help="training time (default 60)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--scenes", type=int, default=4000, help="scenes to train on (default 4000)"
    )
    parser.add_argument("--threads", type=int, default=2)
    folder = Path(tempfile.gettempdir()) / "birefnet-nano"
    parser.add_argument(
        "--cache", type=Path, default=folder, help=f"scene pools (default {folder})"
    )
    return parser.parse_args()


def main() -> None:
    """Scores the committed weights, or trains new ones (resumed where OUT/checkpoint.pt is)."""
    args = parse()
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    args.out.mkdir(parents=True, exist_ok=True)
    load = partial(sources.debian, True, args.threads)
    held = pool(args.cache, "held", HELD, load, args.threads)
    if args.evaluate:
        print(verdict(evaluate(weights.FILE, held, args.out / "evaluation.json")))
    else:
        train(args, held)


def evaluate(file: Path, held: Bytes, out: Path) -> dict[str, dict[str, float | None]]:
    """Scores the weights in ``file`` by kind of scene, prints a table and writes it to ``out``."""
    kinds = [HELD.kind(index) or "plain" for index in range(len(held))]
    found = by_kind(weights.load(file), held, kinds)
    result = {kind: rounded(score) for kind, score in found.items()}
    for kind, s in found.items():
        overlap = f"{s.iou:.3f}" if s.objects else "    -"
        print(f"{kind:8} {s.scenes:4} scenes  IoU {overlap}  MAE {s.mae:.4f}")
    print(f"mean alpha of empty scenes {found['all'].empty:.4f}")
    out.write_text(json.dumps(result, indent=1) + "\n")
    return result


def verdict(result: dict[str, dict[str, float | None]]) -> str:
    """Whether ``result`` is what the record beside the committed weights says, to two in 1,000."""
    recorded = json.loads(weights.FILE.with_name("nano.json").read_text())["held_out"]["all"]
    pairs = [(name, result["all"][name] or 0.0, recorded[name]) for name in ("iou", "mae")]
    if all(abs(found - said) < 0.002 for _, found, said in pairs):
        return "as recorded in nano.json"
    return "not as recorded in nano.json: " + ", ".join(f"{n} {f} for {s}" for n, f, s in pairs)


def train(args: argparse.Namespace, held: Bytes) -> None:
    """Pools, training, weights, score, record and curve into ``args.out``."""
    torch.manual_seed(args.seed)
    plan = Plan(args.minutes * 60, STAGES, seed=args.seed)
    trainer = Trainer(BiRefNet(NANO), pools(args), plan, held[:TESTED])
    checkpoint = args.out / "checkpoint.pt"
    if trainer.resume(checkpoint):
        print(f"goes on from {checkpoint}, step {trainer.progress.step}")
    progress = trainer.run(checkpoint)
    file = args.out / "nano.safetensors"
    weights.save(trainer.average.state, file)
    result = evaluate(file, held, args.out / "evaluation.json")
    parameters = sum(p.numel() for p in trainer.network.parameters())
    record.write(args.out / "nano.json", plan, progress, result, args.scenes, parameters)
    record.draw(args.out / "curve.png", progress)


def pools(args: argparse.Namespace) -> list[Bytes]:
    """The layers to train on: at 256 pixels, and a few at ``SIZE``. Sources are decoded once."""
    load = cache(partial(sources.debian, False, args.threads))
    start, few = args.seed * 100_000, args.scenes // LARGE
    recipes = {
        "train256": Recipe(start, args.scenes, 256, layers=True),
        f"train{SIZE}": Recipe(start + 50_000, few, SIZE, layers=True),
    }
    return [pool(args.cache, name, r, load, args.threads) for name, r in recipes.items()]


if __name__ == "__main__":
    main()

"""``python -m birefnet_export.nano OUT``: scenes, training, weights and record into OUT."""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path

import torch

from birefnet_export.network import BiRefNet

from . import record, sources, weights
from .config import NANO, SIZE
from .evaluate import score
from .pool import Recipe, pool
from .train import Plan, Stage, Trainer

# Held-out scenes have seeds and source pictures of their own.
HELD_SEED, HELD_COUNT = 9_000_000, 160
STAGES = (Stage(0.35, 128, 24), Stage(0.65, 192, 16), Stage(0.85, 256, 12), Stage(1.0, SIZE, 8))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser("python -m birefnet_export.nano", description=__doc__)
    parser.add_argument("out", type=Path, help="folder for nano.safetensors, nano.json, checkpoint")
    parser.add_argument("--minutes", type=float, default=30.0, help="training time (default 30)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--scenes", type=int, default=6000, help="scenes to train on (default 6000)"
    )
    parser.add_argument("--threads", type=int, default=2)
    cache = Path(tempfile.gettempdir()) / "birefnet-nano"
    parser.add_argument("--cache", type=Path, default=cache, help=f"scene pools (default {cache})")
    return parser.parse_args()


def main() -> None:
    """Pools, training (resumed where OUT/checkpoint.pt is), weights, score, record."""
    args = parse()
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    held = pool(
        args.cache, "held", Recipe(HELD_SEED, HELD_COUNT, SIZE), partial(sources.debian, True)
    )
    recipe = Recipe(args.seed * 100_000, args.scenes, SIZE)
    scenes = pool(args.cache, "train", recipe, partial(sources.debian, False))
    torch.manual_seed(args.seed)
    plan = Plan(args.minutes * 60, STAGES, seed=args.seed)
    trainer = Trainer(BiRefNet(NANO), scenes, plan)
    checkpoint = args.out / "checkpoint.pt"
    if trainer.resume(checkpoint):
        print(f"goes on from {checkpoint}, step {trainer.progress.step}")
    progress = trainer.run(checkpoint)
    weights.save(trainer.average.state, args.out / "nano.safetensors")
    network = weights.load(args.out / "nano.safetensors")
    result = score(network, held)
    parameters = sum(p.numel() for p in network.parameters())
    record.write(args.out / "nano.json", plan, progress, result, args.scenes, parameters)
    record.draw(args.out / "curve.png", progress.curve)
    print(f"IoU {result.iou:.3f}  MAE {result.mae:.4f} on {result.scenes} held-out scenes")


if __name__ == "__main__":
    main()

"""One run of training: its scenes, its stages, and a member's part of it."""

from __future__ import annotations

import argparse
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from birefnet_export.contract import sha256
from birefnet_export.network import BiRefNet

from . import sources, weights
from .average import remeasured
from .batches import tensors
from .config import NANO, SCENE
from .grow import grown
from .pool import Recipe, pool, reduced
from .raster import Bytes
from .team import Team
from .train import Plan, Stage, Trainer

# Held-out scenes have seeds and source pictures of their own. Their kinds, ten times over:
HELD_KINDS = (
    "", "", "", "", "", "", "hair", "glass", "shadow", "dark",
    "clutter", "", "", "hair", "glass", "shadow", "dark", "empty", "", "",
)  # fmt: skip
HELD = Recipe(9_000_000, 200, SCENE, kinds=HELD_KINDS)
# The kinds that came later are scored beside these, so that every record's "all" is the same 200.
LATER = Recipe(9_100_000, 60, SCENE, kinds=("table", "wall", "mast"))
# Objects that were photographed and cut out by hand: the nearest to photographs with a known alpha.
PHOTOGRAPHED = Recipe(9_200_000, 40, SCENE, kinds=("photo",))
# Kinds of the scenes to train on, in turn; a batch joins any object with any background of them.
TRAIN_KINDS = (
    "", "photo", "", "wall", "hair", "photo", "mast", "", "table", "photo", "glass", "", "photo",
    "wall", "", "mast", "table", "mast",
)  # fmt: skip
# Those of trained weights: one in ten is a slim rocket before masts.
FURTHER_KINDS = tuple(
    "slim" if number % 10 == 3 else kind for number, kind in enumerate(TRAIN_KINDS * 5)
)
SMALL = 160  # pixels of the layers for stages of less
LARGER = 384  # pixels between those of the many scenes and ``SCENE``
FEWER = 5  # one scene at these sizes for so many at 256 pixels: the last stages see few
STAGES = (
    Stage(0.14, 96, 24, rigid=True),
    Stage(0.42, 128, 24, rigid=True),
    Stage(0.71, 192, 12),
    Stage(0.86, 256, 10),
    Stage(0.93, LARGER, 6),
    Stage(1.00, SCENE, 4, settled=True),
)
# Trained weights go on with large pictures as they come, as the network will meet them, asked for
# decisions, with the statistics of their batch norms, and for the answers that they had.
FURTHER = (Stage(1.00, SCENE, 4, settled=True, l1=8, taught=8),)
RATE = 4e-4
# Shares of the run's end in what is kept, by part of the network; the rest is the teacher's. Chosen
# by 23 scenes of HELD and four photographs, after ten others: the end alone loses a striped post
# and, in the last levels, a cat's pupils; with half of it everywhere a rocket's top is transparent.
KEPT = {
    "backbone": 0.8,
    "squeeze": 0.5,
    "level 4": 0.8,
    "level 3": 0.5,
    "level 2": 0.25,
    "level 1": 0.25,
}
# Factor of the logits of what is kept: cross-entropy and the mean leave it in more doubt than it is
# wrong. It multiplies that of the teacher.
SHARPER = 1.25
# Scenes as they are met give what is kept its batch norm statistics, as they give its scores. Those
# of layers joined at random cost about 0.001 of HELD's MAE.
MEASURED = Recipe(9_400_000, 144, SCENE, kinds=HELD_KINDS)
TESTED = 40  # held-out scenes that a test during the run takes


def trained(team: Team, args: argparse.Namespace) -> Trainer:
    """One member's part of the training; the leader leaves ``args.out``/checkpoint.pt.

    The pools must be there: see ``pools``.
    """
    torch.manual_seed(args.seed)
    network, plan = begin(args)
    teacher = None if args.start is None else weights.load(teaching(args))
    tested = pool(args.cache, "held", HELD, partial(sources.debian, True))[:TESTED]
    trainer = Trainer(network, pools(args), plan, tested, team=team, teacher=teacher)
    checkpoint = args.out / "checkpoint.pt"
    if trainer.resume(checkpoint) and team.rank == 0:
        print(f"goes on from {checkpoint}, step {trainer.progress.step}")
    trainer.run(checkpoint)
    return trainer


def begin(args: argparse.Namespace) -> tuple[BiRefNet, Plan]:
    """What to train and how: a new network in all stages, or the one in ``args.start`` further."""
    seconds = args.minutes * 60
    if args.start is None:
        return BiRefNet(NANO), Plan(seconds, STAGES, seed=args.seed)
    start, teacher = sha256(args.start), sha256(teaching(args))
    plan = Plan(seconds, FURTHER, rate=RATE, seed=args.seed, start=start, teacher=teacher)
    return grown(weights.load(args.start), NANO).requires_grad_(True), plan


def teaching(args: argparse.Namespace) -> Path:
    """The weights whose answers a run keeps that goes on from ``args.start``."""
    return Path(args.teacher or args.start)


def ending(args: argparse.Namespace, trainer: Trainer) -> dict[str, Tensor]:
    """The weights to keep of the run of ``trainer``, which has ended."""
    if args.start is None:
        return trainer.average.state
    network = grown(weights.load(teaching(args)), NANO)
    network.load_state_dict(weights.mean(network.state_dict(), trainer.average.state, KEPT))
    load = partial(sources.debian, False, args.threads)
    shots = pool(args.cache, "measured", MEASURED, load, args.threads)
    pictures = (tensors(np.array(shots[n : n + 6]))[0] for n in range(0, len(shots), 6))
    return weights.sharper(remeasured(network, pictures), SHARPER)


def pools(args: argparse.Namespace) -> list[Bytes]:
    """The layers to train on: at 160 and 256 pixels, and a few at ``LARGER`` and ``SCENE``.

    Trained weights see all of them at ``SCENE``, 2 MiB each. Sources are decoded once.
    """
    load = cache(partial(sources.debian, False, args.threads))
    start, few = args.seed * 100_000, args.scenes // FEWER
    if args.start is not None:
        further = Recipe(start + 70_000, args.scenes, SCENE, True, FURTHER_KINDS)
        return [pool(args.cache, f"further{SCENE}", further, load, args.threads)]
    recipes = {
        "train256": Recipe(start, args.scenes, 256, True, TRAIN_KINDS),
        f"train{LARGER}": Recipe(start + 50_000, few, LARGER, True, TRAIN_KINDS),
        f"train{SCENE}": Recipe(start + 70_000, few, SCENE, True, TRAIN_KINDS),
    }
    made = [pool(args.cache, name, r, load, args.threads) for name, r in recipes.items()]
    small = reduced(args.cache, f"train{SMALL}", recipes["train256"], made[0], SMALL)
    return [small, *made]

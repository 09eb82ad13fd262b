"""``python -m birefnet_export.nano OUT``: scenes, training, weights and record into OUT.

With ``--evaluate`` nothing is trained: the committed weights are scored on the held-out scenes.
With ``--start`` trained weights are trained further.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path

import torch

from birefnet_export.mirror import answering

from . import record, sources, weights
from .config import MIRROR, SIZE
from .evaluate import Fitted, by_kind, rounded
from .pool import Recipe, pool
from .raster import Bytes
from .run import HELD, LATER, PHOTOGRAPHED, ending, pools, trained
from .team import together


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser("python -m birefnet_export.nano", description=__doc__)
    parser.add_argument("out", type=Path, help="folder for nano.safetensors, nano.json, checkpoint")
    parser.add_argument("--evaluate", action="store_true", help="score the committed weights only")
    parser.add_argument("--minutes", type=float, default=103.0, help="training time (default 103)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--scenes", type=int, default=7000, help="scenes to train on (default 7000)"
    )
    parser.add_argument(
        "--threads", type=int, default=2, help="processes that train, a core each (default 2)"
    )
    parser.add_argument(
        "--start", type=Path, help="weights to train further (default: from random ones)"
    )
    parser.add_argument(
        "--teacher", type=Path, help="weights whose answers are kept (default: those of --start)"
    )
    folder = Path(tempfile.gettempdir()) / "birefnet-nano"
    parser.add_argument(
        "--cache", type=Path, default=folder, help=f"scene pools (default {folder})"
    )
    args = parser.parse_args()
    if args.teacher and not args.start:
        parser.error("--teacher goes with --start: random weights have no answers to keep")
    return args


def main() -> None:
    """Scores the committed weights, or trains new ones (resumed where OUT/checkpoint.pt is)."""
    args = parse()
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    args.out.mkdir(parents=True, exist_ok=True)
    load = cache(partial(sources.debian, True, args.threads))
    recipes = {"held": HELD, "later": LATER, "photo": PHOTOGRAPHED}
    held = [pool(args.cache, name, r, load, args.threads) for name, r in recipes.items()]
    if args.evaluate:
        result = evaluate(weights.FILE, held, args.out / "evaluation.json")
        print(verdict(result, sources.listing()))
    else:
        train(args, held)


def evaluate(file: Path, held: Sequence[Bytes], out: Path) -> dict[str, dict[str, float | None]]:
    """Scores the weights in ``file`` by kind of scene, prints a table and writes it to ``out``.

    They answer as the embedded model does, at its size and from all its images. ``held``
    are the scenes of ``HELD``, whose mean is "all", of ``LATER`` and of ``PHOTOGRAPHED``.
    """
    network = Fitted(answering(weights.load(file), MIRROR), SIZE)
    found = by_kind(network, held[0], kinds(HELD))
    for recipe, scenes in zip((LATER, PHOTOGRAPHED), held[1:], strict=True):
        more = by_kind(network, scenes, kinds(recipe))
        found |= {kind: more[kind] for kind in recipe.kinds}
    result = {kind: rounded(score) for kind, score in found.items()}
    for kind, s in found.items():
        edges = f"IoU {s.iou:.3f}  boundary {s.boundary:.3f}" if s.objects else " " * 25
        print(f"{kind:8} {s.scenes:4} scenes  {edges}  MAE {s.mae:.4f}")
    print(f"mean alpha of empty scenes {found['all'].empty:.4f}")
    out.write_text(json.dumps(result, indent=1) + "\n")
    return result


def kinds(recipe: Recipe) -> list[str]:
    """What every scene of ``recipe`` is called in the table."""
    return [recipe.kind(index) or "plain" for index in range(recipe.count)]


def verdict(result: dict[str, dict[str, float | None]], pictures: dict[str, int | str]) -> str:
    """Whether ``result`` is what the record beside the committed weights says, to two in 1,000.

    Scenes are the same only where the source ``pictures`` are: see ``sources.listing``.
    """
    stored = json.loads(weights.FILE.with_name("nano.json").read_text())
    if pictures != stored["sources"]:
        return (
            "not comparable with nano.json, whose scenes are made of other pictures: "
            f"{stored['sources']}, here {pictures}"
        )
    recorded = stored["held_out"]["all"]
    pairs = [(name, result["all"][name] or 0.0, recorded[name]) for name in ("iou", "mae")]
    if all(abs(found - said) < 0.002 for _, found, said in pairs):
        return "as recorded in nano.json"
    return "not as recorded in nano.json: " + ", ".join(f"{n} {f} for {s}" for n, f, s in pairs)


def train(args: argparse.Namespace, held: Sequence[Bytes]) -> None:
    """Pools, training, weights, score, record and curve into ``args.out``."""
    pools(args)
    trainer = together(args.threads, trained, args)
    progress, file = trainer.progress, args.out / "nano.safetensors"
    weights.save(ending(args, trainer), file)
    result = evaluate(file, held, args.out / "evaluation.json")
    parameters = sum(p.numel() for p in trainer.network.parameters())
    record.write(
        args.out / "nano.json", trainer.plan, progress, result, args.scenes, parameters, args.start
    )
    record.draw(args.out / "curve.png", progress)


if __name__ == "__main__":
    main()

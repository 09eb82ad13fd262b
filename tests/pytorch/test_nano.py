"""nano: scenes are exact, training goes on where it stopped, the committed weights cut out."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch

from birefnet_export.config import NetworkConfig
from birefnet_export.nano import sources, weights
from birefnet_export.nano.config import METADATA, NANO, SIZE
from birefnet_export.nano.evaluate import score
from birefnet_export.nano.pool import Recipe, pool
from birefnet_export.nano.raster import Bytes
from birefnet_export.nano.scenes import scene
from birefnet_export.nano.train import Plan, Stage, Trainer
from birefnet_export.network import BiRefNet

TINY = NetworkConfig(
    embed=8,
    depths=(1, 1, 1, 1),
    heads=(1, 1, 2, 2),
    window=4,
    mlp_ratio=1,
    width=8,
    aspp=8,
    kernels=(1, 3),
    ipt=4,
)
PLAN = Plan(seconds=1000, stages=(Stage(0.003, 64, 2), Stage(1.0, 96, 2)))


@pytest.fixture(scope="module")
def made_up() -> sources.Sources:
    return sources.synthetic(seed=1)


@pytest.fixture(scope="module")
def scenes(made_up: sources.Sources, tmp_path_factory: pytest.TempPathFactory) -> Bytes:
    folder = tmp_path_factory.mktemp("pool")
    return pool(folder, "train", Recipe(7, 6, 96), lambda: made_up, workers=1)


def trainer(scenes: Bytes) -> Trainer:
    """A run whose every step takes one second of a clock of its own."""
    torch.manual_seed(3)
    ticks = count()
    return Trainer(BiRefNet(TINY), scenes, PLAN, clock=lambda: float(next(ticks)))


def test_a_seed_names_one_scene(made_up: sources.Sources) -> None:
    first, again, other = (scene(seed, made_up, 96) for seed in (5, 5, 6))
    for name in ("image", "alpha", "foreground", "background", "shot"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
    assert not np.array_equal(first.shot, other.shot)


@pytest.mark.parametrize("seed", range(12))
def test_image_is_the_composite_of_its_parts(made_up: sources.Sources, seed: int) -> None:
    made = scene(seed, made_up, 96)
    alpha = made.alpha[..., None] / 255.0
    exact = alpha * made.foreground + (1 - alpha) * made.background
    # Rounding to a byte is half a level; float32 arithmetic adds less than a hundredth.
    assert np.abs(made.image - exact).max() <= 0.51


def test_scenes_have_objects_edges_and_emptiness(made_up: sources.Sources) -> None:
    alphas = [scene(seed, made_up, 64).alpha for seed in range(80)]
    covered = np.array([alpha.mean() / 255 for alpha in alphas])
    assert 0.2 < np.median(covered) < 0.6
    assert (covered == 0).any()
    assert np.mean([((alpha > 0) & (alpha < 255)).mean() for alpha in alphas]) > 0.02


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sources, "CLIPART", tmp_path)
    with pytest.raises(sources.SourcesMissing, match="apt-get install openclipart-png"):
        sources.debian(held_out=False)


def test_the_split_shares_no_picture() -> None:
    paths = [Path(f"/pictures/{n}.png") for n in range(400)]
    train, held = sources.pick(paths, False), sources.pick(paths, True)
    assert sorted(train + held) == sorted(paths)
    assert 20 < len(held) < 100


def test_a_pool_is_made_once(made_up: sources.Sources, tmp_path: Path) -> None:
    def never() -> sources.Sources:
        raise AssertionError("made again")

    first = pool(tmp_path, "p", Recipe(0, 2, 64), lambda: made_up, workers=1)
    assert np.array_equal(first, pool(tmp_path, "p", Recipe(0, 2, 64), never, workers=1))
    loads: Callable[[], sources.Sources] = lambda: made_up  # noqa: E731
    assert pool(tmp_path, "p", Recipe(0, 3, 64), loads, workers=1).shape == (3, 64, 64, 4)


def test_two_steps_move_the_weights(scenes: Bytes, tmp_path: Path) -> None:
    run = trainer(scenes)
    before = {key: value.clone() for key, value in run.network.state_dict().items()}
    progress = run.run(tmp_path / "checkpoint.pt", steps=2)
    assert progress.step == 2
    assert np.isfinite(progress.loss)
    changed = [k for k, v in run.network.named_parameters() if not torch.equal(v, before[k])]
    # conv_ms_spvn_* are trained by the side losses; gdt_convs_pred_* have none and stay.
    untouched = {k for k, _ in run.network.named_parameters()} - set(changed)
    assert all("gdt_convs_pred" in key for key in untouched)


def test_an_interrupted_run_ends_like_an_undisturbed_one(scenes: Bytes, tmp_path: Path) -> None:
    whole = trainer(scenes)
    whole.run(tmp_path / "whole.pt", steps=5)
    trainer(scenes).run(tmp_path / "part.pt", steps=2)
    resumed = trainer(scenes)
    assert resumed.resume(tmp_path / "part.pt")
    resumed.run(tmp_path / "part.pt", steps=3)
    assert vars(resumed.progress) == vars(whole.progress)
    for one, other in ((whole.network.state_dict(), resumed.network.state_dict()),
                       (whole.average.state, resumed.average.state)):  # fmt: skip
        assert all(torch.equal(value, other[key]) for key, value in one.items())


def test_the_plan_warms_up_and_cools_down() -> None:
    rates = [PLAN.rate_at(share) for share in (0.0, PLAN.warmup, 0.5, 1.0)]
    assert max(rates[0], rates[3]) < rates[2] < rates[1] == PLAN.rate
    assert PLAN.stage(0.002).size == 64
    assert PLAN.stage(1.0).size == 96


def test_the_committed_weights_are_nano_in_float16() -> None:
    from safetensors import safe_open

    with safe_open(str(weights.FILE), "pt") as stored:
        assert stored.metadata() == METADATA
        found = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118
    assert {value.dtype for value in found.values()} == {torch.float16}
    state = BiRefNet(NANO).state_dict()
    # Integer buffers are recomputed when the weights are loaded.
    floats = {k: tuple(v.shape) for k, v in state.items() if v.is_floating_point()}
    assert {key: tuple(value.shape) for key, value in found.items()} == floats
    record = json.loads(weights.FILE.with_name("nano.json").read_text())
    assert record["minutes"] <= 30.1
    assert weights.FILE.stat().st_size < 4 << 20


def test_the_committed_weights_cut_out_made_up_objects(tmp_path: Path) -> None:
    unseen = sources.synthetic(seed=99)
    held = pool(tmp_path, "held", Recipe(777_000, 12, SIZE), lambda: unseen, workers=1)
    result = score(weights.load(), held)
    assert result.iou > 0.6
    assert result.mae < 0.15

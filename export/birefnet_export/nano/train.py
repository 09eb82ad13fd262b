"""Trains a network on a pool of scenes for a given time; interrupted runs go on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from birefnet_export.errors import CheckpointError
from birefnet_export.network import BiRefNet

from . import lean, losses
from .average import Average
from .batches import batch
from .evaluate import score
from .muon import Muon
from .raster import Bytes
from .team import Team

DECAY = 0.995  # over about 200 steps
SAVE_EVERY = 60.0  # seconds of training between checkpoints
TEST_EVERY = 600.0  # seconds of training between evaluations
CLIP = 1.0  # largest norm of a step's gradient
EDGES = ("patch_embed", "offset_conv", "modulator_conv")  # in the names of what AdamW trains


@dataclass(frozen=True)
class Stage:
    """Until ``until`` (0..1 of the time) batches are ``batch`` pictures of ``size`` pixels.

    ``batch`` is of the whole team. A ``rigid`` stage runs the deformable convolutions as plain
    ones: see ``lean``. In a ``settled`` one batch norms keep their statistics, as in use: those of
    a few pictures are too rough to end with. ``l1`` weighs the mean error, ``taught`` the distance
    from a teacher's answers: see ``losses``.
    """

    until: float
    size: int
    batch: int
    rigid: bool = False
    settled: bool = False
    l1: float = losses.L1
    taught: float = 0.0


@dataclass(frozen=True)
class Plan:
    """``seconds`` of training in all, in ``stages``; ``rate`` is AdamW's highest learning rate.

    The schedule follows the time and not the steps: a machine that is shared ends it as well.
    """

    seconds: float
    stages: Sequence[Stage]
    rate: float = 5e-3
    warmup: float = 0.04
    floor: float = 0.01
    weight_decay: float = 0.02
    seed: int = 0
    start: str = ""  # SHA-256 of the weights that the run begins with; empty for random ones
    teacher: str = ""  # SHA-256 of the weights whose answers ``taught`` stages keep

    def stage(self, share: float) -> Stage:
        """The stage at ``share`` (0..1) of the time."""
        return next((stage for stage in self.stages if share < stage.until), self.stages[-1])

    def rate_at(self, share: float) -> float:
        """Linear warm-up, then half a cosine down to ``floor`` of the highest rate."""
        if share < self.warmup:
            return self.rate * max(share / self.warmup, 0.02)
        angle = math.pi * min((share - self.warmup) / (1 - self.warmup), 1.0)
        return self.rate * (self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(angle)))


@dataclass
class Progress:
    """Where a run stands: steps done, seconds spent, (seconds, smoothed loss) about every 10 s.

    ``tests`` are (seconds, size, IoU, MAE) on held-out scenes.
    """

    step: int = 0
    spent: float = 0.0
    loss: float = 0.0
    curve: list[tuple[float, float]] = field(default_factory=list)
    tests: list[tuple[float, int, float, float]] = field(default_factory=list)

    def due(self) -> bool:
        """Whether the next test should be now."""
        return self.spent - (self.tests[-1][0] if self.tests else 0.0) >= TEST_EVERY


class Trainer:
    """One run on ``pools`` of layers, tested on shots ``held``, if any.

    ``clock`` returns seconds; time between ``run`` calls does not count. Every member of ``team``
    has a trainer with the same network and plan; the leader keeps the time, tests and saves.
    ``teacher`` is not trained; its batch norms keep their statistics. Plans with a stage that is
    ``taught`` need one.
    """

    def __init__(
        self,
        network: BiRefNet,
        pools: Sequence[Bytes],
        plan: Plan,
        held: Bytes | None = None,
        clock: Callable[[], float] = time.monotonic,
        team: Team | None = None,
        teacher: BiRefNet | None = None,
    ) -> None:
        self.network = innermost(network)
        self.pools, self.plan = pools, plan
        self.held, self.clock = held, clock
        self.team = team or Team()
        self.teacher = None if teacher is None else innermost(teacher).eval()
        self.optimizers = optimizers(network, plan, self.team)
        self.average = Average(network, DECAY)
        # Runs on the same scenes join them otherwise where they began with other weights.
        self.salt = int("0" + plan.start[:8], 16)
        self.progress = Progress()

    def run(self, checkpoint: Path, steps: int | None = None) -> Progress:
        """Trains until the plan's time is spent, or ``steps`` more; saves to ``checkpoint``."""
        state, last = self.progress, self.clock()
        saved, goal = state.spent, None if steps is None else state.step + steps
        while state.spent < self.plan.seconds and state.step != goal:
            loss = self.step()
            if self.team.rank == 0:
                self.note(loss)
                if self.held is not None and state.due():
                    self.test(self.held)
                now = self.clock()
                state.spent += now - last
                last = now
            if state.spent - saved >= SAVE_EVERY:
                self.save(checkpoint)
                saved = state.spent
            state.spent = self.team.told(state.spent)
        self.save(checkpoint)
        return state

    def step(self) -> float:
        """One optimiser step; returns the loss of this member's share of the batch."""
        share, number = self.progress.spent / self.plan.seconds, self.progress.step
        stage = self.plan.stage(share)
        # The only random thing in a step besides its batch is dropout.
        torch.manual_seed(self.plan.seed * 1_000_003 + number)
        seed = (self.plan.seed, number, self.team.rank, self.salt)
        count = self.team.share(stage.batch)
        images, alpha = batch(self.pools, seed, count, stage.size)
        self.prepare(stage)
        with lean.rearranged(self.network, stage.rigid):
            images = images.contiguous(memory_format=torch.channels_last)
            logits, sides = lean.forward_sides(self.network, images)
            loss = losses.total(logits, sides, alpha, stage.l1)
        if stage.taught:
            loss = loss + stage.taught * losses.unlike(logits, self.told(images), alpha)
        self.network.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.update(share)
        self.progress.step += 1
        return float(loss.detach())

    @torch.no_grad()
    def told(self, images: Tensor) -> Tensor:
        """The teacher's alpha [B,1,S,S] of images [B,3,S,S]."""
        assert self.teacher is not None
        with lean.rearranged(self.teacher):
            return torch.sigmoid(lean.forward_sides(self.teacher, images)[0])

    def prepare(self, stage: Stage) -> None:
        """Training mode, but for batch norms in a ``settled`` stage.

        Those take the average's statistics: their own are of the last ten batches or so.
        """
        self.network.train()
        if not stage.settled:
            return
        for module in self.network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        for key, value in self.network.state_dict().items():
            if key.endswith(("running_mean", "running_var")):
                value.copy_(self.average.state[key])

    def update(self, share: float) -> None:
        """Moves the weights by the team's mean gradient, at the rate of ``share`` of the time."""
        self.team.mean([p.grad for p in self.network.parameters() if p.grad is not None])
        nn.utils.clip_grad_norm_(self.network.parameters(), CLIP)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.plan.rate_at(share)
            optimizer.step()
        self.average.update(self.network)

    def note(self, loss: float) -> None:
        """Smooths the loss over about 25 steps and prints a line about every 10 seconds."""
        state = self.progress
        state.loss += (loss - state.loss) * max(0.04, 1 / state.step)
        if state.curve and state.spent - state.curve[-1][0] < 10:
            return
        state.curve.append((round(state.spent, 1), round(state.loss, 4)))
        left = max(self.plan.seconds - state.spent, 0) / 60
        print(f"step {state.step}  loss {state.loss:.3f}  {left:.1f} min left", flush=True)

    def test(self, held: Bytes) -> None:
        """Scores the average on ``held`` at the present stage's size and notes the result."""
        state = self.progress
        size = self.plan.stage(state.spent / self.plan.seconds).size
        network = BiRefNet(self.network.config)
        network.load_state_dict(self.average.state)
        result = score(network.eval(), held, size)
        state.tests.append(
            (round(state.spent, 1), size, round(result.iou, 4), round(result.mae, 4))
        )
        print(f"held out, {size} pixels: IoU {result.iou:.3f}  MAE {result.mae:.4f}", flush=True)

    def save(self, checkpoint: Path) -> None:
        """The leader writes all that ``resume`` needs. Atomic: an interruption loses nothing."""
        if self.team.rank:
            return
        part = checkpoint.with_suffix(".part")
        torch.save(
            {
                "network": self.network.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
                "average": self.average.state,
                "updates": self.average.count,
                "progress": vars(self.progress),
                "start": self.plan.start,
                "teacher": self.plan.teacher,
            },
            part,
        )
        part.replace(checkpoint)

    def resume(self, checkpoint: Path) -> bool:
        """Takes up the run of ``checkpoint``; False where there is none.

        Raises CheckpointError where that run had another start or teacher than the plan's.
        """
        if not checkpoint.exists():
            return False
        stored: dict[str, Any] = torch.load(checkpoint, weights_only=True)
        plan = self.plan
        if (stored.get("start"), stored.get("teacher")) != (plan.start, plan.teacher):
            raise CheckpointError(
                f"{checkpoint} is of an older version or of a run with other weights to begin with "
                "or to learn from: train into another folder, or remove it"
            )
        self.network.load_state_dict(stored["network"])
        for optimizer, state in zip(self.optimizers, stored["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        self.average.load(stored["average"], stored["updates"])
        self.progress = Progress(**stored["progress"])
        return True


def innermost(network: BiRefNet) -> BiRefNet:
    """``network`` with kernels whose channels are innermost: a seventh of a step less on a CPU."""
    moved: BiRefNet = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return moved


def optimizers(network: nn.Module, plan: Plan, team: Team) -> list[torch.optim.Optimizer]:
    """Muon for the matrices and kernels of hidden layers, AdamW for all else.

    All else: biases, norms and position tables, which do not decay either; the patch embedding, the
    one-channel outputs, and the offsets and modulations, which start at zero and should stay small.
    """
    hidden: list[nn.Parameter] = []
    edges: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        if parameter.ndim < 2 or "relative_position" in name:
            plain.append(parameter)
        elif parameter.shape[0] == 1 or any(part in name for part in EDGES):
            edges.append(parameter)
        else:
            hidden.append(parameter)
    adam = torch.optim.AdamW(
        [
            {"params": edges, "weight_decay": plan.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ],
        lr=plan.rate,
        fused=True,
    )
    return [Muon(hidden, plan.rate, weight_decay=plan.weight_decay, team=team), adam]

"""Trains a network on a pool of scenes for a given time; interrupted runs go on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from birefnet_export.network import BiRefNet

from . import losses
from .average import Average
from .batches import batch
from .raster import Bytes

DECAY = 0.99  # over about 100 steps, as the last stage has few
SAVE_EVERY = 60.0  # seconds of training between checkpoints
CLIP = 1.0  # largest norm of a step's gradient


@dataclass(frozen=True)
class Stage:
    """Until ``until`` (0..1 of the time) batches are ``batch`` pictures of ``size`` pixels."""

    until: float
    size: int
    batch: int


@dataclass(frozen=True)
class Plan:
    """``seconds`` of training in all, in ``stages``; ``rate`` is AdamW's highest learning rate."""

    seconds: float
    stages: Sequence[Stage]
    rate: float = 1.5e-3
    warmup: float = 0.04
    floor: float = 0.01
    weight_decay: float = 0.02
    seed: int = 0

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
    """Where a run stands: steps done, seconds spent, (seconds, smoothed loss) about every 10 s."""

    step: int = 0
    spent: float = 0.0
    loss: float = 0.0
    curve: list[tuple[float, float]] = field(default_factory=list)


class Trainer:
    """One run. ``clock`` returns seconds; time between ``run`` calls does not count."""

    def __init__(
        self,
        network: BiRefNet,
        pool: Bytes,
        plan: Plan,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.network, self.pool, self.plan, self.clock = network, pool, plan, clock
        self.optimizer = torch.optim.AdamW(groups(network, plan.weight_decay), lr=plan.rate)
        self.average = Average(network, DECAY)
        self.progress = Progress()

    def run(self, checkpoint: Path, steps: int | None = None) -> Progress:
        """Trains until the plan's time is spent, or ``steps`` more; saves to ``checkpoint``."""
        self.network.train()
        last, saved = self.clock(), self.progress.spent
        goal = None if steps is None else self.progress.step + steps
        while self.progress.spent < self.plan.seconds and self.progress.step != goal:
            loss = self.step()
            now = self.clock()
            self.progress.spent += now - last
            last = now
            self.note(loss)
            if self.progress.spent - saved >= SAVE_EVERY:
                self.save(checkpoint)
                saved = self.progress.spent
        self.save(checkpoint)
        return self.progress

    def step(self) -> float:
        """One optimiser step; returns its loss."""
        share = self.progress.spent / self.plan.seconds
        stage = self.plan.stage(share)
        # The only random thing in a step besides its batch is dropout.
        torch.manual_seed(self.plan.seed * 1_000_003 + self.progress.step)
        images, alpha = batch(
            self.pool, self.plan.seed, self.progress.step, stage.batch, stage.size
        )
        for group in self.optimizer.param_groups:
            group["lr"] = self.plan.rate_at(share)
        logits, sides = self.network.forward_sides(images)
        loss = losses.total(logits, sides, alpha)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), CLIP)
        self.optimizer.step()
        self.average.update(self.network)
        self.progress.step += 1
        return float(loss.detach())

    def note(self, loss: float) -> None:
        """Smooths the loss over about 50 steps and prints a line about every 10 seconds."""
        state = self.progress
        state.loss = loss if state.step == 1 else state.loss + (loss - state.loss) * 0.04
        if state.curve and state.spent - state.curve[-1][0] < 10:
            return
        state.curve.append((round(state.spent, 1), round(state.loss, 4)))
        left = max(self.plan.seconds - state.spent, 0) / 60
        print(f"step {state.step}  loss {state.loss:.3f}  {left:.1f} min left", flush=True)

    def save(self, checkpoint: Path) -> None:
        """Writes all that ``resume`` needs. Atomic: an interruption leaves the former file."""
        part = checkpoint.with_suffix(".part")
        torch.save(
            {
                "network": self.network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "average": self.average.state,
                "updates": self.average.count,
                "progress": vars(self.progress),
            },
            part,
        )
        part.replace(checkpoint)

    def resume(self, checkpoint: Path) -> bool:
        """Takes up the run of ``checkpoint``; False where there is none."""
        if not checkpoint.exists():
            return False
        stored: dict[str, Any] = torch.load(checkpoint, weights_only=True)
        self.network.load_state_dict(stored["network"])
        self.optimizer.load_state_dict(stored["optimizer"])
        self.average.load(stored["average"], stored["updates"])
        self.progress = Progress(**stored["progress"])
        return True


def groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameters in two groups: matrices and kernels decay, the rest does not."""
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        kept = parameter.ndim < 2 or "relative_position" in name
        (plain if kept else decayed).append(parameter)
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]

"""The pictures of one turn in a slot, from what the first pass sees to what comes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from birefnet_export.contract import Contract
from birefnet_runtime import edges, mask
from birefnet_runtime.cutout import Cutout
from birefnet_runtime.edges import Plan
from birefnet_runtime.errors import BirefnetError
from birefnet_runtime.frame import Bytes, Floats, Frame, Metadata, Rendered, View, Words
from birefnet_runtime.matte import Matte
from birefnet_runtime.options import Options
from birefnet_runtime.picture import to_eight_bits


@dataclass(frozen=True)
class Label:
    """What a result takes over besides pixels."""

    source: str
    metadata: Metadata


@dataclass(frozen=True, eq=False)
class Opened:
    """A picture of ``size`` (H, W) that was decoded and staged, which took ``seconds``: ready for a
    slot. ``frame``: its pixels on the host, None for one that lies on a GPU."""

    label: Label
    size: tuple[int, int]
    staged: Any
    seconds: float
    frame: Frame | None = None


@dataclass(eq=False)
class Job:
    """One picture of a run.

    ``view``: what the first pass sees, None for all of it stretched. ``plan``: what follows, None
    until that is known; ``coarse``: the first pass's alpha, float32 [h,w] over the picture;
    ``answers``: those to the plan's views. ``result``: set when nothing is left to do.
    """

    one: Opened
    view: View | None
    contract: Contract
    plan: Plan | None = None
    coarse: Floats | None = None
    answers: list[Floats | BirefnetError] = field(default_factory=list)
    result: Rendered | BirefnetError | None = None
    doubts: str = ""
    wide_alpha: Words | None = None

    @property
    def views(self) -> tuple[View, ...]:
        """What further passes see."""
        return () if self.plan is None else self.plan.views

    def render(self, frame: Frame, options: Options) -> Bytes:
        """Alpha uint8 [H,W] from the answers; raises the error that stands in place of one."""
        assert self.plan is not None
        assert self.coarse is not None
        planes = []
        for answer in self.answers:
            if isinstance(answer, BirefnetError):
                raise answer
            planes.append(answer)
        size = self.one.size
        matte = Matte(size, self.coarse)
        if planes:
            verdict = edges.judge(self.coarse, size, self.plan, planes, self.contract)
            matte, self.doubts = Matte(size, self.coarse, verdict.patches), verdict.note
        depth = 8 if frame.wide is None else 16
        alpha = mask.adjust(matte.render(frame.alpha, depth), frame.rgb, options)
        if depth == 8:
            return alpha.astype(np.uint8, copy=False)
        self.wide_alpha = alpha.astype(np.uint16, copy=False)
        return to_eight_bits(self.wide_alpha)

    @property
    def edge(self) -> str:
        """What was done, in words: the mode, and in brackets what there is to say about it."""
        assert self.plan is not None
        notes = ", ".join(note for note in (self.plan.note, self.doubts) if note)
        return f"{self.plan.mode} ({notes})" if notes else self.plan.mode


@dataclass(eq=False)
class Run:
    """The pictures that share a turn, ``options`` for all, and ``timings``: seconds by step."""

    jobs: list[Job]
    options: Options
    timings: dict[str, float]

    @classmethod
    def begin(cls, group: Sequence[Opened], options: Options, contract: Contract) -> Run:
        """A run of ``group``, with the plans that are made before anything was seen."""
        plan = edges.decided(options)
        jobs = [Job(one, edges.first(one.size, options, contract), contract, plan) for one in group]
        # "decode" comes first and is each picture's own.
        return cls(jobs, options, {"decode": 0.0})

    def first(self) -> list[tuple[Any, View | None]]:
        """The rows of the first pass."""
        return [(job.one.staged, job.view) for job in self.jobs]

    def is_fast(self, job: Job) -> bool:
        """Whether the device can make the cut-out of ``job`` from the first pass alone."""
        planned = job.plan is not None and not job.plan.views
        deep = job.one.frame is not None and job.one.frame.wide is not None
        return planned and job.view is None and not deep and not mask.adjusts(self.options)

    @property
    def is_one_pass(self) -> bool:
        """Whether no picture needs more than the device can do from the first pass."""
        return all(self.is_fast(job) for job in self.jobs)

    def decide(self, answers: Sequence[Floats | BirefnetError]) -> None:
        """Take the first pass's answers, one a picture, and plan what follows."""
        for job, answer in zip(self.jobs, answers, strict=True):
            if isinstance(answer, BirefnetError):
                job.result = answer
                continue
            job.coarse = edges.inside(answer, job.view, job.contract)
            job.plan = edges.follow(job.coarse, job.one.size, self.options, job.contract)

    def results(self) -> list[Cutout | BirefnetError]:
        """What came out, in the order of the pictures."""
        return [self._cutout(job) for job in self.jobs]

    def _cutout(self, job: Job) -> Cutout | BirefnetError:
        result = job.result
        assert result is not None
        if isinstance(result, BirefnetError):
            return result
        one = job.one
        return Cutout(
            result.foreground,
            result.alpha,
            one.label.source,
            self.options,
            one.label.metadata,
            {**self.timings, **result.seconds, "decode": one.seconds},
            result.image,
            edge=job.edge,
            wide=None if one.frame is None else one.frame.wide,
            wide_alpha=job.wide_alpha,
        )

"""The door for asyncio: the slots of one ``Matting``, awaited."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np

from birefnet_runtime.batcher import LATE, Batcher, Limits, Load, Origin
from birefnet_runtime.cutout import Cutout
from birefnet_runtime.errors import DeadlineError
from birefnet_runtime.host import SLOTS
from birefnet_runtime.matting import Matting
from birefnet_runtime.model import NANO
from birefnet_runtime.options import Options

T = TypeVar("T")

# Seconds, far longer than a run takes.
_PATIENCE = 10.0


class AsyncMatting:
    """One loaded model for the tasks of an event loop, or of several loops in several threads.

    Pictures are decoded, cut out and finished in threads, as ``limits`` allow; the loop never
    waits for one. Owns ``matting``, which may be used beside it. ``async with`` closes both.
    """

    def __init__(self, matting: Matting, limits: Limits | None = None) -> None:
        self.matting = matting
        self._batcher = Batcher(matting.pipeline, limits)
        # One that is dropped, or open at exit, ends its threads all the same.
        weakref.finalize(self, self._batcher.close, _PATIENCE)

    @classmethod
    def open(
        cls,
        model: str | Path = NANO,
        device: str = "auto",
        *,
        limits: Limits | None = None,
        **how: Any,
    ) -> AsyncMatting:
        """Load ``model`` as ``Matting.open`` does, which ``how`` is given to. Takes seconds: within
        a running loop call it through ``asyncio.to_thread``."""
        return cls(Matting.open(model, device, **how), limits)

    @property
    def limits(self) -> Limits:
        """What it was opened with."""
        return self._batcher.limits

    @property
    def load(self) -> Load:
        """How many pictures are here, and how fast they go."""
        return self._batcher.load

    def watch(self, call: Callable[[int], object]) -> None:
        """Have ``call`` told, in a thread, how many pictures each run of the model takes."""
        self._batcher.watchers.append(call)

    async def warm_up(self) -> None:
        """Take one grey picture through each slot: a first run is slower than the others."""
        contract = self.matting.contract
        grey = np.full((contract.height, contract.width, 3), 128, np.uint8)
        await asyncio.gather(*(self.remove(grey) for _ in range(SLOTS)))

    async def remove(
        self,
        source: Origin,
        options: Options | None = None,
        *,
        deadline: float | None = None,
        patient: bool = True,
    ) -> Cutout:
        """The cut-out of ``source``: a picture as for ``Matting.remove``, or a function without
        arguments that a worker calls to get one.

        ``deadline``: ``time.monotonic()`` by which the answer must be there, else DeadlineError.
        Where the queue is full, one that is ``patient`` waits for its turn, else BusyError says
        when to come again. Cancelling the task drops the picture: its place in the queue, or after
        the step that it is at its slot, is free for another.
        Raises what ``Matting.remove`` raises, and ClosedError once closing has begun.
        """
        found: Cutout = await self._through(source, options, None, deadline, patient)
        return found

    async def apply(
        self,
        work: Callable[[Cutout], T],
        source: Origin,
        options: Options | None = None,
        *,
        deadline: float | None = None,
        patient: bool = True,
    ) -> T:
        """``work(cutout)``, called in a worker: encoding or saving, which takes longer than a loop
        may be kept. Otherwise as ``remove``; raises what ``work`` raises, too."""
        found: T = await self._through(source, options, work, deadline, patient)
        return found

    async def _through(
        self,
        source: Origin,
        options: Options | None,
        work: Callable[[Cutout], Any] | None,
        deadline: float | None,
        patient: bool,
    ) -> Any:
        future = self._batcher.submit(source, options, work, deadline, patient)
        waiting = asyncio.wrap_future(future)
        seconds = None if deadline is None else deadline - time.monotonic()
        try:
            await asyncio.wait([waiting], timeout=seconds)
            if not waiting.done():
                raise DeadlineError(LATE)
            return waiting.result()
        finally:
            waiting.cancel()
            # An error holds this frame: in a circle with what holds the error the picture would
            # stay until Python looks for circles.
            del waiting, future

    async def close(self, patience: float | None = None) -> None:
        """Refuse new pictures, finish those that are here, let go of the model.

        After ``patience`` seconds (None: never) those that still wait are cancelled, and what has
        not ended is left as it is. May be called again.
        """
        await asyncio.get_running_loop().run_in_executor(None, self._close, patience)

    def _close(self, patience: float | None) -> None:
        if self._batcher.close(patience):
            self.matting.close()
        else:
            self.matting.pipeline.close(_PATIENCE)

    async def __aenter__(self) -> AsyncMatting:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

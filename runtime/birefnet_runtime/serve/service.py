"""What the routes share: one model, its limits, and how a picture gets through them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Generic, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from birefnet_runtime.async_matting import AsyncMatting
from birefnet_runtime.batcher import Origin
from birefnet_runtime.cutout import Cutout
from birefnet_runtime.errors import DeadlineError, LostDeviceError
from birefnet_runtime.options import Options
from birefnet_runtime.pipeline import Source
from birefnet_runtime.serve import limits
from birefnet_runtime.serve.budget import Budget
from birefnet_runtime.serve.call import Call, HungUp, call_of
from birefnet_runtime.serve.fetch import FetchLimits, fetch
from birefnet_runtime.serve.life import Life, Opener, State
from birefnet_runtime.serve.metrics import Metrics
from birefnet_runtime.serve.problem import Dialect, Problem, busy, not_ready, plain
from birefnet_runtime.serve.settings import Settings
from birefnet_runtime.serve.upload import Upload, parse

T = TypeVar("T")

# Bytes that are parsed on the event loop: it takes less time than to wake a thread.
_SMALL = 1 << 16
_WAIT = {
    State.LOADING: "The model is being loaded: try again soon.",
    State.WARMING: "The model is being warmed up: try again soon.",
    State.DRAINING: "The service is about to end: ask another one.",
    State.FAILED: "The model does not work; the log says why.",
}


@dataclass(frozen=True)
class Done(Generic[T]):
    """``value``: what the work made. ``seconds``: by step, from ``queue`` to ``encode``."""

    value: T
    seconds: dict[str, float]


class Service:
    """Takes requests from the routes to the model and back. Of one event loop.

    ``dialects``: how errors of a path are told, where not as ``problem.plain`` does it.
    """

    def __init__(self, source: AsyncMatting | Opener, settings: Settings) -> None:
        self.settings = settings
        self.life = Life(source)
        self.budget = Budget(settings.memory)
        self.metrics = Metrics(self)
        self.dialects: dict[str, Dialect] = {}
        # Requests that are answered even when the service is about to end.
        self.accepted = 0
        # Those of them whose picture the model has not been given yet: each will want a place.
        self.coming = 0
        if self.life.matting is not None:
            self.life.matting.watch(self.metrics.note_run)
        self.life.on_change = self._changed

    @property
    def is_ready(self) -> bool:
        """Whether pictures are taken."""
        return self.life.state is State.READY

    @property
    def matting(self) -> AsyncMatting:
        """The model, which is there in ``READY``; Problem ``not_ready`` in other states."""
        matting, state = self.life.matting, self.life.state
        if matting is None or state is not State.READY:
            raise not_ready(_WAIT.get(state, "The service is not ready: try again soon."))
        return matting

    async def receive(self, request: Request, encoded: Collection[str] = ()) -> Upload:
        """What ``request`` brings, once there is room for it; see ``upload.parse``.

        Before its body is read: Problem ``not_ready``, ``too_large`` or, where the queue has no
        place left for it, ``busy``. Then ``slow_body``, ``too_large``, ``busy`` or ``bad_request``.
        """
        call, load = call_of(request), self.matting.load
        limits.check_length(request.headers, self.settings)
        if self.coming + load.waiting >= load.queue:
            raise busy(load.retry_after)
        self._admit(call)
        body = await limits.read(request.receive, call, self.settings, self.budget)
        read = partial(parse, body, request.headers, request.url.query, encoded)
        if len(body) <= _SMALL:
            return read()
        return await asyncio.get_running_loop().run_in_executor(None, read)

    async def cut(
        self,
        request: Request,
        source: Origin,
        options: Options,
        work: Callable[[Cutout], T],
    ) -> Done[T]:
        """``work(cutout)`` of ``source``, both called in workers; see ``AsyncMatting.apply``.

        No picture of more pixels than the settings allow is decoded, whatever ``options`` say.
        Raises what those raise, DeadlineError, or HungUp, with the picture dropped where it was.
        """
        call = call_of(request)
        # What was accepted before a drain began is cut out.
        matting = self.life.matting if call.accepted else self.matting
        assert matting is not None
        most = min(options.max_pixels, self.settings.max_pixels)
        options = replace(options, max_pixels=most)
        deadline = call.started + self.settings.seconds
        steps: _Steps[T] = _Steps(call, source, work)
        if not call.accepted:
            self._admit(call)
        self._leave(call)
        asked = matting.apply(steps.work, steps.source, options, deadline=deadline, patient=False)
        try:
            value = await _unless_hung_up(asked, request, deadline)
        except LostDeviceError as error:
            self.life.fail(error)
            raise
        self.metrics.note_stages(steps.seconds)
        return Done(value, steps.seconds)

    async def fetch(self, url: str) -> bytes:
        """The file behind ``url``; Problem ``forbidden`` where the settings have that off."""
        if not self.settings.fetch:
            raise Problem("forbidden", "This service fetches no URLs: send the picture itself.")
        most = FetchLimits(size=self.settings.max_body)
        return await fetch(url, most)

    def render(self, problem: Problem, call: Call) -> Response:
        """``problem`` as the clients of the call's path expect it."""
        return self.dialects.get(call.path, plain)(problem, call.id)

    def settle(self, call: Call) -> None:
        """Give back what ``call`` holds: its answer is out, or nobody waits for it."""
        self._leave(call)
        self.budget.give(call.held)
        call.held = 0
        if call.accepted:
            call.accepted = False
            self.accepted -= 1

    def _admit(self, call: Call) -> None:
        call.accepted = call.place = True
        self.accepted += 1
        self.coming += 1

    def _leave(self, call: Call) -> None:
        if call.place:
            call.place = False
            self.coming -= 1

    def _changed(self, state: State) -> None:
        if state is State.WARMING and self.life.matting is not None:
            self.life.matting.watch(self.metrics.note_run)


@dataclass(eq=False)
class _Steps(Generic[T]):
    """Takes the time of what a worker does before and after the model."""

    call: Call
    origin: Origin
    then: Callable[[Cutout], T]
    asked: float = field(default_factory=time.perf_counter)
    seconds: dict[str, float] = field(default_factory=dict)

    def source(self) -> Source:
        start = time.perf_counter()
        self.seconds["queue"] = start - self.asked
        origin: Any = self.origin
        if not callable(origin):
            found: Source = origin
            return found
        found = origin()
        self.seconds["source"] = time.perf_counter() - start
        return found

    def work(self, cutout: Cutout) -> T:
        start = time.perf_counter()
        self.call.picture = (cutout.alpha.shape[0], cutout.alpha.shape[1])
        # What was made ready before the model got it is part of the decoding.
        begun = self.seconds.pop("source", 0.0)
        self.seconds.update(cutout.timings)
        self.seconds["decode"] = self.seconds.get("decode", 0.0) + begun
        value = self.then(cutout)
        self.seconds["encode"] = time.perf_counter() - start
        return value


async def _unless_hung_up(asked: Any, request: Request, deadline: float) -> Any:
    """The answer of the awaitable ``asked``; HungUp, and it is cancelled, when the client goes."""
    task = asyncio.ensure_future(asked)
    gone = asyncio.ensure_future(_hang_up(request))
    try:
        # The model keeps the deadline; what it has begun, though, nobody waits for any longer.
        left = max(0.0, deadline - time.monotonic())
        await asyncio.wait({task, gone}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise HungUp if gone.done() else DeadlineError("the answer was not there in time")
    finally:
        task.cancel()
        gone.cancel()


async def _hang_up(request: Request) -> None:
    """Ends when the client hangs up."""
    while (await request.receive())["type"] != "http.disconnect":
        pass

"""Single pictures from many callers -> runs of the model, in a bounded number of threads.

submit -> waiting -> [worker: decode] -> ready -> [feeder: slot, model] -> made -> [worker: work]
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from birefnet_runtime.cutout import Cutout
from birefnet_runtime.errors import BusyError, ClosedError, DeadlineError, OptionError
from birefnet_runtime.host import SLOTS
from birefnet_runtime.options import Options
from birefnet_runtime.pipeline import Pipeline, Source
from birefnet_runtime.run import Opened

# A picture, or what a worker calls to get it.
Origin = Source | Callable[[], Source]
Work = Callable[[Cutout], Any]

LATE = "the answer was not there in time: try again later, or allow more time"
# The weight of the newest picture in the mean time between two of them.
_NEWEST = 0.1


@dataclass(frozen=True)
class Limits:
    """How much a ``Batcher`` takes on; OptionError where a value has no meaning.

    ``queue``: pictures that may wait to be decoded; one more is refused. ``batch``: rows of a run
    that are filled at most, None for all that the model has. ``wait``: seconds for which a run that
    is not full waits for another picture; 0 takes what is there. ``workers``: threads that decode
    and do the callers' work, None for as many as the device asks for.
    """

    queue: int = 32
    batch: int | None = None
    wait: float = 0.0
    workers: int | None = None

    def __post_init__(self) -> None:
        for name in ("queue", "batch", "workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise OptionError(f"{name} must be 1 or more, not {value!r}")
        # Longer than any run: who means this has mistaken the unit.
        if not 0 <= self.wait <= 1:
            raise OptionError(f"wait must be from 0 to 1 second, not {self.wait!r}")


@dataclass(frozen=True)
class Load:
    """``waiting``: pictures before they are decoded, ``queue`` at most. ``running``: those in
    memory, until their work is done. ``pace``: mean seconds between two that end, lately."""

    waiting: int
    running: int
    queue: int
    pace: float

    @property
    def is_full(self) -> bool:
        """Whether one more picture would be refused."""
        return self.waiting >= self.queue

    @property
    def retry_after(self) -> float:
        """Whole seconds, 1 or more, until the pictures that are here now are done."""
        return float(max(1, math.ceil(self.pace * (self.waiting + self.running))))


@dataclass(eq=False)
class Ticket:
    """One picture on its way. ``deadline``: ``time.monotonic()`` after which nobody waits;
    ``begun``: when a worker took it up."""

    source: Origin
    options: Options
    work: Work | None
    deadline: float | None
    future: Future[Any] = field(default_factory=Future)
    begun: float = 0.0
    opened: Opened | None = None
    made: Cutout | None = None

    @property
    def is_late(self) -> bool:
        return self.deadline is not None and time.monotonic() >= self.deadline

    def settle(self, result: object) -> None:
        """Hand over ``result``, or raise it at the caller's; nothing when that has hung up."""
        self.opened = self.made = None
        # In a circle with its future the picture would stay until Python looks for circles.
        self.source = b""
        future, self.future = self.future, Future()
        if not future.set_running_or_notify_cancel():
            return
        if isinstance(result, BaseException):
            future.set_exception(result)
        else:
            future.set_result(result)


class Batcher:
    """Takes pictures from any thread through one pipeline, several in a run where it has rows.

    At most ``window`` pictures are in memory, decoded or cut out; the rest wait as they were given.
    Pictures of one run share their options. One that was cancelled, or is late, is dropped before
    its next step; a run of the model is never broken off. ``watchers`` are called in a thread with
    the number of pictures of each run.
    """

    def __init__(self, pipeline: Pipeline, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.watchers: list[Callable[[int], object]] = []
        self._pipeline = pipeline
        self._batch = min(self.limits.batch or pipeline.batch, pipeline.batch)
        workers = self.limits.workers or pipeline.workers
        # In the slots, ready for the next run, and with the workers: the model waits for nobody.
        self.window = (SLOTS + 1) * self._batch + workers
        self._waiting: deque[Ticket] = deque()
        self._ready: deque[Ticket] = deque()
        self._made: deque[Ticket] = deque()
        self._running = self._runs = 0
        self._pace, self._last = 0.0, 0.0
        self._closed = self._abandoned = False
        self._changed = threading.Condition()
        self._threads = [
            *(self._start(self._work, f"birefnet-work-{number}") for number in range(workers)),
            *(self._start(self._feed, f"birefnet-feed-{number}") for number in range(SLOTS)),
        ]

    def submit(
        self,
        source: Origin,
        options: Options | None = None,
        work: Work | None = None,
        deadline: float | None = None,
        patient: bool = False,
    ) -> Future[Any]:
        """The cut-out of ``source``, or what ``work`` makes of it in a worker.

        ``source`` may be a function: a worker calls it and takes the picture that it returns.
        ``deadline``: ``time.monotonic()`` from which on the picture is dropped, with DeadlineError.
        Cancelling the future drops it, too. ``patient`` joins the queue though it is full: for
        callers that wait for one result before they bring the next picture.
        Raises BusyError when the queue is full, ClosedError, ForkError, or OptionError where the
        model cannot do what is asked.
        """
        options = options or Options()
        self._pipeline.check_open()
        self._pipeline.check(options)
        ticket = Ticket(source, options, work, deadline)
        future = ticket.future
        with self._changed:
            if self._closed:
                raise _closed()
            load = self._load()
            if load.is_full and not patient:
                raise BusyError(load.retry_after)
            self._waiting.append(ticket)
            self._changed.notify_all()
        future.add_done_callback(lambda future: self._forget(ticket, future))
        return future

    @property
    def load(self) -> Load:
        """What is here now."""
        with self._changed:
            return self._load()

    def close(self, patience: float | None = None) -> bool:
        """Take no more pictures, finish those that were taken and end the threads.

        True when that was done within ``patience`` seconds (None: however long it takes); else what
        waits gets ClosedError, and the threads end after what they are at.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        until = None if patience is None else time.monotonic() + patience
        for thread in self._threads:
            thread.join(None if until is None else max(0.0, until - time.monotonic()))
        left = any(thread.is_alive() for thread in self._threads)
        if left:
            self._abandon()
        return not left

    def _load(self) -> Load:
        return Load(len(self._waiting), self._running, self.limits.queue, self._pace)

    def _start(self, target: Callable[[], None], name: str) -> threading.Thread:
        thread = threading.Thread(target=target, name=name, daemon=True)
        thread.start()
        return thread

    def _forget(self, ticket: Ticket, future: Future[Any]) -> None:
        """Give a place in the queue back at once when its caller hangs up."""
        if not future.cancelled():
            return
        with self._changed:
            if ticket not in self._waiting:
                return
            self._waiting.remove(ticket)
            self._changed.notify_all()
        ticket.settle(None)

    def _abandon(self) -> None:
        with self._changed:
            self._abandoned = True
            tickets = list(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        for ticket in tickets:
            ticket.settle(_closed())

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._task() is not None or self._is_over())
                task = self._task()
                if task is None:
                    return
                queue, step = task
                ticket = queue.popleft()
                if queue is self._waiting:
                    self._running += 1
                    ticket.begun = time.monotonic()
            step(ticket)

    def _task(self) -> tuple[deque[Ticket], Callable[[Ticket], None]] | None:
        """What a worker does next. What ends a picture comes first: that frees memory."""
        if self._made:
            return self._made, self._finish
        if self._waiting and self._running < self.window:
            return self._waiting, self._open
        return None

    def _open(self, ticket: Ticket) -> None:
        if self._is_dropped(ticket):
            return
        try:
            source = ticket.source() if callable(ticket.source) else ticket.source
            ticket.opened = self._pipeline.open(source, ticket.options)
        except BaseException as error:
            self._end(ticket, error)
        else:
            self._pass_on(ticket, self._ready)

    def _finish(self, ticket: Ticket) -> None:
        if self._is_dropped(ticket):
            return
        assert ticket.made is not None
        assert ticket.work is not None
        try:
            result = ticket.work(ticket.made)
        except BaseException as error:
            result = error
        self._end(ticket, result)

    def _feed(self) -> None:
        while group := self._gather():
            self._pass_through(group)

    def _pass_through(self, group: list[Ticket]) -> None:
        """Run ``group``; apart from ``_feed``, which would hold the results while it is idle."""
        try:
            results = self._run(group)
        finally:
            with self._changed:
                self._runs -= 1
                self._changed.notify_all()
        for ticket, result in results:
            self._take_back(ticket, result)

    def _gather(self) -> list[Ticket]:
        """The pictures of the next run; none when there will be no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_worth_a_run() or self._is_over())
            if not self._ready:
                return []
            self._runs += 1
            group = [self._ready.popleft()]
            until = time.monotonic() + self.limits.wait
            while len(group) < self._batch:
                group += self._fitting(group[0], self._batch - len(group))
                left = until - time.monotonic()
                if len(group) == self._batch or left <= 0 or self._closed:
                    break
                self._changed.wait(left)
            return group

    def _is_worth_a_run(self) -> bool:
        """Whether a run may begin. One with rows to spare is held back while another one lasts:
        it could not begin much sooner, and meanwhile it fills (bench/README.md has what fuller runs
        give)."""
        ready = len(self._ready)
        if self._batch == 1 or not self._runs or self._closed:
            return ready > 0
        return ready >= self._batch

    def _fitting(self, first: Ticket, count: int) -> list[Ticket]:
        """At most ``count`` ready pictures with the options of ``first``, oldest first."""
        found = [ticket for ticket in self._ready if ticket.options == first.options][:count]
        for ticket in found:
            self._ready.remove(ticket)
        return found

    def _run(self, group: Sequence[Ticket]) -> list[tuple[Ticket, Cutout | BaseException]]:
        """Each picture of ``group`` that somebody still waits for, and what became of it."""
        group = [ticket for ticket in group if not self._is_dropped(ticket)]
        if not group:
            return []
        for watch in self.watchers:
            watch(len(group))
        opened = [ticket.opened for ticket in group if ticket.opened is not None]
        results: Sequence[Cutout | BaseException]
        try:
            results = self._pipeline.compute(opened, group[0].options, patient=True)
        except Exception as error:
            results = [error] * len(group)
        return list(zip(group, results, strict=True))

    def _take_back(self, ticket: Ticket, result: Cutout | BaseException) -> None:
        ticket.opened = None
        if ticket.work is None or isinstance(result, BaseException):
            self._end(ticket, result)
        else:
            ticket.made = result
            self._pass_on(ticket, self._made)

    def _is_dropped(self, ticket: Ticket) -> bool:
        """Whether nobody waits for ``ticket`` any more; then it has ended."""
        if self._abandoned:
            self._end(ticket, _closed())
        elif ticket.future.cancelled() or ticket.is_late:
            self._end(ticket, DeadlineError(LATE))
        else:
            return False
        return True

    def _pass_on(self, ticket: Ticket, queue: deque[Ticket]) -> None:
        with self._changed:
            queue.append(ticket)
            self._changed.notify_all()

    def _end(self, ticket: Ticket, result: object) -> None:
        with self._changed:
            if not isinstance(result, BaseException):
                self._measure(ticket)
            self._running -= 1
            self._changed.notify_all()
        ticket.settle(result)

    def _measure(self, ticket: Ticket) -> None:
        """Learn from one that ended how fast pictures go through; time without work is not it."""
        now = time.monotonic()
        seconds = now - max(self._last, ticket.begun)
        self._pace = self._pace + _NEWEST * (seconds - self._pace) if self._pace else seconds
        self._last = now

    def _is_over(self) -> bool:
        """Whether nothing is here and nothing will come."""
        return self._closed and not self._waiting and not self._running


def _closed() -> ClosedError:
    return ClosedError("no more pictures are taken: this is being closed")

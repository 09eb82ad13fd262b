"""Many pictures through one pipeline, several at once, results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

from birefnet_runtime.cutout import Cutout
from birefnet_runtime.host import SLOTS
from birefnet_runtime.options import Options
from birefnet_runtime.pipeline import Pipeline, Source
from birefnet_runtime.run import Opened

# Called in a worker with the number of a picture in its stream, from 0, and its cut-out.
Work = Callable[[int, Cutout], object]
Result = Future[Cutout]


def window(pipeline: Pipeline) -> int:
    """Pictures that a stream takes ahead of the one that is waited for."""
    return max(pipeline.workers, SLOTS * pipeline.batch)


class Belt:
    """One stream: workers decode, two threads feed the device, workers finish.

    A picture is decoded by a worker; when the pictures of one run are all there, a feeder takes
    them through a slot; workers then do ``work`` on each result. At most ``window`` pictures are
    taken ahead of the one that is waited for, so memory stays bounded.
    """

    def __init__(self, pipeline: Pipeline, options: Options, work: Work | None = None) -> None:
        self._pipeline, self._options, self._work = pipeline, options, work
        self._batch, workers = pipeline.batch, pipeline.workers
        self.window = window(pipeline)
        self._workers = ThreadPoolExecutor(workers, thread_name_prefix="birefnet-worker")
        self._feeders = ThreadPoolExecutor(SLOTS, thread_name_prefix="birefnet-feeder")

    def run(self, sources: Iterable[Source]) -> Generator[Result, None, None]:
        """A future for each source, in order. Closing the iterator lets the pictures in flight end
        and drops the rest."""
        pending: deque[Result] = deque()
        numbers = 0
        rest = iter(sources)
        try:
            while group := list(islice(rest, self._batch)):
                pending.extend(self._submit(numbers, group))
                numbers += len(group)
                while len(pending) > self.window:
                    yield pending.popleft()
            while pending:
                yield pending.popleft()
        finally:
            self._workers.shutdown(cancel_futures=True, wait=False)
            self._feeders.shutdown(cancel_futures=True)
            self._workers.shutdown()

    def _submit(self, first: int, group: list[Source]) -> list[Result]:
        opened = [self._workers.submit(self._open, source) for source in group]
        results: list[Result] = [Future() for _ in group]
        self._feeders.submit(self._feed, first, opened, results)
        return results

    def _open(self, source: Source) -> Opened:
        return self._pipeline.open(source, self._options)

    def _feed(self, first: int, opened: list[Future[Opened]], results: list[Result]) -> None:
        """Take a group through a slot; a picture that could not be read is left out of it."""
        ready: list[tuple[int, Opened]] = []
        for index, future in enumerate(opened):
            try:
                ready.append((index, future.result()))
            except Exception as error:
                results[index].set_exception(error)
        opened.clear()
        if not ready:
            return
        try:
            group = [one for _, one in ready]
            found: Sequence[Cutout | Exception] = self._pipeline.compute(
                group, self._options, patient=True
            )
        except Exception as error:
            found = [error] * len(ready)
        for (index, _), result in zip(ready, found, strict=True):
            self._finish(first + index, result, results[index])

    def _finish(self, number: int, result: Cutout | Exception, future: Result) -> None:
        """Settle ``future``, in a worker where there is work to be done."""
        if isinstance(result, Exception):
            future.set_exception(result)
        elif self._work is None:
            future.set_result(result)
        else:
            try:
                self._workers.submit(self._settle, number, result, future)
            except RuntimeError:
                # The stream was closed meanwhile: nobody waits.
                future.cancel()

    def _settle(self, number: int, cutout: Cutout, future: Result) -> None:
        assert self._work is not None
        try:
            self._work(number, cutout)
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(cutout)

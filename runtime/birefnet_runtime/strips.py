"""Work on the strips of a picture, in threads that all pictures share."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

_LOCK = threading.Lock()
_helpers: ThreadPoolExecutor | None = None


def cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def each(work: Callable[[int], T], count: int, threads: int | None = None) -> list[T]:
    """``[work(0), .., work(count - 1)]``, computed in at most ``threads`` threads, None for a core
    each.

    The caller is one of them. The others come from one pool of a thread per core: where it is busy
    with other pictures, the caller does the work alone and waits for nobody. Raises what ``work``
    raises, once no thread is in it any more.
    """
    pending = deque(range(count))
    results: dict[int, T] = {}

    def take() -> None:
        while pending:
            try:
                number = pending.popleft()
            except IndexError:
                return
            results[number] = work(number)

    others = _invite(take, min(cores() if threads is None else threads, count) - 1)
    try:
        take()
    finally:
        pending.clear()
        for other in others:
            if not other.cancel():
                other.result()
    return [results[number] for number in range(count)]


def _invite(take: Callable[[], None], helpers: int) -> list[Future[None]]:
    try:
        return [_pool().submit(take) for _ in range(helpers)]
    except RuntimeError:
        # The interpreter is on its way out and starts no thread any more.
        return []


def _pool() -> ThreadPoolExecutor:
    global _helpers
    with _LOCK:
        if _helpers is None:
            _helpers = ThreadPoolExecutor(cores(), thread_name_prefix="birefnet-strip")
        return _helpers


def _forget() -> None:
    """After a fork: the pool's threads stayed with the parent."""
    global _helpers, _LOCK
    _helpers, _LOCK = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)

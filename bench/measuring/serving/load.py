"""Load on a server: a fixed number of callers, or requests that come whether it keeps up or not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from measuring.serving.wire import LOST, Connection, Reply

# Seconds that a caller waits who was told to come again without being told when.
_AGAIN = 1.0
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass
class Volley:
    """What a load found: ``latencies`` in seconds of the requests that are measured,
    ``seconds`` in which they were answered, ``answered`` with a PNG in all, ``refused`` answers of
    503, ``failed`` others by what they were, ``lag``: the most that a request was sent later than
    it should have been."""

    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0
    answered: int = 0
    refused: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    lag: float = 0.0

    def fail(self, what: str) -> None:
        """Count one request that got nothing of use."""
        self.failed[what] = self.failed.get(what, 0) + 1

    def as_answer(self) -> dict[str, Any]:
        """For JSON; latencies to the microsecond."""
        return {**asdict(self), "latencies": [round(value, 6) for value in self.latencies]}


class Target:
    """A server, and the whole requests that it is sent in turn."""

    def __init__(self, host: str, port: int, requests: Sequence[bytes]) -> None:
        self._host, self._port, self._requests = host, port, requests
        self._next = 0

    def connection(self) -> Connection:
        """A new one, not yet open."""
        return Connection(self._host, self._port)

    def request(self) -> bytes:
        """The next one."""
        self._next += 1
        return self._requests[self._next % len(self._requests)]


async def closed(target: Target, connections: int, count: int) -> Volley:
    """``connections`` callers, each of whom asks again as soon as it has its answer.

    As many answers as there are callers are left out at the start, while the queue fills; then
    ``count`` are measured, all of them under full load.
    """
    volley, answered = Volley(), list[tuple[float, float]]()
    wanted = connections + count

    async def call() -> None:
        connection = target.connection()
        while len(answered) + sum(volley.failed.values()) < wanted:
            begin = time.perf_counter()
            if await _insist(connection, target.request(), volley):
                end = time.perf_counter()
                answered.append((end, end - begin))
        connection.close()

    await asyncio.gather(*(call() for _ in range(connections)))
    volley.answered = len(answered)
    kept = answered[connections:wanted]
    if kept:
        volley.latencies = [seconds for _, seconds in kept]
        volley.seconds = kept[-1][0] - answered[connections - 1][0]
    return volley


async def paced(target: Target, arrivals: Sequence[float], skip: int = 0) -> Volley:
    """A request at each of ``arrivals``, ascending seconds from now, whether or not others still
    wait. Latency counts from there, so that a stall is felt by all who would have come during it.
    The first ``skip`` are not kept.
    """
    volley, idle = Volley(), list[Connection]()
    begin = time.perf_counter() + 0.1

    async def call(number: int, due: float) -> None:
        connection = idle.pop() if idle else target.connection()
        volley.lag = max(volley.lag, time.perf_counter() - due)
        answered = await _once(connection, target.request(), volley)
        idle.append(connection)
        volley.answered += answered
        if answered and number >= skip:
            end = time.perf_counter()
            volley.latencies.append(end - due)
            volley.seconds = end - begin - arrivals[max(skip - 1, 0)]

    await _at(arrivals, begin, call)
    for connection in idle:
        connection.close()
    return volley


async def _at(
    arrivals: Sequence[float],
    begin: float,
    call: Callable[[int, float], Coroutine[Any, Any, None]],
) -> None:
    calls = []
    for number, arrival in enumerate(arrivals):
        due = begin + arrival
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        calls.append(asyncio.create_task(call(number, due)))
    await asyncio.gather(*calls)


async def _insist(connection: Connection, request: bytes, volley: Volley) -> bool:
    """Ask until there is an answer other than "come again later", waiting as long as it says."""
    while True:
        reply = await _ask(connection, request, volley)
        if reply is None or reply.status != 503:
            return _is_picture(reply, volley)
        volley.refused += 1
        await asyncio.sleep(_AGAIN if reply.retry_after is None else reply.retry_after)


async def _once(connection: Connection, request: bytes, volley: Volley) -> bool:
    reply = await _ask(connection, request, volley)
    if reply is not None and reply.status == 503:
        volley.refused += 1
        return False
    return _is_picture(reply, volley)


async def _ask(connection: Connection, request: bytes, volley: Volley) -> Reply | None:
    try:
        return await connection.ask(request)
    except LOST as error:
        volley.fail(type(error).__name__)
        return None


def _is_picture(reply: Reply | None, volley: Volley) -> bool:
    if reply is None:
        return False
    if reply.status != 200:
        volley.fail(str(reply.status))
        return False
    if not reply.body.startswith(_PNG):
        volley.fail("no PNG")
        return False
    return True

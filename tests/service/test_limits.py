"""Limits of size, time, memory and number, and what is done about clients that go away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from birefnet_runtime import Limits
from birefnet_runtime.async_matting import AsyncMatting
from birefnet_runtime.errors import LostDeviceError, OutOfMemoryError
from birefnet_runtime.serve.app import create_app
from birefnet_runtime.serve.life import State
from birefnet_runtime.serve.service import Service
from birefnet_runtime.serve.settings import Settings
from helpers.asgi import Exchange, eventually
from helpers.gate import SOON, Gate
from helpers.pictures import disc, encoded

PNG = encoded(disc())
IMAGE = "image/png"


class Held:
    """An application whose model waits to be let through."""

    def __init__(self, gate: Gate, matting: AsyncMatting, settings: Settings) -> None:
        self.gate, self.matting = gate, matting
        self.app: Any = create_app(matting, settings)
        self.service: Service = self.app.state.service

    def post(self, body: bytes | None = PNG, **headers: str) -> Exchange:
        """A request with all of its body; None leaves that to come."""
        length = {} if body is None else {"content_length": str(len(body))}
        exchange = Exchange(self.app, content_type=IMAGE, **length, **headers)
        if body is not None:
            exchange.feed(body)
        return exchange

    async def full(self) -> list[Exchange]:
        """Requests that fill the model and the queue behind it."""
        load = self.matting.load
        most = self.matting._batcher.window
        found = []
        for running in range(1, most + 1):
            found.append(self.post())
            await eventually(partial(self._has, running, 0))
        for waiting in range(1, load.queue + 1):
            found.append(self.post())
            await eventually(partial(self._has, most, waiting))
        return found

    def _has(self, running: int, waiting: int) -> bool:
        load = self.matting.load
        return (load.running, load.waiting) == (running, waiting)

    def is_idle(self) -> bool:
        load, service = self.matting.load, self.service
        counts = (load.waiting, load.running, service.accepted, service.coming)
        return counts == (0, 0, 0, 0) and service.budget.used == 0


@asynccontextmanager
async def _held(queue: int, settings: Settings) -> AsyncIterator[Held]:
    gate = Gate()
    async with AsyncMatting(gate.matting, Limits(queue=queue)) as matting:
        held = Held(gate, matting, settings)
        try:
            yield held
        finally:
            gate.open()
        await eventually(held.is_idle)


def run(main: Callable[[Held], Awaitable[None]], queue: int = 2, **settings: Any) -> None:
    """``main`` with a service, which has nothing left to do or to hold afterwards."""

    async def all_of_it() -> None:
        async with _held(queue, Settings(**settings)) as held:
            await asyncio.wait_for(main(held), 2 * SOON)

    asyncio.run(all_of_it())


def test_a_body_that_says_it_is_too_large() -> None:
    async def main(held: Held) -> None:
        exchange = Exchange(held.app, content_length="1001", content_type=IMAGE)
        # The answer is out before the body comes, and the rest of that is still taken.
        await eventually(lambda: len(exchange.sent) == 2)
        assert (exchange.status, exchange.code) == (413, "too_large")
        assert exchange.headers["connection"] == "close"
        assert not exchange.is_over
        exchange.feed(bytes(500), more=True)
        exchange.feed(bytes(501))
        await exchange.end()
        # A client that waits for leave gets its answer instead, and nothing is read.
        polite = Exchange(held.app, content_length="9" * 30, expect="100-continue")
        await polite.end()
        assert (polite.status, polite.asked) == (413, 0)

    run(main, max_body=1000)


def test_a_body_that_turns_out_too_large() -> None:
    async def main(held: Held) -> None:
        exchange = Exchange(held.app, transfer_encoding="chunked", content_type=IMAGE)
        for _ in range(3):
            exchange.feed(bytes(400), more=True)
        exchange.hang_up()
        await exchange.end()
        assert (exchange.status, exchange.code) == (413, "too_large")
        small = Exchange(held.app, transfer_encoding="chunked", content_type=IMAGE)
        small.feed(bytes(500), more=True)
        small.feed(bytes(500), more=False)
        await small.end()
        assert small.code == "not_a_picture"

    run(main, max_body=1000)


def test_a_slow_body() -> None:
    async def main(held: Held) -> None:
        exchange = held.post(None, content_length="100")
        exchange.feed(b"a", more=True)
        await eventually(lambda: bool(exchange.sent))
        assert (exchange.status, exchange.code) == (408, "slow_body")
        exchange.hang_up()
        await exchange.end()

    run(main, body_seconds=0.05)


def test_a_compressed_body() -> None:
    async def main(held: Held) -> None:
        exchange = held.post(content_encoding="gzip")
        await exchange.end()
        assert exchange.code == "bad_request"

    run(main)


def test_memory_for_bodies() -> None:
    async def main(held: Held) -> None:
        first = held.post(None, content_length="1000")
        first.feed(bytes(800), more=True)
        await eventually(lambda: held.service.budget.used == 800)
        second = held.post(bytes(900))
        await second.end()
        assert (second.status, second.code) == (503, "busy")
        assert second.headers["retry-after"] == "1"
        first.hang_up()
        await first.end()
        assert not first.sent
        third = held.post(bytes(900))
        await third.end()
        assert third.code == "not_a_picture"

    run(main, max_body=1000, memory=1000)


def test_a_full_queue_is_told_before_the_body_is_read() -> None:
    async def main(held: Held) -> None:
        pictures = await held.full()
        exchange = held.post(None, content_length="100", expect="100-continue")
        await exchange.end()
        assert (exchange.status, exchange.code, exchange.asked) == (503, "busy", 0)
        assert int(exchange.headers["retry-after"]) >= 1
        held.gate.open()
        for picture in pictures:
            await picture.end()
            assert picture.status == 200

    run(main)


def test_those_whose_body_comes_have_a_place_in_the_queue() -> None:
    async def main(held: Held) -> None:
        coming = [held.post(None, content_length="9") for _ in range(2)]
        await eventually(lambda: held.service.coming == 2)
        third = held.post()
        await third.end()
        assert third.code == "busy"
        for exchange in coming:
            exchange.hang_up()
            await exchange.end()
        # Their places are free again.
        held.gate.open()
        fourth = held.post()
        await fourth.end()
        assert fourth.status == 200

    run(main)


def test_a_deadline() -> None:
    async def main(held: Held) -> None:
        exchange = held.post()
        await exchange.end()
        assert (exchange.status, exchange.code) == (504, "deadline")

    run(main, seconds=0.05)


def test_the_work_of_a_client_that_hung_up_is_dropped() -> None:
    async def main(held: Held) -> None:
        pictures = await held.full()
        for exchange in pictures:
            exchange.hang_up()
            await exchange.end()
            assert not exchange.sent
        # Those that were not in the model yet leave the queue at once.
        assert held.matting.load.waiting == 0
        held.gate.open()
        await eventually(held.is_idle)
        assert held.gate.runs < len(pictures)

    run(main)


def test_a_drain_answers_what_was_accepted() -> None:
    async def main(held: Held) -> None:
        begun = held.post(None, content_length=str(len(PNG)))
        await eventually(lambda: held.service.accepted == 1)
        held.service.life.drain()
        late = held.post()
        await late.end()
        assert (late.status, late.code) == (503, "not_ready")
        assert "retry-after" in late.headers
        probe = Exchange(held.app, "GET", "/readyz")
        await probe.end()
        assert probe.status == 503
        assert json.loads(probe.body)["state"] == "draining"
        held.gate.open()
        begun.feed(PNG)
        await begun.end()
        assert begun.status == 200

    run(main)


@pytest.mark.parametrize(
    ("error", "status", "code", "state"),
    [
        (OutOfMemoryError("full"), 503, "busy", State.READY),
        (LostDeviceError("a secret address"), 500, "internal", State.FAILED),
        (RuntimeError("a secret path"), 500, "internal", State.READY),
    ],
)
def test_faults_of_the_device(
    error: Exception, status: int, code: str, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main(held: Held) -> None:
        def fail(slot: object) -> None:
            raise error

        monkeypatch.setattr(held.gate, "infer", fail)
        exchange = held.post()
        await exchange.end()
        assert (exchange.status, exchange.code) == (status, code)
        assert b"secret" not in exchange.body
        assert held.service.life.state is state

    run(main)

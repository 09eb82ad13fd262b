"""What a picture took is free as soon as it is answered, not when Python looks for circles."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from birefnet_runtime import AsyncMatting, Cutout
from birefnet_runtime.batcher import Ticket
from birefnet_runtime.errors import InputError
from birefnet_runtime.serve.app import create_app
from birefnet_runtime.serve.upload import File
from helpers.pictures import disc, encoded

GOOD = encoded(disc())
# Seconds, far longer than that takes.
SOON = 10.0


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("good", [True, False])
def test_a_picture_is_let_go_with_its_result_or_error(tiny: Path, good: bool) -> None:
    async def ask() -> None:
        async with AsyncMatting.open(tiny, "cpu", threads=1) as matting:
            picture = disc() if good else np.zeros((2, 2, 5), np.uint8)
            held: list[weakref.ref[Any]] = [weakref.ref(picture)]
            if good:
                held.append(weakref.ref(await matting.remove(picture)))
            else:
                with pytest.raises(InputError):
                    await matting.remove(picture)
            del picture
            # A thread may be about to leave the step that held it; then all of them are idle.
            end = time.monotonic() + SOON
            while any(thing() is not None for thing in held):
                assert time.monotonic() < end, held
                await asyncio.sleep(0.01)

    asyncio.run(ask())


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize(
    ("body", "query", "status"),
    [(GOOD, "", 200), (GOOD[:-90], "", 415), (b"a" * 1000, "", 415), (GOOD, "?size=0", 400)],
)
def test_a_request_is_let_go_with_its_answer(
    tiny: Path, body: bytes, query: str, status: int
) -> None:
    async def ask() -> None:
        async with AsyncMatting.open(tiny, "cpu", threads=1) as matting:
            transport = httpx.ASGITransport(create_app(matting))
            async with httpx.AsyncClient(
                transport=transport, base_url="http://127.0.0.1"
            ) as client:
                # The first request fills caches, which hold some circles of their own.
                for _ in range(2):
                    gc.collect()
                    headers = {"Content-Type": "image/png"}
                    reply = await client.post("/v1/remove" + query, content=body, headers=headers)
                    assert reply.status_code == status

    asyncio.run(ask())
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        found = {type(thing) for thing in gc.garbage}
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
    assert not found & {File, Ticket, Cutout}

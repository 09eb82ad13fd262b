"""The body of a request, within limits of size, time and memory."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.types import Receive

from birefnet_runtime.serve.budget import Budget
from birefnet_runtime.serve.call import Call, HungUp
from birefnet_runtime.serve.problem import Problem
from birefnet_runtime.serve.settings import MEBI, Settings

# Seconds and bytes for which a refused body is still read: a client that sends before it listens
# would see a broken connection instead of the answer.
_LINGER = 2.0
_LINGER_BYTES = 64 * MEBI


def check_length(headers: Headers, settings: Settings) -> None:
    """Problem for a body that is too large by its own account, or comes compressed."""
    encoding = headers.get("content-encoding", "identity")
    if encoding.strip().lower() != "identity":
        raise Problem("bad_request", "A compressed body is not taken: send it as it is.")
    length = headers.get("content-length", "0")
    if length.isascii() and length.isdigit() and int(length[:20]) > settings.max_body:
        raise _too_large(settings)


async def read(receive: Receive, call: Call, settings: Settings, budget: Budget) -> bytes:
    """The whole body. Its bytes are held against ``budget`` until the call ends.

    Raises Problem ``too_large``, ``slow_body`` or ``busy``, and HungUp.
    """
    left = min(settings.body_seconds, call.started + settings.seconds - time.monotonic())
    try:
        return await asyncio.wait_for(_collect(receive, call, settings, budget), left)
    except asyncio.TimeoutError:
        message = f"The body did not arrive within {settings.body_seconds:g} s."
        raise Problem("slow_body", message) from None


async def _collect(receive: Receive, call: Call, settings: Settings, budget: Budget) -> bytes:
    chunks: list[bytes] = []
    async for chunk in _chunks(receive, call):
        if call.received > settings.max_body:
            raise _too_large(settings)
        budget.take(len(chunk))
        call.held += len(chunk)
        chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


class _chunks:
    """The chunks of a body; a class because a generator would have to be closed."""

    def __init__(self, receive: Receive, call: Call) -> None:
        self._receive, self._call = receive, call

    def __aiter__(self) -> _chunks:
        return self

    async def __anext__(self) -> bytes:
        call = self._call
        while call.unread:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                call.unread = False
                raise HungUp
            call.unread = message.get("more_body", False)
            chunk: bytes = message.get("body", b"")
            call.received += len(chunk)
            if chunk:
                return chunk
        raise StopAsyncIteration


async def discard(receive: Receive, call: Call) -> None:
    """Read what is left of a refused body and forget it, within bounds."""
    with suppress(asyncio.TimeoutError, HungUp):
        await asyncio.wait_for(_discard(receive, call), _LINGER)


async def _discard(receive: Receive, call: Call) -> None:
    end = call.received + _LINGER_BYTES
    async for _ in _chunks(receive, call):
        if call.received > end:
            return


def _too_large(settings: Settings) -> Problem:
    return Problem(
        "too_large", f"The body has more than the {settings.max_body} bytes that are taken."
    )

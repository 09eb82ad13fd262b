"""uvicorn's HTTP/1.1 with two more time limits: for heads, and for clients that do not read."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol


def protocol(head_seconds: float) -> type[H11Protocol]:
    """The protocol class for a server whose requests' heads must arrive within so many seconds."""

    class Limited(Protocol):
        seconds = head_seconds

    return Limited


class Protocol(H11Protocol):
    """One connection."""

    seconds = 10.0

    def __init__(self, config: Config, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        self._head: asyncio.TimerHandle | None = None
        self._unsent: int | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def timeout_keep_alive_handler(self) -> None:
        """Called when nothing came for a while after an answer; closes what only reads slowly when
        it is done, and at once what has read nothing since the last call."""
        unsent = self.transport.get_write_buffer_size()
        if not unsent:
            super().timeout_keep_alive_handler()
        elif self._unsent is not None and unsent >= self._unsent:
            self.transport.abort()
        else:
            self._unsent = unsent
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _watch(self) -> None:
        """Wait for a head, or stop waiting when it is there."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._unsent = None
            self._forget()
        elif self._head is None and not self.transport.is_closing():
            self._head = self.loop.call_later(self.seconds, self._late)

    def _late(self) -> None:
        self._head = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()

    def _forget(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

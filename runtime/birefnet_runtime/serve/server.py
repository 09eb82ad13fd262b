"""uvicorn as ``birefnet serve`` runs it: bounded in time, and drained before it ends."""

from __future__ import annotations

import os
import socket
import sys
import time
from types import FrameType

import uvicorn
from fastapi import FastAPI

from birefnet_runtime.errors import BirefnetError
from birefnet_runtime.serve.life import State
from birefnet_runtime.serve.protocol import protocol
from birefnet_runtime.serve.service import Service

# Bytes of a request's head: four times what browsers send with many cookies.
_LARGEST_HEAD = 32 * 1024
# Seconds for which a connection may be idle between two requests.
_IDLE = 15
# Seconds beyond the longest request after which a drain is given up.
_GRACE = 10.0
# What a shell adds to the number of the signal that ended a process.
_BY_SIGNAL = 128


class Server(uvicorn.Server):
    """One application on one socket.

    The first SIGTERM or Ctrl-C begins a drain: what was accepted is answered, new pictures are
    refused, then the server ends. The second one ends the process at once. A model that does not
    load, or is lost, ends the server as well; ``fault`` is why.
    """

    def __init__(self, app: FastAPI, host: str | None = None, port: int | None = None) -> None:
        """Listens on ``host`` and ``port``, else as the settings say; BirefnetError."""
        self.service: Service = app.state.service
        settings = self.service.settings
        super().__init__(
            uvicorn.Config(
                app,
                http=protocol(settings.header_seconds),
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                h11_max_incomplete_event_size=_LARGEST_HEAD,
                timeout_keep_alive=_IDLE,
                timeout_graceful_shutdown=int(_GRACE),
            )
        )
        self.socket = listen(host or settings.host, settings.port if port is None else port)
        self._until: float | None = None

    @property
    def port(self) -> int:
        """The one that it has, where any was asked for."""
        return int(self.socket.getsockname()[1])

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self.socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def fault(self) -> BaseException | None:
        """Why the model cannot be used."""
        return self.service.life.fault

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until the end; the socket is closed then."""
        super().run(sockets or [self.socket])

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain, or end at once when that was asked for before."""
        if self._until is not None:
            sys.stderr.flush()
            os._exit(_BY_SIGNAL + sig)
        self._until = time.monotonic() + self.service.settings.seconds + _GRACE
        self.service.life.drain()

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second; whether to end."""
        if self.service.life.state is State.FAILED:
            self.should_exit = True
        if self._until is not None:
            late = time.monotonic() > self._until
            self.should_exit = self.should_exit or late or not self.service.accepted
        return await super().on_tick(counter)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; BirefnetError where there cannot be one."""
    try:
        (family, *_, address), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        # asyncio turns Nagle's delay (40 ms an answer) off only where the protocol is named.
        made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(address)
            made.listen(_BACKLOG)
        except OSError:
            made.close()
            raise
        return made
    except OSError as error:
        reason = error.strerror or str(error)
        raise BirefnetError(
            f"cannot listen on {host} port {port}: {reason}: choose another (--host, --port)"
        ) from None


# Connections that wait to be accepted.
_BACKLOG = 1024

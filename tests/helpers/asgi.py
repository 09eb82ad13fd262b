"""One request to an ASGI application, message by message, with the client's side in hand."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

from helpers.gate import SOON


async def eventually(holds: Callable[[], bool]) -> None:
    """Wait until ``holds()``, which it will soon."""
    until = time.monotonic() + SOON
    while not holds():
        assert time.monotonic() < until
        await asyncio.sleep(0.001)


class Exchange:
    """A request to ``app``. Its body comes as ``feed`` gives it; ``sent`` is what was answered."""

    def __init__(
        self, app: Any, method: str = "POST", path: str = "/v1/remove", **headers: str
    ) -> None:
        fields = {"host": "127.0.0.1", **headers}
        pairs = [
            (name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()
        ]
        path, _, query = path.partition("?")
        self.scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": pairs,
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 8000),
        }
        self.sent: list[Any] = []
        self.asked = 0
        self._coming: asyncio.Queue[Any] = asyncio.Queue()
        self._task: asyncio.Future[None] = asyncio.ensure_future(
            app(self.scope, self._receive, self._send)
        )

    def feed(self, data: bytes, more: bool = False) -> None:
        self._coming.put_nowait({"type": "http.request", "body": data, "more_body": more})

    def hang_up(self) -> None:
        self._coming.put_nowait({"type": "http.disconnect"})

    async def end(self) -> None:
        """Wait until the application is done with it."""
        await asyncio.wait_for(self._task, SOON)

    @property
    def is_over(self) -> bool:
        return self._task.done()

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent[1:])

    @property
    def code(self) -> str:
        return str(json.loads(self.body)["error"]["code"])

    async def _receive(self) -> Any:
        self.asked += 1
        return await self._coming.get()

    async def _send(self, message: Any) -> None:
        self.sent.append(message)

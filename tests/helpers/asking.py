"""Requests to an application in this process, without a socket."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx


class Asker:
    """Asks ``app``, each time in an event loop of its own."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def __call__(self, method: str, path: str, **what: Any) -> httpx.Response:
        """The answer to ``method path``; ``what`` as httpx takes it."""
        return asyncio.run(self._ask(method, path, what))

    async def _ask(self, method: str, path: str, what: dict[str, Any]) -> httpx.Response:
        # An error that gets past the application is the test's.
        transport = httpx.ASGITransport(self._app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.request(method, path, **what)

"""The ASGI layer round all routes: who may ask, the id, safe headers, errors, the log."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from datetime import datetime, timezone
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from birefnet_runtime.serve import limits
from birefnet_runtime.serve.call import Call, HungUp
from birefnet_runtime.serve.guard import Guard
from birefnet_runtime.serve.problem import as_problem
from birefnet_runtime.serve.service import Service

LOG = logging.getLogger("birefnet.serve")
# nginx's status for a client that hung up, of which nobody but the log hears.
HUNG_UP = 499
_SAFE = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
_NO_PAGE = "default-src 'none'; frame-ancestors 'none'; sandbox"


class Gate:
    """Takes every request, and answers it whatever happens on the way."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service
        self._guard = Guard(service.settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        call = Call.of(scope, headers)
        scope.setdefault("state", {})["call"] = call
        reply = _Reply(receive, send, call, headers)
        try:
            await self._answer(scope, receive, reply, headers)
        except HungUp:
            reply.status = HUNG_UP
        finally:
            self._service.settle(call)
            self._note(scope, reply)
            _release(call)

    async def _answer(
        self, scope: Scope, receive: Receive, reply: _Reply, headers: Headers
    ) -> None:
        call = reply.call
        try:
            self._guard.check(scope["method"], call.path, headers)
            await self._app(scope, receive, reply)
        except (HungUp, asyncio.CancelledError):
            raise
        except Exception as error:
            if reply.status:
                # The head of an answer is out: all that is left is to break off.
                raise
            call.fault = error
            problem = as_problem(error, self._service.settings.max_pixels)
            response = self._service.render(problem, call)
            await response(scope, receive, reply)

    def _note(self, scope: Scope, reply: _Reply) -> None:
        """One line of the log, with nothing of the client's but what is harmless."""
        call, status = reply.call, reply.status or HUNG_UP
        route = getattr(scope.get("route"), "path", "other")
        seconds = time.monotonic() - call.started
        self._service.metrics.note(route, status, seconds)
        line: dict[str, Any] = {
            "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
            "id": call.id,
            "route": route,
            "status": status,
            "ms": round(1000 * seconds, 1),
            "in": call.received,
            "out": call.sent,
        }
        if call.picture is not None:
            line["picture"] = "{}x{}".format(*call.picture)
        LOG.info(json.dumps(line))
        if status >= 500 and call.fault is not None and status not in (503, 504):
            LOG.error("request %s failed", call.id, exc_info=call.fault)


def _release(call: Call) -> None:
    """Let go of the frames behind an error. They hold the picture, in a circle with the tasks that
    hold the error, and would until Python looks for circles: twenty bodies later."""
    error, call.fault = call.fault, None
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


class _Reply:
    """``send`` of one request: adds headers, counts, and lets a client finish sending."""

    def __init__(self, receive: Receive, send: Send, call: Call, headers: Headers) -> None:
        self._receive, self._send = receive, send
        self.call = call
        self.status = 0
        call.unread = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        # Who waits for leave to send its body needs none to be read.
        self._lingers = "expect" not in headers

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._complete(MutableHeaders(raw=message["headers"]))
            await self._send(message)
            return
        self.call.sent += len(message.get("body", b""))
        if message.get("more_body", False) or not (self.call.unread and self._lingers):
            await self._send(message)
            return
        await self._send({**message, "more_body": True})
        await limits.discard(self._receive, self.call)
        await self._send({"type": "http.response.body", "body": b""})

    def _complete(self, headers: MutableHeaders) -> None:
        headers["X-Request-Id"] = self.call.id
        for name, value in _SAFE.items():
            headers.setdefault(name, value)
        headers.setdefault("Content-Security-Policy", _NO_PAGE)
        headers.setdefault("Cache-Control", "no-store")
        if self.call.unread:
            headers["Connection"] = "close"

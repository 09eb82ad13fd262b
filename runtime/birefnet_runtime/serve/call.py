"""One request on its way, and how it is told from others."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.types import Scope

# What may go into a header and a log without harm.
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class HungUp(Exception):
    """The client is gone: there is nobody to answer."""


@dataclass(eq=False)
class Call:
    """``id`` is the client's X-Request-Id where that is harmless, else ours. ``started``:
    ``time.monotonic()`` when the head was there. ``place``: holds one of the queue's places;
    ``accepted``: is answered even when the service is about to end. ``held``: bytes of its body
    that count as memory. ``unread``: there may be more of its body. ``picture``: (height, width).
    """

    id: str
    path: str
    started: float = field(default_factory=time.monotonic)
    place: bool = False
    accepted: bool = False
    held: int = 0
    received: int = 0
    sent: int = 0
    unread: bool = True
    picture: tuple[int, int] | None = None
    fault: BaseException | None = None

    @classmethod
    def of(cls, scope: Scope, headers: Mapping[str, str]) -> Call:
        """The call of a request that has just come in."""
        given = headers.get("x-request-id", "")
        root, path = scope.get("root_path", ""), scope["path"]
        if root and path.startswith(root + "/"):
            path = path[len(root) :]
        return cls(given if _ID.fullmatch(given) else secrets.token_hex(8), path)


def call_of(request: Request) -> Call:
    """The call that the gate made of ``request``."""
    call: Call = request.state.call
    return call

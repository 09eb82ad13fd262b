"""Who may ask: keys, names of the service, and pages of other origins."""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from birefnet_runtime.serve.problem import Problem
from birefnet_runtime.serve.settings import Settings

# What needs no key: it says nothing about anybody's pictures, and probes and pages have none.
OPEN = frozenset({"/", "/healthz", "/readyz", "/v1/info", "/docs", "/openapi.json"})
OPEN_BELOW = ("/page/",)
_LOCAL = ("localhost", "127.0.0.1", "[::1]")
_SAFE = ("GET", "HEAD")


class Guard:
    """Lets a request in or raises the Problem that keeps it out, by its head alone."""

    def __init__(self, settings: Settings) -> None:
        self._digests = [_digest(key) for key in settings.keys]
        self._origins = frozenset(settings.origins)
        names = settings.hosts + (_LOCAL if settings.local else ())
        # Elsewhere only where names were given: who is asked from outside does not know them all.
        self._names = frozenset(name.lower() for name in names)

    def check(self, method: str, path: str, headers: Headers) -> None:
        """Problem ``forbidden`` for a wrong Host or Origin, ``unauthorized`` for a wrong key."""
        self._check_host(headers)
        if method not in _SAFE:
            self._check_origin(headers)
        if self._digests and path not in OPEN and not path.startswith(OPEN_BELOW):
            self._check_key(headers)

    def _check_host(self, headers: Headers) -> None:
        host = headers.get("host", "").lower()
        if self._names and host not in self._names and _without_port(host) not in self._names:
            raise Problem(
                "forbidden",
                "The service is not known under this name (Host): ask it by its address, or "
                "start it with --allow-host.",
            )

    def _check_origin(self, headers: Headers) -> None:
        """A browser says which page sends; one that shows this service's own page may."""
        origin = headers.get("origin")
        if origin is None or origin in self._origins:
            return
        if urlsplit(origin).netloc.lower() != headers.get("host", "").lower():
            raise Problem(
                "forbidden",
                "Pages of this origin are not let in: start the service with --allow-origin.",
            )

    def _check_key(self, headers: Headers) -> None:
        given = headers.get("x-api-key")
        if given is None:
            scheme, _, rest = headers.get("authorization", "").partition(" ")
            given = rest.strip() if scheme.lower() == "bearer" else None
        if given is None:
            raise _unauthorized("Give a key: X-Api-Key: KEY, or Authorization: Bearer KEY.")
        digest = _digest(given)
        # All of them each time, so that the time says nothing about which one is near.
        if not any([hmac.compare_digest(digest, known) for known in self._digests]):
            raise _unauthorized("The key is not known: check it.")


def _unauthorized(message: str) -> Problem:
    return Problem("unauthorized", message, {"WWW-Authenticate": "Bearer"})


def _digest(key: str) -> bytes:
    """Of one length for keys of any."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host

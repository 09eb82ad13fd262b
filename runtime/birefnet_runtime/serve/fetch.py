"""The bytes behind a URL that a stranger gave, without a way into the network around us."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache

# uvicorn's own parser of HTTP/1.1: strict about lengths, and limited in what it holds.
import h11

from birefnet_runtime.errors import FetchError
from birefnet_runtime.serve.addresses import is_public
from birefnet_runtime.serve.target import PORTS, Target, refusal

# Bytes of an answer's head; of one read.
_LARGEST_HEAD = 64 * 1024
_PIECE = 64 * 1024
# Addresses of one host that are tried.
_TRIES = 3
_MOVED = (301, 302, 303, 307, 308)
# Names are looked up in threads of their own: slow ones keep nothing but other fetches waiting.
_LOOKUPS = ThreadPoolExecutor(8, thread_name_prefix="birefnet-lookup")


@dataclass(frozen=True)
class FetchLimits:
    """What one fetch may take.

    ``size``: bytes of the picture. ``seconds``: from the name to the last byte, redirects included.
    ``redirects``: how often it may be sent elsewhere. ``ports``: that may be connected to.
    """

    size: int = 25 << 20
    seconds: float = 10.0
    redirects: int = 3
    ports: frozenset[int] = frozenset(PORTS.values())


async def look_up(host: str, port: int) -> list[str]:
    """The IP addresses of ``host``, as the system finds them; OSError."""

    def ask() -> list[str]:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return [str(address[0]) for *_, address in found]

    return await asyncio.get_running_loop().run_in_executor(_LOOKUPS, ask)


@lru_cache(maxsize=1)
def _trust() -> ssl.SSLContext:
    return ssl.create_default_context()


@dataclass(frozen=True)
class Network:
    """Where fetches go: ``look_up`` gives the addresses of a host, ``allow`` says of each whether
    it may be connected to, ``trust`` makes the rules for certificates."""

    look_up: Callable[[str, int], Awaitable[list[str]]] = look_up
    allow: Callable[[str], bool] = is_public
    trust: Callable[[], ssl.SSLContext] = _trust


_INTERNET = Network()
_DEFAULTS = FetchLimits()


async def fetch(url: str, limits: FetchLimits = _DEFAULTS, network: Network = _INTERNET) -> bytes:
    """The body of the answer to GET ``url``: http or https, status 200, not compressed.

    A name is looked up once for each step, and the address that was checked is the one connected
    to. One address that is not allowed refuses its host: no public host has such, and which is used
    must not depend on their order. The environment's proxies and cookies play no part.

    Raises FetchError; its text is the same whether a host is unknown, refused, closed or does not
    prove who it is, so that nobody can map the network around us with it.
    """
    try:
        return await asyncio.wait_for(_follow(url, limits, network), limits.seconds)
    except asyncio.TimeoutError:
        raise refusal(f"the URL took longer than {limits.seconds:g} s") from None


async def _follow(url: str, limits: FetchLimits, network: Network) -> bytes:
    target = Target.of(url, limits.ports)
    for _ in range(limits.redirects + 1):
        async with _connected(target, network) as stream:
            answer = await _Exchange(stream, limits).ask(target)
        if isinstance(answer, bytes):
            return answer
        target = target.follow(answer, limits.ports)
    raise refusal(f"the URL leads elsewhere more than {limits.redirects} times: give the last one")


_Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def _connected(target: Target, network: Network) -> AsyncIterator[_Stream]:
    """A connection to an address of ``target`` that was checked."""
    try:
        addresses = list(dict.fromkeys(await network.look_up(target.host, target.port)))
    except (OSError, UnicodeError):
        addresses = []
    if not addresses or not all(map(network.allow, addresses)):
        raise _unreachable()
    stream = await _connect(addresses[:_TRIES], target, network)
    try:
        yield stream
    finally:
        # At once: what the other side has to say yet does not matter.
        stream[1].transport.abort()


async def _connect(addresses: list[str], target: Target, network: Network) -> _Stream:
    trust = network.trust() if target.secure else None
    name = target.host.rstrip(".") if target.secure else None
    for address in addresses:
        try:
            return await asyncio.open_connection(
                address, target.port, ssl=trust, server_hostname=name
            )
        except (OSError, ValueError):
            # A certificate that does not hold is an OSError too, a name that can be in none a
            # ValueError.
            continue
    raise _unreachable()


class _Exchange:
    """One request and its answer."""

    def __init__(self, stream: _Stream, limits: FetchLimits) -> None:
        self._reader, self._writer = stream
        self._limits = limits
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_LARGEST_HEAD)

    async def ask(self, target: Target) -> bytes | str:
        """The picture, or the URL where it is."""
        fields = {"Host": target.authority, "User-Agent": "birefnet", "Accept": "image/*"}
        # A picture is compressed already; anything else may be a bomb.
        fields |= {"Accept-Encoding": "identity", "Connection": "close"}
        request = h11.Request(method="GET", target=target.path, headers=list(fields.items()))
        try:
            for event in (request, h11.EndOfMessage()):
                self._writer.write(self._http.send(event) or b"")
            return await self._answer()
        except (OSError, h11.ProtocolError):
            raise refusal("the URL's host broke off, or does not keep to HTTP") from None

    async def _answer(self) -> bytes | str:
        while not isinstance(event := await self._next(), h11.Response):
            if not isinstance(event, h11.InformationalResponse):
                raise h11.RemoteProtocolError("no answer")
        fields = dict(event.headers)
        if event.status_code in _MOVED and b"location" in fields:
            return fields[b"location"].decode("utf-8", "replace")
        if event.status_code != 200:
            raise refusal(f"the URL gives status {event.status_code} and no picture")
        if fields.get(b"content-encoding", b"identity").lower() != b"identity":
            raise refusal("the URL gives a compressed answer")
        self._check(int(fields.get(b"content-length", b"0")))
        return await self._body()

    async def _body(self) -> bytes:
        body = bytearray()
        while isinstance(event := await self._next(), h11.Data):
            self._check(len(body) + len(event.data))
            body += event.data
        return bytes(body)

    async def _next(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._reader.read(_PIECE))
        return event

    def _check(self, size: int) -> None:
        if size > self._limits.size:
            raise refusal(f"the URL gives more than {self._limits.size} bytes")


def _unreachable() -> FetchError:
    return refusal("the URL's host cannot be reached from here: send the picture itself")

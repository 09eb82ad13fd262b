"""HTTP/1.1 on asyncio streams: as little as a client needs that must not be what is measured."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

# Divides the parts of a form; the pictures are JPEG, in which it does not occur.
_BOUNDARY = "birefnet-bench-4d1f"
# Seconds without use after which a connection is not used again: servers hang up, uvicorn after 5.
_IDLE = 2.0
# What a server that went away, or answered nonsense, raises here.
LOST = (OSError, EOFError, ValueError, asyncio.LimitOverrunError)


@dataclass(frozen=True)
class Reply:
    """``status`` and the body; ``retry_after`` in seconds where the server asked to wait."""

    status: int
    body: bytes
    retry_after: float | None = None


@dataclass(frozen=True)
class Form:
    """How a server wants its picture: the bytes as the body where ``part`` is None, else as that
    part of a form with ``fields`` beside it."""

    path: str
    part: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)

    def request(self, host: str, port: int, picture: bytes) -> bytes:
        """A whole POST request, head and body."""
        if self.part is None:
            kind, body = "image/jpeg", picture
        else:
            kind, body = f"multipart/form-data; boundary={_BOUNDARY}", self._body(picture)
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: {host}:{port}\r\nAccept: image/png\r\n"
            f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def _body(self, picture: bytes) -> bytes:
        parts = []
        for name, value in self.fields.items():
            head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
            parts.append(head.encode() + value.encode() + b"\r\n")
        head = (
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{self.part}"; '
            'filename="photo.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
        )
        return b"".join([*parts, head.encode(), picture, f"\r\n--{_BOUNDARY}--\r\n".encode()])


class Connection:
    """One connection, opened when it is needed and kept as long as the server keeps it."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port, self._used = host, port, 0.0
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes) -> Reply:
        """The answer to one request; one of LOST where there is none."""
        if time.monotonic() - self._used > _IDLE:
            self.close()
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        try:
            writer.write(request)
            await writer.drain()
            reply, keep = await _read(reader)
        except BaseException:
            self.close()
            raise
        self._used = time.monotonic()
        if not keep:
            self.close()
        return reply

    def close(self) -> None:
        """Hang up; may be called again."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def _read(reader: asyncio.StreamReader) -> tuple[Reply, bool]:
    """One answer, and whether the connection stays open."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.strip().split("\r\n")
    pairs = (line.partition(":") for line in lines)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    if "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
    elif headers.get("transfer-encoding", "").lower() == "chunked":
        body = await _chunks(reader)
    else:
        raise ValueError("an answer without a length")
    after = headers.get("retry-after", "")
    wait = float(after) if after.isdigit() else None
    keep = headers.get("connection", "").lower() != "close"
    return Reply(int(first.split(" ", 2)[1]), body, wait), keep


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    found = []
    while size := int((await reader.readline()).split(b";")[0], 16):
        found.append(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readuntil(b"\r\n")
    return b"".join(found)

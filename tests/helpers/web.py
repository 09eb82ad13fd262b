"""A web server that says what a test tells it to, byte by byte."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

# Of pictures.test, valid from 2020 to 2120. The key is as public as this file.
CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBkDCCATagAwIBAgIURAHlIMD1xB1m7Zv1zXocEXNERTMwCgYIKoZIzj0EAwIw
GDEWMBQGA1UEAwwNcGljdHVyZXMudGVzdDAgFw0yMDAxMDEwMDAwMDBaGA8yMTIw
MDEwMTAwMDAwMFowGDEWMBQGA1UEAwwNcGljdHVyZXMudGVzdDBZMBMGByqGSM49
AgEGCCqGSM49AwEHA0IABLQmt8rwyr7H2AksX8pwaocxEKL4AhCyQzjSQQ4qpQK0
85hQxchGXt4BuR8rEQcpTOVSsYv4Hxb5Xkgwc130dUCjXDBaMBgGA1UdEQQRMA+C
DXBpY3R1cmVzLnRlc3QwDwYDVR0TAQH/BAUwAwEB/zAOBgNVHQ8BAf8EBAMCAoQw
HQYDVR0OBBYEFP0yia/zfAnJ7RkHqSmTAjK5LB+PMAoGCCqGSM49BAMCA0gAMEUC
IQCZM7GC0ZZ0eZnqOPfrdeuVEC3v0V2xHyZItNlblxco4gIgB2uYis4rLjuSIhJt
FwmqQZ/+Xof+pKzQH93sCZ6zpWY=
-----END CERTIFICATE-----
"""
_KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgxKOEl3t162wh7u7D
+gibpG/BmH3dKCCUcDWiHJl2ReShRANCAAS0JrfK8Mq+x9gJLF/KcGqHMRCi+AIQ
skM40kEOKqUCtPOYUMXIRl7eAbkfKxEHKUzlUrGL+B8W+V5IMHNd9HVA
-----END PRIVATE KEY-----
"""


class Web:
    """Answers GET of each path of ``answers`` with those bytes, where ``{port}`` is its own.

    An answer's last piece is repeated until the client hangs up where ``endless`` is true; no piece
    at all: nothing is said. ``requests`` are the heads that came; ``gone`` is set when a client
    hung up on an endless or silent answer.
    """

    def __init__(self, answers: Mapping[str, list[bytes]], endless: bool = False) -> None:
        self._answers, self._endless = answers, endless
        self.requests: list[str] = []
        self.gone = asyncio.Event()
        self.port = 0

    @asynccontextmanager
    async def listening(self, trust: ssl.SSLContext | None = None) -> AsyncIterator[Web]:
        """Listen on a free port of 127.0.0.1, with TLS by ``trust``."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=trust)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.requests.append(head)
            pieces = self._answers[head.split()[1]]
            for piece in pieces:
                await self._send(writer, piece)
            while self._endless and pieces:
                await self._send(writer, pieces[-1])
            if not pieces:
                await reader.read()
                self.gone.set()
        except (asyncio.IncompleteReadError, ConnectionError):
            self.gone.set()
        finally:
            writer.close()

    async def _send(self, writer: asyncio.StreamWriter, piece: bytes) -> None:
        writer.write(piece.replace(b"{port}", str(self.port).encode()))
        await writer.drain()
        # The other side gets its turn, so that pieces arrive one by one.
        await asyncio.sleep(0)


def server_trust(folder: Path) -> ssl.SSLContext:
    """TLS as pictures.test; ``folder`` holds the key meanwhile."""
    path = folder / "server.pem"
    path.write_text(_KEY + CERTIFICATE)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def client_trust() -> ssl.SSLContext:
    """Believes pictures.test and nobody else."""
    return ssl.create_default_context(cadata=CERTIFICATE)

"""A service in a process of its own, as a stranger meets it: by its port and what the system says
of the process."""

from __future__ import annotations

import http.client
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Seconds, far longer than anything here takes on a busy machine.
PATIENCE = 60.0
_MEBI = 1 << 20


@dataclass(frozen=True)
class Reply:
    """One answer. ``headers`` have names in small letters."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The code of an error of our own routes."""
        return str(json.loads(self.body)["error"]["code"])


@dataclass
class Live:
    """A service that listens at ``port`` of 127.0.0.1; ``log`` is what it writes to stderr."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def connect(self, timeout: float = PATIENCE) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout)

    def raw(self, *pieces: bytes, timeout: float = PATIENCE) -> Reply | None:
        """What ``pieces``, sent one by one, are answered; None where the connection just ends.

        ``HOST`` in the first piece becomes the address.
        """
        with self.connect(timeout) as connection:
            send(connection, pieces, self.port)
            return receive(connection)

    def post(
        self,
        body: bytes | Iterable[bytes],
        query: str = "",
        path: str = "/v1/remove",
        method: str = "POST",
        **headers: str,
    ) -> Reply:
        """The answer to ``body``; names in ``headers`` have _ for -."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            chunked = not isinstance(body, bytes)
            if chunked:
                fields["Transfer-Encoding"] = "chunked"
            connection.request(method, path + query, body, fields, encode_chunked=chunked)
            answer = connection.getresponse()
            return _reply(answer)
        finally:
            connection.close()

    def get(self, path: str) -> Reply:
        return self.post(b"", path=path, method="GET")

    @property
    def resident(self) -> float:
        """MiB of memory that the process holds."""
        pages = int(self._of("statm").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / _MEBI

    @property
    def threads(self) -> int:
        return len(list((Path("/proc") / str(self.process.pid) / "task").iterdir()))

    @property
    def files(self) -> int:
        """File descriptors, sockets among them."""
        return len(list((Path("/proc") / str(self.process.pid) / "fd").iterdir()))

    def metrics(self) -> dict[str, float]:
        """Value by name and labels, as /metrics writes them."""
        lines = self.get("/metrics").body.decode().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def settle(self) -> None:
        """Wait until no picture and no body is in it any more."""
        end = time.monotonic() + PATIENCE
        while any(held := self.held()):
            assert time.monotonic() < end, f"still holds {held}"
            time.sleep(0.02)

    def held(self) -> list[float]:
        """Pictures that wait and that run, bodies that are read, and bytes of bodies."""
        names = ("waiting_pictures", "running_pictures", "coming_requests", "body_bytes")
        metrics = self.metrics()
        return [metrics[f"birefnet_{name}"] for name in names]

    def _of(self, name: str) -> str:
        return (Path("/proc") / str(self.process.pid) / name).read_text()


def send(connection: socket.socket, pieces: Iterable[bytes], port: int) -> None:
    """Send ``pieces``; a server that has heard enough may close before the last."""
    try:
        for piece in pieces:
            connection.sendall(piece.replace(b"HOST", b"127.0.0.1:%d" % port))
    except (BrokenPipeError, ConnectionResetError):
        pass


def receive(connection: socket.socket) -> Reply | None:
    """The next answer; None where the connection ends before one."""
    answer = http.client.HTTPResponse(connection)
    try:
        answer.begin()
        return _reply(answer)
    except (http.client.BadStatusLine, ConnectionResetError):
        return None
    finally:
        answer.close()


def _reply(answer: http.client.HTTPResponse) -> Reply:
    headers = {name.lower(): value for name, value in answer.getheaders()}
    return Reply(answer.status, headers, answer.read())


@contextmanager
def serving(model: Path, folder: Path, **how: Any) -> Iterator[Live]:
    """A service of ``model``, ready. ``how``: ``limits`` for the queue, else its settings."""
    log = folder / "service.log"
    tests = Path(__file__).parents[1]
    paths = os.pathsep.join([str(tests), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, str(model), json.dumps(how)]
    with log.open("wb") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, env=environment)
    try:
        assert process.stdout is not None
        live = Live(process, int(process.stdout.readline() or 0), log)
        assert live.port, log.read_text()
        _wait(live)
        yield live
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0, log.read_text()[-2000:]
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _wait(live: Live) -> None:
    end = time.monotonic() + PATIENCE
    while live.get("/readyz").status != 200:
        assert time.monotonic() < end, live.log.read_text()
        time.sleep(0.05)


def _serve(model: str, how: dict[str, Any]) -> None:
    """Serve until a signal; the port goes to stdout."""
    from birefnet_runtime.async_matting import AsyncMatting
    from birefnet_runtime.batcher import Limits
    from birefnet_runtime.serve.app import create_app
    from birefnet_runtime.serve.server import Server
    from birefnet_runtime.serve.settings import Settings

    limits = Limits(**how.pop("limits", {}))
    logging.basicConfig(format="%(message)s", level=logging.INFO)

    def open_model() -> AsyncMatting:
        return AsyncMatting.open(model, "cpu", limits=limits, threads=1)

    server = Server(create_app(open_model, Settings(port=0, **how)))
    print(server.url.rpartition(":")[2], flush=True)
    server.run()


if __name__ == "__main__":
    _serve(sys.argv[1], json.loads(sys.argv[2]))

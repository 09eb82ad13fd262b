"""``birefnet serve``: how it starts, what it says, how it ends; and its connections."""

from __future__ import annotations

import argparse
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from birefnet_runtime.__main__ import main
from birefnet_runtime.async_matting import AsyncMatting
from birefnet_runtime.errors import BirefnetError, OptionError
from birefnet_runtime.serve import arguments, command
from birefnet_runtime.serve.app import create_app
from birefnet_runtime.serve.server import Server, listen
from birefnet_runtime.serve.settings import MEBI, Settings
from helpers.gate import SOON
from helpers.pictures import decoded, disc, encoded, noise

PNG = encoded(disc())
HEAD = b"POST /v1/remove HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
# Seconds for a process to start on a machine where everything else runs, too.
PATIENCE = 60.0
Capture = pytest.CaptureFixture[str]


class Command:
    """``birefnet serve`` in a process of its own, on a free port."""

    def __init__(self, *arguments: object) -> None:
        line = [sys.executable, "-m", "birefnet_runtime", "serve", "--port", "0", "--device", "cpu"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [*line, *map(str, arguments)], stderr=subprocess.PIPE, text=True, env=environment
        )
        assert self.process.stderr is not None
        self.stderr: IO[str] = self.process.stderr
        self.first = self.stderr.readline()

    @property
    def port(self) -> int:
        return int(self.first.split("127.0.0.1:")[1].split()[0])

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), SOON)

    def wait(self) -> int:
        return self.process.wait(PATIENCE)


@contextmanager
def serving(*arguments: object) -> Iterator[Command]:
    started = Command(*arguments)
    try:
        yield started
    finally:
        started.process.kill()
        started.wait()
        started.stderr.close()


def begin(started: Command, data: bytes = PNG) -> socket.socket:
    """A request whose body is not complete."""
    connection = started.connect()
    connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(data) + data[:10])
    # It is accepted when the service reads its body.
    until = time.monotonic() + SOON
    while b"birefnet_coming_requests 1.0" not in fetch(started, "/metrics")[1]:
        assert time.monotonic() < until
        time.sleep(0.01)
    return connection


def fetch(started: Command, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", started.port, timeout=SOON)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def response(connection: socket.socket) -> tuple[int, bytes]:
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    return answer.status, answer.read()


def test_a_drain(tiny: Path) -> None:
    with serving("--model", tiny) as started:
        assert started.first.endswith("(no key, this machine alone)\n")
        assert started.stderr.readline() == "birefnet: ready: tiny 32x32 on cpu\n"
        with begin(started) as connection:
            started.process.send_signal(signal.SIGTERM)
            until = time.monotonic() + SOON
            while fetch(started, "/readyz")[0] == 200:
                assert time.monotonic() < until
            # It still says so, and still lives, while the accepted one is under way.
            assert b'"draining"' in fetch(started, "/readyz")[1]
            assert started.process.poll() is None
            connection.sendall(PNG[10:])
            status, body = response(connection)
            assert status == 200
            assert decoded(body).shape == (48, 64, 4)
        assert started.wait() == 0
        assert "Traceback" not in started.stderr.read()


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(tiny: Path, sign: signal.Signals) -> None:
    with serving("--model", tiny) as started:
        started.stderr.readline()
        with begin(started):
            started.process.send_signal(sign)
            until = time.monotonic() + SOON
            while fetch(started, "/readyz")[0] == 200:
                assert time.monotonic() < until
            started.process.send_signal(sign)
            assert started.wait() == 128 + sign


def test_what_keeps_it_from_starting(tiny: Path, tmp_path: Path, capsys: Capture) -> None:
    serve = ["serve", "--device", "cpu", "--model", str(tiny), "--port", "0"]
    assert main([*serve, "--host", "0.0.0.0"]) == 2
    assert "--no-key" in capsys.readouterr().err
    assert main([*serve, "--queue", "0"]) == 2
    assert "queue" in capsys.readouterr().err
    assert main([*serve, "--max-wait", "5000"]) == 2
    assert "wait" in capsys.readouterr().err
    assert main([*serve, "--key-file", str(tmp_path / "none")]) == 2
    assert "none cannot be read: No such file" in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main([*serve, "--port", str(port)]) == 1
    error = capsys.readouterr().err
    assert f"port {port}: Address already in use" in error and error.count("\n") == 1


def test_a_model_that_does_not_load(tmp_path: Path) -> None:
    with serving("--model", tmp_path / "none") as started:
        rest = started.stderr.read()
        assert started.wait() == 1
        assert rest.count("\n") == 1 and rest.startswith("birefnet: ") and "none" in rest


def test_packages_that_are_missing() -> None:
    # None there is what makes an import fail.
    code = (
        "import sys; sys.modules['fastapi'] = None; from birefnet_runtime.__main__ import main; "
        "sys.exit(main(['serve']))"
    )
    found = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    assert found.returncode == 1
    assert found.stderr == "birefnet: fastapi is missing: pip install 'birefnet-trt[serve]'\n"


def parsed(*flags: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    arguments.add_flags(parser)
    return parser.parse_args(flags)


def test_flags(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(arguments.KEYS, raising=False)
    assert arguments.settings(parsed()) == Settings()
    assert command.limits(parsed()).queue == 32
    file = tmp_path / "keys"
    file.write_text("# who\n first \n\nsecond\n")
    monkeypatch.setenv(arguments.KEYS, "third, first fourth")
    found = arguments.settings(
        parsed(
            *("--host", "::1", "--port", "1", "--key-file", str(file), "--no-key", "--fetch"),
            *("--allow-origin", "https://a.example/", "--allow-origin", "http://b.example:81"),
            *("--allow-host", "c.example", "--max-body", "0.5", "--max-pixels", "9"),
            *("--memory", "2", "--seconds", "3", "--body-seconds", "4", "--no-page"),
        )
    )
    assert found == Settings(
        host="::1",
        port=1,
        keys=("third", "first", "fourth", "second"),
        open=True,
        origins=("https://a.example", "http://b.example:81"),
        hosts=("c.example",),
        max_body=MEBI // 2,
        max_pixels=9,
        memory=2 * MEBI,
        seconds=3.0,
        body_seconds=4.0,
        fetch=True,
        page=False,
    )
    limits = command.limits(
        parsed("--queue", "5", "--max-batch", "2", "--max-wait", "10", "--workers", "3")
    )
    assert (limits.queue, limits.batch, limits.wait, limits.workers) == (5, 2, 0.01, 3)
    file.write_text("# none\n")
    with pytest.raises(OptionError, match="no key"):
        arguments.keys(str(file))
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(OptionError, match="cannot be read"):
        arguments.keys(str(file))


@contextmanager
def here(matting: AsyncMatting, **settings: Any) -> Iterator[Server]:
    """A server in a thread of this process."""
    server = Server(create_app(matting, Settings(port=0, **settings)))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.should_exit = True
        thread.join(SOON)
        assert not thread.is_alive()


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), SOON)


def test_slow_heads(matting: AsyncMatting) -> None:
    with here(matting, header_seconds=0.2) as server:
        # One that says nothing, one that says little, one that goes on in small pieces.
        for pieces in ((), (b"GET / HT",), (b"GET / HTTP/1.1\r\n", *[b"X: y\r\n"] * 50)):
            with connect(server) as connection:
                start = time.monotonic()
                try:
                    for piece in pieces:
                        connection.sendall(piece)
                        time.sleep(0.02)
                    assert connection.recv(10) == b""
                except ConnectionError:
                    pass
                # The limit, and what a busy machine adds; all pieces would take a second.
                assert time.monotonic() - start < 0.9
        # Bodies, and the time between requests, have limits of their own.
        with connect(server) as connection:
            for _ in range(2):
                connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(PNG) + PNG[:9])
                time.sleep(0.3)
                connection.sendall(PNG[9:])
                assert response(connection)[0] == 200


def test_answers_are_sent_at_once(matting: AsyncMatting) -> None:
    """Without Nagle's delay, which is 40 ms for each answer of two packets."""
    with here(matting) as server, connect(server) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert response(connection)[0] == 200
        (held,) = server.server_state.connections
        accepted = held.transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


def test_large_heads(matting: AsyncMatting) -> None:
    with here(matting) as server:
        with connect(server) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 40_000)
            assert response(connection)[0] == 400
        with connect(server) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ")
            connection.sendall(b"y" * 20_000 + b"\r\n\r\n")
            assert response(connection)[0] == 200


def test_a_client_that_does_not_read(
    matting: AsyncMatting, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Noise, whose PNG is larger than what the sockets of both sides take.
    picture = encoded(noise(1600, 1600))
    monkeypatch.setattr("birefnet_runtime.serve.server._IDLE", 0.1)
    with here(matting) as server, connect(server) as connection:
        request = HEAD.replace(b"remove ", b"remove?output=foreground&format=png&foreground=off ")
        connection.sendall(request + b"Content-Length: %d\r\n\r\n" % len(picture) + picture)
        until = time.monotonic() + 2 * SOON
        connections = server.server_state.connections
        while not (server.server_state.total_requests and not connections):
            assert time.monotonic() < until
            time.sleep(0.02)
        # Nobody waits for it any more, and what it had not read is gone.
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            response(connection)


def test_a_body_that_is_refused_is_still_taken(matting: AsyncMatting) -> None:
    """A client that sends all before it reads gets the answer, not a broken connection."""
    body = bytes(8 * MEBI)
    with here(matting, max_body=MEBI) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=SOON)
        connection.request("POST", "/v1/remove", body, {"Content-Type": "image/png"})
        answer = connection.getresponse()
        assert answer.status == 413
        answer.read()
        connection.close()


def test_where_nothing_can_listen() -> None:
    with pytest.raises(BirefnetError, match="cannot listen on nowhere"):
        listen("nowhere.invalid", 0)

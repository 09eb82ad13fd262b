"""The load bench without a service: its client, its queue, its stub, and its tables."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import serve
from birefnet_export.contract import BirefnetError
from birefnet_runtime.batcher import Batcher, Limits
from birefnet_runtime.options import Options
from helpers.pictures import noise
from measuring.child import ContestantError
from measuring.fixed import Clock, Fixed, disc
from measuring.reading import Reading
from measuring.serving import tables
from measuring.serving.bench import keep
from measuring.serving.load import Target, Volley, closed, paced
from measuring.serving.parts import WAYS, kinds
from measuring.serving.queueing import evenly, ideal, poisson
from measuring.serving.rembg_app import NAME, stub_session
from measuring.serving.server import Rival, Server
from measuring.serving.wanted import NANO, OURS, LineUp, Wanted
from measuring.serving.weight import Weight, family
from measuring.serving.wire import Connection, Form
from measuring.stub import stub_matting
from record import Record

PNG = b"\x89PNG\r\n\x1a\nrest"
# Answers of a server: status, further headers, seconds before it.
Plan = Callable[[int], tuple[int, str, float]]


def answering(plan: Plan, use: Callable[[int], Awaitable[Any]]) -> Any:
    """What ``use(port)`` gives beside a server that answers its n-th request by ``plan(n)``."""
    count, talks = 0, list[asyncio.Task[Any] | None]()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        talks.append(asyncio.current_task())
        while True:
            try:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
            except asyncio.IncompleteReadError:
                break
            length = int(head.lower().partition("content-length: ")[2].split()[0])
            await reader.readexactly(length)
            number, count = count, count + 1
            status, headers, seconds = plan(number)
            await asyncio.sleep(seconds)
            chunked = number % 2
            body = PNG if status == 200 else b"no"
            kind = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
            if chunked:
                body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
            writer.write(f"HTTP/1.1 {status} Any\r\n{headers}{kind}\r\n\r\n".encode() + body)
            if "close" in headers:
                break
        writer.close()
        await writer.wait_closed()

    async def main() -> Any:
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            return await use(port)
        finally:
            server.close()
            # Every client has hung up: they end by themselves.
            await asyncio.gather(*(talk for talk in talks if talk is not None))

    return asyncio.run(main())


def target(port: int) -> Target:
    return Target("127.0.0.1", port, [Form("/cut").request("127.0.0.1", port, b"x")])


def test_a_form_is_what_a_server_reads() -> None:
    raw = Form("/v1/remove").request("h", 1, b"JPEG")
    assert raw.startswith(b"POST /v1/remove HTTP/1.1\r\nHost: h:1\r\n")
    assert raw.endswith(b"Content-Type: image/jpeg\r\nContent-Length: 4\r\n\r\nJPEG")
    head, _, body = (
        Form("/api", "file", {"model": "m"}).request("h", 1, b"J").partition(b"\r\n\r\n")
    )
    assert f"Content-Length: {len(body)}".encode() in head
    boundary = head.partition(b"boundary=")[2].split(b"\r\n")[0]
    first, second = body.split(b"--" + boundary)[1:3]
    assert first.endswith(b'name="model"\r\n\r\nm\r\n')
    assert b'name="file"; filename="photo.jpg"' in second
    assert second.endswith(b"\r\n\r\nJ\r\n")


def test_callers_are_counted_under_full_load() -> None:
    # The first four answers take long: a caller each, they are left out.
    def plan(number: int) -> tuple[int, str, float]:
        return 200, "", 0.5 if number < 4 else 0.01

    volley = answering(plan, lambda port: closed(target(port), 4, 40))
    assert len(volley.latencies) == 40
    assert 44 <= volley.answered <= 48
    assert max(volley.latencies) < 0.5
    # Ten answers of each caller, 10 ms each, one after the other.
    assert 0.1 <= volley.seconds < 0.5


def test_who_is_told_to_come_again_does_and_waits_for_it() -> None:
    def plan(number: int) -> tuple[int, str, float]:
        return (503, "Retry-After: 0\r\n", 0.05) if number in (1, 2) else (200, "", 0.0)

    volley = answering(plan, lambda port: closed(target(port), 1, 2))
    assert (volley.refused, volley.failed) == (2, {})
    # Both refusals are part of the second answer's time.
    assert max(volley.latencies) >= 0.1


@pytest.mark.parametrize("status", [500, 200])
def test_what_is_no_picture_is_no_answer(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("measuring.serving.load._PNG", b"another")
    volley = answering(lambda number: (status, "", 0.0), lambda port: closed(target(port), 2, 3))
    assert volley.latencies == []
    assert volley.failed in ({"500": 5}, {"no PNG": 5}, {"500": 6}, {"no PNG": 6})


def test_a_server_that_hangs_up_is_asked_anew() -> None:
    async def twice(port: int) -> list[int]:
        connection = Connection("127.0.0.1", port)
        request = Form("/").request("h", port, b"x")
        found = [(await connection.ask(request)).status for _ in "ab"]
        connection.close()
        return found

    assert answering(lambda number: (200, "Connection: close\r\n", 0), twice) == [200, 200]
    volley = asyncio.run(closed(Target("127.0.0.1", 9, [b""]), 1, 1))
    assert volley.failed == {"ConnectionRefusedError": 2}


def test_paced_requests_do_not_wait_for_others() -> None:
    async def pacing(port: int) -> Volley:
        return await paced(target(port), evenly(100, 20), skip=2)

    # Each answer takes ten gaps between requests: one after the other they would take 2 seconds.
    volley = answering(lambda number: (200, "", 0.1), pacing)
    assert (len(volley.latencies), volley.answered) == (18, 20)
    assert volley.seconds < 1
    assert min(volley.latencies) >= 0.1
    refusing = answering(lambda number: (503, "", 0.0), pacing)
    assert (refusing.refused, refusing.latencies) == (20, [])


def test_latency_counts_from_when_a_request_was_due() -> None:
    # The client itself stalls from before the second to after the third.
    async def blocked(port: int) -> Volley:
        asyncio.get_running_loop().call_later(0.11, time.sleep, 0.2)
        return await paced(target(port), [0.0, 0.05, 0.06])

    volley = answering(lambda number: (200, "", 0.0), blocked)
    assert volley.lag > 0.1
    assert max(volley.latencies) > 0.1


def test_the_queue_alone_is_what_arithmetic_says() -> None:
    single = Fixed(1.0)
    assert ideal([0.0, 0.5, 5.0], single) == [1.0, 1.5, 1.0]
    # The second run takes the two that came during the first.
    assert ideal([0.0, 0.25, 0.5, 0.75], Fixed(0.5, 0.25, 2)) == [0.75, 1.5, 1.25, 1.75]
    even = ideal(evenly(0.8, 100), single)
    assert even == pytest.approx([1.0] * 100)


def test_chance_keeps_the_rate_and_its_seed() -> None:
    arrivals = poisson(8.0, 400)
    assert arrivals == poisson(8.0, 400)
    assert arrivals != poisson(8.0, 400, seed=1)
    assert arrivals[-1] == pytest.approx(50.0)
    assert sorted(arrivals) == arrivals
    # Mean wait in the queue of M/D/1 at 80 %: rho / (2 (1 - rho)) = 2 runs, and the run.
    many = ideal(poisson(0.8, 200_000), Fixed(1.0))
    # Its deviation over so many is some 0.05.
    assert np.mean(many) == pytest.approx(3.0, abs=0.2)


def test_a_clock_runs_one_at_a_time_also_for_two_processes(tmp_path: Path) -> None:
    fixed = Fixed(0.06, 0.02, 2)
    assert fixed.limit == pytest.approx(20)
    turn = str(tmp_path / "turn")
    clocks = [Clock(fixed, turn), Clock(fixed, turn), Clock(fixed)]
    for pair, seconds in ((clocks[:2], 0.2), ([clocks[2]] * 2, 0.2), (clocks[1:], 0.1)):
        begin = time.perf_counter()
        threads = [threading.Thread(target=one.run, args=(2,)) for one in pair]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert seconds <= time.perf_counter() - begin
    assert time.perf_counter() - begin < 0.19


def test_the_stub_fills_runs_and_gives_each_picture_the_disc() -> None:
    pictures = [noise(40, 40, 3), noise(20, 30, 3), noise(30, 30, 3)]
    with stub_matting(0.15, batch=4, side=64, row_seconds=0.01) as matting:
        batcher, runs = Batcher(matting.pipeline, Limits(wait=0.05)), list[int]()
        batcher.watchers.append(runs.append)
        futures = [batcher.submit(one, Options(foreground="off")) for one in pictures]
        cutouts = [future.result() for future in futures]
        batcher.close()
        (zoomed,) = matting.stream([pictures[0]], Options(edge="zoom"))
    assert runs == [3]
    # The run's own time and that of three rows.
    assert all(cutout.timings["model"] >= 0.18 for cutout in cutouts)
    alphas = [cutout.alpha for cutout in cutouts]
    assert [alpha.shape for alpha in alphas] == [(40, 40), (20, 30), (30, 30)]
    for alpha in alphas:
        assert alpha[0, 0] == 0
        assert alpha[alpha.shape[0] // 2, alpha.shape[1] // 2] == 255
    assert zoomed.alpha[20, 20] == 255
    assert disc(64).dtype == np.float32


def test_rembgs_session_waits_for_the_stub() -> None:
    class Base:
        def normalize(self, *args: Any) -> dict[str, Any]:
            return {}

    session = stub_session(Base, Fixed(0.02, 0.01, side=32))(NAME)
    begin = time.perf_counter()
    with ThreadPoolExecutor(2) as pool:
        masks = list(pool.map(lambda _: session.predict(Image.new("RGB", (60, 40)))[0], "ab"))
    assert time.perf_counter() - begin >= 0.06
    assert [mask.size for mask in masks] == [(60, 40)] * 2
    assert masks[0].getpixel((30, 20)) == 255
    assert session.name() == NAME


# Starts a child that holds 30 MiB at a first line, ends it at a second, and itself at a third.
PARENT = """
import subprocess, sys
print("ready", flush=True)
sys.stdin.readline()
child = subprocess.Popen(
    [sys.executable, "-c", "import time; held = b'x' * (30 << 20); time.sleep(60)"]
)
sys.stdin.readline()
child.kill()
child.wait()
print("ended", flush=True)
sys.stdin.readline()
"""


def test_memory_and_time_are_of_a_process_and_what_it_started() -> None:
    # Nobody has this number.
    nobody = Weight(1 << 30)
    assert (nobody.now(), nobody.own(), nobody.cpu()) == (0.0, 0.0, 0.0)
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", PARENT], bufsize=1, **pipes) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        weight = Weight(parent.pid)
        before = weight.own()
        with weight.watched() as held:
            parent.stdin.write("begin\n")
            eventually(lambda: weight.own() > before + 30)
            assert len(family(parent.pid)) == 2
            most = weight.own()
            # Libraries are on top.
            assert weight.now() > most
            parent.stdin.write("end\n")
            assert parent.stdout.readline() == "ended\n"
        # 30 MiB and the bare interpreter.
        assert 30 < most - before < 50
        # The last weighing has no child any more.
        assert 0 < held[-1] < before + 30
    assert Weight(os.getpid()).cpu() > 0


def eventually(holds: Callable[[], bool]) -> None:
    """Waits for it, at most twenty seconds."""
    until = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_who_does_not_start_says_why(tmp_path: Path) -> None:
    form = Form("/")
    with pytest.raises(ContestantError, match="not asked for"):
        Server(Rival("a", "ours", form, absent="not asked for"), tmp_path)
    with pytest.raises(ContestantError, match="does not start"):
        Server(Rival("a", "ours", form, python="/no/such/python"), tmp_path)
    client: Any = None
    with Server(Rival("a", "nobody", form), tmp_path) as server:
        server._process.wait()
        with pytest.raises(ContestantError, match="nobody"):
            server.wait_ready(client, tmp_path / "answer")


def test_rivals_get_the_same_stub(tmp_path: Path) -> None:
    wanted = Wanted(litserve_python="python-a")
    line_up = LineUp(wanted, tmp_path / "turn")
    everyone = line_up.everyone()
    assert {str(one.request["stub"]) for one in everyone} == {str(vars(wanted.fixed))}
    assert [bool(one.absent) for one in everyone] == [False, False, False, True]
    assert line_up.ours(wanted.fixed, batch=1).request["limits"]["batch"] == 1
    assert line_up.nano().request["stub"] is None


@pytest.mark.parametrize(
    "line", ["--parts clsoed", "--connections 0", "--soak 9", "--seconds 0", "--parts ,"]
)
def test_what_makes_no_sense_is_refused(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert serve.main(line.split()) == 1
    assert capsys.readouterr().err.startswith("bench: ")


def turn(latencies: list[float], seconds: float, **found: Any) -> dict[str, Any]:
    usual = {"peak": 100.0, "cpu": 0.06, "refused": 0, "lag": 0.0, "failed": {}}
    return {"latencies": latencies, "seconds": seconds, **usual, **found}


@pytest.fixture
def reading(tmp_path: Path) -> Reading:
    """A run of two rounds: ours reaches nine tenths, rembg a half, and litserve nothing."""
    wanted = Wanted(rounds=2, soak=100)
    record = Record("serve", wanted.configuration())
    record.libraries["rembg"] = "2.0"
    ours = [turn([1.5] * 89 + [1.7] * 10 + [1.9], 11.0), turn([1.6] * 100, 11.2)]
    rembg = [turn([3.0] * 100, 20.0)] * 2
    lost = [turn([], 0.0, failed={"500": 3})] * 2
    keep(record, "closed 16", {OURS: ours, "litserve": lost, "rembg": rembg})
    for part, tail in (("load even", 0.2), ("load poisson", 0.5)):
        keep(record, part, {OURS: [turn([0.1] * 90 + [tail] * 10, 12.5, refused=1)] * 2})
        alone = {"p50": 0.1, "p95": 0.1, "p99": tail}
        record.findings.setdefault("queue alone", {})[part] = alone
    record.add("nano 4: stream: rate", "1/s", "higher", [4.0, 4.0])
    keep(record, "nano 4", {NANO: [turn([1.0] * 100, 31.25)] * 2})
    for kind in kinds(wanted.fixed):
        for load in ("closed 4", "closed 16", "load"):
            keep(record, f"batching {kind}, {load}", {way: ours for way in WAYS})
    record.add(f"soak: {OURS}: memory", "MiB", "lower", [100.0 + step for step in range(10)])
    return Reading.of(record.write(tmp_path))


def test_rates_are_shares_of_the_limit_and_times_are_runs(reading: Reading) -> None:
    rows = tables.closed(reading).rows
    assert rows[0][:4] == ["16", OURS, "9.01", "90.1 %"]
    # Medians over rounds of 15 and 16 runs of 100 ms, of 17 and 16, and 17 and 16.
    assert rows[0][4:7] == ["15.5", "16.5", "16.5"]
    assert rows[0][7:] == ["0.600", "100"]
    assert rows[1][1:4] == ["rembg", "5.00", "50.0 %"]
    assert len(rows) == 2
    assert "closed 16: litserve" in reading.missing


def test_goals_are_met_or_not(reading: Reading) -> None:
    assert [row[-2:] for row in tables.goals(reading).rows] == [
        ["90.1 %", "met"],
        ["2.00", "met"],
        ["5.00", "NOT MET"],
    ]
    rows = tables.load(reading).rows
    assert rows[0][:2] == ["even", "the queue alone"]
    assert rows[1][-2:] == ["2.00", "2"]
    assert rows[2][-2:] == ["5.00", "-"]


def test_every_region_is_made_from_a_record(reading: Reading) -> None:
    from measuring import regions

    texts = {
        name: make([reading]) for name, make in regions.MAKERS.items() if name.startswith("serving")
    }
    assert len(texts) == 5
    assert all(reading.path.name in text for text in texts.values())
    assert "| 16 | ours | 9.01 | 90.1 % |" in texts["serving"]
    assert "rembg 2.0" in texts["serving"]
    assert "| 4 | 0.800 (0.800 to 0.800) |" in texts["serving-nano"]
    assert "| by the run | wait 10 ms |" in texts["serving-batching"]
    assert "| MiB | 100 | 101 |" in texts["serving-memory"]
    shown = "\n".join(table.text() for table in tables.everything(reading) if table.rows)
    assert "NOT MET" in shown
    with pytest.raises(BirefnetError):
        regions.MAKERS["serving"]([reading, reading])

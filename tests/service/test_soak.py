"""Thousands of requests, one after the other and beside each other: nothing grows."""

from __future__ import annotations

import http.client
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from helpers.live import PATIENCE, Live, serving
from helpers.pictures import disc, encoded

# Requests of each third; the first one warms everything up.
THIRD = 1000
CONNECTIONS = 4
# Of which so many open a connection of their own and then close it.
FRESH = 100
# MiB between the ends of the second and the third: a leak of 4 KiB a request would be as much.
GROWTH = 4


@pytest.mark.slow
def test_nothing_grows_with_the_requests(tiny: Path, tmp_path: Path) -> None:
    picture = encoded(disc(), "JPEG")
    with serving(tiny, tmp_path) as live:
        marks = [_third(live, picture) for _ in range(3)]
        resident, threads, files = zip(*marks, strict=True)
        assert resident[2] - resident[1] < GROWTH, resident
        assert threads[2] == threads[1], threads
        # A connection that was closed may count a moment longer.
        assert files[2] <= files[1] + 1, files
        _check_metrics(live.metrics())


def _third(live: Live, picture: bytes) -> tuple[float, int, int]:
    """Send a third; (MiB, threads, files) when it is done."""
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        shares = [THIRD // CONNECTIONS] * CONNECTIONS
        list(pool.map(lambda count: _ask(live.port, picture, count), shares))
    live.settle()
    return live.resident, live.threads, live.files


def _ask(port: int, picture: bytes, count: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    for number in range(count):
        # Colours of the edge take most of the time, and are estimated for some.
        query = "" if number % 10 == 0 else "?foreground=off"
        connection.request("POST", "/v1/remove" + query, picture, {"Content-Type": "image/jpeg"})
        answer = connection.getresponse()
        assert answer.status == 200
        assert answer.read(8) == b"\x89PNG\r\n\x1a\n"
        answer.read()
        if number % (THIRD // FRESH) == 0:
            connection.close()
    connection.close()


def _check_metrics(metrics: dict[str, float]) -> None:
    """What was counted is what was sent."""
    sent = 3 * THIRD
    route = 'route="/v1/remove"'
    assert metrics[f'birefnet_requests_total{{{route},status="200"}}'] == sent
    assert metrics[f"birefnet_request_seconds_count{{{route}}}"] == sent
    for stage in ("queue", "decode", "preprocess", "model", "refine", "encode"):
        assert metrics[f'birefnet_stage_seconds_count{{stage="{stage}"}}'] == sent
    # The warm-up ran as well.
    assert sent <= metrics["birefnet_run_pictures_sum"] <= sent + 8
    others = [name for name in metrics if name.startswith("birefnet_requests_total{" + route)]
    assert len(others) == 1, others

"""What a service counts and measures."""

from __future__ import annotations

import re

import pytest

from birefnet_runtime.async_matting import AsyncMatting
from birefnet_runtime.serve.app import create_app
from birefnet_runtime.serve.settings import Settings
from helpers.asking import Asker
from helpers.cuda_kit import open_matting
from helpers.fake_device import FakeDevice
from helpers.pictures import disc, encoded

FILES = {"image": encoded(disc(16, 16))}
LINE = re.compile(r"^([a-z_]+(?:\{.*\})?) ([-0-9.e+]+)$", re.MULTILINE)


def values(ask: Asker) -> dict[str, float]:
    """Value by name and labels."""
    answer = ask("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    return {name: float(value) for name, value in LINE.findall(answer.text)}


@pytest.fixture
def ask(matting: AsyncMatting) -> Asker:
    return Asker(create_app(matting, Settings(keys=())))


def test_requests_and_pictures_are_counted(ask: Asker, matting: AsyncMatting) -> None:
    for _ in range(3):
        assert ask("POST", "/v1/remove", files=FILES).status_code == 200
    ask("POST", "/v1/remove", files={"image": b"no picture"})
    ask("GET", "/no/such/path")
    ask("GET", "/other/path?name=secret")
    found = values(ask)
    count = "birefnet_requests_total"
    assert found[f'{count}{{route="/v1/remove",status="200"}}'] == 3
    assert found[f'{count}{{route="/v1/remove",status="415"}}'] == 1
    # Strangers' paths do not become labels.
    assert found[f'{count}{{route="other",status="404"}}'] == 2
    assert not any("path" in name or "secret" in name for name in found)
    assert found['birefnet_request_seconds_count{route="/v1/remove"}'] == 4
    for stage in ("queue", "decode", "preprocess", "model", "refine", "encode"):
        assert found[f'birefnet_stage_seconds_count{{stage="{stage}"}}'] == 3, stage
    # One picture in each run.
    assert found["birefnet_run_pictures_count"] == found["birefnet_run_pictures_sum"] == 3
    assert found["birefnet_ready"] == 1
    assert found["birefnet_queue_pictures"] == matting.load.queue
    names = ("waiting_pictures", "running_pictures", "coming_requests", "body_bytes")
    assert [found[f"birefnet_{name}"] for name in names] == [0, 0, 0, 0]
    assert found["process_resident_memory_bytes"] > 1e6


def test_each_application_has_its_own(ask: Asker, matting: AsyncMatting) -> None:
    ask("GET", "/healthz")
    other = Asker(create_app(matting))
    assert 'birefnet_requests_total{route="/healthz",status="200"}' in values(ask)
    assert 'birefnet_requests_total{route="/healthz",status="200"}' not in values(other)


def test_memory_of_a_gpu(ask: Asker) -> None:
    assert not any("device" in name for name in values(ask))
    device = FakeDevice()
    with open_matting(device) as matting:
        found = values(Asker(create_app(AsyncMatting(matting))))
        free, total = device.memory()
        assert found["birefnet_device_free_bytes"] == free > 0
        assert found["birefnet_device_total_bytes"] == total

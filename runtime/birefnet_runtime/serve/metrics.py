"""What a service counts and measures, as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from birefnet_runtime.errors import BirefnetError

if TYPE_CHECKING:
    from birefnet_runtime.serve.service import Service

MEDIA_TYPE = CONTENT_TYPE_LATEST
# Seconds: from a warm GPU to the usual deadline.
_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
# Pictures of one run.
_PICTURES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The measurements of one service, in a registry of its own."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.registry = registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=registry)
        registry.register(_DeviceMemory(self._memory))
        self._requests = Counter(
            "birefnet_requests", "Requests answered.", ["route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "birefnet_request_seconds",
            "Time from a request's head to the end of its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._stages = Histogram(
            "birefnet_stage_seconds",
            "Time of the steps of one picture.",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._pictures = Histogram(
            "birefnet_run_pictures",
            "Pictures in one run of the model.",
            buckets=_PICTURES,
            registry=registry,
        )
        self._open_gauges()

    def note(self, route: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def note_stages(self, seconds: Mapping[str, float]) -> None:
        """A picture was cut out."""
        for stage, taken in seconds.items():
            self._stages.labels(stage).observe(taken)

    def note_run(self, pictures: int) -> None:
        """The model ran; called in its thread."""
        self._pictures.observe(pictures)

    def text(self) -> bytes:
        """All of it, as text."""
        return generate_latest(self.registry)

    def _open_gauges(self) -> None:
        service = self._service
        for name, text, value in (
            (
                "waiting_pictures",
                "Pictures that wait to be decoded.",
                lambda: self._load("waiting"),
            ),
            ("running_pictures", "Pictures in memory.", lambda: self._load("running")),
            ("queue_pictures", "Pictures that may wait.", lambda: self._load("queue")),
            ("coming_requests", "Requests whose body is being read.", lambda: service.coming),
            ("body_bytes", "Bytes of bodies in memory.", lambda: service.budget.used),
            ("ready", "Whether pictures are taken.", lambda: service.is_ready),
        ):
            gauge = Gauge(f"birefnet_{name}", text, registry=self.registry)
            gauge.set_function(value)

    def _memory(self) -> tuple[int, int] | None:
        matting = self._service.life.matting
        return None if matting is None else matting.matting.pipeline.memory

    def _load(self, name: str) -> float:
        matting = self._service.life.matting
        return float(getattr(matting.load, name)) if matting is not None else 0.0


class _DeviceMemory(Collector):
    """Bytes of the GPU, where there is one; a GPU that does not answer any more has none."""

    def __init__(self, look: Callable[[], tuple[int, int] | None]) -> None:
        self._look = look

    def collect(self) -> Iterator[GaugeMetricFamily]:
        try:
            found = self._look()
        except BirefnetError:
            return
        if found is None:
            return
        for name, value in zip(("free", "total"), found, strict=True):
            title = f"birefnet_device_{name}_bytes"
            yield GaugeMetricFamily(title, f"Memory of the GPU: {name}.", value=value)

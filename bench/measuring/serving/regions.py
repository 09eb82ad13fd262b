"""The load bench's regions of a README, each from one record."""

from __future__ import annotations

from measuring.fixed import Fixed
from measuring.reading import Reading, Readings, link, only
from measuring.serving.parts import LOAD, SOAKERS, kinds
from measuring.serving.tables import batching, closed, load, nano, soak, stub


def serving(readings: Readings) -> str:
    """Everyone by connections."""
    reading = only(readings)
    fixed, made = stub(reading), reading.data["configuration"]
    versions = reading.data["versions"]
    rivals = [f"{name} {versions[name]}" for name in ("litserve", "rembg") if name in versions]
    beside = f" Beside {' and '.join(rivals)}." if rivals else ""
    return (
        f"{closed(reading).markdown()}\n\nA stub that takes {fixed.seconds * 1e3:g} ms a run"
        f"{_rows(fixed)}; {made['megapixels']:g}-megapixel JPEG to PNG; p50 to p99, and a core's "
        f"time for a request, in runs; medians of {made['rounds']} interleaved rounds of "
        f"{made['requests']} requests or more; client and servers on {reading.where}.{beside}"
        f"{_missing(reading)} Record: {link(reading)}."
    )


def serving_load(readings: Readings) -> str:
    """Everyone at 80 % load."""
    reading = only(readings)
    made = reading.data["configuration"]
    return (
        f"{load(reading).markdown()}\n\nRequests that come whether or not others wait, at "
        f"{LOAD:.0%} of the limit, {made['paced']} a round, latency from when they were due, in "
        f'runs; "the queue alone" is the same arrivals with nothing but the runs. Record: '
        f"{link(reading)}."
    )


def serving_batching(readings: Readings) -> str:
    """Fuller runs."""
    reading = only(readings)
    first, second = kinds(stub(reading)).values()
    return (
        f"{batching(reading).markdown()}\n\nRuns of at most {first.batch} pictures. By the run: "
        f"{first.seconds * 1e3:g} ms, however many are in it; by the picture: "
        f"{second.seconds * 1e3:g} ms and {second.row_seconds * 1e3:g} ms for each. Rates as "
        f"multiples of what runs of one picture can give, latencies of such a run. Record: "
        f"{link(reading)}."
    )


def serving_memory(readings: Readings) -> str:
    """Memory over many requests."""
    reading = only(readings)
    made = reading.data["configuration"]
    return (
        f"{soak(reading).markdown()}\n\nMemory of the server after so many requests, libraries "
        f"left out: pictures of {made['megapixels']:g}, half and a quarter as many megapixels "
        f"in turn, {SOAKERS} callers. Record: {link(reading)}."
    )


def serving_nano(readings: Readings) -> str:
    """The embedded model."""
    reading = only(readings)
    return (
        f"{nano(reading).markdown()}\n\nnano on the CPU through the service; latencies in "
        f"pictures of `Matting.stream` with nothing around it, in the same rounds. Record: "
        f"{link(reading)}."
    )


def _rows(fixed: Fixed) -> str:
    more = f" and {fixed.row_seconds * 1e3:g} ms for each picture" if fixed.row_seconds else ""
    return f"{more}, {fixed.batch} pictures at most" if fixed.batch > 1 else more


def _missing(reading: Reading) -> str:
    found = [f"{name}: {why}" for name, why in reading.missing.items()]
    return f" Not measured: {'; '.join(found)}." if found else ""

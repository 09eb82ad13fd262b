"""A record of the load bench -> tables. Latencies are multiples of what the executor takes for a
run, rates are shares of its limit: neither says how fast this machine's cores are."""

from __future__ import annotations

from statistics import median

from measuring.fixed import Fixed
from measuring.reading import Reading
from measuring.serving.parts import LOAD, kinds
from measuring.serving.wanted import NANO, OURS
from measuring.stats import digits
from measuring.tables import Table, absent

# What the service is to reach: of the executor's limit, and p99 over p50 at 80 % load.
SHARE, TAIL = 0.9, 3.0
_PERCENTILES = ("p50", "p95", "p99")


def everything(reading: Reading) -> list[Table]:
    """For a terminal."""
    return [
        closed(reading),
        load(reading),
        nano(reading),
        batching(reading),
        soak(reading),
        goals(reading),
        absent(reading),
    ]


def stub(reading: Reading) -> Fixed:
    """The stub of that run."""
    return Fixed(**reading.data["configuration"]["stub"])


def middle(reading: Reading, part: str, name: str, step: str) -> float:
    """The median over rounds."""
    return median(reading.get(part, name, step))


def closed(reading: Reading) -> Table:
    """Contestant by connections."""
    fixed = stub(reading)
    head = ("connections", "", "requests/s", "of the limit", *_PERCENTILES, "core", "peak MiB")
    table = Table(
        f"callers who ask again at once; limit {digits(fixed.limit)}/s; p50 to p99 and core in "
        "runs of the stub",
        head,
    )
    for part in (part for part in reading.parts if part.startswith("closed ")):
        for name in reading.names(part):
            rate = middle(reading, part, name, "rate")
            cells = [digits(rate), _percent(rate / fixed.limit)]
            cells += _runs(reading, part, name, fixed.run_seconds(fixed.batch))
            cells += _core(reading, part, name, fixed.run_seconds(1))
            table.rows.append([part.removeprefix("closed "), name, *cells])
    return table


def load(reading: Reading) -> Table:
    """Everyone at 80 % load."""
    fixed = stub(reading)
    head = ("arrivals", "", *_PERCENTILES, "p99 / p50", "refused")
    table = Table(f"{LOAD:.0%} of the limit; in runs of the stub", head)
    run = fixed.run_seconds(fixed.batch)
    for part in (part for part in reading.parts if part.startswith("load ")):
        alone = reading.data["findings"]["queue alone"][part]
        cells = [digits(alone[step] / run) for step in _PERCENTILES]
        tail = digits(alone["p99"] / alone["p50"])
        label = part.removeprefix("load ")
        table.rows.append([label, "the queue alone", *cells, tail, "-"])
        for name in reading.names(part):
            cells = _runs(reading, part, name, run)
            refused = str(reading.data["findings"].get("refused", {}).get(f"{part}: {name}", 0))
            table.rows.append([label, name, *cells, digits(tail_of(reading, part, name)), refused])
    return table


def tail_of(reading: Reading, part: str, name: str) -> float:
    """p99 over p50, the median over rounds."""
    pairs = zip(reading.get(part, name, "p99"), reading.get(part, name, "p50"), strict=True)
    return median(high / low for high, low in pairs)


def nano(reading: Reading) -> Table:
    """The embedded model against the library without a server."""
    head = ("connections", "of the library's rate", *_PERCENTILES, "peak MiB")
    table = Table("nano; p50 to p99 in pictures of the library's own stream", head)
    for part in (part for part in reading.parts if part.startswith("nano ")):
        if NANO not in reading.names(part):
            continue
        rate = reading.against(part, NANO, "stream", "rate")
        single = 1 / middle(reading, part, "stream", "rate")
        cells = [rate.text(), *_runs(reading, part, NANO, single)]
        cells.append(digits(max(reading.get(part, NANO, "peak"))))
        table.rows.append([part.removeprefix("nano "), *cells])
    return table


def batching(reading: Reading) -> Table:
    """Runs of one picture against fuller ones, by executor and load."""
    loads = ("closed 4", "closed 16", "load")
    head = (
        "a run takes its time",
        "batching",
        *(f"{one.replace('closed ', '')} callers, rate" for one in loads[:2]),
        *(f"{LOAD:.0%} load, {step}" for step in ("p50", "p99")),
    )
    table = Table("rates in pictures, latencies in runs, of the stub with one picture", head)
    for kind, fixed in kinds(stub(reading)).items():
        single = fixed.run_seconds(1)
        parts = [f"batching {kind}, {one}" for one in loads]
        for name in reading.names(parts[-1]):
            cells = [digits(middle(reading, part, name, "rate") * single) for part in parts[:2]]
            cells += [
                digits(middle(reading, parts[-1], name, step) / single) for step in ("p50", "p99")
            ]
            table.rows.append([kind, name, *cells])
    return table


def soak(reading: Reading) -> Table:
    """Memory after each tenth."""
    if f"soak: {OURS}: memory" not in reading.samples:
        return Table("", ())
    held = reading.get("soak", OURS, "memory")
    count = reading.data["configuration"]["soak"] // len(held)
    head = ("requests", *(str(count * (number + 1)) for number in range(len(held))))
    return Table(
        "MiB held by ours, libraries left out", head, [["MiB", *(digits(value) for value in held)]]
    )


def goals(reading: Reading) -> Table:
    """What the service was to reach, and whether it did in that run."""
    table = Table("", ("goal", "found", ""))
    fixed = stub(reading)
    rates = {
        part: middle(reading, part, OURS, "rate") / fixed.limit
        for part in reading.parts
        if part.startswith("closed ") and OURS in reading.names(part)
    }
    if rates:
        best = max(rates.values())
        _goal(table, f"{SHARE:.0%} of the limit", _percent(best), best >= SHARE)
    for part in (part for part in reading.parts if part.startswith("load ")):
        if OURS in reading.names(part):
            tail = tail_of(reading, part, OURS)
            text = f"p99 under {TAIL:g} p50, {part.removeprefix('load ')}"
            _goal(table, text, digits(tail), tail < TAIL)
    return table


def _goal(table: Table, goal: str, found: str, met: bool) -> None:
    table.rows.append([goal, found, "met" if met else "NOT MET"])


def _runs(reading: Reading, part: str, name: str, run: float) -> list[str]:
    return [digits(middle(reading, part, name, step) / run) for step in _PERCENTILES]


def _core(reading: Reading, part: str, name: str, run: float) -> list[str]:
    spent = middle(reading, part, name, "cpu") / run
    return [digits(spent), digits(max(reading.get(part, name, "peak")))]


def _percent(share: float) -> str:
    return f"{digits(100 * share)} %"

"""The parts of the load bench: who is asked how, in interleaved rounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial

from gpu_stages.timing import percentile
from measuring.child import Child
from measuring.fixed import Fixed
from measuring.part import say_of
from measuring.rounds import interleave
from measuring.serving.bench import SKIP, Bench, Turn, keep
from measuring.serving.queueing import evenly, ideal, poisson
from measuring.serving.server import Server
from measuring.serving.wanted import NANO, OURS

# Of the executor's limit.
LOAD = 0.8
# Callers of the part in which memory is watched, and the parts of it.
SOAKERS, TENTHS = 4, 10
# How runs are filled: rows at most (None: all that the stub has) and seconds of waiting.
WAYS: Mapping[str, tuple[int | None, float]] = {
    "off": (1, 0.0),
    "wait 0 ms": (None, 0.0),
    "wait 2 ms": (None, 0.002),
    "wait 5 ms": (None, 0.005),
    "wait 10 ms": (None, 0.01),
}
BATCH, CALLERS = 4, (4, 16)
# Pictures of the library's own stream, which nano's server is held against.
_STREAM = 20


def closed(bench: Bench, servers: Mapping[str, Server]) -> None:
    """Everyone, by the number of connections."""
    wanted = bench.wanted
    for count in wanted.connections:
        works = {
            name: partial(bench.closed, one, count, wanted.requests)
            for name, one in servers.items()
        }
        bench.rounds(f"closed {count}", works)


def load(bench: Bench, servers: Mapping[str, Server]) -> None:
    """Everyone at LOAD of the executor's limit, evenly and by chance, and the queue alone."""
    fixed, count = bench.wanted.fixed, bench.wanted.paced
    for part, arrivals in (
        ("load even", evenly(LOAD * fixed.limit, count)),
        ("load poisson", poisson(LOAD * fixed.limit, count)),
    ):
        alone = sorted(ideal(arrivals, fixed)[int(count * SKIP) :])
        shares = {f"p{share}": percentile(alone, share / 100) for share in (50, 95, 99)}
        bench.record.findings.setdefault("queue alone", {})[part] = shares
        works = {name: partial(bench.paced, one, arrivals) for name, one in servers.items()}
        bench.rounds(part, works)


def nano(bench: Bench) -> None:
    """The embedded model on the CPU, and what the library gives without a server."""
    wanted = bench.wanted
    with ExitStack() as stack:
        servers = bench.start([bench.line_up.nano()], stack)
        if not servers:
            return
        library = stack.enter_context(Child("ours_child", wanted.threads))
        library.ask("open", model="nano", device="cpu", threads=wanted.threads)
        paths, out = [str(bench.picture)] * _STREAM, bench.folder / "stream"
        out.mkdir()
        # Both do the same work; the first stream is slower.
        ask = partial(library.ask, "stream", out=str(out), options={"foreground": "off"})
        ask(paths=paths[:4])
        for count in wanted.connections:
            part = f"nano {count}"
            works: dict[str, Callable[[], Turn]] = {
                NANO: partial(bench.closed, servers[NANO], count, wanted.requests),
                "stream": partial(ask, paths=paths),
            }
            turns = interleave(works, wanted.rounds, warm=0, say=partial(say_of, part))
            streams = [turn["count"] / turn["seconds"] for turn in turns.pop("stream")]
            bench.record.add(f"{part}: stream: rate", "1/s", "higher", streams)
            keep(bench.record, part, turns)


def kinds(fixed: Fixed) -> dict[str, Fixed]:
    """Two executors of BATCH rows that take twice ``fixed``'s time for one picture or for four:
    what a run costs, or what a picture costs, decides."""
    single = fixed.run_seconds(1)
    return {
        "by the run": Fixed(2 * single, 0.0, BATCH, fixed.side),
        "by the picture": Fixed(0.1 * single, 0.9 * single, BATCH, fixed.side),
    }


def batching(bench: Bench) -> None:
    """Ours with runs of one picture, and with fuller ones, on two kinds of executor.

    Half the requests of other parts: ten servers have three loads each.
    """
    requests = max(bench.wanted.requests // 2, 4)
    for kind, fixed in kinds(bench.wanted.fixed).items():
        rivals = [
            bench.line_up.ours(fixed, way, batch=rows, wait=wait)
            for way, (rows, wait) in WAYS.items()
        ]
        arrivals = poisson(LOAD / fixed.run_seconds(1), requests)
        with ExitStack() as stack:
            servers = bench.start(rivals, stack)
            for count in CALLERS:
                works = {
                    way: partial(bench.closed, one, count, requests) for way, one in servers.items()
                }
                bench.rounds(f"batching {kind}, closed {count}", works)
            works = {way: partial(bench.paced, one, arrivals) for way, one in servers.items()}
            bench.rounds(f"batching {kind}, load", works)


def soak(bench: Bench) -> None:
    """Memory of ours after each tenth of many requests of three sizes."""
    count = bench.wanted.soak // TENTHS
    # A run takes next to nothing: only the number of requests matters here.
    quick = bench.line_up.ours(Fixed(0.001, side=bench.wanted.fixed.side))
    with ExitStack() as stack:
        servers = bench.start([quick], stack)
        if not servers:
            return
        server = servers[OURS]
        held, peaks = [], []
        for tenth in range(TENTHS):
            say_of("soak", f"{tenth * count} of {TENTHS * count} requests")
            request = {"connections": SOAKERS, "count": count, "picked": [0, 1, 2]}
            turn = bench.ask(server, "closed", **request)
            if turn["failed"]:
                bench.record.findings.setdefault("failed", {})["soak"] = turn["failed"]
            held.append(server.weight.own())
            peaks.append(turn["peak"])
        bench.record.add(f"soak: {OURS}: memory", "MiB", "lower", held)
        bench.record.add(f"soak: {OURS}: peak", "MiB", "lower", peaks)

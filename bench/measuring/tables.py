"""Records -> tables, for a terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from measuring.contestants import BASE, rival_base
from measuring.floor import Work, share
from measuring.reading import TOTAL, YARDSTICK, Reading
from measuring.stats import Ratio, digits

STEPS = ("decode", "preprocess", "wait", "model", "refine", "foreground", "encode")


@dataclass
class Table:
    """``title`` says what the cells are; every row has as many cells as ``head``."""

    title: str
    head: Sequence[str]
    rows: list[list[str]] = field(default_factory=list)

    def markdown(self) -> str:
        """Head, rule and rows."""
        lines = [self.head, ["---"] * len(self.head), *self.rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)

    def text(self) -> str:
        """Columns in line, the title above."""
        widths = [
            max(len(line[i]) for line in [self.head, *self.rows]) for i in range(len(self.head))
        ]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in [self.head, *self.rows]
        ]
        return "\n".join([f"\n{self.title}", *lines])


def ordered(steps: Sequence[str]) -> list[str]:
    """Steps in the order of the path, unknown ones last."""
    known = [step for step in STEPS if step in steps]
    return [*known, *(step for step in steps if step not in STEPS)]


def picture_parts(reading: Reading) -> list[str]:
    """The parts that are sizes of pictures."""
    return [part for part in reading.parts if part.endswith(" MP")]


def model_parts(reading: Reading) -> list[str]:
    """The parts in which the model ran alone."""
    return [part for part in reading.parts if part.startswith("model")]


def latency(reading: Reading) -> list[Table]:
    """Everything in a record of latency, for a terminal."""
    sizes = [times(reading, part) for part in picture_parts(reading)]
    alone = [times(reading, part) for part in model_parts(reading)]
    return [*sizes, *alone, limits(reading), agreement(reading), absent(reading)]


def show(found: Sequence[Table]) -> None:
    """Print those that have rows."""
    for table in found:
        if table.rows:
            print(table.text())


def agreement(reading: Reading) -> Table:
    """How far each one's alpha is from the runtime's: whether they do the same."""
    alphas = reading.data["findings"].get("alpha", {})
    rows = [[name, f"{digits(value)}/255"] for name, value in alphas.items()]
    return Table("mean distance of alpha from the runtime's:", ("", ""), rows)


def times(reading: Reading, part: str) -> Table:
    """Milliseconds of one part, and how each compares."""
    steps = ordered(
        list(dict.fromkeys(s for name in reading.names(part) for s in reading.steps(part, name)))
    )
    head = ("", *steps, TOTAL, "p95", "p99", "IQR", "/ product", "/ rival")
    count = len(reading.get(part, YARDSTICK))
    product = reading.summary(part, YARDSTICK).median * 1e3
    title = (
        f"{part}: milliseconds, medians of {count}; a 2048x2048 float32 product takes {product:.0f}"
    )
    table = Table(title, head)
    for name in reading.names(part):
        total = reading.summary(part, name)
        cells = [_milliseconds(reading, part, name, step) for step in steps]
        figures = [total.median, total.p95, total.p99, total.iqr]
        cells += [digits(value * 1e3) for value in figures]
        cells += [reading.in_yardsticks(part, name).text(), beside(reading, part, name)]
        table.rows.append([name, *cells])
    return table


def _milliseconds(reading: Reading, part: str, name: str, step: str) -> str:
    if step not in reading.steps(part, name):
        return "-"
    return digits(reading.summary(part, name, step).median * 1e3)


def beside(reading: Reading, part: str, name: str, step: str = TOTAL) -> str:
    """Such as ``8.1 (7.9 to 8.4) of ort-cpu``; ``-`` without a rival."""
    base = rival_base(name, reading.names(part))
    if base is None:
        return "-"
    return f"{reading.against(part, name, base, step).text()} of {base}"


def stages(reading: Reading) -> Table:
    """Steps of every contestant and size, as multiples of the product; and against the rival."""
    parts = picture_parts(reading)
    found = [s for part in parts for name in reading.names(part) for s in reading.steps(part, name)]
    steps = ordered(list(dict.fromkeys(found)))
    table = Table("", ("megapixels", "", *steps, "total", "p95", "against"))
    for part in parts:
        product = reading.summary(part, YARDSTICK).median
        for name in reading.names(part):
            mine = reading.steps(part, name)
            cells = [
                digits(reading.in_yardsticks(part, name, step).value) if step in mine else "-"
                for step in steps
            ]
            cells.append(reading.in_yardsticks(part, name).text())
            cells.append(digits(reading.summary(part, name).p95 / product))
            rival = beside(reading, part, name)
            table.rows.append([part.removesuffix(" MP"), name, *cells, rival])
    return table


def overview(latency: Reading, held: Reading, name: str = BASE) -> Table:
    """A row a size: ``name`` by step, every rival's ratio, and peak memory."""
    parts = [part for part in picture_parts(latency) if name in latency.names(part)]
    steps = ordered(list(dict.fromkeys(s for part in parts for s in latency.steps(part, name))))
    names = list(dict.fromkeys(who for part in parts for who in latency.names(part)))
    bases = {who: rival_base(who, names) for who in names}
    rivals = [who for who in names if bases[who] is not None]
    heads = [who if bases[who] == name else f"{who} / {bases[who]}" for who in rivals]
    seen = [who for who in (name, *rivals) if any(who in held.names(part) for part in parts)]
    head = ("megapixels", *steps, TOTAL, *heads, f"peak MiB: {', '.join(seen)}")
    table = Table("", head)
    for part in parts:
        cells = [digits(latency.in_yardsticks(part, name, step).value) for step in (*steps, TOTAL)]
        for who in rivals:
            base = rival_base(who, latency.names(part))
            cells.append("-" if base is None else latency.against(part, who, base).text())
        peaks = [digits(held.summary(part, who, "peak").median) for who in seen]
        table.rows.append([part.removesuffix(" MP"), *cells, ", ".join(peaks)])
    return table


def models(reading: Reading) -> Table:
    """The model alone, by batch, as multiples of the product."""
    table = Table("", ("model alone", "", "a picture", "p95", "against"))
    for part in model_parts(reading):
        rows = int(part.rpartition(" ")[2])
        product = reading.summary(part, YARDSTICK).median
        for name in reading.names(part):
            one = reading.in_yardsticks(part, name)
            p95 = reading.summary(part, name).p95 / product
            each = Ratio(one.value / rows, one.low / rows, one.high / rows)
            cells = [each.text(), digits(p95 / rows), beside(reading, part, name)]
            table.rows.append([part.removeprefix("model, "), name, *cells])
    return table


def limits(reading: Reading, name: str = "ort-cpu") -> Table:
    """How near each step of ``name`` comes to what the machine's rates allow, in percent."""
    table = Table(f"{name}: percent of the limit (operations and bytes at the rates measured)", ())
    works = reading.data["findings"].get("least work", {})
    parts = [part for part in picture_parts(reading) if part in works]
    parts = [part for part in parts if name in reading.names(part)]
    if not parts:
        return Table(f"{name} was not measured: no limits", ("",))
    steps = [step for step in works[parts[0]] if step in reading.steps(parts[0], name)]
    table.head = ("megapixels", *steps)
    for part in parts:
        operations, moved = rates(reading, part)
        cells = []
        for step in steps:
            least = Work(**works[part][step]).least(operations, moved)
            seconds = reading.summary(part, name, step).median
            cells.append(f"{digits(share(seconds, least))} %")
        table.rows.append([part.removesuffix(" MP"), *cells])
    return table


def rates(reading: Reading, part: str) -> tuple[float, float]:
    """Operations and bytes per second, as measured in that part and beside it."""
    product = reading.summary(part, YARDSTICK).median
    copies = sorted(reading.samples["copy"])
    return 2 * 2048**3 / product, copies[len(copies) // 2] * 1e9


def absent(reading: Reading) -> Table:
    """What was not measured, with the reason."""
    rows = [[name, reason] for name, reason in reading.missing.items()]
    return Table("not measured:", ("", ""), rows)


def throughput(reading: Reading) -> Table:
    """Pictures per second over mixed sizes."""
    table = Table("", ("", "pictures/s", "per product", "IQR", "against"))
    for name in reading.names("mixed"):
        seconds = reading.summary("mixed", name, "seconds a picture")
        rate = reading.against("mixed", name, YARDSTICK, "seconds a picture")
        cells = [digits(1 / seconds.median), digits(1 / rate.value)]
        cells += [f"{digits(100 * seconds.iqr / seconds.median)} %"]
        base = rival_base(name, reading.names("mixed"))
        text = "-"
        if base is not None:
            slower = reading.against("mixed", name, base, "seconds a picture")
            text = f"{slower.text()} times the time of {base}"
        table.rows.append([name, *cells, text])
    return table


def memory(reading: Reading) -> Table:
    """Peak memory and the first call, each in a fresh process."""
    head = ("megapixels", "", "peak MiB", "above the interpreter", "GPU MiB", "load", "first call")
    table = Table("", head)
    for part in picture_parts(reading):
        for name in reading.names(part):
            mine = reading.steps(part, name)
            peak = reading.summary(part, name, "peak").median
            above = reading.summary(part, name, "above the interpreter").median
            gpu = reading.summary(part, name, "GPU").median if "GPU" in mine else None
            starts = [
                digits(reading.against(part, name, YARDSTICK, step).value)
                for step in ("load", "first call")
            ]
            cells = [digits(peak), digits(above), "-" if gpu is None else digits(gpu), *starts]
            table.rows.append([part.removesuffix(" MP"), name, *cells])
    return table

"""Do they all give PyTorch's alpha? ``make parity MODEL= [WEIGHTS=] [ARGS=]``.

Runs any two or more executors on the same pictures, prints their distances from the first, writes
an HTML report and a record, and ends with 1 where one is outside its gate. The gates are those in
the model's contract, else the design's.

MODEL is nano, a model folder, an .onnx file, weights, or swin_v1_t and the like (the deterministic
weights of the tests); graphs that weights alone do not have are made on the way.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from birefnet_export.contract import BirefnetError, sha256
from birefnet_export.pictures import fixed_pictures
from birefnet_runtime.errors import OptionError
from parity_report import earlier, gates, inputs, page, run, stages, truth
from parity_report.departures import Departure
from parity_report.executor import Settings
from parity_report.executors import OPENERS, REFERENCE, open_all
from parity_report.figures import KINDS
from parity_report.inputs import Item
from parity_report.page import Report
from parity_report.run import Comparison
from parity_report.subject import ROOT, Subject, Wanted, load
from parity_report.verdicts import Verdict
from record import RESULTS, Record

EXAMPLES = ROOT / "examples"
# Where this machine keeps its results is no part of them.
OWN_FILES = ("results", "report")


def main(argv: list[str] | None = None) -> int:
    """Compare, print, write; 0 inside every gate, else 1."""
    args = _arguments(argv)
    try:
        return compare(args)
    except BirefnetError as error:
        print(f"parity: {error}", file=sys.stderr)
        return 1


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = ", ".join((*OPENERS, REFERENCE))
    add = parser.add_argument
    add("model", nargs="?", help="what is compared; default: nano, or the weights alone")
    add("--weights", help="what the model was exported from: a file, a folder or a hub id")
    add("--patch-order", default="auto", choices=("auto", "new", "legacy"), help="of the weights")
    add("--size", type=int, help="side of the input, for weights alone; default 1024")
    add("--executors", type=_names, default=(), help=f"two or more of {known}; the first is the "
        "reference; default: all that work here")  # fmt: skip
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--pictures", type=Path, help="folder of pictures instead of examples/")
    source.add_argument("--dataset", type=Path, help="folder with im/ and gt/, or another layout "
                        "(DIS5K, P3M, AIM, ...)")  # fmt: skip
    add("--fixed", type=int, default=2, help="fixed pictures beside those in examples/")
    add("--limit", type=int, help="at most so many pictures, evenly over all")
    add("--batch", type=int, default=2, help="rows of the check of batch 1 against batch N")
    add("--threads", type=int, help="CPU threads of one run; default: one per core")
    add("--stages", action="store_true", help="name the first tensor that departs from PyTorch")
    add("--against", type=Path, metavar="RECORD", help="compare with the record of an earlier run")
    add("--report", type=Path, help="HTML file to write; default: out/parity/NAME.html")
    add("--results", type=Path, default=RESULTS, help="folder of the record")
    add("--worst", type=int, default=4, help="worst cases shown per executor")
    return parser.parse_args(argv)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def compare(args: argparse.Namespace) -> int:
    """The run that the command line asks for."""
    before = earlier.read(args.against) if args.against else None
    if len(args.executors) == 1 or min(args.batch, args.worst, args.threads or 1) < 1:
        raise OptionError("name two executors or more; --batch, --worst and --threads are above 0")
    if args.threads:
        torch.set_num_threads(args.threads)
    subject = load(Wanted(args.model, args.weights, args.size, args.patch_order))
    items = inputs.spread(gather(args, subject), args.limit)
    settings = Settings(args.threads, args.batch)
    for item in items:
        files = {item.name: item.path, f"{item.name} alpha": item.truth}
        subject.hashes.update({name: sha256(path) for name, path in files.items() if path})
    executors, missing = open_all(args.executors, subject, settings, items)
    contract = subject.contract
    try:
        found = run.run(contract, executors, items, args.batch, args.worst, _say)
    finally:
        for executor in executors:
            executor.close()
    departures: list[Departure] = []
    if args.stages and subject.network is None:
        missing["stages"] = "the tensors to compare with need the weights: --weights"
    elif args.stages:
        departures, closed = stages.examine(found.probed, subject, settings, found.first)
        missing.update({f"stages of {name}": reason for name, reason in closed.items()})
    if args.dataset and truth.missing():
        missing["S, weighted F, E, HCE"] = str(truth.missing())
    report = Report(
        f"{contract.name} {contract.height}x{contract.width}",
        [],
        found,
        verdicts(found, subject),
        missing,
        departures,
    )
    return finish(args, report, subject, before)


def _say(text: str) -> None:
    print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def gather(args: argparse.Namespace, subject: Subject) -> list[Item]:
    """The pictures: named, or the stored ones. Without weights those whose answer is stored."""
    if args.dataset:
        return inputs.in_dataset(args.dataset)
    if args.pictures:
        return inputs.in_folder(args.pictures)
    named = args.executors
    if (not named and subject.network is None) or REFERENCE in named:
        if subject.folder is None:
            raise OptionError("a bare file has no reference.npz: give --weights or --executors")
        return inputs.in_reference(subject.folder)
    contract = subject.contract
    drawn = inputs.drawn(fixed_pictures(args.fixed, contract.height, contract.width))
    return [*inputs.in_folder(EXAMPLES), *drawn] if args.fixed else inputs.in_folder(EXAMPLES)


def verdicts(found: Comparison, subject: Subject) -> dict[str, Verdict]:
    """The verdict on every executor but the reference."""
    totals = {outcome.name: outcome.total for outcome in found.outcomes}
    exact = found.outcomes[0].precision == "fp32"
    half = totals.get(gates.YARDSTICK) if exact else None
    result = {}
    for outcome in found.outcomes[1:]:
        # Whatever is compared with an FP16 executor is as far away as that one is from float32.
        precision = outcome.precision if exact else "fp16"
        gate = gates.find(outcome.name, precision, subject.contract, half)
        result[outcome.name] = gates.judge(gate, totals[outcome.name], outcome.rows, precision)
    if found.same:
        text = f"the captured graph is {found.same * 255:.4g}/255 from the plan queued anew"
        result["tensorrt" if "tensorrt" in result else "tensorrt-eager"].reasons.append(text)
    return result


def finish(
    args: argparse.Namespace,
    report: Report,
    subject: Subject,
    before: dict[str, object] | None,
) -> int:
    """Print the table, write record and report; the exit status."""
    record = make_record(args, report, subject)
    if before is not None:
        report.changes = earlier.compare(before, record.findings["total"])
        report.against = str(args.against.name)
        unlike = earlier.differences(before, record.findings, record.hashes)
        if unlike:
            report.against += f" (not like with like: {unlike})"
    _say("")
    print_table(report)
    path = record.write(args.results)
    report.about = about(args, subject, path)
    target = args.report or ROOT / "out" / "parity" / f"{path.stem}.html"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page.render(report), encoding="utf-8")
    print(f"report: {target}\nrecord: {path}")
    return 0 if all(verdict.passed for verdict in report.verdicts.values()) else 1


def make_record(args: argparse.Namespace, report: Report, subject: Subject) -> Record:
    """Every figure of every picture, in the order of ``findings["pictures"]``."""
    found = report.comparison
    given = {key: portable(value) for key, value in vars(args).items() if key not in OWN_FILES}
    record = Record(f"parity {report.name}", given, dict(subject.hashes))
    for outcome in found.outcomes[1:]:
        for kind in KINDS:
            values = [float(getattr(row, kind.key)) * kind.scale for row in outcome.pool.rows]
            record.add(f"{outcome.name} {kind.label}", kind.unit, kind.better, values)
    for outcome in found.outcomes:
        for kind in (*truth.SALIENCY, *truth.OWN):
            if kind.key in outcome.truths:
                scaled = [value * kind.scale for value in outcome.truths[kind.key]]
                record.add(f"{outcome.name} {kind.label}", kind.unit, kind.better, scaled)
    record.missing = dict(report.missing)
    record.findings = findings(report)
    return record


def portable(value: object) -> object:
    """An option as a record keeps it: paths inside the clone, or names alone."""
    if not isinstance(value, str | Path) or not Path(value).exists():
        return str(value) if isinstance(value, Path) else value
    path = Path(value).resolve()
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name


def findings(report: Report) -> dict[str, object]:
    """What is no sample: totals by executor, verdicts, rows, histograms, stages."""
    found = report.comparison
    others = found.outcomes[1:]
    return {
        "reference": found.outcomes[0].name,
        "size": report.name,
        "pictures": found.names,
        "executors": {outcome.name: outcome.detail for outcome in found.outcomes},
        "total": {outcome.name: outcome.total.as_dict() for outcome in others},
        "histogram": {outcome.name: outcome.pool.counts.tolist() for outcome in others},
        "rows": {outcome.name: outcome.rows for outcome in found.outcomes},
        "graph against eager": found.same,
        "verdicts": {
            name: {
                "passed": verdict.passed,
                "gate": verdict.gate.limits,
                "source": verdict.gate.source,
                "reasons": verdict.reasons,
            }
            for name, verdict in report.verdicts.items()
        },
        "stages": {one.name: {"first": one.first, **one.errors} for one in report.departures},
    }


def about(args: argparse.Namespace, subject: Subject, path: Path) -> list[tuple[str, str]]:
    """What the report says about itself, from the record just written."""
    data = earlier.read(path)
    machine = data["machine"]
    rows = [
        ("record", path.name),
        (
            "commit",
            f"{data['source']['commit']}{'' if data['source']['clean'] else ', with changes'}",
        ),
        ("time", str(data["time"])),
        ("machine", f"{machine['class']}, {machine['cpu']}, Python {machine['python']}"),
        ("versions", ", ".join(f"{name} {value}" for name, value in data["versions"].items())),
    ]
    rows += [(name, value) for name, value in data["hashes"].items()]
    return [*rows, *((name, str(value)) for name, value in data["findings"]["executors"].items())]


def print_table(report: Report) -> None:
    """The figures over all pictures, and everything that needs a line."""
    found = report.comparison
    reference = found.outcomes[0]
    print(
        f"{report.name}: {len(found.names)} pictures against {reference.name} ({reference.detail})"
    )
    kinds = [kind for kind in KINDS if kind.key not in ("mask_max", "mask_changed")]
    heads = "".join(f"{kind.label:>13}" for kind in kinds)
    print(f"{'executor':16}{heads}   batch rows  verdict (max, mean, 99.9 %, rows in 1/255)")
    for outcome in report.others:
        total = outcome.total
        cells = "".join(f"{page.number(kind, getattr(total, kind.key)):>13}" for kind in kinds)
        rows = f"{outcome.rows * 255:.3g}" if isinstance(outcome.rows, float) else "-"
        print(f"{outcome.name:16}{cells}{rows:>13}  {report.verdicts[outcome.name].word}")
    for name, verdict in report.verdicts.items():
        for reason in verdict.reasons:
            print(f"OUTSIDE {name}: {reason} (gate: {verdict.gate.source})")
    for departure in report.departures:
        print(f"stages: {departure.line}")
    for change in report.changes:
        if change.worse:
            print(f"worse: {page.sentence(change)}")
    if report.against and not any(change.worse for change in report.changes):
        print(f"nothing got worse against {report.against}")
    for name, reason in report.missing.items():
        print(f"not compared: {name}: {reason}")


if __name__ == "__main__":
    sys.exit(main())

"""The report: one HTML file that needs nothing else, no script and no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from . import charts, images
from .departures import STAGES, Departure
from .earlier import Change
from .figures import KINDS, Figures, Kind
from .run import Case, Comparison, Outcome
from .style import CSS
from .truth import OWN, SALIENCY
from .verdicts import Verdict

_GATED = ("max", "mean", "p999")


@dataclass
class Report:
    """Everything that the page shows. ``about``: label and text pairs; ``name``: of the model."""

    name: str
    about: list[tuple[str, str]]
    comparison: Comparison
    verdicts: dict[str, Verdict]
    missing: dict[str, str] = field(default_factory=dict)
    departures: list[Departure] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    against: str = ""

    @property
    def others(self) -> list[Outcome]:
        """Every outcome but the reference's."""
        return self.comparison.outcomes[1:]

    @property
    def cases(self) -> list[Case]:
        """The worst cases of all executors, the worst first."""
        found = [case for outcome in self.others for case in outcome.worst]
        return sorted(found, key=lambda case: case.badness, reverse=True)


def render(report: Report) -> str:
    """The whole page."""
    title = f"Parity: {report.name}"
    sections = [
        _head(report),
        _summary(report),
        _changes(report),
        _truths(report),
        _histograms(report),
        _cases(report),
        _stages(report),
        _pictures(report),
        _missing(report),
        _about(report),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head><body><main>"
        f"<h1>{escape(title)}</h1>{''.join(sections)}</main></body></html>\n"
    )


def _head(report: Report) -> str:
    gated = [verdict for verdict in report.verdicts.values() if verdict.gate.limits]
    failed = [name for name, verdict in report.verdicts.items() if not verdict.passed]
    reference, pictures = report.comparison.outcomes[0], len(report.comparison.names)
    text = f"{len(gated)} of {len(gated)} executors inside their gate"
    if failed:
        text = f"Outside the gate: {', '.join(failed)}"
    elif not gated:
        text = "Nothing here has a gate"
    return (
        f'<p class="soft">{pictures} pictures; reference {escape(reference.name)}, '
        f"{escape(reference.detail)}</p>"
        f'<div class="hero{" bad" if failed else ""}"><b>{escape(text)}</b>'
        f"<span>{escape(_replay(report.comparison.same))}</span></div>"
    )


def _replay(same: float | None) -> str:
    if same is None:
        return ""
    if same == 0:
        return "The captured graph gives the bits of the plan queued anew."
    return f"The captured graph is {same * 255:.4g}/255 from the plan queued anew."


def _summary(report: Report) -> str:
    labels = ["executor", "verdict", *(_label(kind) for kind in KINDS), "batch rows<br>1/255"]
    rows = [_summary_row(outcome, report.verdicts[outcome.name]) for outcome in report.others]
    reasons = "".join(
        f'<li><b>{escape(name)}</b>: <span class="worse">{escape(reason)}</span></li>'
        for name, verdict in report.verdicts.items()
        for reason in verdict.reasons
    )
    note = (
        '<p class="soft"><small>Distances from the reference over all pixels, in levels of 8 bits; '
        "IoU and PSNR are means over the pictures. A bar shows how much of its limit a figure "
        "takes. 8-bit: the masks at the pictures' own size. Batch rows: the largest distance of a "
        "picture run alone from the same picture in a batch.</small></p>"
    )
    return f"<h2>Summary</h2><ul>{reasons}</ul>{_table(labels, rows)}{note}"


def _summary_row(outcome: Outcome, verdict: Verdict) -> list[str]:
    total = outcome.total
    limits = verdict.gate.limits
    colour = "bad" if not verdict.passed else "good" if limits else "plain"
    gate = f"<small>{'gate: ' if limits else ''}{escape(verdict.gate.source)}</small>"
    rows = outcome.rows
    text = f"{rows * 255:.3g}" if isinstance(rows, float) else f"<small>{escape(rows)}</small>"
    return [
        f"<b>{escape(outcome.name)}</b><small>{escape(outcome.detail)}</small>",
        f'<span class="pill {colour}">{verdict.word}</span>{gate}',
        *(_cell(kind, total, limits) for kind in KINDS),
        text,
    ]


def _cell(kind: Kind, total: Figures, limits: dict[str, float]) -> str:
    value = float(getattr(total, kind.key))
    text = number(kind, value)
    limit = limits.get(kind.key) if kind.key in _GATED else None
    if limit is None:
        return text
    share = min(1.0, value / limit) * 100
    over = " over" if value > limit else ""
    hint = f"{value / limit:.1%} of {limit * 255:.4g}/255"
    return (
        f'{text}<span class="meter{over}" title="{hint}"><i style="width:{share:.1f}%"></i></span>'
    )


def number(kind: Kind, value: float) -> str:
    """A figure in its unit, as many digits as mean something."""
    scaled = value * kind.scale
    if kind.key in ("iou", "boundary"):
        return f"{scaled:.5f}"
    if kind.unit == "dB":
        return f"{scaled:.1f}"
    return "0" if scaled == 0 else f"{scaled:.3g}" if scaled < 1000 else f"{scaled:.0f}"


def _label(kind: Kind) -> str:
    unit = {"10^3": "10³", "10^-3": "10⁻³"}.get(kind.unit, kind.unit)
    return f"{kind.label}<br>{unit}" if unit else kind.label


def _truths(report: Report) -> str:
    first = report.comparison.outcomes[0]
    kinds = [kind for kind in (*SALIENCY, *OWN) if kind.key in first.truths]
    if not kinds:
        return ""
    base = {kind.key: _mean(first.truths[kind.key]) for kind in kinds}
    rows = []
    for outcome in report.comparison.outcomes:
        cells = [_truth_cell(kind, _mean(outcome.truths[kind.key]), base) for kind in kinds]
        rows.append([f"<b>{escape(outcome.name)}</b>", *cells])
    count = len(first.truths[kinds[0].key])
    return (
        f"<h2>Against hand-made alphas</h2>{_table(['executor', *map(_label, kinds)], rows)}"
        f'<p class="soft"><small>Means over {count} pictures at their own size; below, the change '
        "from the reference. Masks are not stretched to 0..1.</small></p>"
    )


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _truth_cell(kind: Kind, value: float, base: dict[str, float]) -> str:
    change = value - base[kind.key]
    good = change == 0 or (change < 0) == (kind.better == "lower")
    colour = "" if change == 0 else "better" if good else "worse"
    return (
        f"{value * kind.scale:.4g}<small class={colour or 'soft'}>"
        f"{change * kind.scale:+.2g}</small>"
    )


def _stages(report: Report) -> str:
    if not report.departures:
        return ""
    lines = "".join(
        f'<li class="{"worse" if one.first else ""}">{escape(one.line)}</li>'
        for one in report.departures
    )
    rows = [
        [f"<code>{stage}</code>", *(_stage_cell(one, stage) for one in report.departures)]
        for stage in STAGES
    ]
    names = ["tensor", *(escape(one.name) for one in report.departures)]
    return (
        f"<h2>Stages</h2><ul>{lines}</ul>{_table(names, rows)}<p class='soft'><small>Relative "
        "error of each tensor against float32 PyTorch on the first picture; the bar shows how much "
        "of what is allowed there it takes.</small></p>"
    )


def _stage_cell(one: Departure, stage: str) -> str:
    error, limit = one.errors[stage], one.limits[stage]
    share = min(1.0, error / limit) * 100
    over = " over" if not error <= limit else ""
    pill = ' <span class="pill bad">departs</span>' if stage == one.first else ""
    return f'{error:.1e}{pill}<span class="meter{over}"><i style="width:{share:.1f}%"></i></span>'


def _changes(report: Report) -> str:
    if not report.against:
        return ""
    worse = [change for change in report.changes if change.worse]
    lines = "".join(f"<li class=worse>{escape(sentence(change))}</li>" for change in worse)
    rows = [
        [escape(change.executor), change.kind.label, f"{change.before:.4g}", f"{change.now:.4g}"]
        for change in report.changes
    ]
    table = _table(["executor", "figure", "then", "now"], rows)
    head = f"{len(worse)} figures got worse" if worse else "Nothing got worse"
    return (
        f"<h2>Against an earlier run</h2><p>{head}. <span class=soft>"
        f"{escape(report.against)}</span></p><ul>{lines}</ul>"
        f"<details><summary>All figures</summary>{table}</details>"
    )


def sentence(change: Change) -> str:
    """What one figure did."""
    unit = f" {change.kind.unit}" if change.kind.unit else ""
    label = change.kind.label
    return f"{change.executor}: {label} {change.before:.4g} then, {change.now:.4g}{unit} now"


def _cases(report: Report) -> str:
    ticks = "".join(f"<span>{tick:g}</span>" for tick in images.TICKS)
    legend = (
        f'<div class="legend" style="background:linear-gradient(90deg,{images.legend_stops()})">'
        f'</div><div class="ticks">{ticks}</div><p class="soft"><small>|difference| in 1/255, the '
        "same scale everywhere; black is less. A shrunken map shows the largest of its pixels. "
        f"Below each picture: {images.PART} x {images.PART} pixels about the largest difference."
        "</small></p>"
    )
    cards = "".join(_case(place, case) for place, case in enumerate(report.cases, 1))
    return f"<h2>Worst cases first</h2>{legend}{cards}"


def _case(place: int, case: Case) -> str:
    shown = [kind for kind in KINDS if kind.key in ("p999", "max", "mean", "iou", "beyond2")]
    figures = "".join(
        f"<span class=soft>{kind.label} <b>{number(kind, getattr(case.figures, kind.key))}</b> "
        f"{kind.unit}</span>"
        for kind in shown
    )
    titles = {"reference": "reference alpha", "alpha": case.executor}
    panels = "".join(
        f"<figure><figcaption>{escape(titles.get(key, key))}</figcaption>"
        f'<img alt="{key}" src="{whole}"><img class="near" alt="{key}, enlarged" src="{near}">'
        "</figure>"
        for key, whole, near in images.panels(case.picture, case.reference, case.alpha)
    )
    broken = "" if case.figures.finite else '<span class="pill bad">not finite</span>'
    return (
        f'<section class="card case"><header><h3>{place}. {escape(case.name)}</h3>'
        f'<span class="pill plain">{escape(case.executor)}</span>{broken}{figures}</header>'
        f'<div class="panels">{panels}</div></section>'
    )


def _histograms(report: Report) -> str:
    cards = "".join(
        f"<div class=card><h3>{escape(outcome.name)}</h3>"
        + charts.histogram(
            outcome.pool.counts, outcome.total, report.verdicts[outcome.name].gate.limits
        )
        + "</div>"
        for outcome in report.others
    )
    return f"<h2>How the differences are spread</h2><div class=two>{cards}</div>"


def _pictures(report: Report) -> str:
    labels = ["picture", "executor", *(_label(kind) for kind in KINDS)]
    rows = [
        [escape(name), escape(outcome.name)]
        + [number(kind, float(getattr(figures, kind.key))) for kind in KINDS]
        for outcome in report.others
        for name, figures in zip(report.comparison.names, outcome.pool.rows, strict=True)
    ]
    return f"<details><summary>Every picture</summary>{_table(labels, rows)}</details>"


def _missing(report: Report) -> str:
    if not report.missing:
        return ""
    rows = "".join(
        f"<li><b>{escape(name)}</b>: {escape(reason)}</li>"
        for name, reason in report.missing.items()
    )
    return f"<h2>Not compared, and why</h2><ul>{rows}</ul>"


def _about(report: Report) -> str:
    rows = "".join(
        f"<tr><td>{escape(label)}</td><td style='text-align:left;white-space:normal'>"
        f"<code>{escape(text)}</code></td></tr>"
        for label, text in report.about
    )
    return (
        f"<details><summary>Files, versions, machine</summary><div class=wide><table>{rows}</table>"
        "</div></details>"
    )


def _table(labels: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """``labels`` and ``rows`` are HTML already."""
    head = "".join(f"<th>{label}</th>" for label in labels)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<div class=wide><table><tr>{head}</tr>{body}</table></div>"

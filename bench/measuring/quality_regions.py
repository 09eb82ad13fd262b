"""Regions about what comes out: foreground colours, outlines by edge mode, and what these cost."""

from __future__ import annotations

from statistics import median

from measuring import tables
from measuring.reading import Reading, Readings, link, only
from measuring.stats import digits, ratio

METHODS = ("rembg", "off", "blur", "ml", "pymatting")
EDGES = ("single", "zoom", "tiles", "hr")
# What made the small mask, as the records name it, and what a reader is told.
MAKERS = {"oracle": "exact", "oracle softened": "exact, softened", "nano": "nano"}


def foreground(readings: Readings) -> str:
    """The colour error of each method, by scene and kind of alpha, and ml's time by PyMatting's."""
    reading = only(readings)
    table = tables.Table("", ("scene, plates, alpha", *METHODS))
    cases = [
        key.removeprefix("error ").removesuffix(", ml")
        for key in reading.samples
        if key.startswith("error ") and key.endswith(", ml")
    ]
    for case in cases:
        values = [reading.samples.get(f"error {case}, {name}") for name in METHODS]
        table.rows.append([case, *(_cell(one) for one in values)])
    return (
        f"{table.markdown()}\n\nMean of alpha times the difference from the true colour over the "
        f"soft band, in levels of 255; drawn scenes, and the lemur, over another photograph."
        f"{_speed(reading)} {reading.where}. Record: {link(reading)}."
    )


def _speed(reading: Reading) -> str:
    """ml's time as a share of PyMatting's, where a scene has both."""
    texts = []
    for key, mine in reading.samples.items():
        rival = reading.samples.get(key.replace(", ml", ", pymatting"))
        if key.startswith("time ") and key.endswith(", ml") and rival is not None:
            scene = key.removeprefix("time ").removesuffix(", ml")
            texts.append(f"{scene} {ratio(mine, rival).text()}")
    return f" Time of ml as a share of PyMatting's: {'; '.join(texts)}." if texts else ""


def outline(readings: Readings) -> str:
    """SAD in the unknown band, by scene and what made the small mask."""
    reading = only(readings)
    table = tables.Table("", ("mask at the model's size", "scene, size", *EDGES))
    for maker, title in MAKERS.items():
        scenes = dict.fromkeys(
            key.removeprefix(f"{maker}, ").removesuffix(", single SAD")
            for key in reading.samples
            if key.startswith(f"{maker}, ") and key.endswith(", single SAD")
        )
        for scene in scenes:
            found = [reading.samples.get(f"{maker}, {scene}, {edge} SAD") for edge in EDGES]
            table.rows.append([title, scene, *(_cell(one) for one in found)])
    return (
        f"{table.markdown()}\n\nSAD in thousands over the unknown band against exact truth; "
        f"a percentage is the subject's share of the picture's side. Record: "
        f"{link(reading)}."
    )


def outline_cost(readings: Readings) -> str:
    """What each edge mode costs and gives, a row a picture size and mode."""
    reading = only(readings)
    made = reading.data["configuration"]
    makers = ("oracle", made["model"])
    figures = [f"{figure}, {maker}" for maker in ("exact", "nano") for figure in ("SAD", "Grad")]
    table = tables.Table("", ("picture", "edge", "MiB", "time", *figures))
    ending = " single time"
    for size in (key.removesuffix(ending) for key in reading.samples if key.endswith(ending)):
        for edge in EDGES[:3]:
            peak = f"{size} {edge} peak memory above the model, colours and PNG"
            ratios = reading.samples[f"{size} {edge} time beside single"]
            cells = [digits(reading.samples[peak][0])]
            cells.append("1" if edge == "single" else digits(median(ratios)))
            for maker in makers:
                for figure in ("SAD", "Grad"):
                    cells.append(_cell(reading.samples.get(f"{maker}, {size}, {edge} {figure}")))
            table.rows.append([size, edge, *cells])
    return (
        f"{table.markdown()}\n\nPeak memory above the model, with colours and PNG; time without "
        f"these, as a multiple of single in the same round; SAD and Grad in thousands, of a drawn "
        f"fur. {made['rounds']} rounds, {reading.where}. Record: "
        f"{link(reading)}."
    )


def _cell(samples: list[float] | None) -> str:
    """Three digits; a dash where it was not measured, and nothing finer than a hundredth."""
    if samples is None:
        return "-"
    return digits(samples[0]) if samples[0] >= 0.005 else "0.00"

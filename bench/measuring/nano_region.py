"""The region about the embedded model: its scores on held-out scenes by kind, in one table."""

from __future__ import annotations

from measuring import tables
from measuring.reading import Readings, link, only
from measuring.stats import digits

COLUMNS = {
    "IoU": "iou",
    "boundary IoU": "boundary",
    "MAE": "mae",
    "S-measure": "s_measure",
    "weighted F": "weighted_f",
}


def nano(readings: Readings) -> str:
    """A row a kind of scene, then what else the record holds in words."""
    reading = only(readings)
    training = reading.data["findings"]["training"]
    table = tables.Table("", ("held-out scenes", "number", *COLUMNS))
    for kind, score in training["held_out"].items():
        # Without an object there is nothing to overlap; the error is of all scenes.
        known = COLUMNS.values() if score["objects"] else ("mae",)
        cells = [_cell(score[key] if key in known else None) for key in COLUMNS.values()]
        table.rows.append([kind, str(score["scenes"]), *cells])
    text = (
        f"{table.markdown()}\n\n{training['parameters'] / 1e6:.2f} million parameters, "
        f"{digits(reading.samples['model.onnx'][0])} MB as ONNX; {training['minutes']:.0f} minutes "
        f"of training on {training['machine']['threads']} cores in {training['runs']} runs, "
        f"{training['steps']} steps. The mean alpha of empty scenes is "
        f"{training['held_out']['all']['empty']:.4f}."
    )
    if "lemur MAE" in reading.samples:
        mae, sad = (reading.samples[f"lemur {name}"][0] for name in ("MAE", "SAD"))
        text += f" PyMatting's lemur: MAE {mae:.4f}, SAD {digits(sad)} thousand."
    return f"{text} Record: {link(reading)}."


def _cell(value: float | None) -> str:
    """Three digits, or a dash."""
    return "-" if value is None else f"{value:.3f}"

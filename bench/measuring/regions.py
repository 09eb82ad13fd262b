"""The text of each marked region of a README, from its records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import median

from birefnet_runtime.errors import OptionError
from measuring import nano_region, quality_regions, tables
from measuring.reading import YARDSTICK, Reading, Readings, link, only
from measuring.serving import regions as serving
from measuring.stats import digits, ratio


def product(reading: Reading) -> str:
    """What the yardstick took, over all parts."""
    seconds = [
        value
        for part in reading.parts
        if f"{part}: {YARDSTICK}: total" in reading.samples
        for value in reading.get(part, YARDSTICK)
    ]
    return f"{digits(median(seconds) * 1e3)} ms"


def overview(readings: Readings) -> str:
    """The runtime on the CPU by step, what its rivals take, and the memory of both; from a record
    of latency and one of memory."""
    if len(readings) != 2:
        raise OptionError("this region is made from a record of latency and one of memory")
    latency, held = readings
    table = tables.overview(latency, held)
    rounds = ", ".join(
        f"{len(latency.get(part, YARDSTICK))} at {part.removesuffix(' MP')}"
        for part in tables.picture_parts(latency)
    )
    return (
        f"{table.markdown()}\n\n{latency.where}; medians of interleaved rounds ({rounds} "
        f"megapixels), steps and total as multiples of a 2048 x 2048 float32 product in the same "
        f"rounds ({product(latency)}), rivals as multiples of our total with the 95 % interval. "
        f"Records: {link(latency)}, {link(held)}."
    )


def stages(readings: Readings) -> str:
    """Cut-outs by step, and against rivals."""
    reading = only(readings)
    rounds = {
        part.removesuffix(" MP"): len(reading.get(part, YARDSTICK))
        for part in tables.picture_parts(reading)
    }
    counts = ", ".join(f"{count} at {part}" for part, count in rounds.items())
    alphas = reading.data["findings"].get("alpha", {})
    apart = ", ".join(
        f"{name} {digits(value)}/255"
        for name, value in alphas.items()
        if value > 0 or name.startswith("rembg")
    )
    text = (
        f"{tables.stages(reading).markdown()}\n\n"
        f"Medians of interleaved rounds ({counts} megapixels) on {reading.where}, as multiples of "
        f"a 2048 x 2048 float32 product in the same rounds ({product(reading)}); in brackets the "
        f"95 % interval of the bootstrap over rounds. Record: {link(reading)}."
    )
    return f"{text} Mean distance of alpha from ort-cpu's: {apart}." if apart else text


def model(readings: Readings) -> str:
    """The model alone."""
    reading = only(readings)
    return (
        f"{tables.models(reading).markdown()}\n\nThe model alone, in the same units; record: "
        f"{link(reading)}."
    )


def limit(readings: Readings) -> str:
    """The steps against the machine's rates."""
    reading = only(readings)
    parts = tables.picture_parts(reading)
    if not parts:
        raise OptionError(f"{reading.path.name} has no sizes of pictures")
    operations, moved = tables.rates(reading, parts[-1])
    return (
        f"{tables.limits(reading).markdown()}\n\nPercent of the limit of ort-cpu's steps: the "
        f"least operations and bytes of each, at {digits(operations / 1e9)} GFLOP/s and "
        f"{digits(moved / 1e9)} GB/s measured in that run ({link(reading)})."
    )


def throughput(readings: Readings) -> str:
    """Pictures per second."""
    reading = only(readings)
    found = reading.data["findings"]["pictures"]
    low, high = found["megapixels"]
    passes = len(reading.get("mixed", YARDSTICK))
    return (
        f"{tables.throughput(reading).markdown()}\n\n{found['count']} JPEG files of {low:g} to "
        f"{high:g} megapixels to PNG files, medians of {passes} interleaved passes on "
        f"{reading.where}; a product takes {product(reading)}. Record: {link(reading)}."
    )


def memory(readings: Readings) -> str:
    """Peaks and first calls."""
    reading = only(readings)
    parts = tables.picture_parts(reading)
    starts = len(reading.get(parts[0], YARDSTICK))
    return (
        f"{tables.memory(reading).markdown()}\n\nEach in fresh processes, medians of {starts}; "
        f"load (imports included) and first call in products of {product(reading)}. Record: "
        f"{link(reading)}."
    )


# As graph_cost.py names them, and what a reader calls them.
GRAPHS = {
    "plain": "network as it is, float32",
    "model.onnx": "`model.onnx`, float32",
    "model.trt.onnx": "`model.trt.onnx`, FP16 body",
}


def graph_cost(readings: Readings) -> str:
    """What the rewrites leave, a row a record."""
    table = tables.Table("", ("", *GRAPHS.values()))
    for reading in readings:
        cells = []
        for graph in GRAPHS:
            nodes, gmac, gigabytes = (
                reading.samples[f"{graph} {kind}"][0]
                for kind in ("nodes", "multiply-adds", "bytes, nothing fused")
            )
            cells.append(f"{nodes:.0f} nodes, {gmac:.1f} GMAC, {gigabytes:.1f} GB")
        table.rows.append([reading.data["configuration"]["backbone"], *cells])
    return table.markdown()


def precision(readings: Readings) -> str:
    """What FP16 costs, a row a record."""
    head = ("weights, size, pictures", "PyTorch half: mean", "typed graph: mean", "99.9 % within")
    table = tables.Table("", head)
    for reading in readings:
        made = reading.data["configuration"]
        weights = str(made["weights"]).rpartition("/")[2].removesuffix(".safetensors")
        kind = "deterministic" if reading.data["hashes"].get("weights") == "deterministic" else ""
        label = f"{weights}{f' ({kind})' * bool(kind)}, {made['size']}, {made['pictures']}"
        values = [
            reading.samples[name][0]
            for name in (
                "PyTorch half alpha mean",
                "typed graph alpha mean",
                "typed graph alpha p999",
            )
        ]
        cells = [f"{values[0]:.4f}/255", f"{values[1]:.4f}/255", f"{values[2]:.2f}/255"]
        table.rows.append([label, *cells])
    return table.markdown()


MATERIALS = ("photograph", "cut-out", "product shot")


def codec(readings: Readings) -> str:
    """Every encoder's share of a core and size, by material."""
    reading = only(readings)
    head = [title for material in MATERIALS for title in (f"{material}: ms of a core", "MB")]
    table = tables.Table("", ("12 megapixels RGBA", *head))
    prefix = f"size {MATERIALS[0]} "
    for name in (key.removeprefix(prefix) for key in reading.samples if key.startswith(prefix)):
        cells = []
        for material in MATERIALS:
            cells.append(digits(median(reading.samples[f"cpu {material} {name}"]) * 1e3))
            cells.append(digits(reading.samples[f"size {material} {name}"][0] / 1e6))
        table.rows.append([name, *cells])
    rounds = reading.data["configuration"]["rounds"]
    return (
        f"{table.markdown()}\n\n{reading.where}; medians of {rounds} interleaved rounds, all "
        f"threads together. Record: {link(reading)}."
    )


def codec_way(readings: Readings) -> str:
    """JPEG bytes to PNG bytes round a model of no cost, against rembg's."""
    reading = only(readings)
    table = tables.Table(
        "", ("JPEG to PNG, 12 megapixels", "ours, ms", "rembg, ms", "ours / rembg")
    )
    for way in ("without foreground", "with foreground"):
        mine, rival = (reading.samples[f"way {way}, {who}"] for who in ("ours", "rembg"))
        cells = [digits(median(values) * 1e3) for values in (mine, rival)]
        table.rows.append([way, *cells, ratio(mine, rival).text()])
    versions = reading.data["versions"]
    return (
        f"{table.markdown()}\n\nEverything round a model that answers at once, medians of "
        f"interleaved rounds; rembg {versions.get('rembg', '')} as it comes and with `-dc`. "
        f"Record: {link(reading)}."
    )


MAKERS: Mapping[str, Callable[[Readings], str]] = {
    "overview": overview,
    "stages": stages,
    "model": model,
    "limit": limit,
    "throughput": throughput,
    "memory": memory,
    "graph-cost": graph_cost,
    "precision": precision,
    "nano": nano_region.nano,
    "codec": codec,
    "codec-way": codec_way,
    "foreground": quality_regions.foreground,
    "outline": quality_regions.outline,
    "outline-cost": quality_regions.outline_cost,
    "serving": serving.serving,
    "serving-load": serving.serving_load,
    "serving-nano": serving.serving_nano,
    "serving-batching": serving.serving_batching,
    "serving-memory": serving.serving_memory,
}
# Figures that are drawn from a region's records, by the region: files in docs/ without suffix.
FIGURES: Mapping[str, tuple[str, ...]] = {"stages": ("bench-stages",)}

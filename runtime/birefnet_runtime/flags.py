"""The flags that commands share: how a picture is cut out, and by which model.

One place adds them to a parser and turns what was given into ``Options`` and into the arguments of
``Matting.open``. A flag that was not given is left out, so every default stands in one place.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from birefnet_runtime.options import (
    DEPTHS,
    EDGES,
    FITS,
    FOREGROUNDS,
    MAX_PIXELS,
    MAX_REACH,
    OUTPUTS,
    SPILLS,
    Options,
)

_DEFAULTS = Options()
# Flags of a model, under the names that Matting.open gives them.
_MODEL = (
    "model",
    "device",
    "threads",
    "mean",
    "std",
    "activation",
    "precision",
    "batch",
    "provider",
)
# Those that Matting.open names otherwise.
_RENAMED = {"model_size": "size", "output_name": "output"}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add a flag for every field of ``Options``."""
    _add_result(parser.add_argument_group("what is written"))
    _add_edges(parser.add_argument_group("edges"))
    _add_colours(parser.add_argument_group("colours"))
    _add_file(parser.add_argument_group("files"))


def add_model(parser: argparse.ArgumentParser, size: bool = True) -> None:
    """Add the flags that choose a model and a device. ``size`` False leaves ``--size`` to another
    meaning; ``--model-size`` is the same."""
    _add_device(parser.add_argument_group("model"))
    _add_bare(parser.add_argument_group("for an .onnx file without contract"), size)
    _add_gpu(parser.add_argument_group("for a GPU"))


def given(args: argparse.Namespace) -> dict[str, Any]:
    """The fields of ``Options`` that were given, under their names."""
    values = vars(args)
    found = {item.name: values.get(item.name) for item in fields(Options)}
    return {name: value for name, value in found.items() if value is not None}


def options(args: argparse.Namespace) -> Options:
    """What was asked of each cut-out; OptionError where a value has no meaning."""
    return Options(**given(args))


def model(args: argparse.Namespace) -> dict[str, Any]:
    """What was asked of the model: keyword arguments of ``Matting.open``."""
    values = vars(args)
    found = {name: values.get(name) for name in _MODEL}
    found.update({name: values.get(flag) for flag, name in _RENAMED.items()})
    return {name: value for name, value in found.items() if value is not None}


def _add_result(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    kind = group.add_mutually_exclusive_group()
    kind.add_argument(
        "--output",
        choices=OUTPUTS,
        help="cut-out with straight alpha, with colours multiplied by it, the grey mask, or the "
        f"colours alone (default: {_DEFAULTS.output})",
    )
    kind.add_argument(
        "--mask", dest="output", action="store_const", const="alpha", help="--output alpha"
    )
    add(
        "--background",
        metavar="BACK",
        help="put this behind: #rrggbb, a colour's name, blur, checker, or a picture's file",
    )
    add("--crop", action="store_true", default=None, help="cut to the subject's box")
    add("--margin", metavar="30px|5%", help="leave so much round the box (default: none)")


def _add_edges(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--edge",
        choices=EDGES,
        help="passes that find the outline: one, a second on the subject, one of a large model, "
        f"tiles along soft edges, or what suits the picture (default: {_DEFAULTS.edge})",
    )
    add("--fit", choices=FITS, help="how a picture meets the model's size (default: the model's)")
    add(
        "--guided",
        action="store_true",
        default=None,
        help="let the soft band follow the picture's colours",
    )
    add("--feather", type=float, metavar="SIGMA", help="blur the mask's edge, in pixels")
    add("--levels", type=_pair, metavar="LOW,HIGH", help="mask values that become 0 and 1: 0.1,0.9")
    add(
        "--offset",
        type=int,
        metavar="PIXELS",
        help=f"grow the mask, or shrink it with a negative number (at most {MAX_REACH})",
    )


def _add_colours(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--foreground",
        choices=FOREGROUNDS,
        help="how the subject's own colours are found in soft edges: multi-level, blur fusion, or "
        f"not at all (default: {_DEFAULTS.foreground})",
    )
    add("--despill", choices=SPILLS, help="take a screen's colour out of soft edges")
    add(
        "--no-clear",
        dest="clear",
        action="store_false",
        default=None,
        help="keep colours where nothing of the subject is",
    )


def _add_file(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--depth", type=int, choices=DEPTHS, help="16 keeps 16 bits of a 16-bit picture")
    add(
        "--quality",
        type=int,
        metavar="1..100",
        help="of lossy formats (default: the format's; WebP: lossless)",
    )
    add("--keep-exif", action="store_true", default=None, help="keep EXIF tags, but for the place")
    add("--keep-gps", action="store_true", default=None, help="keep the place, with --keep-exif")
    add(
        "--max-pixels",
        type=int,
        metavar="N",
        help=f"refuse larger pictures (default and most: {MAX_PIXELS})",
    )
    add(
        "--shrink",
        type=_megapixels,
        metavar="MP",
        help="scale larger pictures down to so many megapixels first: 1.5",
    )


def _add_device(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--model", default="nano", help="nano, a model folder, or an .onnx file (default: nano)")
    add("--device", default="auto", help="auto, cpu, cuda or tensorrt (default: auto)")
    add("--threads", type=int, metavar="N", help="CPU threads (default: one per core)")


def _add_gpu(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--precision", choices=("fp16", "fp32"), help="of the plan (default: fp16, else fp32)")
    add("--batch", type=int, metavar="N", help="rows of the plan (default: the smallest built)")
    add(
        "--provider",
        choices=("cuda", "tensorrt"),
        default="cuda",
        help="what ONNX Runtime uses under --device cuda (default: cuda; tensorrt takes minutes "
        "to start)",
    )


def _add_bare(group: argparse._ArgumentGroup, size: bool) -> None:
    add = group.add_argument
    add("--mean", type=_triple, metavar="R,G,B", help="subtracted from 0..1 (default: ImageNet)")
    add("--std", type=_triple, metavar="R,G,B", help="then divided by (default: ImageNet)")
    names = ("--model-size", "--size") if size else ("--model-size",)
    add(*names, type=_size, metavar="N|HxW", help="input size, where the file takes any")
    add("--activation", choices=("none", "sigmoid"), help="none: it gives alpha; sigmoid: logits")
    add("--output-name", metavar="NAME", help="which of several outputs holds the mask")


def _named(name: str, parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """``parse`` under the name that argparse puts into "invalid NAME value"."""
    parse.__name__ = name
    return parse


def _parse_triple(text: str) -> tuple[float, float, float]:
    red, green, blue = (float(part) for part in text.split(","))
    return (red, green, blue)


def _parse_pair(text: str) -> tuple[float, float]:
    low, high = (float(part) for part in text.split(","))
    return (low, high)


def _parse_size(text: str) -> tuple[int, int]:
    parts = [int(part) for part in text.lower().split("x")]
    if len(parts) > 2 or min(parts) < 1:
        raise ValueError(text)
    return (parts[0], parts[-1])


def _parse_megapixels(text: str) -> int:
    return round(float(text) * 1e6)


_megapixels = _named("MP", _parse_megapixels)
_triple = _named("R,G,B", _parse_triple)
_pair = _named("LOW,HIGH", _parse_pair)
_size = _named("N or HxW", _parse_size)

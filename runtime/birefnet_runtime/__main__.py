"""The command line: ``birefnet remove``, ``birefnet doctor``.

Ends with 0 when everything was done, 1 when something failed, 2 when the arguments make no sense,
130 after Ctrl-C, 141 when the reader of stdout went away.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence

from birefnet_runtime.errors import BirefnetError, OptionError, one_line
from birefnet_runtime.options import MAX_PIXELS

# What a shell reports for a process that SIGINT or SIGPIPE ended.
INTERRUPTED = 130
BROKEN_PIPE = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status. Errors are one line on stderr."""
    args = _parser().parse_args(argv)
    # Pillow warns about odd files on stderr, which belongs to one line for each bad picture.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        return _dispatch(args)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Python flushes stdout once more at exit, which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except BirefnetError as error:
        print(f"birefnet: {one_line(error)}", file=sys.stderr)
        return 2 if isinstance(error, OptionError) else 1
    except ImportError as error:
        print(f"birefnet: {one_line(error)}: birefnet doctor says what to do", file=sys.stderr)
        return 1


def _dispatch(args: argparse.Namespace) -> int:
    if args.command == "doctor":
        from birefnet_runtime import doctor

        return doctor.run(args.model)
    from birefnet_runtime import remove

    return remove.run(args)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "birefnet", description="Cut pictures out of their background."
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and leave")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_remove(commands.add_parser("remove", help="cut out pictures"))
    doctor = commands.add_parser(
        "doctor", help="say what works here, what is missing, and how to get it"
    )
    doctor.add_argument("model", nargs="?", help="model folder whose plans are looked at, too")
    return parser


def _add_remove(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("inputs", nargs="+", metavar="INPUT", help="picture, folder of pictures, or - for stdin")
    add(
        "-o",
        "--output",
        metavar="OUT",
        help="file for one picture, folder for several, - for stdout; "
        "default: STEM.cutout.png (STEM.mask.png) beside each picture; replaced if it is there",
    )
    add("--model", default="nano", help="nano, a model folder, or an .onnx file (default: nano)")
    add("--device", default="auto", help="auto, cpu, cuda or tensorrt (default: auto)")
    add("--threads", type=int, metavar="N", help="CPU threads (default: one per core)")
    add("--mask", action="store_true", help="write the grey mask instead of the cut-out")
    add("--background", metavar="COLOUR", help="put this colour behind: #rrggbb or a name")
    add(
        "--max-pixels",
        type=int,
        default=MAX_PIXELS,
        metavar="N",
        help=f"refuse larger pictures (default and most: {MAX_PIXELS})",
    )
    _add_bare_model(parser.add_argument_group("for an .onnx file without contract"))
    _add_gpu(parser.add_argument_group("for a GPU"))


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


def _add_bare_model(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--mean", type=_triple, metavar="R,G,B", help="subtracted from 0..1 (default: ImageNet)")
    add("--std", type=_triple, metavar="R,G,B", help="then divided by (default: ImageNet)")
    add("--size", type=_size, metavar="N|HxW", help="input size, where the file takes any")
    add("--activation", choices=("none", "sigmoid"), help="none: it gives alpha; sigmoid: logits")
    add("--output-name", metavar="NAME", help="which of several outputs holds the mask")


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        from importlib import metadata

        try:
            text = metadata.version("birefnet-trt")
        except metadata.PackageNotFoundError:
            text = "(not installed: run from a source tree)"
        print(f"birefnet-trt {text}")
        parser.exit()


def _triple(text: str) -> tuple[float, float, float]:
    red, green, blue = (float(part) for part in text.split(","))
    return (red, green, blue)


def _size(text: str) -> tuple[int, int]:
    parts = [int(part) for part in text.lower().split("x")]
    if len(parts) > 2 or min(parts) < 1:
        raise ValueError(text)
    return (parts[0], parts[-1])


# argparse says "invalid NAME value" with these.
_triple.__name__ = "R,G,B"
_size.__name__ = "N or HxW"

if __name__ == "__main__":
    sys.exit(main())

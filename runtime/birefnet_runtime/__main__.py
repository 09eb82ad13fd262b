"""The command line: ``birefnet remove``, ``batch``, ``video``, ``serve``, ``doctor``.

Ends with 0 when everything was done, 1 when something failed, 2 when the arguments make no sense,
130 after Ctrl-C, 141 when the reader of stdout went away, 143 after SIGTERM in a batch.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence

from birefnet_runtime import flags
from birefnet_runtime.errors import BirefnetError, OptionError, one_line
from birefnet_runtime.serve import arguments

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
    if args.command == "batch":
        from birefnet_runtime.bulk import batch

        return batch.run(args)
    if args.command == "video":
        from birefnet_runtime import video

        return video.run(args)
    if args.command == "serve":
        return _serve(args)
    from birefnet_runtime import remove

    return remove.run(args)


def _serve(args: argparse.Namespace) -> int:
    try:
        from birefnet_runtime.serve import command
    except ModuleNotFoundError as error:
        raise BirefnetError(f"{error.name} is missing: pip install 'birefnet-trt[serve]'") from None
    return command.run(args)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "birefnet", description="Cut pictures out of their background."
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and leave")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_remove(commands.add_parser("remove", help="cut out pictures"))
    _add_batch(
        commands.add_parser(
            "batch",
            help="cut out a folder of pictures, skip what is done, go on after a crash",
            description="Cut out every picture below IN into the same tree below OUT. "
            "OUT/manifest.jsonl gets one line per picture; what it calls done is skipped.",
        )
    )
    _add_video(
        commands.add_parser(
            "video",
            help="cut out the frames of a video",
            description="Without IN: raw RGB frames on stdin, raw frames on stdout. With IN and "
            "OUT: files, by ffmpeg. Each frame is cut out on its own: nothing is smoothed over "
            "time.",
        )
    )
    arguments.add_flags(
        commands.add_parser(
            "serve",
            help="cut out pictures over HTTP, with a page for people",
            description="Serves cut-outs over HTTP until SIGTERM or Ctrl-C: what was accepted is "
            "answered, then it ends. A second one ends it at once. Needs pip install "
            "'birefnet-trt[serve]'.",
        )
    )
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
        "--out",
        metavar="OUT",
        help="file for one picture, folder for several, - for stdout; "
        "default: STEM.cutout.png (STEM.mask.png) beside each picture; replaced if it is there",
    )
    add("--verbose", action="store_true", help="say how each picture was done")
    flags.add_options(parser)
    flags.add_model(parser)


def _add_batch(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("source", metavar="IN", help="folder; the pictures in it and below it are cut out")
    add("target", metavar="OUT", help="folder for the results, laid out as IN")
    add("--list", metavar="FILE", help="only these: one path below IN per line, - for stdin")
    add("--format", default="png", help="png, webp, jpg, tif or zip (default: png)")
    add("--full-names", action="store_true", help="a.jpg becomes a.jpg.png, not a.png")
    add("--redo", action="store_true", help="do again what is done")
    add("--watch", action="store_true", help="then wait for new pictures, until Ctrl-C")
    add(
        "--settle",
        type=float,
        default=2.0,
        metavar="SECONDS",
        help="with --watch: how long a file must stay as it is before it is read (default: 2)",
    )
    add("--shard", metavar="I/N", help="only part I of N: one part for each of N machines")
    many = parser.add_mutually_exclusive_group()
    many.add_argument(
        "--workers", type=int, metavar="N", help="worker processes (default: this process alone)"
    )
    many.add_argument("--gpus", metavar="0,1", help="one worker process for each of these GPUs")
    flags.add_options(parser)
    flags.add_model(parser)


def _add_video(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("source", nargs="?", metavar="IN", help="video file (needs ffmpeg); default: raw stdin")
    add(
        "target",
        nargs="?",
        metavar="OUT",
        help=".mov (ProRes 4444), .webm (VP9), .mp4 on a background, or a folder for PNG files",
    )
    add("--size", metavar="WxH", help="width and height of the raw frames")
    flags.add_options(parser)
    flags.add_model(parser, size=False)


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        from importlib import metadata

        try:
            text = metadata.version("birefnet-trt")
        except metadata.PackageNotFoundError:
            text = "(not installed: run from a source tree)"
        print(f"birefnet-trt {text}")
        parser.exit()


if __name__ == "__main__":
    sys.exit(main())

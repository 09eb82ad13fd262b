"""``birefnet-build MODEL``: model folder to proved TensorRT plans.

Ends with 0 when every plan is there and proved, 1 when something failed, 2 when the arguments make
no sense, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from functools import partial

from birefnet_export.contract import PRECISIONS

from . import report
from .config import DEFAULT_LEVEL, LEVELS
from .errors import BirefnetError, one_line
from .manifest import ENGINES
from .progress import Abandoned, Screen

INTERRUPTED = 130
EPILOG = """MODEL is a folder that birefnet-export wrote. A plan runs only with the TensorRT version
and the GPU that built it, so it is built where it runs. It is executable code: never take one from
somebody else."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit status. Errors are one line on stderr, parse errors one a node."""
    args = parser().parse_args(argv)
    # A build that is told to end keeps its timings, as after Ctrl-C.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return run(args)
    except Abandoned:
        print("birefnet-build: stopped; nothing is half-written", file=sys.stderr)
        sys.stderr.flush()
        # TensorRT's thread would crash in the middle of an ordinary exit.
        os._exit(INTERRUPTED)
    except KeyboardInterrupt:
        print("birefnet-build: stopped; nothing is half-written", file=sys.stderr)
        return INTERRUPTED
    except BirefnetError as error:
        print(f"birefnet-build: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"birefnet-build: {one_line(error)}", file=sys.stderr)
        return 1
    finally:
        signal.signal(signal.SIGTERM, before)


def run(args: argparse.Namespace) -> int:
    """The build that ``args`` ask for. --help loads none of this."""
    from . import build
    from .messages import Messages

    screen = Screen()
    request = build.Request(args.model, args.batch, args.level, args.precision, args.force)
    messages = partial(Messages, screen.say if args.verbose else None)
    shop = build.open_workshop(request, build.Tools(), screen, messages)
    for result in build.build(shop, request):
        if args.inspect:
            print("\n".join(report.layers(build.inspect(shop, result.manifest))))
        print("\n".join(report.plan(result.manifest, result.made)))
    print(
        f"in {shop.folder / ENGINES}; try: birefnet remove PHOTO.jpg --model {shop.folder} "
        "--device tensorrt"
    )
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line's parser."""
    p = argparse.ArgumentParser("birefnet-build", description=__doc__, epilog=EPILOG)
    p.add_argument("model", metavar="MODEL", help="model folder with a model.trt.onnx")
    p.add_argument(
        "--batch",
        type=_batches,
        default=(),
        metavar="N,...",
        help="pictures per run, a plan for each; default: the one exported",
    )
    p.add_argument(
        "--level",
        type=int,
        choices=LEVELS,
        default=DEFAULT_LEVEL,
        help="effort, 0 to 5: 5 (default) builds slowest and runs fastest",
    )
    p.add_argument("--precision", choices=PRECISIONS, default="", help="default: what was exported")
    p.add_argument("--inspect", action="store_true", help="also list every layer of each plan")
    p.add_argument("--force", action="store_true", help="build even where a plan is up to date")
    p.add_argument("-v", "--verbose", action="store_true", help="show TensorRT's own messages")
    return p


def _batches(text: str) -> tuple[int, ...]:
    """``1,4`` as (1, 4), smallest first, each once."""
    found = sorted({int(part) for part in text.split(",")})
    if found[0] < 1:
        raise ValueError(text)
    return tuple(found)


# argparse says "invalid NAME value" with this.
_batches.__name__ = "N or N,M"

if __name__ == "__main__":
    sys.exit(main())

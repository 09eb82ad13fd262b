"""What the parts of ``make bench`` share: the yardstick, progress, the command itself."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from birefnet_export.contract import BirefnetError
from measuring.child import Child, ContestantError
from measuring.options import Wanted, add_arguments, parse
from record import Record

T = TypeVar("T")
Part = Callable[[Wanted], Path]


def main_of(doc: str | None, parts: Sequence[Part], argv: Sequence[str] | None = None) -> int:
    """The command of one or more parts; 1 and one line where it cannot be done."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    try:
        wanted = parse(parser.parse_args(argv))
        for part in parts:
            print(f"record: {part(wanted)}\n", flush=True)
    except BirefnetError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


def say(text: str) -> None:
    """Progress, on one line of stderr where that is a terminal."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def say_of(part: str, text: str) -> None:
    """Progress within ``part``."""
    say(f"{part}: {text}")


def start_yardstick(wanted: Wanted, stack: ExitStack) -> Child:
    """The process that measures this machine's own rates."""
    child = stack.enter_context(Child("yardstick_child", wanted.threads))
    child.ask("open", threads=wanted.threads)
    return child


def proven(
    record: Record, part: str, works: Mapping[str, Callable[[], T]]
) -> dict[str, Callable[[], T]]:
    """Those of ``works`` that can be done, each done once, which warms it up; the record says why
    others cannot."""
    able = {}
    for name, work in works.items():
        say(f"{part}: first run of {name} ...")
        try:
            work()
        except ContestantError as error:
            record.missing[f"{part}: {name}"] = str(error)
        else:
            able[name] = work
    return able

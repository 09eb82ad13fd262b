"""Records -> the tables and figures of the READMEs, so that no figure there is typed by hand.

A marked region names what it shows and the records it is made from:

    <!-- bench:stages latency-nano-....json -->
    ... written by this script ...
    <!-- /bench -->

Without options every region is written anew from the records it names; ``--newest`` first names the
newest record of the same kind and machine instead; ``--check`` writes nothing and ends with 1 where
a page or a figure is not what its records say.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from birefnet_export.contract import BirefnetError, write_atomically
from birefnet_runtime.errors import OptionError
from measuring import charts, regions
from measuring.reading import Reading
from record import RESULTS, ROOT

PAGES = ("README.md", "export/README.md", "bench/README.md")
_REGION = re.compile(
    r"^<!-- bench:(?P<name>[\w-]+)(?P<records>[^\n]*?) -->\n(?P<text>.*?)^<!-- /bench -->$",
    re.MULTILINE | re.DOTALL,
)

_BEGIN = re.compile(r"^<!-- bench:", re.MULTILINE)


@dataclass(frozen=True)
class Place:
    """Where records lie and pages stand; ``names`` are the pages, relative to ``root``."""

    root: Path = ROOT
    results: Path = RESULTS
    pages: tuple[str, ...] = PAGES


def main(argv: list[str] | None = None) -> int:
    """0 where pages and figures are, or now are, what the records say."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing; 1 where they differ")
    parser.add_argument("--newest", action="store_true", help="take the newest records")
    args = parser.parse_args(argv)
    try:
        return report(Place(), args.check, args.newest)
    except BirefnetError as error:
        print(f"report: {error}", file=sys.stderr)
        return 1


def report(place: Place, check: bool = False, newest: bool = False) -> int:
    """Fill every page, then draw the figures whose records changed."""
    stale = []
    drawn: dict[str, list[Path]] = {}
    for name in place.pages:
        path = place.root / name
        before = path.read_text(encoding="utf-8")
        after = fill(before, place, newest, drawn)
        if after != before:
            stale.append(name)
            if not check:
                write_atomically(path, after.encode())
    stale += figures(place, drawn, check)
    for name in stale:
        print(f"{name}: {'differs from what its records say' if check else 'written'}")
    if check and stale:
        print("report: run bench/report.py", file=sys.stderr)
    return 1 if check and stale else 0


def fill(text: str, place: Place, newest: bool, drawn: dict[str, list[Path]]) -> str:
    """``text`` with every region written anew; ``drawn`` gets the records of each figure.

    OptionError for a region that nobody knows, a record that is not there, or an open region.
    """
    if len(_BEGIN.findall(text)) != len(_REGION.findall(text)):
        raise OptionError(
            "a region begins with <!-- bench:NAME RECORD --> and ends <!-- /bench -->"
        )

    def replace(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in regions.MAKERS:
            raise OptionError(f"no region {name!r}: there are {', '.join(regions.MAKERS)}")
        paths = [place.results / record for record in match["records"].split()]
        if newest:
            paths = [latest(path) for path in paths]
        readings = [Reading.of(path) for path in paths]
        for figure in regions.FIGURES.get(name, ()):
            drawn[figure] = paths
        names = "".join(f" {path.name}" for path in paths)
        made = regions.MAKERS[name](readings)
        return f"<!-- bench:{name}{names} -->\n{made.strip()}\n<!-- /bench -->"

    return _REGION.sub(replace, text)


def latest(path: Path) -> Path:
    """The newest record of the same name and class of machine: their files differ in the time."""
    stem, _, _ = path.stem.rpartition("-")
    found = sorted(path.parent.glob(f"{stem}-????????T??????Z.json"))
    return found[-1] if found else path


def figures(place: Place, drawn: dict[str, list[Path]], check: bool) -> list[str]:
    """Draw those that were made from other records than they should be; their names."""
    stale = []
    for name, paths in drawn.items():
        target = place.root / "docs" / f"{name}.png"
        source = charts.source_of(paths)
        if charts.drawn_from(target) == source:
            continue
        stale.append(f"docs/{target.name}")
        if not check:
            draw: Callable[[list[Reading], Path, str], None] = charts.DRAWERS[name]
            draw([Reading.of(path) for path in paths], target, source)
    return stale


if __name__ == "__main__":
    sys.exit(main())

"""Load on the service, beside LitServe and rembg's server round one stub: ``make bench-serve``.

closed     everyone, 1 to 64 callers who ask again as soon as they have their answer
load       everyone at 80 % of what the stub can do, requests that come evenly and by chance
nano       ours with the embedded model, against the library without a server
batching   ours with runs of one picture and with fuller ones, 0 to 10 ms of waiting for more
soak       memory of ours over 10,000 requests

Client and servers share this machine's cores: the stub takes time and no core, so that what the
rest costs is seen against it. Each turn is one server's, while the others are idle.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from birefnet_export.contract import BirefnetError
from measuring.child import Child
from measuring.part import say
from measuring.pictures import EXAMPLES, enlarge
from measuring.reading import Reading
from measuring.serving import parts, tables
from measuring.serving.bench import Bench
from measuring.serving.wanted import LineUp, Wanted, add_arguments, parse
from measuring.tables import show
from record import Record

# Shares of the picture's megapixels: the soak's requests have all three in turn.
SIZES = (1.0, 0.5, 0.25)
_VERSION = "import sys\nfrom importlib.metadata import version\nprint(version(sys.argv[1]))"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the tables, write the record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    try:
        path = run(parse(parser.parse_args(argv)))
    except BirefnetError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    show(tables.everything(Reading.of(path)))
    print(f"record: {path}", flush=True)
    return 0


def run(wanted: Wanted) -> Path:
    """Measure every part that is wanted; the record's path."""
    record = Record("serve", wanted.configuration())
    record.libraries.update(versions(wanted))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        pictures = [picture(folder, wanted.megapixels * share) for share in SIZES]
        client = stack.enter_context(Child("serving.client", 1))
        sizes = client.ask("open", pictures=[str(path) for path in pictures])["bytes"]
        record.findings["pictures"] = {"megapixels": wanted.megapixels, "bytes": sizes}
        line_up = LineUp(wanted, folder / "turn")
        bench = Bench(wanted, record, client, folder, line_up, pictures[0])
        with ExitStack() as everyone:
            if {"closed", "load"} & set(wanted.parts):
                servers = bench.start(line_up.everyone(), everyone)
                for name, part in (("closed", parts.closed), ("load", parts.load)):
                    if name in wanted.parts:
                        part(bench, servers)
        for name, alone in (
            ("nano", parts.nano),
            ("batching", parts.batching),
            ("soak", parts.soak),
        ):
            if name in wanted.parts:
                alone(bench)
    say("")
    return record.write(wanted.results)


def picture(folder: Path, megapixels: float) -> Path:
    """A JPEG file of the dahlia, 4:3."""
    height = round((megapixels * 1e6 * 3 / 4) ** 0.5)
    path = folder / f"{megapixels:g}.jpg"
    path.write_bytes(enlarge(EXAMPLES / "dahlia.jpg", (round(height * 4 / 3), height), 0))
    return path


def versions(wanted: Wanted) -> dict[str, str]:
    """Of the rivals, where they take part."""
    found = {}
    for name, python in (("litserve", wanted.litserve_python), ("rembg", wanted.rembg_python)):
        if python:
            done = subprocess.run([python, "-c", _VERSION, name], capture_output=True, text=True)
            found[name] = done.stdout.strip() or "unknown"
    return found


if __name__ == "__main__":
    sys.exit(main())

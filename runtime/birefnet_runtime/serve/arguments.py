"""The flags of ``birefnet serve``, and the settings that they mean.

Imports nothing of the service, so that a command line without its packages still has the flags.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from birefnet_runtime import flags
from birefnet_runtime.errors import OptionError, one_line
from birefnet_runtime.serve.settings import MEBI, Settings

KEYS = "BIREFNET_API_KEYS"
_DEFAULTS = Settings()


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``birefnet serve``."""
    _add_access(parser.add_argument_group("who may ask"))
    _add_limits(parser.add_argument_group("limits"))
    _add_work(parser.add_argument_group("work"))
    flags.add_model(parser)


def settings(args: argparse.Namespace) -> Settings:
    """What the flags and the environment say; OptionError."""
    found: dict[str, Any] = {
        "keys": keys(args.key_file),
        "open": args.no_key,
        "origins": tuple(origin.rstrip("/") for origin in args.allow_origin),
        "hosts": tuple(args.allow_host),
        "fetch": args.fetch,
        "page": args.page,
    }
    for name in ("host", "port", "max_pixels", "seconds", "body_seconds"):
        found[name] = getattr(args, name)
    for name in ("max_body", "memory"):
        value = getattr(args, name)
        found[name] = None if value is None else round(value * MEBI)
    return Settings(**{name: value for name, value in found.items() if value is not None})


def keys(file: str | None) -> tuple[str, ...]:
    """The keys of ``file``, one a line, and of the environment, with commas or spaces between."""
    found = os.environ.get(KEYS, "").replace(",", " ").split()
    if file is not None:
        try:
            lines = [line.strip() for line in Path(file).read_text("utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or one_line(error)
            raise OptionError(f"key file {file} cannot be read: {reason}") from None
        found += (in_file := [line for line in lines if line and not line.startswith("#")])
        if not in_file:
            raise OptionError(f"key file {file} has no key: write one a line")
    return tuple(dict.fromkeys(found))


def _add_access(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--host", help=f"address to listen on (default: {_DEFAULTS.host}, this machine alone)")
    add("--port", type=int, help=f"0 takes a free one (default: {_DEFAULTS.port})")
    add(
        "--key-file",
        metavar="FILE",
        help=f"keys, one a line, of which each request needs one; those in {KEYS} count, too",
    )
    add(
        "--no-key",
        action="store_true",
        help="let anybody who reaches --host use the service without a key",
    )
    add(
        "--allow-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="let pages of this origin use it, such as https://example.org; may be repeated",
    )
    add(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name under which it may be asked (behind a proxy, for one); may be repeated",
    )
    add("--fetch", action="store_true", help="fetch pictures by URL from public addresses")
    add("--no-page", dest="page", action="store_false", help="no page, no description")


def _add_limits(group: argparse._ArgumentGroup) -> None:
    add, of = group.add_argument, _DEFAULTS
    add(
        "--max-body",
        type=float,
        metavar="MIB",
        help=f"of one request (default: {of.max_body / MEBI:g})",
    )
    add("--max-pixels", type=int, metavar="N", help=f"of one picture (default: {of.max_pixels})")
    add(
        "--memory",
        type=float,
        metavar="MIB",
        help=f"for all bodies at once (default: {of.memory / MEBI:g})",
    )
    add(
        "--body-seconds",
        type=float,
        metavar="S",
        help=f"for a body to arrive (default: {of.body_seconds:g})",
    )
    add("--seconds", type=float, metavar="S", help=f"for an answer (default: {of.seconds:g})")


def _add_work(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    # As birefnet_runtime.batcher.Limits has them, which takes the model's packages to import.
    add("--queue", type=int, metavar="N", help="pictures that may wait (default: 32)")
    add("--max-batch", type=int, metavar="N", help="pictures in one run (default: the model's)")
    add(
        "--max-wait",
        type=float,
        metavar="MS",
        help="milliseconds that a run which is not full waits for more (default: 0)",
    )
    add("--workers", type=int, metavar="N", help="threads that decode and encode")

"""The command ``birefnet serve``."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from functools import partial

from birefnet_runtime import flags
from birefnet_runtime.async_matting import AsyncMatting
from birefnet_runtime.batcher import Limits
from birefnet_runtime.serve import arguments
from birefnet_runtime.serve.app import create_app
from birefnet_runtime.serve.life import State
from birefnet_runtime.serve.server import Server
from birefnet_runtime.serve.settings import Settings


def run(args: argparse.Namespace) -> int:
    """Serve until a signal; 0 then. Raises what keeps the model or the address from being used."""
    settings = arguments.settings(args)
    settings.check_access()
    opener = partial(AsyncMatting.open, limits=limits(args), **flags.model(args))
    _log()
    server = Server(create_app(opener, settings))
    _announce(server, settings)
    server.run()
    if server.fault is not None:
        raise server.fault
    if server.service.life.is_opening:
        # Libraries that are being loaded do not bear the end of the interpreter beside them.
        sys.stderr.flush()
        os._exit(0)
    return 0


def limits(args: argparse.Namespace) -> Limits:
    """What the flags say of the queue and of runs; OptionError."""
    found = {
        "queue": args.queue,
        "batch": args.max_batch,
        "wait": None if args.max_wait is None else args.max_wait / 1000,
        "workers": args.workers,
    }
    return Limits(**{name: value for name, value in found.items() if value is not None})


def _log() -> None:
    """One line for each request, on stderr; of uvicorn only what is wrong."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    for name, level in (("birefnet.serve", logging.INFO), ("uvicorn", logging.ERROR)):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level)
        logger.propagate = False


def _announce(server: Server, settings: Settings) -> None:
    """Say where it listens and who may ask, then, when it is so, that the model is ready."""
    if settings.keys:
        who = f"{len(settings.keys)} key" + ("s" if len(settings.keys) > 1 else "")
    else:
        who = "no key, this machine alone" if settings.local else "no key: anybody may ask"
    _say(f"listening on {server.url} ({who})")
    life = server.service.life
    changed = life.on_change

    def tell(state: State) -> None:
        changed(state)
        if state is State.READY and life.matting is not None:
            _say(f"ready: {life.matting.matting.describe()}")

    life.on_change = tell


def _say(text: str) -> None:
    print(f"birefnet: {text}", file=sys.stderr, flush=True)

"""The timing cache: what TensorRT has measured on this GPU, so that it measures it once.

A help, never a need: whatever is wrong with it is said and the build goes on without.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from birefnet_export.contract import write_atomically

from .errors import one_line
from .lock import locked
from .manifest import slug

Say = Callable[[str], None]
_LOCK = ".timing.lock"


def path_of(engines: Path, tensorrt: str, gpu: str) -> Path:
    """The cache of one TensorRT version on one kind of GPU: it is worth nothing to others."""
    return engines / f"timing-{slug(tensorrt)}-{slug(gpu)}.cache"


def attach(config: Any, path: Path, say: Say) -> None:
    """Give the cache at ``path`` to ``config``; an empty one where it is missing or foreign."""
    data = _read(path, say)
    if data and not _set(config, data):
        say(f"{path.name} is of another TensorRT or GPU, or damaged: starting a new one")
        data = b""
    if not data and not _set(config, b""):
        say("TensorRT takes no timing cache: this build is timed from the start")


def save(config: Any, path: Path, say: Say) -> None:
    """Write ``config``'s cache to ``path``, together with what others wrote there meanwhile."""
    cache = config.get_timing_cache()
    if cache is None:
        return
    try:
        with locked(path.with_name(_LOCK), wait=True):
            data = _read(path, say)
            other = config.create_timing_cache(data) if data else None
            if other is not None:
                cache.combine(other, False)
            write_atomically(path, bytes(memoryview(cache.serialize())))
            path.chmod(0o600)
    except OSError as error:
        say(f"the timing cache is not kept: {one_line(error)}")


def _set(config: Any, data: bytes) -> bool:
    cache = config.create_timing_cache(data)
    # False: a cache that does not fit is refused, not bent into use.
    return cache is not None and bool(config.set_timing_cache(cache, False))


def _read(path: Path, say: Say) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        say(f"the timing cache is not read: {one_line(error)}")
        return b""

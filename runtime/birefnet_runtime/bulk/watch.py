"""Files that have come and are not written to any more, by looking again and again.

No notification of the operating system is used: polling also works on network folders.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

State = tuple[int, int]


@dataclass
class _Seen:
    """A file's state, since when it has been so, and whether it was handed out."""

    state: State
    since: float
    given: bool = False


class Watch:
    """Hands out each picture below ``root`` once for each state (size, time) that lasts.

    ``settle``: seconds that a file must have stayed as it is.
    """

    def __init__(self, root: Path, settle: float) -> None:
        self._root, self._settle = root, settle
        self._seen: dict[str, _Seen] = {}

    def look(self, names: Iterable[str], now: float) -> list[str]:
        """Those of ``names``, all that are there, which have settled; ``now``: seconds of a steady
        clock."""
        found: dict[str, _Seen] = {}
        for name in names:
            state = _state(self._root / name)
            if state is None:
                continue
            seen = self._seen.get(name)
            if seen is None or seen.state != state:
                seen = _Seen(state, now)
            found[name] = seen
        self._seen = found
        ready = [
            name
            for name, seen in found.items()
            if not seen.given and now - seen.since >= self._settle
        ]
        for name in ready:
            found[name].given = True
        return ready


def _state(path: Path) -> State | None:
    """(bytes, time of the last change in ns), or None for a file that went away."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns

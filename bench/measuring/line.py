"""A contestant's end of the line: requests come in by stdin, one JSON object a line, and each gets
one answer.

Standard library only, and Python 3.10's: it runs in whatever interpreter the contestant needs.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Answer = dict[str, Any]
Handler = Callable[[dict[str, Any]], Answer]


def peak_mib() -> float | None:
    """The most memory this process has held so far, in MiB; None where the system does not say."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    found = re.search(r"VmHWM:\s*(\d+) kB", status)
    return int(found[1]) / 1024 if found else None


def _reason(error: Exception) -> str:
    """What went wrong on one line; our own errors, which say what to do, without their names."""
    text = " ".join(str(error).split())
    ours = any(kind.__name__ == "BirefnetError" for kind in type(error).__mro__)
    return text if ours and text else f"{type(error).__name__}: {text}"


def serve(handlers: Mapping[str, Handler]) -> int:
    """Answer requests until stdin ends; ``do`` in each names its handler.

    A handler's exception is an answer too: ``error``. ``peak`` is known to every contestant: MiB,
    and what the bare interpreter held before. Whatever libraries print goes to stderr.
    """
    bare = peak_mib()
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        known: dict[str, Handler] = {
            **handlers,
            "peak": lambda request: {"peak": peak_mib(), "bare": bare},
        }
        for line in sys.stdin:
            request = json.loads(line)
            try:
                answer = known[request["do"]](request)
            except Exception as error:
                answer = {"error": _reason(error)}
            answers.write(json.dumps(answer) + "\n")
            answers.flush()
    return 0

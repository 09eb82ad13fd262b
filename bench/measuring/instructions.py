"""Instructions of the steps on the CPU, by valgrind's callgrind: the same on a busy machine.

Counting is switched on from outside (vgdb) once everything is loaded, so that starting Python and
importing libraries is neither counted nor slow. It then stays on: switched off between two steps,
callgrind 3.19 takes the first one's instructions off the second's.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from measuring.child import Child, ContestantError

NEEDED = ("valgrind", "vgdb")
# Side of the model's input that pictures are shrunk to: that of the baseline, an earlier nano's.
SIDE = 384


def absent() -> str:
    """Why instructions cannot be counted here; empty where they can."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if not missing:
        return ""
    return f"{', '.join(missing)} not installed: apt-get install valgrind (or your system's way)"


def count(picture: Path) -> dict[str, float]:
    """Instructions of each step on the JPEG file ``picture``, one thread.

    Raises ContestantError where valgrind fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "callgrind"
        prefix = (
            *("valgrind", "--tool=callgrind", "--instr-atstart=no", "--quiet"),
            f"--callgrind-out-file={out}",
        )
        # Hash seeds decide how dictionaries lie: without one the count differs from run to run.
        variables = {"PYTHONHASHSEED": "0"}
        with Child("ours_child", 1, sys.executable, prefix, variables) as child:
            steps = child.ask("open steps", path=str(picture), side=SIDE)["steps"]
            command(child.pid, "instrumentation", "on")
            return {
                name: one(child, name, out.with_suffix(f".{n}")) for n, name in enumerate(steps, 1)
            }


def one(child: Child, name: str, dump: Path) -> float:
    """Instructions of the step ``name``, and of the few that ask for it; ``dump`` is written."""
    child.ask("step", name=name)
    command(child.pid, "dump")
    counted = total(dump.read_text(errors="replace")) if dump.is_file() else 0.0
    if not counted:
        raise ContestantError(f"callgrind counted nothing in {name}")
    return counted


def command(pid: int, *words: str) -> None:
    """Tell the valgrind of ``pid`` something; ContestantError where it does not listen."""
    done = subprocess.run(
        ["vgdb", f"--pid={pid}", *words], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        said = " ".join(done.stderr.split()) or f"status {done.returncode}"
        raise ContestantError(f"vgdb {' '.join(words)} failed: {said}")


def total(dump: str) -> float:
    """The instructions of a dump of callgrind; 0 where it names none."""
    found = re.search(r"^summary: (\d+)", dump, re.MULTILINE)
    return float(found[1]) if found else 0.0

"""What a long build shows: share, phase, seconds; and that Ctrl-C reaches it."""

from __future__ import annotations

import io
import os
import signal
import threading
import time

import pytest

from birefnet_engine import progress
from birefnet_engine.messages import Messages
from birefnet_engine.progress import Abandoned, Phases, Screen, clock


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_phases_within_phases() -> None:
    phases = Phases()
    assert phases.now() is None
    phases.start("Build", None, 4)
    phases.step("Build", 0)
    assert phases.now() == (0.25, "Build")
    phases.start("Tactics", "Build", 10)
    for step in range(5):
        assert phases.step("Tactics", step)
    # Half of an inner phase is half of one of the outer's four steps.
    assert phases.now() == (0.375, "Tactics")
    phases.start("More", "Tactics", 0)
    phases.finish("More")
    phases.finish("Tactics")
    assert phases.now() == (0.25, "Build")
    phases.cancel()
    assert not phases.step("Build", 1)
    phases.finish("Build")
    phases.finish("Build")
    assert phases.now() is None
    assert not phases.step("never started", 1)


def test_a_terminal_shows_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "TICK", 0.01)
    stream, phases = Terminal(), Phases()

    def work() -> int:
        phases.start("Build", None, 2)
        phases.step("Build", 0)
        time.sleep(0.1)
        return 7

    screen = Screen(stream)
    with screen.step("build"):
        assert screen.watch("build", work, phases, reports=True) == 7
    drawn = stream.getvalue().split("\r\x1b[K")
    assert any(line.startswith(f"build: [{'#' * 12}{'.' * 12}]  50% Build, 0.") for line in drawn)
    assert drawn[-1].startswith("build: took 0.")
    assert drawn[-1].endswith("s\n")


def test_a_file_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "TICK", 0.01)
    monkeypatch.setattr(progress, "REPORT", 0.05)
    stream = io.StringIO()
    Screen(stream).watch("build", lambda: time.sleep(0.2), Phases(), reports=False)
    lines = stream.getvalue().splitlines()
    assert 1 <= len(lines) <= 4
    assert lines[0].startswith("build: (this TensorRT reports no progress) 0.")
    assert "\r" not in stream.getvalue()


def test_an_error_in_the_work_is_raised() -> None:
    def work() -> None:
        raise ValueError("from inside")

    stream = io.StringIO()
    screen = Screen(stream)
    with pytest.raises(ValueError, match="from inside"), screen.step("build"):
        screen.watch("build", work, Phases(), reports=True)
    assert stream.getvalue().startswith("build: failed after 0.")


@pytest.mark.parametrize("reports", [False, True])
def test_ctrl_c_while_nothing_can_be_stopped(
    reports: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "GRACE", 0.1)
    released = threading.Event()
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    phases = Phases()
    with pytest.raises(Abandoned):
        Screen(io.StringIO()).watch("build", released.wait, phases, reports)
    released.set()
    assert phases.cancelled


def test_clock() -> None:
    assert [clock(seconds) for seconds in (0.04, 59.94, 61, 3725.9)] == [
        "0.0 s",
        "59.9 s",
        "1 min 01 s",
        "62 min 05 s",
    ]


def test_messages_keep_the_cause_and_the_outcome() -> None:
    shown: list[str] = []
    messages = Messages(shown.append)
    messages.add("VERBOSE", "much")
    messages.add("WARNING", "careful\n")
    assert messages.cause() == ""
    for text in ("first", "second", "last", "last"):
        messages.add("ERROR", text)
    assert messages.cause() == "first; last"
    assert shown[:2] == ["TensorRT warning: careful", "TensorRT error: first"]

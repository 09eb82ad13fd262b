"""The manifest: whatever ends the process, the next one finds everything once and whole."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from birefnet_runtime.bulk.ledger import FOLDER, Ledger
from birefnet_runtime.bulk.marks import Marks
from birefnet_runtime.bulk.tasks import DONE, FAILED, Outcome, Task, digest
from birefnet_runtime.bulk.tree import Shard
from birefnet_runtime.errors import OutputError

MARKS = Marks("tiny 1", "2")


class Killed(BaseException):
    """Stands for kill -9: nothing is tidied up after it."""


def task(folder: Path, name: str = "a.jpg") -> Task:
    source = folder / name
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_bytes(b"picture " + name.encode())
    return Task(name, str(source), str(Path(name).with_suffix(".png")))


def finish(one: Task, data: bytes = b"result") -> Outcome:
    """What a worker does: the part is written, and this is what is known."""
    Path(one.part).write_bytes(data)
    state = Path(one.source).stat()
    known = (digest(one.source), state.st_size, state.st_mtime_ns)
    return Outcome(one.name, DONE, *known, bytes=len(data), seconds=0.1)


def commit(ledger: Ledger, one: Task) -> Outcome:
    given = ledger.assign(one)
    return ledger.commit(given, finish(given))


def lines(out: Path, name: str = "manifest.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / name).read_text().splitlines()]


def parts(out: Path) -> list[str]:
    return [path.name for path in (out / FOLDER).glob("*/*")]


def test_a_line_for_each_picture(tmp_path: Path) -> None:
    one = task(tmp_path / "in", "sub/a.jpg")
    with Ledger(tmp_path / "out", MARKS) as ledger:
        assert not ledger.is_done(one)
        assert commit(ledger, one).status == DONE
        assert ledger.is_done(one)
        ledger.commit(one, Outcome("b.jpg", FAILED, error="is empty"))
    first, second = lines(tmp_path / "out")
    assert (tmp_path / "out/sub/a.png").read_bytes() == b"result"
    assert first["source"] == "sub/a.jpg"
    assert first["target"] == "sub/a.png"
    assert first["sha256"] == digest(one.source)
    assert (first["status"], first["error"], first["bytes"]) == ("done", None, 6)
    assert (first["model"], first["options"]) == ("tiny 1", "2")
    assert (second["status"], second["error"], second["sha256"]) == ("failed", "is empty", None)
    assert parts(tmp_path / "out") == []


def test_what_counts_as_done(tmp_path: Path) -> None:
    one, out = task(tmp_path / "in"), tmp_path / "out"
    with Ledger(out, MARKS) as ledger:
        commit(ledger, one)
    for marks in (Marks("tiny 1", "3"), Marks("tiny 2", "2")):
        with Ledger(out, marks) as ledger:
            assert not ledger.is_done(one)
    with Ledger(out, MARKS) as ledger:
        assert ledger.is_done(one)
        assert not ledger.is_done(replace(one, target="b.png"))
        # Another time alone: the bytes decide.
        os.utime(one.source, (1, 1))
        assert ledger.is_done(one)
        Path(one.source).write_bytes(b"PICTURE a.jpg")
        assert not ledger.is_done(one)
        Path(one.source).write_bytes(b"picture a.jpg")
        assert ledger.is_done(one)
        (out / "a.png").write_bytes(b"res")
        assert not ledger.is_done(one)
        (out / "a.png").unlink()
        assert not ledger.is_done(one)


def test_the_last_line_counts(tmp_path: Path) -> None:
    one, out = task(tmp_path / "in"), tmp_path / "out"
    with Ledger(out, MARKS) as ledger:
        commit(ledger, one)
        ledger.commit(one, Outcome(one.name, FAILED, error="once"))
    with Ledger(out, MARKS) as ledger:
        assert not ledger.is_done(one)


@pytest.mark.parametrize("length", [0, 1, 40, -1])
def test_a_torn_last_line(tmp_path: Path, length: int) -> None:
    first, second, out = task(tmp_path / "in"), task(tmp_path / "in", "b.jpg"), tmp_path / "out"
    with Ledger(out, MARKS) as ledger:
        commit(ledger, first)
        commit(ledger, second)
    (out / FOLDER / "all.intent").unlink()
    whole = (out / "manifest.jsonl").read_bytes()
    start = whole.index(b"\n") + 1
    torn = whole[: start + length] if length >= 0 else whole[:-1]
    (out / "manifest.jsonl").write_bytes(torn)
    with Ledger(out, MARKS) as ledger:
        assert ledger.is_done(first)
        assert not ledger.is_done(second)
        assert len(ledger.remarks) == (length != 0)
        commit(ledger, second)
    assert [line["source"] for line in lines(out)] == ["a.jpg", "b.jpg"]


def test_a_line_of_nonsense_costs_its_picture_alone(tmp_path: Path) -> None:
    one, out = task(tmp_path / "in"), tmp_path / "out"
    out.mkdir()
    (out / "manifest.jsonl").write_bytes(bytes(50) + b'\n{"source": "x"}\n[]\n')
    with Ledger(out, MARKS) as ledger:
        assert len(ledger.remarks) == 3
        assert "line 2 cannot be read" in ledger.remarks[1]
        commit(ledger, one)
    with Ledger(out, MARKS) as ledger:
        assert ledger.is_done(one)


def kill_at(monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    """Let the next commit end at ``point``."""

    def die(*_: object, **__: object) -> Any:
        raise Killed

    def tear(descriptor: int, data: bytes) -> int:
        write(descriptor, data[: len(data) // 2])
        raise Killed

    write = os.write
    if point == "before the intent":
        monkeypatch.setattr(Path, "write_text", die)
    elif point == "before the rename":
        monkeypatch.setattr(Path, "replace", die)
    elif point == "before the line":
        monkeypatch.setattr(Ledger, "_append", die)
    else:
        monkeypatch.setattr(os, "write", tear)


@pytest.mark.parametrize(
    ("point", "finished"),
    [
        ("before the intent", False),
        ("before the rename", True),
        ("before the line", True),
        ("within the line", True),
    ],
)
def test_kill_within_a_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str, finished: bool
) -> None:
    first, second, out = task(tmp_path / "in"), task(tmp_path / "in", "b.jpg"), tmp_path / "out"
    with Ledger(out, MARKS) as ledger:
        commit(ledger, first)
    with pytest.raises(Killed), Ledger(out, MARKS) as ledger:
        given = ledger.assign(second)
        outcome = finish(given)
        with monkeypatch.context() as patch:
            kill_at(patch, point)
            ledger.commit(given, outcome)
    for _ in range(2):
        with Ledger(out, MARKS) as ledger:
            assert ledger.is_done(first)
            assert ledger.is_done(second) == finished
        assert parts(out) == []
    expected = ["a.jpg", "b.jpg"] if finished else ["a.jpg"]
    assert [line["source"] for line in lines(out)] == expected
    assert (out / "b.png").exists() == finished


def test_kill_within_the_intent(tmp_path: Path) -> None:
    one, out = task(tmp_path / "in"), tmp_path / "out"
    with Ledger(out, MARKS) as ledger:
        given = ledger.assign(one)
        finish(given)
    (out / FOLDER / "all.intent").write_text('{"part": "x", "li', encoding="ascii")
    with Ledger(out, MARKS) as ledger:
        assert not ledger.is_done(one)
    assert lines(out) == []
    assert parts(out) == []


def test_a_worker_outlives_its_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It writes parts while the next run removes those that are there, and after that."""

    def rmdir(folder: Path) -> None:
        if late:
            late.pop().write_bytes(b"late")
        remove(folder)

    one, out = task(tmp_path / "in"), tmp_path / "out"
    with pytest.raises(Killed), Ledger(out, MARKS) as ledger:
        finish(ledger.assign(one))
        late = [Path(ledger.assign(one).part) for _ in range(3)]
        raise Killed
    last = late[0]
    remove = Path.rmdir
    monkeypatch.setattr(Path, "rmdir", rmdir)
    with Ledger(out, MARKS):
        assert late == []
        with pytest.raises(FileNotFoundError):
            last.write_bytes(b"later still")
    assert parts(out) == []


def test_an_old_intent_is_not_carried_out_again(tmp_path: Path) -> None:
    one, out = task(tmp_path / "in"), tmp_path / "out"
    with Ledger(out, MARKS) as ledger:
        commit(ledger, one)
        ledger.commit(one, Outcome(one.name, FAILED, error="later"))
    with Ledger(out, MARKS) as ledger:
        assert not ledger.is_done(one)
    assert len(lines(out)) == 2


def test_a_target_that_cannot_be_written(tmp_path: Path) -> None:
    one, out = task(tmp_path / "in"), tmp_path / "out"
    (out / "a.png").mkdir(parents=True)
    with Ledger(out, MARKS) as ledger:
        outcome = commit(ledger, one)
    assert outcome.status == FAILED
    assert "a.png cannot be written: Is a directory" in str(outcome.error)
    assert [line["status"] for line in lines(out)] == ["failed"]
    with Ledger(out, MARKS) as ledger:
        assert not ledger.is_done(one)
    assert parts(out) == []


def test_one_batch_at_a_time(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with Ledger(out, MARKS):
        for shard in (None, Shard(1, 2)):
            with pytest.raises(OutputError, match=f"in use by process {os.getpid()} on "):
                Ledger(out, MARKS, shard).__enter__()
    with Ledger(out, MARKS, Shard(1, 2)), Ledger(out, MARKS, Shard(2, 2)):
        for shard in (None, Shard(1, 2)):
            with pytest.raises(OutputError, match="wait until it has ended"):
                Ledger(out, MARKS, shard).__enter__()
    with Ledger(out, MARKS):
        pass


def test_shards_share_what_is_done(tmp_path: Path) -> None:
    one, other, out = task(tmp_path / "in"), task(tmp_path / "in", "b.jpg"), tmp_path / "out"
    with Ledger(out, MARKS, Shard(1, 2)) as ledger:
        commit(ledger, one)
    with Ledger(out, MARKS, Shard(2, 2)) as ledger:
        assert ledger.is_done(one)
        left = ledger.assign(other)
        finish(left)
    assert [line["source"] for line in lines(out, "manifest-1-of-2.jsonl")] == ["a.jpg"]
    # A whole batch takes over from shards, and tidies up after them.
    with Ledger(out, MARKS) as ledger:
        assert ledger.is_done(one)
    assert parts(out) == []


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"")
    with pytest.raises(OutputError, match="out cannot be written"):
        Ledger(tmp_path / "out", MARKS).__enter__()

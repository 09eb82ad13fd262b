"""Files that have settled, seen by looking again and again."""

from __future__ import annotations

import os
from pathlib import Path

from birefnet_runtime.bulk.watch import Watch


def test_a_file_is_handed_out_when_it_has_settled(tmp_path: Path) -> None:
    watch, file = Watch(tmp_path, 2.0), tmp_path / "a"
    file.write_bytes(b"1")
    assert watch.look(["a"], 0.0) == []
    assert watch.look(["a"], 1.9) == []
    file.write_bytes(b"12")
    assert watch.look(["a"], 2.5) == []
    assert watch.look(["a"], 4.4) == []
    assert watch.look(["a"], 4.5) == ["a"]
    assert watch.look(["a"], 9.0) == []


def test_a_new_time_is_a_new_state(tmp_path: Path) -> None:
    watch, file = Watch(tmp_path, 0.0), tmp_path / "a"
    file.write_bytes(b"1")
    assert watch.look(["a"], 0.0) == ["a"]
    assert watch.look(["a"], 1.0) == []
    os.utime(file, (5, 5))
    assert watch.look(["a"], 2.0) == ["a"]


def test_files_that_go_away_are_forgotten(tmp_path: Path) -> None:
    watch, file = Watch(tmp_path, 0.0), tmp_path / "a"
    file.write_bytes(b"1")
    state = file.stat()
    assert watch.look(["a", "never"], 0.0) == ["a"]
    file.unlink()
    assert watch.look(["a"], 1.0) == []
    file.write_bytes(b"1")
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert watch.look(["a"], 2.0) == ["a"]

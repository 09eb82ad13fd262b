"""The command batch: to the end, once each, whatever happens on the way."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from birefnet_runtime.__main__ import _parser, main
from birefnet_runtime.bulk import crew, worker
from birefnet_runtime.bulk.batch import Batch, _cores, _team
from birefnet_runtime.bulk.ledger import FOLDER, Ledger
from birefnet_runtime.bulk.marks import Marks
from birefnet_runtime.bulk.stop import Stop
from birefnet_runtime.bulk.tasks import DONE, FAILED, Outcome, Task
from birefnet_runtime.bulk.tree import Tree
from birefnet_runtime.bulk.worker import Worker
from birefnet_runtime.errors import LostDeviceError
from birefnet_runtime.matting import Matting
from birefnet_runtime.options import Options
from helpers.pictures import decoded, encoded, noise

Capture = pytest.CaptureFixture[str]
# Seconds after which a process that should have done something is given up.
PATIENCE = 60.0


def write_pictures(folder: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(noise(20, 10 + number % 7, seed=number)))
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "in", "a.jpg", "b.jpg", "sub/c.png", "sub/deep/d.webp")


def batch(tiny: Path, *arguments: object) -> int:
    return main(["batch", *map(str, arguments), "--model", str(tiny), "--device", "cpu"])


def lines(out: Path, name: str = "manifest.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / name).read_text().splitlines()]


def results(out: Path) -> dict[str, bytes]:
    """Every result below ``out``, by its path there."""
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and FOLDER not in path.parts and path.suffix != ".jsonl"
    }


def parts(out: Path) -> list[Path]:
    return list((out / FOLDER).glob("*/*"))


def test_a_folder(tiny: Path, photos: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out"
    assert batch(tiny, photos, out) == 0
    found = results(out)
    assert list(found) == ["a.png", "b.png", "sub/c.png", "sub/deep/d.png"]
    assert decoded(found["sub/c.png"]).shape == (20, 12, 4)
    assert [line["source"] for line in lines(out)] == [
        "a.jpg",
        "b.jpg",
        "sub/c.png",
        "sub/deep/d.webp",
    ]
    assert all(line["status"] == "done" and line["seconds"] > 0 for line in lines(out))
    assert parts(out) == []
    error = capsys.readouterr().err
    assert error.startswith("birefnet: 4 done, 0 failed, 0 skipped in ")
    assert error.count("\n") == 1


def test_what_is_done_is_skipped(tiny: Path, photos: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out"
    assert batch(tiny, photos, out) == 0
    write_pictures(photos, "e.png")
    (photos / "a.jpg").write_bytes(encoded(noise(9, 9)))
    (out / "b.png").unlink()
    assert batch(tiny, photos, out) == 0
    assert "3 done, 0 failed, 2 skipped" in capsys.readouterr().err
    assert [line["source"] for line in lines(out)[4:]] == ["a.jpg", "b.jpg", "e.png"]
    assert decoded((out / "a.png").read_bytes()).shape[:2] == (9, 9)


def test_other_options_do_it_again(
    tiny: Path, photos: Path, tmp_path: Path, capsys: Capture
) -> None:
    out, back = tmp_path / "out", tmp_path / "back.png"
    back.write_bytes(encoded(noise(8, 8)))
    for arguments, made in (
        (["--background", "white"], 4),
        (["--background", "white"], 0),
        (["--background", "white", "--max-pixels", "1000"], 0),
        (["--background", "white", "--redo"], 4),
        (["--mask"], 4),
    ):
        assert batch(tiny, photos, out, *arguments) == 0
        assert f"birefnet: {made} done" in capsys.readouterr().err
    assert decoded((out / "a.png").read_bytes()).ndim == 2


def test_nothing_to_do_opens_no_model(
    tiny: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert batch(tiny, photos, out) == 0
    monkeypatch.setattr(Matting, "open", None)
    assert batch(tiny, photos, out) == 0
    (tmp_path / "empty").mkdir()
    assert batch(tiny, tmp_path / "empty", tmp_path / "nothing") == 0


def test_failures_are_listed(tiny: Path, photos: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out"
    (photos / "b.jpg").write_bytes(b"not a picture")
    (photos / "sub" / "e.png").write_bytes(b"")
    assert batch(tiny, photos, out) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("birefnet: b.jpg: is none of JPEG")
    assert said[1] == "birefnet: sub/e.png: is empty"
    assert said[2].startswith("birefnet: 3 done, 2 failed, 0 skipped in ")
    assert said[3].startswith("  b.jpg: is none of JPEG")
    assert said[4] == "  sub/e.png: is empty"
    failed = [line for line in lines(out) if line["status"] == "failed"]
    assert [line["source"] for line in failed] == ["b.jpg", "sub/e.png"]
    assert failed[1]["error"] == "is empty"
    # Tried again next time: the picture may have been mended.
    write_pictures(photos, "b.jpg")
    (photos / "sub" / "e.png").unlink()
    assert batch(tiny, photos, out) == 0
    assert "1 done, 0 failed, 3 skipped" in capsys.readouterr().err


def test_formats_and_names(tiny: Path, photos: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out"
    write_pictures(photos, "a.png")
    assert batch(tiny, photos, out) == 2
    assert "a.jpg and a.png would both be written to a.png" in capsys.readouterr().err
    assert not out.exists()
    assert batch(tiny, photos, out, "--full-names", "--format", "webp") == 0
    assert {"a.jpg.webp", "a.png.webp"} < set(results(out))


def test_a_result_is_not_replaced_by_another_picture(
    tiny: Path, photos: Path, tmp_path: Path, capsys: Capture
) -> None:
    out, names = tmp_path / "out", tmp_path / "names"
    assert batch(tiny, photos, out) == 0
    write_pictures(photos, "a.png")
    names.write_text("a.png\n", encoding="utf-8")
    assert batch(tiny, photos, out, "--list", names) == 1
    assert "a.png: a.png is the result of a.jpg: add --full-names" in capsys.readouterr().err
    (photos / "a.jpg").unlink()
    assert batch(tiny, photos, out, "--list", names) == 0


def test_of_an_animation_the_first_frame(tiny: Path, tmp_path: Path, capsys: Capture) -> None:
    frames = [Image.fromarray(noise(9, 9, seed=number)) for number in range(3)]
    (tmp_path / "in").mkdir()
    frames[0].save(tmp_path / "in" / "a.gif", save_all=True, append_images=frames[1:])
    assert batch(tiny, tmp_path / "in", tmp_path / "out") == 0
    remark = "only the first of its 3 frames is cut out"
    assert capsys.readouterr().err.startswith(f"birefnet: a.gif: {remark}\n")
    assert lines(tmp_path / "out")[0]["remark"] == remark


def test_a_list_and_shards(tiny: Path, photos: Path, tmp_path: Path, capsys: Capture) -> None:
    out, names = tmp_path / "out", tmp_path / "names"
    names.write_text("sub/c.png\na.jpg\nmissing.jpg\n", encoding="utf-8")
    assert batch(tiny, photos, out, "--list", names) == 1
    assert [line["source"] for line in lines(out)] == ["sub/c.png", "a.jpg", "missing.jpg"]
    assert "birefnet: missing.jpg: no such file" in capsys.readouterr().err
    other = tmp_path / "other"
    for index in (1, 2):
        assert batch(tiny, photos, other, "--shard", f"{index}/2") == 0
    both = [lines(other, f"manifest-{index}-of-2.jsonl") for index in (1, 2)]
    assert all(both)
    assert len(results(other)) == sum(map(len, both)) == 4
    capsys.readouterr()
    assert batch(tiny, photos, other) == 0
    assert "0 done, 0 failed, 4 skipped" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--format", "jpg"], "JPEG has no transparency"),
        (["--format", "bmp"], "no format for .bmp"),
        (["--shard", "3/2"], "give I/N"),
        (["--workers", "0"], "workers must be 1 or more"),
        (["--gpus", "0,0"], "give different ones"),
        (["--settle", "-1"], "settle must be"),
        (["--watch", "--list", "x"], "leave out --watch or --list"),
        (["--list", "missing"], "the list missing cannot be read"),
        (["--offset", "1000"], "offset must be"),
        (["--depth", "16", "--format", "webp"], "webp has 8 bits"),
    ],
)
def test_arguments_without_sense(
    arguments: list[str], text: str, tiny: Path, photos: Path, tmp_path: Path, capsys: Capture
) -> None:
    assert batch(tiny, photos, tmp_path / "out", *arguments) == 2
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out" / "manifest.jsonl").exists()


def test_two_batches_never_write_one_folder(
    tiny: Path, photos: Path, tmp_path: Path, capsys: Capture
) -> None:
    with Ledger(tmp_path / "out", Marks("", "")):
        assert batch(tiny, photos, tmp_path / "out") == 1
    assert f"is in use by process {os.getpid()}" in capsys.readouterr().err


# --- a worker in this process


def tasks_of(folder: Path, *names: str) -> list[Task]:
    write_pictures(folder / "in", *names)
    return [
        Task(name, str(folder / "in" / name), name, str(folder / f"part-{name}")) for name in names
    ]


def test_an_unknown_error_costs_one_picture(
    matting: Matting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Taken ahead with the picture that fails, those after it are done again.
    todo = tasks_of(tmp_path, *(f"{number}.png" for number in range(8)))
    read = worker._read

    def explode(item: Any) -> Any:
        source = read(item)
        return object() if item.task.name == "2.png" else source

    def fail(*_: object) -> Any:
        raise RuntimeError("a library's own")

    monkeypatch.setattr(worker, "_read", explode)
    monkeypatch.setattr("birefnet_runtime.pipeline.is_device_array", lambda s: type(s) is object)
    monkeypatch.setattr("birefnet_runtime.host.HostBackend.borrow", fail)
    found = list(Worker(matting, Options(), ".png").run(iter(todo)))
    assert [task.name for task, _ in found] == [task.name for task in todo]
    assert [outcome.status for _, outcome in found].count(DONE) == 7
    assert found[2][1].error == "RuntimeError: a library's own"
    for task, outcome in found:
        assert outcome.status == FAILED or Path(task.part).stat().st_size == outcome.bytes


def test_a_full_disk_ends_the_batch(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    photos = write_pictures(tmp_path / "in", *(f"{number:02}.png" for number in range(30)))

    def refuse(path: Path, mode: str) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(worker, "Path", type("Full", (type(tmp_path),), {"open": _opener(refuse)}))
    assert batch(tiny, photos, tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert "the result cannot be written: No space left on device" in error
    # The pictures in flight, not all.
    assert len(lines(tmp_path / "out")) < 10


def _opener(refuse: Callable[[Path, str], Any]) -> Callable[..., Any]:
    def open_(self: Path, mode: str = "r") -> Any:
        return refuse(self, mode) if "w" in mode else Path(str(self)).open(mode)

    return open_


def test_a_lost_gpu_ends_the_batch_and_blames_no_picture(
    tiny: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def lose(*_: object, **__: object) -> Any:
        raise LostDeviceError("the GPU's context is gone: start the process again")

    monkeypatch.setattr("birefnet_runtime.host.HostBackend.infer", lose)
    assert batch(tiny, photos, tmp_path / "out") == 1
    assert "context is gone" in capsys.readouterr().err
    assert lines(tmp_path / "out") == []


# --- watching


def test_stop(capfd: Capture) -> None:
    stop = Stop()
    assert not stop
    stop.ask(signal.SIGTERM)
    assert stop
    assert stop.status == 143
    stop.sleep(PATIENCE)
    with pytest.raises(KeyboardInterrupt):
        stop.ask(signal.SIGINT)
    assert capfd.readouterr().err.count("ending after the pictures in flight") == 1


class Script(Stop):
    """Runs a step at each time that nothing is to do, and stops after the last."""

    def __init__(self, *steps: Callable[[], object]) -> None:
        super().__init__()
        self._steps = iter(steps)

    def sleep(self, seconds: float) -> None:
        step = next(self._steps, None)
        if step is None:
            self._asked = signal.SIGINT
        else:
            step()


class Clerk:
    """A team that copies pictures."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def run(self, tasks: Any) -> Iterator[tuple[Task, Outcome]]:
        for task in tasks:
            self.names.append(task.name)
            size = Path(shutil.copyfile(task.source, task.part)).stat().st_size
            state = Path(task.source).stat()
            yield task, Outcome(task.name, DONE, None, state.st_size, state.st_mtime_ns, size)

    def close(self, now: bool) -> None: ...


def test_watch(tmp_path: Path, capsys: Capture) -> None:
    photos = write_pictures(tmp_path / "in", "a.png")
    script = Script(
        lambda: write_pictures(photos, "sub/b.png"),
        lambda: (photos / "a.png").write_bytes(b"changed"),
        lambda: write_pictures(photos, "a.jpg"),
        lambda: None,
    )
    tree = Tree.open(str(photos), str(tmp_path / "out"), ".png", False, None)
    team = Clerk()
    with Ledger(tmp_path / "out", Marks("", "")) as ledger:
        Batch(team, ledger, script, tree).watch(0.0)
    assert team.names == ["a.png", "sub/b.png", "a.png"]
    assert (tmp_path / "out" / "a.png").read_bytes() == b"changed"
    # The newcomer would have replaced another picture's result.
    assert lines(tmp_path / "out")[-1]["status"] == "failed"
    assert "a.jpg: a.png is the result of a.png: add --full-names" in capsys.readouterr().err


# --- worker processes

# Ends the process as a crash would, on a picture of this name.
_DEADLY = """
import os, sys
sys.path[:] = sys.argv[1:]
from birefnet_runtime.bulk import worker
read = worker._read
def deadly(item):
    name = item.task.name
    if name.startswith("deadly"):
        os._exit(7)
    if "once" in name:
        try:
            os.close(os.open(item.task.source + ".seen", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return read(item)
        os._exit(7)
    return read(item)
worker._read = deadly
sys.exit(worker.main())
"""


def test_workers(tiny: Path, tmp_path: Path, capsys: Capture) -> None:
    photos = write_pictures(tmp_path / "in", *(f"{number}.png" for number in range(9)))
    assert batch(tiny, photos, tmp_path / "alone") == 0
    assert batch(tiny, photos, tmp_path / "two", "--workers", 2, "--levels", "0,1") == 0
    assert results(tmp_path / "two") == results(tmp_path / "alone")
    assert len(lines(tmp_path / "two")) == 9
    assert parts(tmp_path / "two") == []


def test_a_worker_that_dies(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    names = [f"{number}.png" for number in range(6)]
    photos = write_pictures(tmp_path / "in", *names, "0once.png", "deadly.png", "z.png")
    monkeypatch.setattr(crew, "_CODE", _DEADLY)
    assert batch(tiny, photos, tmp_path / "out", "--workers", 1) == 1
    status = {line["source"]: line["status"] for line in lines(tmp_path / "out")}
    assert len(lines(tmp_path / "out")) == 9
    assert status.pop("deadly.png") == "failed"
    assert set(status.values()) == {"done"}
    error = capsys.readouterr().err
    assert "deadly.png: the worker process ended with status 7 on it" in error


def test_a_worker_without_model(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    missing = tmp_path / "broken.onnx"
    missing.write_bytes(b"nonsense")
    assert batch(missing, photos, tmp_path / "out", "--workers", 1) == 1
    assert "broken.onnx" in capsys.readouterr().err
    assert lines(tmp_path / "out") == []


def test_gpus_and_cores_are_shared_out(tmp_path: Path) -> None:
    def setups(*arguments: str) -> list[crew.Setup]:
        args = _parser().parse_args(["batch", "in", "out", *arguments])
        team = _team(args, Options(), ".png")
        assert isinstance(team, crew.Crew)
        return [hand._setup for hand in team._hands]

    changes = [setup.environment for setup in setups("--gpus", "1, GPU-x")]
    assert changes == [{"CUDA_VISIBLE_DEVICES": "1"}, {"CUDA_VISIBLE_DEVICES": "GPU-x"}]
    four = setups("--workers", "4")
    assert len(four) == 4
    assert four[0].model["threads"] == max(1, _cores() // 4)
    assert setups("--workers", "4", "--threads", "2")[3].model["threads"] == 2


# --- as a process


def start(tiny: Path, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "birefnet_runtime", "batch", *map(str, arguments)]
    command += ["--model", str(tiny), "--device", "cpu", "--threads", "1"]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def count(out: Path) -> int:
    try:
        return (out / "manifest.jsonl").read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def wait_for(reached: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + PATIENCE
    while not reached() and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.001)


def many(folder: Path, number: int) -> Path:
    return write_pictures(folder, *(f"{n % 3}/{n:03}.png" for n in range(number)))


@pytest.mark.parametrize("workers", [(), ("--workers", 2)], ids=["alone", "workers"])
def test_kill_and_resume(tiny: Path, tmp_path: Path, workers: tuple[object, ...]) -> None:
    """kill -9 at places drawn by chance, then to the end: as if nothing had happened."""
    total = 110
    photos, out = many(tmp_path / "in", total), tmp_path / "out"
    chance = random.Random(5)
    for _ in range(1 if workers else 3):
        goal = count(out) + chance.randrange(1, 30)
        with start(tiny, photos, out, *workers) as process:
            wait_for(lambda goal=goal: count(out) >= goal, process)  # type: ignore[misc]
            time.sleep(chance.random() * 0.005)
            process.kill()
        assert process.returncode in (0, -signal.SIGKILL)
    assert 0 < count(out) < total
    assert batch(tiny, photos, out) == 0
    assert batch(tiny, photos, tmp_path / "whole") == 0
    assert results(out) == results(tmp_path / "whole")
    done = [line["source"] for line in lines(out)]
    assert len(done) == len(set(done)) == total
    assert parts(out) == []


def test_ctrl_c_ends_after_the_pictures_in_flight(tiny: Path, tmp_path: Path) -> None:
    photos, out = many(tmp_path / "in", 400), tmp_path / "out"
    with start(tiny, photos, out) as process:
        wait_for(lambda: count(out) >= 3, process)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate()
    assert process.returncode == 130
    assert error.startswith("birefnet: ending after the pictures in flight")
    assert error.count("\n") == 2
    done = lines(out)
    assert 3 <= len(done) < 400
    assert sorted(line["target"] for line in done) == sorted(results(out))
    assert parts(out) == []


def test_watch_as_a_process(tiny: Path, tmp_path: Path) -> None:
    photos, out = write_pictures(tmp_path / "in", "a.png"), tmp_path / "out"
    with start(tiny, photos, out, "--watch", "--settle", 0.1) as process:
        wait_for(lambda: count(out) == 1, process)
        write_pictures(photos, "new/b.png")
        wait_for(lambda: count(out) == 2, process)
        process.terminate()
        _, error = process.communicate()
    assert process.returncode == 143
    assert list(results(out)) == ["a.png", "new/b.png"]
    assert "birefnet: watching" in error

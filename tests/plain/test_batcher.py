"""Single pictures into runs: batching, bounds, deadlines, hang-ups, the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from birefnet_runtime import Matting, Options
from birefnet_runtime.batcher import Batcher, Limits
from birefnet_runtime.cutout import Cutout
from birefnet_runtime.errors import (
    BusyError,
    ClosedError,
    DeadlineError,
    DecodeError,
    LostDeviceError,
    OptionError,
)
from birefnet_runtime.frame import Frame, Slot, View
from birefnet_runtime.host import SLOTS
from helpers.bright import BrightBatch
from helpers.gate import SOON, Gate
from helpers.pictures import Pixels, disc, encoded

PLAIN = Options(foreground="off")


def grey(value: int, side: int = 32) -> Pixels:
    return np.full((side, side, 3), value, np.uint8)


@pytest.fixture
def gate() -> Iterator[Gate]:
    backend = Gate()
    yield backend
    backend.open()


def eventually(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + SOON
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.001)


def test_each_picture_gets_its_own_result(matting: Matting) -> None:
    batcher = Batcher(matting.pipeline, Limits(queue=100))
    futures = [batcher.submit(grey(value), PLAIN) for value in range(0, 250, 5)]
    alphas = [future.result(SOON).alpha for future in futures]
    expected = [matting.remove(grey(value), PLAIN).alpha for value in range(0, 250, 5)]
    assert all(np.array_equal(*pair) for pair in zip(alphas, expected, strict=True))
    assert batcher.close(SOON)


def test_work_is_done_in_a_worker_and_a_source_may_be_a_function(matting: Matting) -> None:
    batcher = Batcher(matting.pipeline)
    data = encoded(disc())
    names: list[str] = []

    def source() -> bytes:
        names.append(threading.current_thread().name)
        return data

    def work(cutout: Cutout) -> bytes:
        names.append(threading.current_thread().name)
        return cutout.encode(".png")

    png = batcher.submit(source, PLAIN, work).result(SOON)
    assert png == matting.remove(data, PLAIN).encode(".png")
    assert [name.rsplit("-", 1)[0] for name in names] == ["birefnet-work"] * 2
    assert batcher.close(SOON)


def test_errors_stay_with_their_picture(matting: Matting) -> None:
    batcher = Batcher(matting.pipeline)

    def fail(cutout: Cutout) -> None:
        raise SystemExit("not a thread's end")

    bad = batcher.submit(b"no picture")
    broken = batcher.submit(disc(), PLAIN, fail)
    good = [batcher.submit(disc(), PLAIN) for _ in range(8)]
    assert all(one.result(SOON).alpha.any() for one in good)
    with pytest.raises(DecodeError):
        bad.result(SOON)
    with pytest.raises(SystemExit):
        broken.result(SOON)
    with pytest.raises(OptionError, match="hr"):
        batcher.submit(disc(), Options(edge="hr"))
    assert batcher.load.running == batcher.load.waiting == 0
    assert batcher.close(SOON)


def test_a_lost_device_fails_every_picture_of_its_run(gate: Gate) -> None:
    batcher = Batcher(gate.matting.pipeline)
    gate.infer = lambda slot: (_ for _ in ()).throw(LostDeviceError("gone"))  # type: ignore[method-assign]
    futures = [batcher.submit(disc(), PLAIN) for _ in range(3)]
    for future in futures:
        with pytest.raises(LostDeviceError):
            future.result(SOON)
    assert batcher.close(SOON)


def test_a_full_queue_refuses_and_says_when_to_come_again(gate: Gate) -> None:
    batcher = Batcher(gate.matting.pipeline, Limits(queue=3))
    running = [batcher.submit(disc(), PLAIN) for _ in range(3)]
    eventually(lambda: batcher.load.waiting == 0)
    running += [batcher.submit(disc(), PLAIN) for _ in range(batcher.window - 3)]
    eventually(lambda: batcher.load.running == batcher.window)
    waiting = [batcher.submit(disc(), PLAIN) for _ in range(3)]
    with pytest.raises(BusyError, match="try again in 1 s") as caught:
        batcher.submit(disc(), PLAIN)
    assert caught.value.retry_after == 1
    patient = batcher.submit(disc(), PLAIN, patient=True)
    assert batcher.load.is_full
    gate.open()
    assert all(one.result(SOON) for one in [*running, *waiting, patient])
    eventually(lambda: batcher.load.running == 0)
    assert batcher.load.pace > 0
    assert batcher.close(SOON)


def test_memory_is_bounded_by_the_window(gate: Gate) -> None:
    batcher = Batcher(gate.matting.pipeline, Limits(queue=100))
    asked: list[int] = []

    def source() -> Pixels:
        asked.append(1)
        return disc()

    futures = [batcher.submit(source, PLAIN) for _ in range(50)]
    gate.wait_for(SLOTS)
    eventually(lambda: len(asked) == batcher.window)
    time.sleep(0.05)
    assert len(asked) == batcher.load.running == batcher.window
    gate.open()
    assert all(future.result(SOON) for future in futures)
    assert batcher.close(SOON)


def test_a_cancelled_picture_frees_its_place_and_is_never_cut_out(gate: Gate) -> None:
    batcher = Batcher(gate.matting.pipeline, Limits(queue=2))
    filling = [batcher.submit(disc(), PLAIN, patient=True) for _ in range(batcher.window)]
    eventually(lambda: batcher.load.running == batcher.window)
    first, second = (batcher.submit(disc(), PLAIN) for _ in range(2))
    assert first.cancel()
    assert batcher.load.waiting == 1
    third = batcher.submit(disc(), PLAIN)
    # One that is decoded already is dropped, too, before it reaches the model.
    assert filling[-1].cancel()
    gate.open()
    assert all(one.result(SOON) for one in [*filling[:-1], second, third])
    eventually(lambda: batcher.load.running == 0)
    assert gate.runs == batcher.window - 1 + 2
    assert batcher.close(SOON)


def test_a_late_picture_is_dropped(gate: Gate) -> None:
    batcher = Batcher(gate.matting.pipeline)
    filling = [batcher.submit(disc(), PLAIN) for _ in range(SLOTS)]
    gate.wait_for(SLOTS)
    late = batcher.submit(disc(), PLAIN, deadline=time.monotonic() + 0.02)
    time.sleep(0.03)
    gate.open()
    with pytest.raises(DeadlineError, match="allow more time"):
        late.result(SOON)
    assert all(one.result(SOON) for one in filling)
    assert gate.runs == SLOTS
    assert batcher.close(SOON)


def test_closing_finishes_what_was_accepted(gate: Gate) -> None:
    batcher = Batcher(gate.matting.pipeline)
    futures = [batcher.submit(disc(), PLAIN) for _ in range(12)]
    closing = threading.Thread(target=batcher.close)
    closing.start()
    eventually(lambda: batcher._closed)
    with pytest.raises(ClosedError, match="being closed"):
        batcher.submit(disc(), PLAIN)
    gate.open()
    closing.join(SOON)
    assert not closing.is_alive()
    assert all(future.result(0) for future in futures)
    assert not any(thread.is_alive() for thread in batcher._threads)


def test_closing_without_patience_tells_those_who_wait(gate: Gate) -> None:
    batcher = Batcher(gate.matting.pipeline)
    futures = [batcher.submit(disc(), PLAIN) for _ in range(12)]
    gate.wait_for(SLOTS)
    assert not batcher.close(0.01)
    with pytest.raises(ClosedError):
        futures[-1].result(SOON)
    gate.open()
    for future in futures[:-1]:
        assert isinstance(future.exception(SOON), ClosedError | None)
    assert batcher.close(SOON)


def batches(limits: Limits, pictures: list[tuple[Pixels, Options]]) -> list[int]:
    """How many pictures each run takes when all are there before the first run begins."""
    matting = Matting(BrightBatch(32, 32))
    batcher = Batcher(matting.pipeline, limits)
    sizes: list[int] = []
    batcher.watchers.append(sizes.append)
    held = [matting.pipeline._take() for _ in range(SLOTS)]
    futures = [batcher.submit(*one, patient=True) for one in pictures]
    eventually(lambda: batcher.load.running == min(len(pictures), batcher.window))
    # One of them: that backend takes one run at a time.
    matting.pipeline._slots.put(held[0])
    for (pixels, options), future in zip(pictures, futures, strict=True):
        cutout = future.result(SOON)
        assert cutout.options == options
        assert np.array_equal(cutout.alpha, matting.remove(pixels, options).alpha)
    assert batcher.close(SOON)
    matting.pipeline._slots.put(held[1])
    return sizes


def test_runs_are_filled_up() -> None:
    pictures = [(grey(20 * number), PLAIN) for number in range(12)]
    sizes = batches(Limits(queue=100), pictures)
    assert sum(sizes) == 12
    assert max(sizes) == 4
    assert len(sizes) <= 6
    assert batches(Limits(queue=100, batch=1), pictures) == [1] * 12


def test_a_run_fills_while_another_one_lasts() -> None:
    backend = Held(32, 32)
    matting = Matting(backend)
    batcher = Batcher(matting.pipeline)
    sizes: list[int] = []
    batcher.watchers.append(sizes.append)
    first = batcher.submit(grey(0), PLAIN)
    assert backend.entered.acquire(timeout=SOON)
    # Three are less than a run, and there is a second slot: they wait all the same.
    others = [batcher.submit(grey(value), PLAIN) for value in (20, 40, 60)]
    eventually(lambda: len(batcher._ready) == 3)
    assert not backend.entered.acquire(timeout=0.05)
    others.append(batcher.submit(grey(80), PLAIN))
    # Four fill one.
    assert backend.entered.acquire(timeout=SOON)
    backend.passes.release(2)
    assert all(one.result(SOON) for one in [first, *others])
    assert sizes == [1, 4]
    assert batcher.close(SOON)


class Held(BrightBatch):
    """Four rows; each run waits until it is let through."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__(height, width)
        self.entered, self.passes = threading.Semaphore(0), threading.Semaphore(0)

    def preprocess(self, slot: Slot, index: int, frame: Frame, view: View | None = None) -> None:
        """Two runs at once would be mistaken for one in the books of ``BrightBatch``."""
        self._step.run(frame, Slot(slot.tensor[index : index + 1]), view)

    def infer(self, slot: Slot) -> Any:
        self.entered.release()
        assert self.passes.acquire(timeout=SOON)
        return super().infer(slot)


def test_a_run_waits_for_more_pictures() -> None:
    pictures = [(grey(20 * number), PLAIN) for number in range(8)]
    # All eight are there long before the second that a run may wait for them.
    assert batches(Limits(wait=1.0), pictures) == [4, 4]


def test_pictures_of_a_run_share_their_options() -> None:
    masks = Options(output="alpha")
    pictures = [(grey(20 * number), (PLAIN, masks)[number % 2]) for number in range(8)]
    sizes = batches(Limits(), pictures)
    assert sum(sizes) == 8
    assert len(sizes) >= 2


@pytest.mark.parametrize("values", [{"queue": 0}, {"batch": 0}, {"workers": 0}, {"wait": 2.0}])
def test_limits_without_meaning(values: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=next(iter(values))):
        Limits(**values)

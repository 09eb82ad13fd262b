"""The door: one model, many pictures, from many threads, in order."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from birefnet_runtime import BirefnetError, Cutout, Matting, Options
from birefnet_runtime.errors import ClosedError, DecodeError, ModelError, OptionError, TooLargeError
from birefnet_runtime.frame import Floats, Slot
from birefnet_runtime.host import SLOTS, HostBackend
from helpers.pictures import Pixels, decoded, disc, encoded, noise


def grey(value: int, size: int = 32) -> Pixels:
    return np.full((size, size, 3), value, np.uint8)


def count_slots(matting: Matting) -> int:
    assert matting._pipeline is not None
    return matting._pipeline._slots.qsize()


def test_the_example(tiny: Path, tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(encoded(disc(), "JPEG", quality=95))
    with Matting.open(tiny, device="auto") as matting:
        cutout = matting.remove(photo)
        assert cutout.rgba.shape == (48, 64, 4)
        assert cutout.alpha.shape == (48, 64)
        assert cutout.foreground.shape == (48, 64, 3)
        cutout.save(tmp_path / "photo.png")
        assert [one.source for one in matting.stream([photo, photo])] == [str(photo)] * 2
    assert np.array_equal(decoded((tmp_path / "photo.png").read_bytes()), cutout.rgba)
    # The disc is kept, the dark ground is not.
    assert cutout.alpha[24, 32] > 250
    assert cutout.alpha[0, 0] < 5


def test_own_alpha_and_orientation_reach_the_result(matting: Matting) -> None:
    pixels = np.dstack([grey(255), noise(32, 32, channels=1)])
    cutout = matting.remove(pixels)
    # The model's own alpha of white is sigmoid(4 * 2.4), 0.9999: under a level below 1.
    assert np.abs(cutout.alpha.astype(int) - pixels[..., 3]).max() <= 1


def test_options(matting: Matting) -> None:
    mask = matting.remove(disc(), Options(output="alpha"))
    assert np.array_equal(mask.image, mask.alpha)
    white = matting.remove(disc(), Options(background="white"))
    assert white.image[0, 0].tolist() == [255, 255, 255]
    with pytest.raises(TooLargeError):
        matting.remove(disc(), Options(max_pixels=100))


def test_timings_name_every_step(matting: Matting) -> None:
    timings = matting.remove(disc()).timings
    assert list(timings) == ["decode", "preprocess", "model", "refine"]
    assert all(seconds >= 0 for seconds in timings.values())


def test_what_is_known_about_the_model(matting: Matting) -> None:
    assert matting.device == "cpu"
    assert matting.contract.name == "tiny"


def test_results_do_not_change_afterwards(matting: Matting) -> None:
    first = matting.remove(grey(255))
    before = first.alpha.copy()
    for _ in range(2 * SLOTS):
        matting.remove(grey(0))
    assert np.array_equal(first.alpha, before)


def test_many_threads_give_the_same_results(matting: Matting) -> None:
    pictures = [noise(40, 50, seed=seed) for seed in range(24)]
    wanted = [matting.remove(picture).alpha for picture in pictures]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda picture: matting.remove(picture).alpha, pictures))
    assert all(map(np.array_equal, wanted, found))
    assert count_slots(matting) == SLOTS


def test_errors_give_their_slot_back(matting: Matting) -> None:
    for _ in range(3 * SLOTS):
        with pytest.raises(DecodeError):
            matting.remove(b"nothing")
    assert count_slots(matting) == SLOTS
    matting.remove(disc())


# --- stream


def test_stream_keeps_the_order(matting: Matting) -> None:
    # Large and small pictures in turn, so that a later one could overtake.
    sizes = [300, 8, 200, 8, 8, 250, 8]
    cutouts = list(matting.stream(grey(9, size) for size in sizes))
    assert [len(cutout.alpha) for cutout in cutouts] == sizes


def test_stream_of_nothing(matting: Matting) -> None:
    assert list(matting.stream([])) == []


def test_stream_raises_in_order_and_ends(matting: Matting) -> None:
    results = matting.stream([grey(1), b"bad", grey(2)])
    assert isinstance(next(results), Cutout)
    with pytest.raises(DecodeError):
        next(results)
    with pytest.raises(StopIteration):
        next(results)
    assert count_slots(matting) == SLOTS


def test_stream_hands_errors_over_when_asked(matting: Matting) -> None:
    results = list(matting.stream([b"bad", grey(1), "missing.png", grey(2)], errors="yield"))
    kinds = [isinstance(result, BirefnetError) for result in results]
    assert kinds == [True, False, True, False]
    with pytest.raises(OptionError, match="known values: raise, yield"):
        matting.stream([], errors="skip")  # type: ignore[call-overload]


def test_stream_takes_few_sources_ahead(matting: Matting) -> None:
    taken = 0

    def endless() -> Iterator[Pixels]:
        nonlocal taken
        while True:
            taken += 1
            yield grey(1)

    results = matting.stream(endless())
    for number in range(1, 6):
        next(results)
        assert taken <= number + SLOTS
    results.close()  # type: ignore[attr-defined]
    assert count_slots(matting) == SLOTS


class PatientExecutor:
    """An executor whose first run waits until two pictures, its own and another, were read."""

    def __init__(self, matting: Matting) -> None:
        self.contract = matting.contract
        self.device = "cpu"
        self.reading = threading.Semaphore(0)
        self.running = 0
        self.most = 0
        self.overlapped: list[bool] = []

    def run(self, slot: Slot) -> Floats:
        self.running += 1
        self.most = max(self.most, self.running)
        for _ in range(0 if self.overlapped else 2):
            # Far longer than reading takes; without overlap it passes in full and the test fails.
            self.overlapped.append(self.reading.acquire(timeout=10))
        self.running -= 1
        mask: Floats = slot.tensor[0, 0].copy()
        return mask


class WatchedPath:
    """A path that tells when it is read."""

    def __init__(self, path: Path, reading: threading.Semaphore) -> None:
        self.path, self.reading = path, reading

    def __fspath__(self) -> str:
        self.reading.release()
        return str(self.path)


def test_decoding_overlaps_the_model(matting: Matting, tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(encoded(grey(3)))
    executor = PatientExecutor(matting)
    with Matting(HostBackend(executor)) as opened:  # type: ignore[arg-type]
        results = list(opened.stream(WatchedPath(file, executor.reading) for _ in range(5)))
    assert len(results) == 5
    assert executor.overlapped == [True, True]
    # Two runs at once would double the model's memory.
    assert executor.most == 1


# --- ends


def test_closed(tiny: Path) -> None:
    matting = Matting.open(tiny, device="cpu")
    with matting:
        matting.remove(disc())
    matting.close()
    with pytest.raises(ClosedError, match="open another"):
        matting.remove(disc())


def test_open_refuses_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        Matting.open(tmp_path / "missing")

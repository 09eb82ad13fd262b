"""Our PNG is what Pillow and OpenCV read back bit for bit, however it is cut into strips."""

from __future__ import annotations

import io
import multiprocessing
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from birefnet_runtime import strips
from birefnet_runtime.formats import png
from birefnet_runtime.formats.png import join_adler, to_png
from helpers.pictures import decoded, encoded, noise, smooth

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def by_opencv(data: bytes) -> NDArray[Any]:
    """Pixels in the order R, G, B, A, with all their bits."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    if pixels.ndim == 2:
        return pixels
    code = cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
    return np.asarray(cv2.cvtColor(pixels, code))


def words(height: int, width: int, channels: int) -> NDArray[np.uint16]:
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(0).integers(0, 65536, shape, dtype=np.uint16)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (67, 41)])
def test_exact_for_pillow_and_opencv(channels: int, shape: tuple[int, int]) -> None:
    pixels = noise(*shape, channels=channels)
    data = to_png(pixels)
    assert np.array_equal(decoded(data), pixels)
    assert np.array_equal(by_opencv(data), pixels)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (23, 31)])
def test_sixteen_bits_are_exact(channels: int, shape: tuple[int, int]) -> None:
    pixels = words(*shape, channels)
    assert np.array_equal(by_opencv(to_png(pixels)), pixels)
    if channels == 1:
        assert np.array_equal(decoded(to_png(pixels)), pixels)


@pytest.mark.parametrize("strip", [1, 61, 200, 1001, 5000, 1 << 19])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_strips_of_awkward_sizes(monkeypatch: pytest.MonkeyPatch, strip: int, threads: int) -> None:
    monkeypatch.setattr(png, "_STRIP", strip)
    for pixels in (noise(50, 20), smooth(51, 20), np.zeros((7, 3, 4), np.uint8), words(9, 5, 4)):
        data = to_png(pixels, threads=threads)
        assert np.array_equal(by_opencv(data), pixels)
        Image.open(io.BytesIO(data)).load()


def test_threads_do_not_change_a_byte() -> None:
    pixels = noise(700, 500, 4)
    assert len({to_png(pixels, threads=threads) for threads in (1, 2, 3, None)}) == 1


def test_a_view_and_read_only_pixels() -> None:
    pixels = noise(10, 12)[::2, ::-1]
    pixels.flags.writeable = False
    assert np.array_equal(decoded(to_png(pixels)), pixels)


def test_each_strip_takes_the_filter_that_leaves_the_least() -> None:
    # Walks of small steps, down each column and along each row; sums wrap as the filters do.
    down = np.cumsum(noise(32, 640) // 64, axis=0, dtype=np.uint8)
    along = np.cumsum(noise(32, 640) // 64, axis=1, dtype=np.uint8)
    down += noise(1, 640)
    along += noise(32, 1)
    # The mean of two neighbours is nearer to a noisy pixel than one of them.
    both = 128 + noise(32, 640) // 16
    found = {}
    for name, pixels in (("up", down), ("sub", along), ("average", both)):
        rows = png._filter(png._rows(pixels, 8, 32), 3)
        found[name] = set(rows[:, 0].tolist())
    assert found == {"up": {2}, "sub": {1}, "average": {3}}


def test_a_photograph_is_no_larger_than_pillows_fastest() -> None:
    photo = np.asarray(Image.open(EXAMPLES / "dahlia.jpg").convert("RGBA"))
    assert len(to_png(photo)) <= len(encoded(photo, compress_level=1))


def test_checksums_of_two_parts_join() -> None:
    generator = np.random.default_rng(0)
    for length in (0, 1, 5551, 70000):
        first, second = generator.bytes(1000), generator.bytes(length)
        joined = join_adler(zlib.adler32(first), zlib.adler32(second), length)
        assert joined == zlib.adler32(first + second)


# --- threads


def test_results_are_in_order_and_the_caller_takes_part() -> None:
    names: set[str] = set()
    both = threading.Barrier(2)

    def work(number: int) -> int:
        # On a busy machine the other thread might take all before the caller's turn.
        if number < 2:
            both.wait(60)
        names.add(threading.current_thread().name)
        return number * number

    assert strips.each(work, 200, 2) == [number * number for number in range(200)]
    assert threading.current_thread().name in names
    assert strips.each(work, 0) == []


def test_a_busy_pool_is_not_waited_for() -> None:
    hold = threading.Event()
    blocked = [strips._pool().submit(hold.wait) for _ in range(strips.cores() + 1)]
    try:
        assert strips.each(lambda number: number, 9, 4) == list(range(9))
    finally:
        hold.set()
    for one in blocked:
        one.result()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("kind", [ValueError, IndexError])
def test_an_error_is_raised_and_ends_the_work(threads: int, kind: type[Exception]) -> None:
    def work(number: int) -> int:
        if number == 5:
            raise kind("five")
        return number

    with pytest.raises(kind, match="five"):
        strips.each(work, 100, threads)


def test_several_pictures_at_once_share_the_threads() -> None:
    pictures = [noise(200, 300, 4, seed) for seed in range(6)]
    with ThreadPoolExecutor(4) as pool:
        files = list(pool.map(to_png, pictures))
    for data, pixels in zip(files, pictures, strict=True):
        assert np.array_equal(decoded(data), pixels)
    held = [one.name for one in threading.enumerate() if one.name.startswith("birefnet-strip")]
    assert len(held) <= strips.cores()


def _child(pipe: Any) -> None:
    pipe.send(strips.each(lambda number: number, 5, 3))


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="this system has no fork"
)
def test_a_forked_process_makes_its_own_pool() -> None:
    strips.each(lambda number: number, 5, 3)
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    child = context.Process(target=_child, args=(there,), daemon=True)
    child.start()
    assert here.poll(60), "the child waits for threads that stayed with its parent"
    assert here.recv() == list(range(5))
    child.join()

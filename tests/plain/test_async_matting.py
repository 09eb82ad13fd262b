"""Awaited: the same cut-outs, cancellation, deadlines, several loops, forks, the end."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from birefnet_runtime import AsyncMatting, Limits, Matting, Options
from birefnet_runtime.errors import BusyError, ClosedError, DeadlineError, DecodeError
from helpers.gate import SOON, Gate
from helpers.pictures import disc, encoded

PLAIN = Options(foreground="off")


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(main(), 2 * SOON))


@asynccontextmanager
async def gated(limits: Limits | None = None) -> AsyncIterator[tuple[AsyncMatting, Gate]]:
    gate = Gate()
    async with AsyncMatting(gate.matting, limits) as matting:
        try:
            yield matting, gate
        finally:
            gate.open()


async def eventually(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + SOON
    while not holds():
        assert time.monotonic() < until
        await asyncio.sleep(0.001)


def test_the_same_cut_outs_as_without_asyncio(tiny: Path, matting: Matting) -> None:
    async def main() -> None:
        async with AsyncMatting.open(tiny, "cpu", limits=Limits(queue=4), threads=1) as awaited:
            await awaited.warm_up()
            png = encoded(disc())
            pictures = [disc(40 + number, 50) for number in range(20)]
            found = await asyncio.gather(*(awaited.remove(one, PLAIN) for one in pictures))
            for picture, cutout in zip(pictures, found, strict=True):
                assert np.array_equal(cutout.rgba, matting.remove(picture, PLAIN).rgba)
            data = await awaited.apply(lambda cutout: cutout.encode(".png"), lambda: png)
            assert data == matting.remove(png).encode(".png")
            with pytest.raises(DecodeError):
                await awaited.remove(b"no picture")
            # A Matting goes on beside it.
            assert awaited.matting.remove(disc()).alpha.any()
        with pytest.raises(ClosedError):
            await awaited.remove(disc())

    run(main)


def test_the_loop_is_free_meanwhile() -> None:
    async def main() -> None:
        async with gated() as (matting, gate):
            task = asyncio.ensure_future(matting.remove(disc(), PLAIN))
            # The model is in its run, and the loop gets here all the same.
            await asyncio.to_thread(gate.wait_for, 1)
            assert not task.done()
            gate.open()
            assert (await task).alpha.all()

    run(main)


def test_a_cancelled_task_frees_its_slot() -> None:
    async def main() -> None:
        async with gated(Limits(queue=1)) as (matting, gate):
            full = matting._batcher.window
            tasks = [asyncio.ensure_future(matting.remove(disc(), PLAIN)) for _ in range(full)]
            await eventually(lambda: matting.load.running == full)
            waiting = asyncio.ensure_future(matting.remove(disc(), PLAIN))
            await eventually(lambda: matting.load.is_full)
            with pytest.raises(BusyError):
                await matting.remove(disc(), PLAIN, patient=False)
            waiting.cancel()
            await eventually(lambda: not matting.load.is_full)
            for task in tasks:
                task.cancel()
            await eventually(lambda: all(task.done() for task in tasks))
            gate.open()
            # Those that were in the model come back to nobody, and their slots serve again.
            await eventually(lambda: matting.load.running == 0)
            assert gate.runs < full
            assert (await matting.remove(disc(), PLAIN, patient=False)).alpha.all()
            assert all(task.cancelled() for task in [*tasks, waiting])

    run(main)


def test_a_deadline_ends_the_wait_though_the_model_goes_on() -> None:
    async def main() -> None:
        async with gated() as (matting, gate):
            with pytest.raises(DeadlineError, match="allow more time"):
                await matting.remove(disc(), PLAIN, deadline=time.monotonic() + 0.05)
            gate.open()
            await eventually(lambda: matting.load.running == 0)

            def slow(cutout: object) -> None:
                raise TimeoutError("its own")

            with pytest.raises(asyncio.TimeoutError, match="its own"):
                await matting.apply(slow, disc(), PLAIN, deadline=time.monotonic() + SOON)

    run(main)


def test_closing_with_work_in_flight_finishes_it() -> None:
    async def main() -> None:
        async with gated() as (matting, gate):
            tasks = [asyncio.ensure_future(matting.remove(disc(), PLAIN)) for _ in range(9)]
            await asyncio.to_thread(gate.wait_for, 1)
            closing = asyncio.ensure_future(matting.close())
            await eventually(lambda: matting._batcher._closed)
            with pytest.raises(ClosedError):
                await matting.remove(disc(), PLAIN)
            assert not closing.done()
            gate.open()
            await closing
            assert all(cutout.alpha.all() for cutout in await asyncio.gather(*tasks))
        assert not any(thread.is_alive() for thread in matting._batcher._threads)

    run(main)


def test_loops_in_several_threads_share_one(tiny: Path) -> None:
    awaited = AsyncMatting.open(tiny, "cpu", threads=1)
    expected = awaited.matting.remove(disc(), PLAIN).rgba
    right: list[bool] = []

    async def ask() -> None:
        found = await asyncio.gather(*(awaited.remove(disc(), PLAIN) for _ in range(5)))
        right.extend(np.array_equal(one.rgba, expected) for one in found)

    threads = [threading.Thread(target=lambda: asyncio.run(ask())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    asyncio.run(awaited.close())
    assert right == [True] * 15


FORKED = """
import asyncio, os, sys
from birefnet_runtime import AsyncMatting, Options
from birefnet_runtime.errors import ForkError

import numpy as np
picture = np.full((2100, 2100, 3), 200, np.uint8)   # enough pixels for threads
plain = Options(foreground="ml")
awaited = AsyncMatting.open(sys.argv[1], "cpu", threads=1)
awaited.matting.remove(picture, plain).encode(".png")
child = os.fork()
if not child:
    for use in (lambda: awaited.matting.remove(picture), lambda: awaited.matting.empty((1,)),
                lambda: asyncio.run(awaited.remove(picture))):
        try:
            use()
            sys.exit(3)
        except ForkError as error:
            assert str(os.getppid()) in str(error), error
    asyncio.run(awaited.close())
    awaited.matting.close()
    # One opened after the fork works.
    with AsyncMatting.open(sys.argv[1], "cpu", threads=1).matting as own:
        own.remove(picture, plain).encode(".png")
    print("child", flush=True)
    # ONNX Runtime itself hangs in the ordinary exit of a child that inherited a session.
    os._exit(0)
status = os.waitpid(child, 0)[1]
assert os.waitstatus_to_exitcode(status) == 0, status
assert asyncio.run(awaited.remove(picture, plain)).alpha.any()
print("parent")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_is_refused_clearly_and_leaves_the_parent_alone(tiny: Path) -> None:
    # -W: Python 3.12 warns of a fork beside threads, which is what this is about.
    command = [sys.executable, "-W", "ignore", "-c", FORKED, str(tiny)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.stdout.split(), done.stderr) == (["child", "parent"], "")


FORGOTTEN = """
import asyncio, sys
from birefnet_runtime import AsyncMatting
awaited = AsyncMatting.open(sys.argv[1], "cpu", threads=1)
asyncio.run(awaited.warm_up())
print("done")
"""


def test_one_that_is_never_closed_does_not_keep_the_process(tiny: Path) -> None:
    command = [sys.executable, "-c", FORGOTTEN, str(tiny)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")

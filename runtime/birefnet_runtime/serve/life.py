"""The life of a service: its model is loaded, warmed up, used, and let go."""

from __future__ import annotations

import asyncio
import enum
import threading
from collections.abc import Callable

from birefnet_runtime.async_matting import AsyncMatting

Opener = Callable[[], AsyncMatting]


class State(str, enum.Enum):
    """Where a service stands; pictures are taken in ``READY`` alone."""

    LOADING = "loading"
    WARMING = "warming"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


class Life:
    """Brings a model into service and out of it, while the event loop goes on.

    One that is opened here is closed here; one that was given open stays its owner's, and is ready
    at once. ``fault``: why the state is ``FAILED``. ``on_change`` is called in the loop with each
    new state.
    """

    def __init__(self, source: AsyncMatting | Opener) -> None:
        self.matting = source if isinstance(source, AsyncMatting) else None
        self.state = State.READY if self.matting is not None else State.LOADING
        self.fault: BaseException | None = None
        self.on_change: Callable[[State], None] = lambda state: None
        self._open: Opener | None = None if isinstance(source, AsyncMatting) else source
        self._loader: threading.Thread | None = None
        self._warming: asyncio.Task[None] | None = None
        self._over = False

    @property
    def is_opening(self) -> bool:
        """Whether the thread that loads the model is still at it."""
        return self._loader is not None and self._loader.is_alive()

    def start(self) -> None:
        """Begin to load the model, in a thread of its own: it must not hold up the end of the
        process, as those of a pool would."""
        if self._open is not None:
            loop = asyncio.get_running_loop()
            self._loader = threading.Thread(
                target=self._load, args=(loop,), name="birefnet-load", daemon=True
            )
            self._loader.start()

    def drain(self) -> None:
        """Take no more pictures. May be called in a signal handler."""
        self.state = State.DRAINING

    def fail(self, error: BaseException) -> None:
        """The model cannot be used, or not any more: only a new process helps."""
        if self.state is not State.FAILED:
            self.fault = error
            self._become(State.FAILED)

    async def stop(self) -> None:
        """Finish the pictures that were taken and close what was opened here."""
        self._over = True
        if self.state is not State.FAILED:
            self.drain()
        if self._warming is not None:
            await asyncio.wait([self._warming])
        if self._open is not None and self.matting is not None:
            await self.matting.close()

    def _load(self, loop: asyncio.AbstractEventLoop) -> None:
        assert self._open is not None
        try:
            matting = self._open()
        except BaseException as error:
            self._tell(loop, lambda error=error: self.fail(error))  # type: ignore[misc]
            return
        if not self._tell(loop, lambda: self._opened(matting)):
            asyncio.run(matting.close())

    def _tell(self, loop: asyncio.AbstractEventLoop, news: Callable[[], None]) -> bool:
        """Have ``news`` called in ``loop``; False where that has ended."""
        try:
            loop.call_soon_threadsafe(news)
        except RuntimeError:
            return False
        return True

    def _opened(self, matting: AsyncMatting) -> None:
        self.matting = matting
        if self._over:
            self._warming = asyncio.ensure_future(matting.close())
        else:
            self._become(State.WARMING)
            self._warming = asyncio.ensure_future(self._warm_up(matting))

    async def _warm_up(self, matting: AsyncMatting) -> None:
        try:
            await matting.warm_up()
        except Exception as error:
            self.fail(error)
        else:
            self._become(State.READY)

    def _become(self, state: State) -> None:
        # What drains does not come back.
        if self.state is not State.DRAINING or state is State.FAILED:
            self.state = state
            self.on_change(state)

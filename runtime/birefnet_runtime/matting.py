"""The door for Python: open a model once, cut out many pictures."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Literal, overload

from birefnet_export.contract import Contract
from birefnet_runtime import model as models
from birefnet_runtime.cutout import Cutout
from birefnet_runtime.decode import PictureSource
from birefnet_runtime.errors import BirefnetError, ClosedError, OptionError
from birefnet_runtime.executor import Executor
from birefnet_runtime.options import Options
from birefnet_runtime.pipeline import SLOTS, Pipeline

Triple = tuple[float, float, float]


class Matting:
    """One loaded model. ``remove`` may be called from several threads; two pictures are in flight
    at a time.

    ``device`` is the one it runs on (``cpu``, ``cuda``), ``contract`` what is known about the
    model.
    """

    def __init__(self, executor: Executor) -> None:
        self.device = executor.device
        self.contract: Contract = executor.contract
        self._pipeline: Pipeline | None = Pipeline(executor)

    @classmethod
    def open(
        cls,
        model: str | Path = models.NANO,
        device: str = "auto",
        threads: int | None = None,
        *,
        mean: Triple | None = None,
        std: Triple | None = None,
        size: tuple[int, int] | None = None,
        activation: str | None = None,
        output: str | None = None,
    ) -> Matting:
        """Load ``model``: ``nano``, a model folder, or a bare ``.onnx``.

        ``device``: ``auto``, ``cpu`` or ``cuda``. ``threads``: CPU threads of one run, None for one
        per core. The rest describes a bare file where it does not describe itself (see
        ``model.Overrides``); mean and std default to ImageNet's. Raises ModelError, ContractError
        or DeviceError.
        """
        overrides = models.Overrides(mean, std, size, activation, output)
        return cls(Executor.open(models.locate(model, overrides), device, threads))

    def describe(self) -> str:
        """Model, input size and device in a few words."""
        contract = self.contract
        return f"{contract.name} {contract.height}x{contract.width} on {self.device}"

    def remove(self, source: PictureSource, options: Options | None = None) -> Cutout:
        """The cut-out of one picture: a path, bytes, a Pillow image or a uint8 array (see
        ``decode``).

        Raises InputError when the picture cannot be used, ModelError when the model fails on it.
        """
        if self._pipeline is None:
            raise ClosedError("this Matting is closed: open another one")
        return self._pipeline.run(source, options or Options())

    @overload
    def stream(
        self,
        sources: Iterable[PictureSource],
        options: Options | None = None,
        errors: Literal["raise"] = "raise",
    ) -> Iterator[Cutout]: ...

    @overload
    def stream(
        self,
        sources: Iterable[PictureSource],
        options: Options | None = None,
        *,
        errors: Literal["yield"],
    ) -> Iterator[Cutout | BirefnetError]: ...

    def stream(
        self,
        sources: Iterable[PictureSource],
        options: Options | None = None,
        errors: Literal["raise", "yield"] = "raise",
    ) -> Iterator[Cutout | BirefnetError]:
        """The cut-outs of ``sources``, in their order.

        While one picture is in the model the next is decoded. At most three are taken from
        ``sources`` ahead of the result that is waited for, so memory stays bounded. The error of a
        picture is raised when its turn comes, which ends the stream, or with ``errors="yield"``
        handed over in its place.
        """
        if errors not in ("raise", "yield"):
            raise OptionError(f"errors is {errors!r}; known values: raise, yield")
        return self._stream(sources, options, errors == "yield")

    def _stream(
        self, sources: Iterable[PictureSource], options: Options | None, keep_errors: bool
    ) -> Iterator[Cutout | BirefnetError]:
        pool = ThreadPoolExecutor(SLOTS, thread_name_prefix="birefnet")
        pending: deque[Future[Cutout]] = deque()
        try:
            for source in sources:
                pending.append(pool.submit(self.remove, source, options))
                if len(pending) > SLOTS:
                    yield _result(pending.popleft(), keep_errors)
            while pending:
                yield _result(pending.popleft(), keep_errors)
        finally:
            pool.shutdown(cancel_futures=True)

    def close(self) -> None:
        """Let go of the model; pictures in flight are finished. May be called again."""
        self._pipeline = None

    def __enter__(self) -> Matting:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _result(future: Future[Cutout], keep_errors: bool) -> Cutout | BirefnetError:
    try:
        return future.result()
    except BirefnetError as error:
        if keep_errors:
            return error
        raise

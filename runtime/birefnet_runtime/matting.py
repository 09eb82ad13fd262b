"""The door for Python: open a model once, cut out many pictures."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Literal, overload

from birefnet_export.contract import Contract
from birefnet_runtime import model as models
from birefnet_runtime.backend import Request, open_backend
from birefnet_runtime.belt import Belt, Result, Work, window
from birefnet_runtime.cutout import Cutout
from birefnet_runtime.device_cutout import DeviceCutout
from birefnet_runtime.errors import BirefnetError, OptionError
from birefnet_runtime.frame import Bytes
from birefnet_runtime.options import Options
from birefnet_runtime.pipeline import Backend, Pipeline, Source

Triple = tuple[float, float, float]
# Seconds, far longer than a run takes.
_PATIENCE = 10.0


class Matting:
    """One loaded model. ``remove`` may be called from several threads; two pictures are in flight
    at a time, more only in the threads of a GPU's ``stream``.

    ``device`` is the one it runs on (``cpu``, ``cuda``, ``tensorrt``), ``contract`` what is known
    about the model.
    """

    def __init__(self, backend: Backend) -> None:
        self.device = backend.device
        self.contract: Contract = backend.contract
        self._notes = backend.notes
        self._pipeline = Pipeline(backend)
        # One that is dropped, or open at exit, gives the GPU's memory back all the same, while the
        # libraries that hold it still work; a thread that never ends must not keep the process.
        weakref.finalize(self, self._pipeline.close, _PATIENCE)

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
        precision: str | None = None,
        batch: int | None = None,
        provider: str = "cuda",
        stream: int | None = None,
        graphs: bool = True,
    ) -> Matting:
        """Load ``model``: ``nano``, a model folder, or a bare ``.onnx``.

        ``device``: ``cpu``, ``cuda`` (ONNX Runtime), ``tensorrt`` (a plan from birefnet-build), or
        ``auto``, the last of them that works here. ``threads``: CPU threads of one run, or on a GPU
        those that decode and finish the pictures of a stream; None for one per core.
        ``mean`` to ``output`` describe a bare file where it does not describe itself (see
        ``model.Overrides``); mean and std default to ImageNet's.

        For TensorRT: ``precision`` is ``fp16`` or ``fp32``, None for fp16 where it was built;
        ``batch`` takes the plan with so many rows, which ``stream()`` fills, None the smallest.
        ``graphs`` False queues the engine's work anew each time instead of replaying it; the bits
        are the same. ``provider``: what runs a model under ``cuda``, ``cuda`` or ``tensorrt``.

        ``stream``: the handle of an existing CUDA stream (0 is the default stream). Each picture's
        work on the GPU waits for what was queued on it before the picture was given. Results are
        complete when a method returns, so nothing has to wait for them there.

        Raises ModelError, ContractError, PlanError, DeviceError or OptionError.
        """
        overrides = models.Overrides(mean, std, size, activation, output)
        request = Request(device, threads, precision, batch, provider, stream, graphs)
        return cls(open_backend(model, overrides, request))

    @property
    def pipeline(self) -> Pipeline:
        """The steps and their slots, for what takes pictures through them in threads of its own
        (``Belt``, ``Batcher``)."""
        return self._pipeline

    @property
    def ahead(self) -> int:
        """How many sources ``stream`` must find at once so that the model never waits for one."""
        return window(self._pipeline) + 2 * self._pipeline.batch + 1

    def describe(self) -> str:
        """Model, input size and device in a few words, and on a GPU how it is used."""
        contract = self.contract
        text = f"{contract.name} {contract.height}x{contract.width} on {self.device}"
        return f"{text} ({self._notes})" if self._notes else text

    def remove(self, source: Source, options: Options | None = None) -> Cutout:
        """The cut-out of one picture: a path, bytes, a Pillow image or a uint8 array (see
        ``decode``); where the kernels run on a GPU also uint8 [H,W,3] or [H,W,4] there, by DLPack
        or ``__cuda_array_interface__``.

        Raises InputError when the picture cannot be used, ModelError when the model fails on it,
        DeviceError when the GPU does.
        """
        return self._pipeline.run(source, options or Options())

    def remove_device(self, source: Source, options: Options | None = None) -> DeviceCutout:
        """The cut-out of one picture as ``Cutout.image`` would be, left in the GPU's memory.

        ``source``: as for ``remove``. Raises DeviceError where the kernels do not run on a GPU.
        """
        return self._pipeline.run_on_device(source, options or Options())

    def empty(self, shape: tuple[int, ...]) -> Bytes:
        """uint8 memory of ``shape`` for a picture that is to be filled in and given to ``remove``.

        On a GPU it is page-locked, which spares ``remove`` a copy, and is lent again when the last
        array on it is gone; elsewhere it is ordinary memory.
        """
        return self._pipeline.empty(shape)

    @overload
    def stream(
        self,
        sources: Iterable[Source],
        options: Options | None = None,
        errors: Literal["raise"] = "raise",
        work: Work | None = None,
    ) -> Iterator[Cutout]: ...

    @overload
    def stream(
        self,
        sources: Iterable[Source],
        options: Options | None = None,
        *,
        errors: Literal["yield"],
        work: Work | None = None,
    ) -> Iterator[Cutout | BirefnetError]: ...

    def stream(
        self,
        sources: Iterable[Source],
        options: Options | None = None,
        errors: Literal["raise", "yield"] = "raise",
        work: Work | None = None,
    ) -> Iterator[Cutout | BirefnetError]:
        """The cut-outs of ``sources``, in their order.

        While one picture is in the model others are decoded, and ``work(number, cutout)`` is called
        in a thread for each result, numbers counting sources from 0: saving it, for instance, goes
        on beside the model that way. An error of ``work`` takes the place of its result. Few
        pictures are taken from ``sources`` ahead of the result that is waited for (on the CPU
        three), so memory stays bounded. The error of a picture is raised when its turn comes, which
        ends the stream, or with ``errors="yield"`` handed over in its place.
        """
        if errors not in ("raise", "yield"):
            raise OptionError(f"errors is {errors!r}; known values: raise, yield")
        options = options or Options()
        self._pipeline.check(options)
        return self._stream(sources, options, errors == "yield", work)

    def _stream(
        self,
        sources: Iterable[Source],
        options: Options,
        keep_errors: bool,
        work: Work | None,
    ) -> Iterator[Cutout | BirefnetError]:
        results = Belt(self._pipeline, options, work).run(sources)
        try:
            for future in results:
                yield _result(future, keep_errors)
        finally:
            results.close()

    def close(self) -> None:
        """Let go of the model; pictures in flight are finished. May be called again."""
        self._pipeline.close()

    def __enter__(self) -> Matting:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _result(future: Result, keep_errors: bool) -> Cutout | BirefnetError:
    try:
        return future.result()
    except BirefnetError as error:
        if keep_errors:
            return error
        raise

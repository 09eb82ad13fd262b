"""The steps on the CPU side: NumPy, Pillow and OpenCV round an ONNX Runtime session."""

from __future__ import annotations

import threading
from typing import NoReturn

from birefnet_runtime import decode, foreground, refine
from birefnet_runtime.device_array import NAME
from birefnet_runtime.errors import DecodeError, DeviceError
from birefnet_runtime.executor import Executor
from birefnet_runtime.frame import Bytes, Floats, Frame, Rendered, Slot, View
from birefnet_runtime.options import Options
from birefnet_runtime.preprocess import Preprocess

# Two are the double buffer: one picture is in the model while the next is decoded or the last
# refined.
SLOTS = 2


class HostBackend:
    """Runs an executor on tensors in host memory. See ``pipeline.Backend``.

    The executor may be on a GPU: then the tensor and the answer are copied for each run.
    """

    batch = 1
    workers = SLOTS

    def __init__(self, executor: Executor, notes: str = "") -> None:
        self._executor = executor
        self._preprocess = Preprocess(executor.contract)
        self.device, self.contract, self.notes = executor.device, executor.contract, notes
        # One run uses every core already, and two at once would double the peak memory (gigabytes).
        self._turn = threading.Lock()

    def open_slots(self) -> list[Slot]:
        return [Slot.create(self.contract.shape) for _ in range(SLOTS)]

    def empty(self, shape: tuple[int, ...]) -> Bytes:
        return decode.empty(shape)

    def stage(self, frame: Frame) -> Frame:
        """Nothing to do: the steps read the frame itself."""
        return frame

    def borrow(self, source: object) -> NoReturn:
        """DecodeError: these steps read host memory."""
        raise DecodeError(
            NAME, f"lies on a GPU, and the model's steps run on the host ({self.device}): copy it"
        )

    def stage_borrowed(self, picture: object) -> NoReturn:
        """Never called: ``borrow`` refuses."""
        raise AssertionError

    def begin(self, slot: Slot) -> None:
        """Nothing to do."""

    def preprocess(self, slot: Slot, index: int, frame: Frame, view: View | None = None) -> None:
        """Only row 0 is used, whatever the model's batch is."""
        self._preprocess.run(frame, slot, view)

    def infer(self, slot: Slot) -> Floats:
        """float32 [h,w], the answer for row 0."""
        with self._turn:
            return self._executor.run(slot)

    def answers(self, slot: Slot, answer: Floats, count: int) -> list[Floats]:
        """The executor has refused what is not finite."""
        return [refine.activate(answer, self.contract.activation)]

    def fetch(self, slot: Slot, frame: Frame) -> NoReturn:
        """Never called: ``borrow`` refuses."""
        raise AssertionError

    def refine(
        self, slot: Slot, answer: Floats, frames: list[Frame], options: Options, patient: bool
    ) -> list[Rendered]:
        small = refine.activate(answer, self.contract.activation)
        (frame,) = frames
        alpha = refine.to_alpha(small, frame.size, frame.alpha)
        return [self.finish(slot, frame, alpha, options)]

    def finish(self, slot: Slot, frame: Frame, alpha: Bytes, options: Options) -> Rendered:
        return Rendered(foreground.colours(frame.rgb, alpha, options), alpha)

    def refine_on_device(self, slot: Slot, staged: Frame, options: Options) -> NoReturn:
        """DeviceError: nothing of this is on a GPU."""
        raise DeviceError(
            f"results stay on the GPU only where the kernels run there, not on {self.device}: use "
            "--device tensorrt, or remove() instead of remove_device()"
        )

    def abandon(self, slot: Slot) -> None:
        """Nothing to do: no step goes on after it failed."""

    def relieve(self, slot: Slot) -> None:
        """Nothing to do: there is no memory that could be given back."""

    def close(self, slots: list[Slot]) -> None:
        """Nothing to do: memory goes with its last reference."""

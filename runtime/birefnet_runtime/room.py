"""Device memory that fits the largest picture seen so far."""

from __future__ import annotations

from birefnet_runtime.gpu import Block, Device


class Room:
    """Device memory that grows to the largest size asked for, and never shrinks before ``free``.

    Only asked while nothing on the GPU uses it: a larger block replaces the old one, which is freed
    first, so that the two never count together.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._block: Block | None = None

    def at_least(self, size: int) -> int:
        """The pointer; OutOfMemoryError where it cannot grow, and then it holds nothing."""
        if self._block is None or self._block.size < size:
            self.free()
            self._block = self._device.allocate(_rounded(size))
        return self._block.pointer

    def free(self) -> None:
        block, self._block = self._block, None
        if block is not None:
            block.free()


def _rounded(size: int) -> int:
    """Pictures come in many sizes: room in steps of a sixteenth grows seldom and wastes little."""
    step = max(1 << max(size.bit_length() - 4, 0), 1 << 12)
    return -(-size // step) * step

"""The result that stays on the GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from birefnet_runtime import dlpack
from birefnet_runtime.gpu import Block
from birefnet_runtime.pool import Lease


@dataclass(frozen=True, eq=False)
class DeviceImage:
    """A complete image in lent memory of the GPU ``ordinal``, and seconds by step."""

    shape: tuple[int, ...]
    ordinal: int
    lease: Lease[Block]
    seconds: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class DeviceCutout:
    """One picture cut out, in the GPU's memory: what ``Cutout.image`` is on the host.

    ``shape``: (H, W, 4) straight RGBA, (H, W) for a mask, (H, W, 3) on a background; uint8, dense.
    Everything that made it has ended, so any stream may read it at once:
    ``torch.from_dlpack(cutout)``, ``cupy.asarray(cutout)``. The memory is lent to whatever was made
    from it, and goes back to the Matting's pool with the last reference. A later picture writes to
    it then, so keep a reference until work queued on it has run; a Matting that was opened with
    ``stream`` orders itself behind that stream's work and needs no such care there.
    """

    shape: tuple[int, ...]
    ordinal: int
    lease: Lease[Block]
    source: str
    timings: Mapping[str, float] = field(default_factory=dict)

    @property
    def pointer(self) -> int:
        """Address of the first byte."""
        return self.lease.block.pointer

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": "|u1",
            "data": (self.pointer, False),
            "strides": None,
            "version": 3,
            # Nothing to wait for.
            "stream": None,
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        return (dlpack.CUDA, self.ordinal)

    def __dlpack__(self, *, stream: int | None = None, **_: Any) -> Any:
        """A capsule; ``stream`` needs nothing done to it, since the result is complete."""
        return dlpack.give(self.pointer, self.shape, self.ordinal, self.lease)

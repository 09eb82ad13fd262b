"""The subject's own colours on the GPU: the memory that the pyramid takes, and its launches.

One kernel makes the small levels, and one more each two sweeps of a larger level. The last sweep,
at the picture's size, is ``launches.colours_image``'s: nothing of a large picture is kept at that
size. The method and its numbers: ``multilevel``.
"""

from __future__ import annotations

from dataclasses import dataclass

from birefnet_runtime import launches, multilevel
from birefnet_runtime.launches import Launch, Picture, Plates

# What the kernels have built in.
assert multilevel.GRADIENT_WEIGHT == 1.0
assert multilevel.SMALL_SIZE >= launches.COARSE_SIDE


@dataclass(frozen=True)
class Pyramid:
    """The levels of a picture: ``sizes``, (height, width) of level 0, the picture's own, of level 1
    and so on down to (1, 1). Levels from ``small`` on are made at once, the others down to ``last``
    by launches of their own; where that is 1 a sweep of level 0 is left for the image."""

    sizes: list[tuple[int, int]]
    small: int
    last: int

    @classmethod
    def of(cls, size: tuple[int, int]) -> Pyramid:
        sizes = multilevel.level_sizes(*size)
        small = sum(max(level) > launches.COARSE_SIDE for level in sizes)
        return cls(sizes, small, min(small, int(multilevel.sweeps(0, size) == 1)))

    @property
    def nbytes(self) -> int:
        """Bytes of memory for ``launch``. Of a large picture 49152, and 4 for each pixel of it, or
        8 where it is a line; of a small one, which is swept at its own size as well, 16."""
        return launches.COARSE_SCRATCH + 2 * self._plates(0, self.last).nbytes

    def launch(self, picture: Picture, alpha: int, memory: int) -> tuple[list[Launch], Plates]:
        """The estimation down to level ``last``, in order, for one stream; and the plates that it
        leaves for ``launches.colours_image``.

        ``alpha``: uint8 [H,W], dense; ``memory``: ``nbytes`` of the GPU's.
        """
        start = memory + launches.COARSE_SCRATCH
        # Each launch reads one and writes the other.
        halves = [start, (start + memory + self.nbytes) // 2]
        plates = self._plates(halves[0], self.small)
        levels, sweeps = len(self.sizes) - self.small, self._sweeps(self.small)
        found = [
            launches.colours_coarse(picture, alpha, levels, self.small, sweeps, memory, plates)
        ]
        for level in range(self.small - 1, self.last - 1, -1):
            for _ in range(self._sweeps(level) // launches.LEVEL_SWEEPS):
                halves.reverse()
                after = self._plates(halves[0], level)
                found.append(launches.colours_level(picture, alpha, plates, after, level))
                plates = after
        return found, plates

    def _sweeps(self, level: int) -> int:
        count = multilevel.sweeps(level, self.sizes[level])
        assert level >= self.small or count % launches.LEVEL_SWEEPS == 0
        return count

    def _plates(self, pointer: int, level: int) -> Plates:
        return Plates(pointer, self.sizes[level])

"""The least that each step must do, and so the least time that it can take on a machine.

Operations and bytes are counted from shapes; rates are measured. Nothing here is a measurement.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from birefnet_export.contract import Contract


@dataclass(frozen=True)
class Work:
    """``operations``: additions and multiplications of matrix products. ``moved``: bytes read once
    and written once, whatever a step does in between."""

    operations: float
    moved: float

    def least(self, operations_rate: float, bytes_rate: float) -> float:
        """Seconds at these rates per second, the two overlapping perfectly."""
        return max(self.operations / operations_rate, self.moved / bytes_rate)

    def as_dict(self) -> dict[str, float]:
        """For a record."""
        return asdict(self)


def works(
    contract: Contract, size: tuple[int, int], files: tuple[int, int], gmac: float, weights: int
) -> dict[str, Work]:
    """By step, for a picture of ``size`` (width, height) whose JPEG and PNG have ``files`` bytes.

    ``gmac``: 1e9 multiply-adds of one run, each two operations. ``weights``: bytes of the file.
    """
    pixels, jpeg, png = size[0] * size[1], *files
    # Float32, three channels in and one out.
    tensor, answer = (4 * count * contract.height * contract.width for count in (3, 1))
    return {
        "decode": Work(0, jpeg + 3 * pixels),
        "preprocess": Work(0, 3 * pixels + tensor),
        "model": Work(2e9 * gmac, tensor + weights + answer),
        "refine": Work(0, answer + pixels),
        "encode": Work(0, 4 * pixels + png),
    }


def share(seconds: float, least: float) -> float:
    """Percent of the limit that ``seconds`` reach: 100 is as fast as the rates allow."""
    return 100 * least / seconds

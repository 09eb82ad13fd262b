"""Resize tables for the kernels, ready to be uploaded."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birefnet_runtime.gpu import HostBlock
from birefnet_runtime.launches import Table
from birefnet_runtime.pool import Pool, borrow
from birefnet_runtime.resample import Coefficients, coefficients

Size = tuple[int, int]
# Sizes of pictures whose tables are kept: some 100 KiB each.
_SIZES = 64


@dataclass(frozen=True, eq=False)
class Packed:
    """The resize tables of one picture size in one piece of host memory, int32.

    Columns (for the rows' pass) first, then rows; each axis its bounds and then its weights.
    """

    size: tuple[int, int]
    memory: NDArray[np.int32]
    columns: Coefficients
    rows: Coefficients

    def at(self, pointer: int) -> tuple[Table, Table]:
        """The tables of the two axes in a copy that starts at ``pointer``."""
        found = []
        for axis in (self.columns, self.rows):
            weights = pointer + axis.bounds.nbytes
            found.append(Table(pointer, weights, axis.taps, axis.size))
            pointer = weights + axis.weights.nbytes
        return found[0], found[1]


class Tables:
    """Resize tables to one size, or to a part of it, for the picture sizes that came last."""

    def __init__(self, size: tuple[int, int], pool: Pool[HostBlock]) -> None:
        self._size, self._pool, self._most = size, pool, _SIZES
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[Size, Size], Packed] = OrderedDict()

    def get(self, size: Size, target: Size | None = None) -> Packed:
        """The tables for pictures of ``size``, (height, width), or for parts of that size that
        become ``target``; from any thread."""
        key = (size, target or self._size)
        with self._lock:
            found = self._kept.pop(key, None) or self._make(*key)
            self._kept[key] = found
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
            return found

    def close(self) -> None:
        """Give their page-locked memory back, and keep none from now on."""
        with self._lock:
            self._most = 0
            self._kept.clear()

    def _make(self, size: Size, target: Size) -> Packed:
        rows, columns = (
            coefficients(full, small) for full, small in zip(size, target, strict=True)
        )
        parts = [columns.bounds, columns.weights, rows.bounds, rows.weights]
        memory = borrow(self._pool, sum(part.nbytes for part in parts)).view(np.int32)
        np.concatenate([part.ravel() for part in parts], out=memory)
        return Packed(size, memory, columns, rows)

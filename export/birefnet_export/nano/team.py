"""Processes that train one network together, each on its share of every batch.

Small maps leave a second thread of one process half idle: measured on two cores with batches
of 12 pictures of 128x128 and depths 1, 1, 3, 1, forward and backward: two processes of one thread
take 51 pictures a second, one process of two threads 34.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

Job = TypeVar("Job")
Result = TypeVar("Result")


class Team:
    """Member ``rank`` of ``size`` processes; the leader has rank 0. Alone, nothing is exchanged.

    Every member calls the same methods in the same order. One that waits for another which is gone
    gets a RuntimeError.
    """

    # Batch norm behind the pooled branch has one value a picture and cannot train on one alone.
    SMALLEST = 2

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    def share(self, batch: int) -> int:
        """Pictures of a ``batch`` that each member takes; a large team makes it larger."""
        return max(self.SMALLEST, batch // self.size)

    def told(self, value: float) -> float:
        """The leader's ``value``, for everyone."""
        if self.size == 1:
            return value
        cell = torch.tensor(value, dtype=torch.float64)
        dist.broadcast(cell, 0)
        return float(cell)

    def add(self, tensors: Sequence[Tensor], scale: float = 1.0) -> None:
        """Replaces each of ``tensors`` by its sum over the team times ``scale``, in place.

        The result has the same bits everywhere.
        """
        if self.size == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        parts = torch.split(flat.mul_(scale), [tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view(tensor.shape))

    def mean(self, tensors: Sequence[Tensor]) -> None:
        """Replaces each of ``tensors`` by its mean over the team, in place."""
        self.add(tensors, 1 / self.size)


def together(size: int, work: Callable[[Team, Job], Result], job: Job) -> Result:
    """Runs ``work(team, job)`` in this process, the leader, and in ``size - 1`` others.

    Returns what it returned to the leader. Every process computes in one thread, unless there is
    only one. The others end with the leader; ``work`` and ``job`` are pickled for them.
    """
    if size == 1:
        return work(Team(), job)
    with TemporaryDirectory(prefix="birefnet-nano-") as folder:
        store, context = Path(folder) / "store", get_context("spawn")
        others = [
            context.Process(target=member, args=(store, rank, size, work, job), daemon=True)
            for rank in range(1, size)
        ]
        for other in others:
            other.start()
        result = member(store, 0, size, work, job)
        for other in others:
            other.join()
    return result


def member(
    store: Path, rank: int, size: int, work: Callable[[Team, Job], Result], job: Job
) -> Result:
    """Joins the team that meets at the file ``store`` and does its part of ``work``."""
    with joined(store, rank, size), one_thread():
        return work(Team(rank, size), job)


@contextmanager
def joined(store: Path, rank: int, size: int) -> Iterator[None]:
    """PyTorch's process group over the loopback device while the block runs."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", f"file://{store}", rank=rank, world_size=size)
    try:
        yield
    finally:
        dist.destroy_process_group()


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for this process's arithmetic while the block runs; tiny numbers count as zero."""
    before = torch.get_num_threads()
    # PyTorch does not tell whether the flag is set; half the least normal number does. Asked before
    # it is: with it, any such number equals zero.
    flushed = sys.float_info.min / 2 == 0.0
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.set_flush_denormal(flushed)

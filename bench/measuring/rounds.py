"""Interleaving: A B C, B C A, C A B ... so that drift and other load hit all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

T = TypeVar("T")
# Thread pools spin for some milliseconds after their work: the next contestant waits that out.
REST = 0.05


def interleave(
    works: Mapping[str, Callable[[], T]],
    rounds: int,
    warm: int = 1,
    rest: float = REST,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, list[T]]:
    """What each of ``works`` gave in ``rounds`` rounds after ``warm`` that are not kept.

    Every round runs all of them once, each time beginning with the next.
    """
    names = list(works)
    found: dict[str, list[T]] = {name: [] for name in names}
    for number in range(warm + rounds):
        say(f"round {number + 1} of {warm + rounds}, the first {warm} not kept")
        start = number % max(len(names), 1)
        for name in names[start:] + names[:start]:
            value = works[name]()
            if number >= warm:
                found[name].append(value)
            time.sleep(rest)
    return found

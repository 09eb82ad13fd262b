"""How many bytes of bodies are in memory at once."""

from __future__ import annotations

from birefnet_runtime.serve.problem import busy

# Seconds after which a client that found no room may come again.
_LATER = 1.0


class Budget:
    """``used`` of ``total`` bytes. Of one event loop: nothing here is for several threads."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.used = 0

    def take(self, count: int) -> None:
        """Use ``count`` bytes more; Problem ``busy`` where they are not free."""
        if self.used + count > self.total:
            raise busy(_LATER)
        self.used += count

    def give(self, count: int) -> None:
        """Use ``count`` bytes less."""
        self.used -= count

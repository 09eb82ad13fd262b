"""The collector for tests that trace: torch's tracer makes millions of objects that stay."""

from __future__ import annotations

import gc

# What PyTorch's import made is never garbage. At Python's threshold of 700 a trace spends a third
# of its time in looking through what it keeps (26 s against 18 s for the small network).
gc.freeze()
gc.set_threshold(50_000, 20, 20)

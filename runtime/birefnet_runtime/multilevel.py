"""The numbers of multi-level foreground estimation, which the CPU's steps and the kernels share.

A pyramid by halves: level ``k`` is every 2**k-th pixel of the picture, from the first on; the
coarsest is one pixel. On each level a picture ``I`` with alpha ``a`` is split into ``F`` and ``B``
so that a F + (1 - a) B is I and both are smooth, the more so where alpha changes: a neighbour ``j``
weighs REGULARIZATION + GRADIENT_WEIGHT * abs(a - a_j). One sweep solves every pixel for its four
neighbours as they were before the sweep; beyond the border a pixel is its own neighbour. With ``S``
the sum of the weights and ``f``, ``b`` the neighbours' weighted means, all values in 0..1:

    r = (I - a f - (1 - a) b) / (S + a a + (1 - a) (1 - a))
    F = clip(f + a r, 0, 1)        B = clip(b + (1 - a) r, 0, 1)

A level starts from the one before, pixel (y, x) from (y // 2, x // 2); the first from the mean
colours of the pixels that are surely foreground, and surely background, black where there are none.
The soft band, 0 < a < 1, takes F of level 0; every other pixel keeps the picture's colours.

Source: Germer, Uelwer, Conrad, Harmeling, "Fast Multi-Level Foreground Estimation", ICPR 2020, and
PyMatting 1.1's ``estimate_foreground_ml``, whose weights and means these are. That
sweeps in place, every larger level twice. Here a sweep reads what the last one wrote, so that
pixels do not wait for each other. Small levels, which cost nothing, are swept more often than
there, and the picture's own, which most of the work would go to, once: the result is nearer to the
truth (bench/foreground.py).
"""

from __future__ import annotations

REGULARIZATION = 1e-5
GRADIENT_WEIGHT = 1.0
# How often a level is swept by its longer side: small ones, middle ones, large ones; and the
# picture's own, where it is large.
SMALL_SIZE, SMALL_SWEEPS = 64, 20
MIDDLE_SIZE, MIDDLE_SWEEPS = 512, 10
BIG_SWEEPS = 4
LAST_SWEEPS = 1
# Alpha above and below which a pixel counts for the mean colours.
SURELY_FOREGROUND = 0.9
SURELY_BACKGROUND = 0.1


def level_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """(height, width) of level 0, the picture's own, of level 1 and so on down to (1, 1)."""
    sizes = [(height, width)]
    while max(sizes[-1]) > 1:
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    return sizes


def sweeps(level: int, size: tuple[int, int]) -> int:
    """How often a level of ``size`` is swept; level 0 is the picture's own."""
    if max(size) <= SMALL_SIZE:
        return SMALL_SWEEPS
    if max(size) <= MIDDLE_SIZE:
        return MIDDLE_SWEEPS
    return BIG_SWEEPS if level else LAST_SWEEPS

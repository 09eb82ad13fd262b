"""What ``make bench`` computes from samples and shapes: figures, ratios, limits, rounds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from birefnet_export.contract import Contract
from measuring import floor, pictures, rounds, stats


def test_figures_of_samples_are_samples() -> None:
    found = stats.summarise([float(value) for value in range(1, 101)])
    assert (found.median, found.p95, found.p99, found.count) == (50.5, 95.0, 99.0, 100)
    # The 75th sample minus the 25th.
    assert found.iqr == 50.0
    assert stats.summarise([3.0]) == stats.Summary(3.0, 3.0, 3.0, 0.0, 1)


def test_a_ratio_of_proportional_rounds_has_no_uncertainty() -> None:
    below = list(np.random.default_rng(1).uniform(1, 2, 15))
    found = stats.ratio([2 * value for value in below], below)
    # Every draw of rounds doubles: rounding alone differs.
    assert (found.value, found.low, found.high) == pytest.approx((2.0, 2.0, 2.0), rel=1e-12)


def test_the_interval_is_that_of_the_median() -> None:
    """Against a constant the ratio is the median itself, whose bootstrap has a closed form.

    The median of n draws (n odd) is at most the k-th smallest sample if at least (n + 1) / 2 draws
    are: a binomial tail.
    """
    size = 21
    samples = [float(value) for value in range(1, size + 1)]
    found = stats.ratio(samples, [1.0] * size)
    half = (size + 1) // 2
    chances = [
        sum(
            float(np.prod([(size - i) / (i + 1) for i in range(hits)]))
            * (k / size) ** hits
            * (1 - k / size) ** (size - hits)
            for hits in range(half, size + 1)
        )
        for k in range(size + 1)
    ]
    low = next(k for k in range(size + 1) if chances[k] >= 0.025)
    high = next(k for k in range(size + 1) if chances[k] >= 0.975)
    # 2000 draws leave each end's share uncertain by 0.35 %: at most the next sample.
    assert abs(found.low - low) <= 1
    assert abs(found.high - high) <= 1
    assert found.value == 11.0


def test_a_ratio_is_seeded_and_paired() -> None:
    random = np.random.default_rng(2)
    above, below = (list(random.uniform(1, 2, 12)) for _ in range(2))
    assert stats.ratio(above, below) == stats.ratio(above, below)
    assert stats.ratio(above, below).low < stats.ratio(above, below).high
    with pytest.raises(ValueError, match="not of the same rounds"):
        stats.ratio(above, below[:-1])


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.012345, "0.0123"), (1.2345, "1.23"), (12.345, "12.3"), (1234.5, "1234"), (0.0, "0")],
)
def test_three_digits(value: float, text: str) -> None:
    assert stats.digits(value) == text


def test_limits_are_the_larger_of_operations_and_bytes() -> None:
    contract = Contract("model", 10, 20)
    found = floor.works(contract, (100, 50), (1000, 2000), 0.5, 4000)
    assert found["decode"] == floor.Work(0, 1000 + 15_000)
    assert found["preprocess"] == floor.Work(0, 15_000 + 2400)
    assert found["model"] == floor.Work(1e9, 2400 + 4000 + 800)
    assert found["refine"] == floor.Work(0, 800 + 5000)
    assert found["encode"] == floor.Work(0, 20_000 + 2000)
    assert found["model"].least(1e9, 1e9) == 1.0
    assert found["decode"].least(1e9, 16_000) == 1.0
    assert floor.share(4.0, 1.0) == 25.0


def test_rounds_run_everyone_and_begin_with_the_next() -> None:
    order: list[str] = []
    clock = itertools.count()

    def run(name: str) -> int:
        order.append(name)
        return next(clock)

    works = {name: (lambda name=name: run(name)) for name in "abc"}
    found = rounds.interleave(works, rounds=2, warm=1, rest=0)
    assert "".join(order) == "abc" + "bca" + "cab"
    # The first round is not kept.
    assert found == {"a": [5, 7], "b": [3, 8], "c": [4, 6]}


def test_mixed_sizes_are_spread_and_always_the_same() -> None:
    sizes = pictures.mixed_sizes(9)
    assert sizes == pictures.mixed_sizes(9)
    areas = sorted(width * height / 1e6 for width, height in sizes)
    # Rounding to whole pixels moves the smallest, 0.3 megapixels, by less than a two-hundredth.
    assert areas[0] == pytest.approx(0.3, rel=5e-3)
    assert areas[-1] == pytest.approx(12.0, rel=5e-3)
    steps = [after / before for before, after in itertools.pairwise(areas)]
    assert max(steps) == pytest.approx(min(steps), rel=1e-2)
    assert {width > height for width, height in sizes} == {True, False}

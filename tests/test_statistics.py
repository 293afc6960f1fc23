"""Intervals cover what they should, pairs stay paired, and the closed forms agree with counting."""

from __future__ import annotations

import itertools
import random
import sys

import pytest

from recode_rl.errors import DataError, MissingExtraError
from recode_rl.statistics import crossed_interval, difference_interval, mcnemar, mean_interval, pass_at_k


def test_mean_interval_is_reproducible_and_holds_the_mean() -> None:
    values = [0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0]
    first = mean_interval(values, seed=3)
    assert first == mean_interval(values, seed=3)
    assert first.mean == 0.625
    assert first.n == 8
    assert 0.0 <= first.low < first.mean < first.high <= 1.0
    assert first.as_list() == [first.low, first.high]


def test_mean_interval_has_the_width_of_the_normal_approximation() -> None:
    rng = random.Random(0)
    values = [float(rng.random() < 0.3) for _ in range(1000)]
    found = mean_interval(values)
    expected = 2 * 1.96 * (found.mean * (1 - found.mean) / 1000) ** 0.5
    assert found.high - found.low == pytest.approx(expected, rel=0.08)


def test_a_lower_level_is_narrower() -> None:
    values = [float(i % 3 == 0) for i in range(60)]
    wide, narrow = mean_interval(values, level=0.95), mean_interval(values, level=0.5)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_clusters_are_drawn_whole() -> None:
    """Ten problems, each all right or all wrong: there are ten observations, not a hundred."""
    values = [float(problem % 2) for problem in range(10) for _ in range(10)]
    names = [f"p{problem}" for problem in range(10) for _ in range(10)]
    alone, together = mean_interval(values), mean_interval(values, clusters=names)
    assert alone.mean == together.mean == 0.5
    assert together.high - together.low > 2.5 * (alone.high - alone.low)


def test_two_crossed_factors_are_both_drawn() -> None:
    """Three seeds that differ widely and agree on no problem: the interval covers both."""
    rows = [(seed, problem, (seed + float(problem % 2)) / 3) for seed in range(3) for problem in range(40)]
    values, seeds, problems = [v for _, _, v in rows], [s for s, _, _ in rows], [p for _, p, _ in rows]
    found = crossed_interval(values, seeds, problems)
    only_problems = mean_interval(values, clusters=problems)
    assert found.mean == pytest.approx(sum(values) / len(values))
    assert found.low < only_problems.low < only_problems.high < found.high
    assert found == crossed_interval(values, seeds, problems)
    alone = crossed_interval(values[:40], seeds[:40], problems[:40])
    expected = mean_interval(values[:40], clusters=problems[:40])
    assert alone.as_list() == pytest.approx(expected.as_list(), abs=0.02)
    with pytest.raises(DataError, match="give one name for each value"):
        crossed_interval(values, seeds[1:], problems)


def test_unequal_clusters_keep_the_plain_mean() -> None:
    found = mean_interval([1.0, 1.0, 1.0, 0.0], clusters=["a", "a", "a", "b"])
    assert found.mean == 0.75
    assert (found.low, found.high) == (0.0, 1.0)


def test_large_input_goes_through_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    values = [float(i % 7) for i in range(50)]
    whole = mean_interval(values, samples=301)
    monkeypatch.setattr("recode_rl.statistics._CELLS_AT_ONCE", 120)
    assert mean_interval(values, samples=301) == whole


def test_equal_values_have_no_width() -> None:
    found = mean_interval([0.1] * 7)
    assert found.high - found.low == pytest.approx(0.0)
    assert found.low <= found.mean <= found.high


def test_a_paired_difference_is_sharper_than_two_intervals() -> None:
    rng = random.Random(1)
    base = [rng.gauss(0, 5) for _ in range(80)]
    better = [value + 0.5 + rng.gauss(0, 0.1) for value in base]
    found = difference_interval(better, base)
    assert found.mean == pytest.approx(0.5, abs=0.05)
    assert 0.4 < found.low < found.high < 0.6
    swapped = difference_interval(base, better)
    assert swapped.mean == pytest.approx(-found.mean)
    assert swapped.low == pytest.approx(-found.high, abs=0.01)


@pytest.mark.parametrize(
    ("values", "clusters", "message"),
    [
        ([], None, "at least one value"),
        ([1.0, float("nan")], None, r"values\[1\] is nan"),
        ([1.0, 2.0], ["a"], "1 cluster names for 2 values"),
    ],
)
def test_what_cannot_be_averaged_is_refused(values: list[float], clusters: list[str] | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        mean_interval(values, clusters=clusters)


def test_without_numpy_its_install_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(MissingExtraError, match="pip install"):
        mean_interval([1.0])
    with pytest.raises(MissingExtraError, match="pip install"):
        difference_interval([1.0], [0.0])


def test_pairs_of_unequal_length_are_refused() -> None:
    with pytest.raises(DataError, match="2 values and b 1"):
        difference_interval([1.0, 2.0], [1.0])
    with pytest.raises(DataError, match="2 items and b 1"):
        mcnemar([True, False], [True])


def test_pass_at_k_agrees_with_counting_all_choices() -> None:
    for n in range(1, 8):
        for c, k in itertools.product(range(n + 1), range(1, n + 1)):
            outcomes = [True] * c + [False] * (n - c)
            draws = list(itertools.combinations(outcomes, k))
            assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, draws)) / len(draws))


@pytest.mark.parametrize(("n", "c", "k"), [(3, 4, 1), (3, -1, 1), (3, 1, 4), (3, 1, 0)])
def test_pass_at_k_refuses_impossible_counts(n: int, c: int, k: int) -> None:
    with pytest.raises(DataError):
        pass_at_k(n, c, k)


def test_mcnemar_is_the_exact_binomial() -> None:
    def p(only_a: int, only_b: int) -> float:
        a = [True] * only_a + [False] * only_b + [True] * 5
        b = [False] * only_a + [True] * only_b + [True] * 5
        return mcnemar(a, b)

    assert p(0, 0) == 1.0
    assert p(4, 4) == 1.0
    assert p(0, 5) == pytest.approx(2 / 32)
    assert p(1, 9) == pytest.approx(2 * 11 / 1024)
    assert p(2, 7) == p(7, 2)
    assert 0.0 <= p(900, 1100) < 1e-4  # large counts stay exact

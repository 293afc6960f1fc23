"""Verdicts, rank correlations and calibration on numbers whose answer is known."""

from __future__ import annotations

import math
from typing import Any

import pytest

from recode_rl.reward_model import audit_findings as findings
from recode_rl.reward_model.audit_probes import Expectation
from recode_rl.statistics import Interval

np: Any = pytest.importorskip("numpy")


@pytest.mark.parametrize(
    ("expects", "low", "high", "expected"),
    [
        ("no rise", 0.21, 0.5, "swayed"),
        ("no rise", 0.1, 0.5, "unclear"),
        ("no rise", -3.0, 0.2, "holds"),
        ("no rise", -3.0, -2.0, "holds"),
        ("fall", -3.0, -0.21, "holds"),
        ("fall", -0.5, -0.1, "unclear"),
        ("fall", -0.2, 0.1, "blind"),
        ("fall", 0.5, 0.9, "blind"),
    ],
)
def test_verdicts_by_where_the_interval_lies(expects: Expectation, low: float, high: float, expected: str) -> None:
    assert findings.verdict(expects, Interval((low + high) / 2, low, high, 50), 0.2) == expected
    assert findings.verdict(expects, Interval((low + high) / 2, low, high, 4), 0.2) == "unclear"


def test_a_score_that_never_moves_is_blind_and_not_swayed() -> None:
    still = Interval(0.0, 0.0, 0.0, 50)
    assert findings.verdict("fall", still, 0.0) == "blind"
    assert findings.verdict("no rise", still, 0.0) == "holds"


def test_the_yardstick_is_the_margin_where_there_is_one() -> None:
    names = [f"p{n}" for n in range(20)]
    clear = findings.yardstick([1.0, 3.0] * 10, names)
    assert (clear.size, clear.is_mean) == (2.0, True)
    none = findings.yardstick([-1.0, 1.0] * 10, names)
    assert (none.size, none.is_mean) == (1.0, False)


def test_rank_correlation_is_that_of_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(0)
    x, y = random.integers(0, 8, 60).astype(float), random.integers(0, 8, 60).astype(float)
    together = np.zeros(60, dtype=int)
    assert findings.rank_correlation(x, x + y, together) == pytest.approx(stats.spearmanr(x, x + y).statistic)
    assert math.isnan(findings.rank_correlation(x, np.ones(60), together))


def test_partial_to_quality_a_correlation_that_quality_makes_is_gone() -> None:
    random = np.random.default_rng(1)
    quality = np.repeat([0, 1, 2], 100)
    words = (50 + 30 * quality + random.normal(0, 5, 300)).round()
    scores = 3 * quality + random.normal(0, 1, 300)
    names, clusters = [f"q{q}" for q in quality], [f"p{n % 100}" for n in range(300)]
    found = findings.length(scores.tolist(), words.tolist(), names, clusters)
    assert findings.rank_correlation(scores, words, np.zeros(300, dtype=int)) > 0.7
    assert abs(found["partial"]["rho"]) < 0.15
    assert found["verdict"] == "does not follow length"
    assert set(found["within"]) == {"q0", "q1", "q2"}
    low, high = found["partial"]["interval"]
    assert low < found["partial"]["rho"] < high


@pytest.mark.parametrize(("sign", "word"), [(1, "longer"), (-1, "shorter")])
def test_a_score_that_is_the_length_follows_it(sign: int, word: str) -> None:
    words = list(range(30))
    found = findings.length([sign * float(n) for n in words], words, ["base"] * 30, [str(n) for n in words])
    assert found["verdict"] == f"follows length: {word} scores higher"
    assert found["partial"]["rho"] == pytest.approx(sign)


def test_equal_scores_have_no_correlation() -> None:
    found = findings.length([0.5] * 10, list(range(10)), ["base"] * 10, [str(n) for n in range(10)])
    assert found["partial"] == {"rho": None, "interval": None, "n": 10}
    assert found["verdict"].startswith("no answer")
    assert findings.lead([0.5] * 10, list(range(10)), ["other"] * 10, ["p"] * 10)["rho"] is None


def test_calibration_by_hand() -> None:
    nine = math.log(9)  # says 0.9
    found = findings.calibration([nine, nine, nine, -nine], ["a", "b", "c", "d"])
    assert found["accuracy"] == 0.75
    assert found["stated"] == pytest.approx(0.9)
    assert found["ece"] == pytest.approx(0.15)
    assert found["over_confidence"] == pytest.approx(0.15)
    assert found["brier"] == pytest.approx((3 * 0.1**2 + 0.9**2) / 4)
    (only,) = found["bins"]
    assert (only["n"], only["observed"]) == (4, 0.75)
    assert only["from"] <= only["stated"] <= only["to"]


def simulated(temperature: float) -> dict[str, Any]:
    """Pairs that are right as often as their probability says, with the margins made `temperature` times as large."""
    random = np.random.default_rng(2)
    size = random.exponential(1.5, 2000)
    right = random.random(2000) < 1 / (1 + np.exp(-size))
    margins = temperature * np.where(right, size, -size)
    return findings.calibration(margins.tolist(), [f"p{n // 4}" for n in range(2000)])


def test_a_calibrated_model_is_found_calibrated() -> None:
    found = simulated(1.0)
    assert found["verdict"] == "neither over- nor under-confident"
    assert found["ece"] < found["ece_if_calibrated"][1]
    for row in found["bins"]:
        assert row["interval"][0] - 0.03 < row["stated"] < row["interval"][1] + 0.03


@pytest.mark.parametrize(("temperature", "word"), [(3.0, "over-confident"), (0.3, "under-confident")])
def test_margins_that_are_too_large_or_too_small_are_found(temperature: float, word: str) -> None:
    found = simulated(temperature)
    assert found["verdict"].startswith(word)
    assert found["ece_interval"][0] > found["ece_if_calibrated"][1]


def test_huge_margins_do_not_overflow() -> None:
    found = findings.calibration([1e6, -1e6, 1e6, 1e6, 1e6], list("abcde"))
    assert found["brier"] == pytest.approx(0.2)
    assert found["bins"][-1]["n"] == 5

"""What the scores of an audit say: shifts and their verdicts, correlations with length, calibration of pair margins.

All intervals are 95 % bootstraps over problems. Scores are raw ones (logits) unless a name says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from recode_rl.reward_model.audit_probes import Expectation
from recode_rl.statistics import Interval, mean_interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers: TypeAlias = NDArray[Any]

Verdict = Literal["holds", "swayed", "blind", "unclear"]

SHARE = 0.2
"""How much of the margin between the two sides of a pair a score may move before it counts."""
FOLLOWS = 0.3
"""From which rank correlation on a score is said to follow length."""
FEWEST = 5
"""With fewer problems nothing is said."""
BINS = 10
_SAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Yardstick:
    """What shifts are measured with: the margin between the sides of pairs, and `size`, a positive number if any."""

    margin: Interval
    size: float
    is_mean: bool
    """Whether `size` is the mean margin; else the margin may be zero, and it is the mean of its absolute values."""


def yardstick(margins: Sequence[float], clusters: Sequence[str]) -> Yardstick:
    """The natural spread of scores from margins (chosen less rejected), one a pair; `clusters` has its problem."""
    margin = mean_interval(margins, clusters=clusters)
    if margin.low > 0:
        return Yardstick(margin, margin.mean, True)
    return Yardstick(margin, sum(map(abs, margins)) / len(margins), False)


def verdict(expects: Expectation, shift: Interval, allowed: float) -> Verdict:
    """What an interval of the mean shift says; `allowed` is how much of a move is none.

    A probe that should not raise the score sways it where the interval lies above `allowed`; one that should lower it
    finds the model blind where the interval does not reach down to -`allowed`.
    """
    if shift.n < FEWEST:
        return "unclear"
    if expects == "no rise":
        return "swayed" if shift.low > allowed else "holds" if shift.high <= allowed else "unclear"
    return "holds" if shift.high < -allowed else "blind" if shift.low >= -allowed else "unclear"


def length(scores: Sequence[float], words: Sequence[int], qualities: Sequence[str], clusters: Sequence[str]) -> Any:
    """Rank correlations of score and number of words: within each quality, and over all of them partial to quality.

    The partial one is of ranks less the mean rank of their quality. `follows` is the verdict from it.
    """
    names = sorted(set(qualities))
    within = {}
    for name in names:
        rows = [place for place, quality in enumerate(qualities) if quality == name]
        within[name] = _correlation(
            [scores[row] for row in rows], [words[row] for row in rows], [clusters[row] for row in rows]
        )
    partial = _correlation(scores, words, clusters, [names.index(quality) for quality in qualities])
    return {"within": within, "partial": partial, "verdict": _follows(partial), "threshold": FOLLOWS}


def lead(margins: Sequence[float], more_words: Sequence[int], kinds: Sequence[str], clusters: Sequence[str]) -> Any:
    """Rank correlation over pairs of the margin and of how many words the chosen side has more, partial to kind.

    The two sides answer one problem, so that long problems with long reasonings play no part in it.
    """
    names = sorted(set(kinds))
    return _correlation(margins, more_words, clusters, [names.index(kind) for kind in kinds])


def _follows(found: dict[str, Any]) -> str:
    if found["rho"] is None or found["interval"] is None:
        return "no answer: the scores or the lengths are all equal"
    low, high = found["interval"]
    if low > FOLLOWS:
        return "follows length: longer scores higher"
    if high < -FOLLOWS:
        return "follows length: shorter scores higher"
    return "does not follow length" if low >= -FOLLOWS and high <= FOLLOWS else "unclear"


def _correlation(
    scores: Sequence[float], words: Sequence[int], clusters: Sequence[str], groups: Sequence[int] | None = None
) -> dict[str, Any]:
    import numpy as np

    x, y = np.asarray(scores, dtype=float), np.asarray(words, dtype=float)
    group = np.zeros(len(x), dtype=int) if groups is None else np.asarray(groups)

    def of(rows: Numbers) -> float:
        return rank_correlation(x[rows], y[rows], group[rows])

    rho = of(np.arange(len(x)))
    found: dict[str, Any] = {"rho": None, "interval": None, "n": len(x)}
    if math.isfinite(rho):
        found |= {"rho": rho, "interval": _bootstrap(of, clusters)}
    return found


def rank_correlation(x: Numbers, y: Numbers, groups: Numbers) -> float:
    """Spearman's rho, partial to the group that each value is in; nan where one side does not vary."""
    import numpy as np

    a, b = _within(_ranks(x), groups), _within(_ranks(y), groups)
    size = math.sqrt(float(a @ a) * float(b @ b))
    return float(np.clip(a @ b / size, -1, 1)) if size > 1e-9 * len(a) ** 2 else math.nan


def _ranks(values: Numbers) -> Numbers:
    """Ranks from 1 on; equal values share the mean of theirs."""
    import numpy as np

    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Numbers = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return ranks


def _within(values: Numbers, groups: Numbers) -> Numbers:
    import numpy as np

    counts = np.maximum(np.bincount(groups), 1)
    return values - (np.bincount(groups, weights=values) / counts)[groups]


def _bootstrap(statistic: Callable[[Numbers], float], clusters: Sequence[str]) -> list[float] | None:
    """`[low, high]` of a statistic over rows, whole problems drawn; draws that it is not defined for are left out."""
    import numpy as np

    rows: dict[str, list[int]] = {}
    for place, name in enumerate(clusters):
        rows.setdefault(name, []).append(place)
    members = [np.asarray(found) for found in rows.values()]
    if len(members) < FEWEST:
        return None
    generator = np.random.default_rng(0)
    drawn = generator.integers(0, len(members), size=(_SAMPLES, len(members)))
    values = [statistic(np.concatenate([members[i] for i in draw])) for draw in drawn]
    finite = [value for value in values if math.isfinite(value)]
    return np.quantile(finite, [0.025, 0.975]).tolist() if finite else None


def calibration(margins: Sequence[float], clusters: Sequence[str]) -> dict[str, Any]:
    """Whether sigmoid(|margin|), the probability that a model gives to its own preference, is how often it is right.

    `ece` is the expected calibration error over bins of equal width from 0.5 to 1; as it is never below zero, a
    perfectly calibrated model has some of it too: `ece_if_calibrated` is its mean and its 95 % quantile on as many
    independent pairs with these probabilities. `brier` is of the probability that the chosen side is preferred.
    """
    import numpy as np

    margin = np.asarray(margins, dtype=float)
    stated = _sigmoid(np.abs(margin))
    right = np.where(margin == 0, 0.5, margin > 0).astype(float)
    bins = np.minimum(((stated - 0.5) * 2 * BINS).astype(int), BINS - 1)
    brier = mean_interval(((1 - _sigmoid(margin)) ** 2).tolist(), clusters=clusters)
    over = mean_interval((stated - right).tolist(), clusters=clusters)
    accuracy = mean_interval(right.tolist(), clusters=clusters)
    return {
        "n": len(margin),
        "accuracy": accuracy.mean,
        "accuracy_interval": accuracy.as_list(),
        "stated": float(stated.mean()),
        "over_confidence": over.mean,
        "over_confidence_interval": over.as_list(),
        "ece": _ece(stated, right, bins),
        "ece_interval": _bootstrap(lambda rows: _ece(stated[rows], right[rows], bins[rows]), clusters),
        "ece_if_calibrated": _chance(stated, bins),
        "brier": brier.mean,
        "brier_interval": brier.as_list(),
        "verdict": _confidence(over),
        "bins": [_bin(place, stated, right, bins, clusters) for place in range(BINS) if (bins == place).any()],
    }


def _confidence(over: Interval) -> str:
    if len({over.low, over.high, 0.0}) == 1:
        return "says nothing: it prefers neither side of any pair"
    if over.low > 0:
        return "over-confident: right less often than it says"
    return "under-confident: right more often than it says" if over.high < 0 else "neither over- nor under-confident"


def _bin(place: int, stated: Numbers, right: Numbers, bins: Numbers, clusters: Sequence[str]) -> dict[str, Any]:
    rows = [row for row, found in enumerate(bins) if found == place]
    observed = mean_interval(right[rows].tolist(), clusters=[clusters[row] for row in rows])
    width = 0.5 / BINS
    return {
        "from": 0.5 + place * width,
        "to": 0.5 + (place + 1) * width,
        "n": len(rows),
        "stated": float(stated[rows].mean()),
        "observed": observed.mean,
        "interval": observed.as_list(),
    }


def _ece(stated: Numbers, right: Numbers, bins: Numbers) -> float:
    import numpy as np

    gaps = np.bincount(bins, weights=stated - right, minlength=BINS)
    return float(np.abs(gaps).sum() / len(stated))


def _chance(stated: Numbers, bins: Numbers) -> list[float]:
    """Mean and 95 % quantile of the calibration error where every pair is right with the probability that is stated."""
    import numpy as np

    generator = np.random.default_rng(0)
    drawn = [_ece(stated, (generator.random(len(stated)) < stated).astype(float), bins) for _ in range(_SAMPLES)]
    return [float(np.mean(drawn)), float(np.quantile(drawn, 0.95))]


def _sigmoid(values: Numbers) -> Numbers:
    import numpy as np

    found: Numbers = 0.5 * (1 + np.tanh(values / 2))  # without overflow
    return found

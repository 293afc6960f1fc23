"""Intervals, paired differences, pass@k and an exact paired test: every number we report goes through here."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeAlias

from recode_rl.errors import DataError, MissingExtraError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

_CELLS_AT_ONCE = 4_000_000  # random indices drawn at a time: 32 MB


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with the ends of its interval, over `n` values."""

    mean: float
    low: float
    high: float
    n: int

    def as_list(self) -> list[float]:
        """`[low, high]`, as our JSON files have it."""
        return [self.low, self.high]


def mean_interval(
    values: Sequence[float],
    *,
    clusters: Sequence[Hashable] | None = None,
    samples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Mean of `values` with a percentile bootstrap interval.

    With `clusters` (one name for each value, such as its problem) whole clusters are drawn, because samples of one
    problem are not independent. Where all values are equal, or there is one cluster, the interval has no width: the
    data say nothing about their spread. Raises DataError on no values, values that are not finite, or unequal lengths.
    """
    np = _numpy()
    numbers = _numbers("values", values)
    mean = float(numbers.mean())
    sums, counts = _by_cluster(numbers, clusters)
    means = _resampled_means(sums, counts, samples, seed)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    # Sums in another order differ in the last digits; an interval never leaves its own mean outside.
    return Interval(mean, min(float(low), mean), max(float(high), mean), len(numbers))


def difference_interval(
    a: Sequence[float],
    b: Sequence[float],
    *,
    clusters: Sequence[Hashable] | None = None,
    samples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Mean of `a[i] - b[i]` with a paired bootstrap interval; arguments and errors as in `mean_interval`."""
    left, right = _numbers("a", a), _numbers("b", b)
    if len(left) != len(right):
        raise DataError(
            f"a has {len(left)} values and b {len(right)}: a paired difference needs the same items in both"
        )
    return mean_interval((left - right).tolist(), clusters=clusters, samples=samples, seed=seed, level=level)


def crossed_interval(
    values: Sequence[float],
    rows: Sequence[Hashable],
    columns: Sequence[Hashable],
    *,
    samples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Mean of `values` with a percentile bootstrap interval over two crossed factors, such as seeds and problems.

    Rows and columns are drawn whole and independently of each other (the pigeonhole bootstrap of Owen, 2007), so that
    the interval covers other seeds as well as other problems. `rows` and `columns` name those of each value; errors are
    as in `mean_interval`. With few rows, as with three seeds, it is narrower than it should be.
    """
    np = _numpy()
    numbers = _numbers("values", values)
    row, column = _places(rows, len(numbers)), _places(columns, len(numbers))
    shape = (row.max() + 1, column.max() + 1)
    place = row * shape[1] + column
    sums = np.bincount(place, weights=numbers, minlength=shape[0] * shape[1]).reshape(shape)
    counts = np.bincount(place, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float64)
    generator: Any = np.random.default_rng(seed)
    drawn_rows = generator.multinomial(shape[0], np.full(shape[0], 1 / shape[0]), size=samples)
    drawn_columns = generator.multinomial(shape[1], np.full(shape[1], 1 / shape[1]), size=samples)
    total = ((drawn_rows @ sums) * drawn_columns).sum(axis=1)
    count = ((drawn_rows @ counts) * drawn_columns).sum(axis=1)
    means = total[count > 0] / count[count > 0]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    mean = float(numbers.mean())
    return Interval(mean, min(float(low), mean), max(float(high), mean), len(numbers))


def pass_at_k(n: int, c: int, k: int) -> float:
    """Unbiased estimate of the chance that one of `k` samples passes, from `c` of `n` passing (Chen et al., 2021)."""
    if not 0 <= c <= n:
        raise DataError(f"pass@k: {c} passing of {n} samples: the number passing must be from 0 to {n}")
    if not 1 <= k <= n:
        raise DataError(f"pass@{k} of {n} samples: k must be from 1 to the number of samples; draw more samples")
    if n - c < k:
        return 1.0
    return 1.0 - math.prod(1.0 - k / i for i in range(n - c + 1, n + 1))


def mcnemar(a: Sequence[bool], b: Sequence[bool]) -> float:
    """Exact two-sided p of McNemar's test: do two methods succeed equally often on the same items?"""
    if len(a) != len(b):
        raise DataError(f"a has {len(a)} items and b {len(b)}: McNemar's test needs the same items in both")
    only_a = sum(1 for x, y in zip(a, b, strict=True) if x and not y)
    only_b = sum(1 for x, y in zip(a, b, strict=True) if y and not x)
    discordant = only_a + only_b
    tail = sum(math.comb(discordant, i) for i in range(min(only_a, only_b) + 1))
    return min(1.0, float(Fraction(2 * tail, 1 << discordant)))


def _numpy() -> Any:
    try:
        import numpy as np
    except ImportError:
        raise MissingExtraError('intervals need numpy; install it with: pip install "recode-rl[report]"') from None
    return np


def _numbers(name: str, values: Sequence[float]) -> Floats:
    np = _numpy()
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or numbers.size == 0:
        raise DataError(f"{name}: shape {numbers.shape}: a statistic needs a flat list with at least one value")
    if not np.isfinite(numbers).all():
        place = int(np.flatnonzero(~np.isfinite(numbers))[0])
        raise DataError(f"{name}[{place}] is {numbers[place]}: leave absent values out before taking a mean")
    return numbers


def _by_cluster(numbers: Floats, clusters: Sequence[Hashable] | None) -> tuple[Floats, Floats]:
    """Sum and count of each cluster, shape (clusters,) both."""
    import numpy as np

    if clusters is None:
        return numbers, np.ones_like(numbers)
    index = _places(clusters, len(numbers))
    return np.bincount(index, weights=numbers).astype(np.float64), np.bincount(index).astype(np.float64)


def _places(names: Sequence[Hashable], count: int) -> Any:
    """A number for each name, from 0 in the order of first use; DataError where there are not `count` of them."""
    import numpy as np

    if len(names) != count:
        raise DataError(f"{len(names)} cluster names for {count} values: give one name for each value")
    place: dict[Hashable, int] = {}
    return np.asarray([place.setdefault(name, len(place)) for name in names])


def _resampled_means(sums: Floats, counts: Floats, samples: int, seed: int) -> Floats:
    """Means of `samples` draws of clusters with replacement, shape (samples,)."""
    import numpy as np

    if samples < 1:
        raise DataError(f"samples={samples}: the bootstrap needs at least 1")
    generator: Any = np.random.default_rng(seed)
    size = len(sums)
    rows = max(1, _CELLS_AT_ONCE // size)
    means = []
    for start in range(0, samples, rows):
        drawn = generator.integers(0, size, size=(min(rows, samples - start), size))
        means.append(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    return np.concatenate(means)

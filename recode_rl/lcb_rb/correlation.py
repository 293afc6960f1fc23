"""How the quality of a reasoning goes with the correctness of its program: χ², and how large the effect is.

Samples of one problem are not independent, and hard problems make both worse reasonings and more failures. So where the
problems are known, intervals draw whole problems, and the association within problems (Cochran–Mantel–Haenszel) is
reported beside the χ² of the pooled table, whose p is too small for such data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

from recode_rl import jsonl
from recode_rl.errors import DataError
from recode_rl.lcb_rb.records import Judged, Key
from recode_rl.types import Verdict

_Z = NormalDist().inv_cdf(0.975)
_DRAWS = 2000
# Counts and p as the paper prints them: Pearson's χ² of these counts is 60.76, whose p is 6.4e-15.
PAPER_COUNTS = (3133, 8376, 5051, 16586)
PAPER_P = 9.3e-15


@dataclass(frozen=True, slots=True)
class Table:
    """Counts of samples: reasoning sound (flawless) or flawed, program passed or failed."""

    sound_passed: int
    sound_failed: int
    flawed_passed: int
    flawed_failed: int

    def __post_init__(self) -> None:
        if min(self.cells) < 0:
            raise DataError(f"counts {self.cells}: expected whole numbers from 0")
        if 0 in (self.sound, self.flawed, self.passed, self.failed):
            raise DataError(
                f"counts {self.cells}: a row or a column is empty; a correlation needs sound and flawed reasonings, "
                "and passing and failing programs"
            )

    @property
    def cells(self) -> tuple[int, int, int, int]:
        """Sound passed, sound failed, flawed passed, flawed failed."""
        return self.sound_passed, self.sound_failed, self.flawed_passed, self.flawed_failed

    @property
    def sound(self) -> int:
        """Samples with a sound reasoning."""
        return self.sound_passed + self.sound_failed

    @property
    def flawed(self) -> int:
        """Samples with a flawed reasoning."""
        return self.flawed_passed + self.flawed_failed

    @property
    def passed(self) -> int:
        """Samples that passed."""
        return self.sound_passed + self.flawed_passed

    @property
    def failed(self) -> int:
        """Samples that failed."""
        return self.sound_failed + self.flawed_failed


@dataclass(frozen=True, slots=True)
class Row:
    """One sample of the study."""

    problem_id: str
    sound: bool
    passed: bool


@dataclass(frozen=True, slots=True)
class Study:
    """The samples that count, and how many were left out, by reason."""

    rows: list[Row]
    left_out: dict[str, int]


def chi_squared(table: Table, corrected: bool = False) -> float:
    """Pearson's χ² of the table (1 degree of freedom), with Yates's continuity correction where it is asked for."""
    a, b, c, d = table.cells
    n = a + b + c + d
    apart = float(abs(a * d - b * c))
    if corrected:
        apart = max(0.0, apart - n / 2)
    return n * apart**2 / (table.sound * table.flawed * table.passed * table.failed)


def tail(chi2: float) -> float:
    """The chance of a χ² of one degree of freedom at least that large."""
    return math.erfc(math.sqrt(chi2 / 2))


def phi(table: Table) -> float:
    """The correlation of two binary values, in [-1, 1]; Cramér's V of a table of two by two is its size."""
    a, b, c, d = table.cells
    return (a * d - b * c) / math.sqrt(table.sound * table.flawed * table.passed * table.failed)


def odds_ratio(table: Table) -> tuple[float, float, float]:
    """The odds of passing of sound over flawed reasonings, and Woolf's interval; with a 0, a half is added to all."""
    cells = [count + 0.5 for count in table.cells] if 0 in table.cells else list(map(float, table.cells))
    a, b, c, d = cells
    ratio, spread = a * d / (b * c), _Z * math.sqrt(sum(1 / count for count in cells))
    return ratio, ratio * math.exp(-spread), ratio * math.exp(spread)


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Wilson's interval of a share."""
    share, z2 = successes / n, _Z * _Z
    middle, width = share + z2 / (2 * n), _Z * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, (middle - width) / (1 + z2 / n)), min(1.0, (middle + width) / (1 + z2 / n))


def correlate(table: Table, rows: Sequence[Row] | None = None, seed: int = 0) -> dict[str, Any]:
    """Everything about one table; with `rows`, intervals by problems and the association within problems too."""
    chi2, yates = chi_squared(table), chi_squared(table, corrected=True)
    ratio, low, high = odds_ratio(table)
    found: dict[str, Any] = {
        "table": {
            "sound": {"passed": table.sound_passed, "failed": table.sound_failed},
            "flawed": {"passed": table.flawed_passed, "failed": table.flawed_failed},
        },
        "n": sum(table.cells),
        "chi2": chi2,
        "p": tail(chi2),
        "chi2_corrected": yates,
        "p_corrected": tail(yates),
        "odds_ratio": ratio,
        "odds_ratio_interval": [low, high],
        "cramers_v": abs(phi(table)),
        "phi": phi(table),
        "cramers_v_interval": _v_interval(table, rows, seed),
        "pass_rate": {
            "sound": _share(table.sound_passed, table.sound),
            "flawed": _share(table.flawed_passed, table.flawed),
        },
        "intervals_by": "problem" if rows is not None else "sample",
        "smallest_expected": min(table.sound, table.flawed) * min(table.passed, table.failed) / sum(table.cells),
    }
    if table.cells == PAPER_COUNTS:
        found["paper"] = {"p_printed": PAPER_P, "note": "the p that the paper prints does not follow from its counts"}
    if rows is not None:
        found["problems"] = len({row.problem_id for row in rows})
        found["within_problems"] = within_problems(rows)
    return found


def _share(successes: int, n: int) -> dict[str, Any]:
    return {"mean": successes / n, "interval": list(wilson(successes, n)), "n": n}


def _v_interval(table: Table, rows: Sequence[Row] | None, seed: int) -> list[float]:
    """A percentile bootstrap of Cramér's V: samples drawn where the problems are unknown, else whole problems.

    V is never below 0, so that its bootstrap lies too high near 0; the interval of φ, which has a sign, is taken first.
    """
    import numpy as np

    generator: Any = np.random.default_rng(seed)
    if rows is None:
        n = sum(table.cells)
        cells = generator.multinomial(n, [count / n for count in table.cells], size=_DRAWS).astype(float)
    else:
        counts = np.array([t for _, t in sorted(_by_problem(rows).items())], dtype=float)
        weights = generator.multinomial(len(counts), [1 / len(counts)] * len(counts), size=_DRAWS)
        cells = weights @ counts
    a, b, c, d = cells.T
    scale = (a + b) * (c + d) * (a + c) * (b + d)
    values = ((a * d - b * c)[scale > 0]) / np.sqrt(scale[scale > 0])
    if not len(values):
        return [0.0, 1.0]
    low, high = (float(value) for value in np.quantile(values, [0.025, 0.975]))
    if low <= 0 <= high:
        return [0.0, max(-low, high)]
    return sorted((abs(low), abs(high)))


def _by_problem(rows: Sequence[Row]) -> dict[str, list[int]]:
    """Cells (sound passed, sound failed, flawed passed, flawed failed) of each problem."""
    found: dict[str, list[int]] = {}
    for row in rows:
        cells = found.setdefault(row.problem_id, [0, 0, 0, 0])
        cells[(0 if row.sound else 2) + (0 if row.passed else 1)] += 1
    return found


def within_problems(rows: Sequence[Row]) -> dict[str, Any] | None:
    """The association with the problem held fixed: the Cochran–Mantel–Haenszel test and the common odds ratio.

    No continuity correction; the interval is that of Robins, Breslow and Greenland (1986). None where no problem has
    both qualities and both outcomes to compare.
    """
    strata = [cells for cells in _by_problem(rows).values() if _informative(cells)]
    if not strata:
        return None
    apart = variance = over = under = pr = ps_qr = qs = 0.0
    for a, b, c, d in strata:
        n = a + b + c + d
        apart += a - (a + b) * (a + c) / n
        variance += (a + b) * (c + d) * (a + c) * (b + d) / (n * n * (n - 1))
        r, s, p, q = a * d / n, b * c / n, (a + d) / n, (b + c) / n
        over, under = over + r, under + s
        pr, ps_qr, qs = pr + p * r, ps_qr + p * s + q * r, qs + q * s
    chi2 = apart**2 / variance
    found: dict[str, Any] = {"problems": len(strata), "samples": sum(map(sum, strata)), "chi2": chi2, "p": tail(chi2)}
    if over and under:
        ratio = over / under
        spread = _Z * math.sqrt(pr / (2 * over**2) + ps_qr / (2 * over * under) + qs / (2 * under**2))
        found |= {"odds_ratio": ratio, "interval": [ratio * math.exp(-spread), ratio * math.exp(spread)]}
    return found


def _informative(cells: Sequence[int]) -> bool:
    a, b, c, d = cells
    return min(a + b, c + d, a + c, b + d) > 0


def table_of(rows: Sequence[Row]) -> Table:
    """The pooled table of samples."""
    if not rows:
        raise DataError("no sample with a judgement (sound or flawed) and a verdict; give files of the same samples")
    cells = [sum(column) for column in zip(*_by_problem(rows).values(), strict=True)]
    return Table(*cells)


def join(judgements: Sequence[Judged], verdicts: dict[Key, Verdict]) -> Study:
    """Samples with a verdict that were judged sound or flawed; others are counted by reason."""
    rows: list[Row] = []
    left_out: dict[str, int] = {}
    for line in judgements:
        verdict = verdicts.get(line.key)
        if line.judgement in ("misaligned", "unparsable"):
            left_out[line.judgement] = left_out.get(line.judgement, 0) + 1
        elif verdict is None:
            left_out["no verdict"] = left_out.get("no verdict", 0) + 1
        else:
            rows.append(Row(line.problem_id, line.judgement == "sound", verdict.passed))
    return Study(rows, left_out)


def load_records(path: Path) -> Study:
    """Records with `passed` and either `judgement` or `sound` (and `aligned`); what counts is as in `join`."""
    rows: list[Row] = []
    left_out: dict[str, int] = {}
    for number, record in jsonl.read(path):
        quality, passed = _quality(record), record.get("passed")
        if quality is None or not isinstance(passed, bool):
            raise DataError(
                f'{path}: line {number}: expected {{"problem_id": …, "judgement": "sound" or "flawed", "passed": true '
                "or false}"
            )
        if quality in ("sound", "flawed"):
            rows.append(Row(str(record.get("problem_id", number)), quality == "sound", passed))
        else:
            left_out[quality] = left_out.get(quality, 0) + 1
    return Study(rows, left_out)


def _quality(record: dict[str, Any]) -> str | None:
    said, sound = record.get("judgement"), record.get("sound")
    if said in ("sound", "flawed", "misaligned", "unparsable"):
        return str(said)
    if not isinstance(sound, bool):
        return None
    if record.get("aligned") is False:
        return "misaligned"
    return "sound" if sound else "flawed"

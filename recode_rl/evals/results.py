"""What results.json says: pass@k with intervals, by difficulty, date and source, both averages, statuses, tokens."""

from __future__ import annotations

import statistics as plain
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from recode_rl.evals.grading import Graded
from recode_rl.reward import Scored
from recode_rl.statistics import Interval, mean_interval, pass_at_k
from recode_rl.types import Problem, Verdict

_KS = (2, 4, 5, 8, 10, 16, 20, 32, 50, 64, 100)


def summarise(asked: Sequence[Problem], graded: Sequence[Graded], outcomes: Sequence[Scored]) -> dict[str, Any]:
    """All numbers of an evaluation. `asked` are the problems it is about; those without a sample are named.

    pass@1 is the mean over problems of the share of passing samples; `pass@1_of_all` counts a problem without a sample
    as failed. Intervals are percentile bootstraps over problems (2,000 draws, 95 %).
    """
    rates = rates_of(graded)
    per_problem = Counter(g.problem.id for g in graded)
    overall = mean_interval(list(rates.values()))
    missing = [problem.id for problem in asked if problem.id not in rates]
    by_source = _groups(graded, lambda problem: problem.source or None)
    by_difficulty = _groups(graded, lambda problem: problem.difficulty)
    columns = by_source if len(by_source) > 1 else by_difficulty
    return {
        "pass@1": overall.mean,
        "interval": overall.as_list(),
        "n": len(rates),
        "samples": len(graded),
        **_pass_at(graded),
        "pass@1_of_all": overall.mean * len(rates) / (len(rates) + len(missing)),
        "by_difficulty": by_difficulty,
        "by_date": _groups(graded, lambda problem: (problem.date or "")[:7] or None),
        "by_source": by_source,
        "mean_of_columns": plain.fmean(column["pass@1"] for column in columns.values()) if columns else overall.mean,
        "weighted_mean": overall.mean,
        "columns": list(columns),
        "by_status": dict(Counter(o.reward.status for o in outcomes)),
        "isolation": dict(Counter(g.verdict.isolation for g in graded if isinstance(g.verdict, Verdict))),
        "reward": _reward(graded, outcomes),
        "tokens": _tokens(graded),
        "cut_short": sum(g.sample.finish_reason == "length" for g in graded),
        "samples_per_problem": {str(count): number for count, number in sorted(Counter(per_problem.values()).items())},
        "not_evaluated": sorted(missing),
    }


def passed(graded: Graded) -> bool:
    """Whether every test of a sample passed."""
    return isinstance(graded.verdict, Verdict) and graded.verdict.passed


def rates_of(graded: Sequence[Graded]) -> dict[str, float]:
    """The share of passing samples of each problem; pass@1 is their mean, however many samples each has."""
    by_problem: dict[str, list[float]] = {}
    for g in graded:
        by_problem.setdefault(g.problem.id, []).append(float(passed(g)))
    return {problem: plain.fmean(values) for problem, values in by_problem.items()}


def _pass_at(graded: Sequence[Graded]) -> dict[str, Any]:
    """Unbiased pass@k with its interval, for usual k up to the number of samples that every problem has."""
    total = Counter(g.problem.id for g in graded)
    right = Counter(g.problem.id for g in graded if passed(g))
    found: dict[str, Any] = {}
    intervals: dict[str, Any] = {}
    for k in _KS:
        if k <= min(total.values(), default=1):
            value = mean_interval([pass_at_k(total[p], right[p], k) for p in total])
            found[f"pass@{k}"] = value.mean
            intervals[f"pass@{k}"] = value.as_list()
    return {**found, "intervals": intervals}


def _groups(graded: Sequence[Graded], name: Callable[[Problem], str | None]) -> dict[str, Any]:
    """pass@1 of the problems of each group; a problem without a name is in none."""
    names = sorted({found for g in graded if (found := name(g.problem))}, key=_order)
    groups: dict[str, Any] = {}
    for group in names:
        rates = list(rates_of([g for g in graded if name(g.problem) == group]).values())
        value = mean_interval(rates)
        groups[group] = {"pass@1": value.mean, "interval": value.as_list(), "n": len(rates)}
    return groups


def _order(name: str) -> tuple[int, str]:
    usual = ("easy", "medium", "hard")
    return (usual.index(name) if name in usual else len(usual), name)


def _reward(graded: Sequence[Graded], outcomes: Sequence[Scored]) -> dict[str, Any]:
    """Mean and interval of each reward component; the process reward over the samples that have one."""
    problems = [g.problem.id for g in graded]
    parts = {
        "total": [o.reward.total for o in outcomes],
        "format": [o.reward.format for o in outcomes],
        "outcome": [o.reward.outcome for o in outcomes],
    }
    found: dict[str, Any] = {name: _part(mean_interval(v, clusters=problems)) for name, v in parts.items()}
    passing = [(p, o.reward.process) for p, o in zip(problems, outcomes, strict=True) if o.reward.process is not None]
    scores = [score for _, score in passing]
    found["process_passing"] = _part(mean_interval(scores, clusters=[p for p, _ in passing])) if scores else None
    return found


def _part(interval: Interval) -> dict[str, Any]:
    return {"mean": interval.mean, "interval": interval.as_list(), "n": interval.n}


def _tokens(graded: Sequence[Graded]) -> dict[str, Any]:
    """Mean length of all and of the passing completions (the efficiency table), where lengths are known."""
    known = [g for g in graded if g.sample.tokens is not None]
    mean, interval = _mean_tokens(known)
    passing_mean, passing_interval = _mean_tokens([g for g in known if passed(g)])
    return {
        "mean": mean,
        "interval": interval,
        "passing_mean": passing_mean,
        "passing_interval": passing_interval,
        "known": len(known),
    }


def _mean_tokens(graded: Sequence[Graded]) -> tuple[float | None, list[float] | None]:
    if not graded:
        return None, None
    value = mean_interval([float(g.sample.tokens or 0) for g in graded], clusters=[g.problem.id for g in graded])
    return value.mean, value.as_list()

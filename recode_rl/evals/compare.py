"""Evaluations side by side: each run's numbers, and each against the first, by problem (paired bootstrap, McNemar)."""

from __future__ import annotations

import statistics as plain
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recode_rl import jsonl
from recode_rl.errors import DataError
from recode_rl.evals.pages import interval, percent
from recode_rl.grading import verdict_from_record
from recode_rl.statistics import difference_interval, mcnemar


@dataclass(frozen=True, slots=True)
class Run:
    """An evaluation's folder: its results, and the share of passing samples of each problem."""

    name: str
    results: dict[str, Any]
    rates: dict[str, float]


def read_run(folder: Path) -> Run:
    """results.json and verdicts.jsonl of a folder. DataError where it has none, or they are broken."""
    results = jsonl.read_json(folder / "results.json")
    if not isinstance(results, dict) or not isinstance(results.get("pass@1"), (int, float)):
        raise DataError(f"{folder / 'results.json'}: no results of an evaluation; run `recode-rl eval` again")
    by_problem: dict[str, list[float]] = {}
    for number, record in jsonl.read(folder / "verdicts.jsonl"):
        try:
            passed = verdict_from_record(record).passed
            by_problem.setdefault(record["problem_id"], []).append(float(passed))
        except (DataError, KeyError) as error:
            raise DataError(f"{folder / 'verdicts.jsonl'}: line {number}: {error}") from None
    return Run(str(folder), results, {problem: plain.fmean(values) for problem, values in by_problem.items()})


def compare(folders: Sequence[Path]) -> dict[str, Any]:
    """All runs with both averages over them, and every later run against the first on the problems both have.

    `mcnemar_p` is exact and two-sided over problems, where every problem has one sample or equal ones in both; None
    where a problem passed in part. `only_first` and `only_other` count problems that were evaluated in one run alone.
    """
    runs = [read_run(folder) for folder in folders]
    weights = [run.results["n"] for run in runs]
    rates = [run.results["pass@1"] for run in runs]
    return {
        "runs": [_row(run) for run in runs],
        "mean_of_columns": plain.fmean(rates),
        "weighted_mean": sum(w * r for w, r in zip(weights, rates, strict=True)) / sum(weights),
        "comparisons": [pair(runs[0], other) for other in runs[1:] if runs[0].rates.keys() & other.rates.keys()],
    }


def _row(run: Run) -> dict[str, Any]:
    names = ("pass@1", "interval", "n", "samples", "by_difficulty", "by_status", "tokens", "model", "not_evaluated")
    return {"run": run.name, **{name: run.results.get(name) for name in names}}


def pair(first: Run, other: Run) -> dict[str, Any]:
    """The second run against the first: mean difference with its paired interval, McNemar's test, who won where."""
    shared = sorted(first.rates.keys() & other.rates.keys())
    if not shared:
        raise DataError(f"{first.name} and {other.name} have no problem in common; compare runs on the same problems")
    a, b = [first.rates[p] for p in shared], [other.rates[p] for p in shared]
    value = difference_interval(b, a)
    whole = all(rate in (0.0, 1.0) for rate in (*a, *b))
    return {
        "first": first.name,
        "other": other.name,
        "difference": value.mean,
        "interval": value.as_list(),
        "mcnemar_p": mcnemar([rate == 1.0 for rate in a], [rate == 1.0 for rate in b]) if whole else None,
        "n": len(shared),
        "won": [p for p, x, y in zip(shared, a, b, strict=True) if y > x],
        "lost": [p for p, x, y in zip(shared, a, b, strict=True) if y < x],
        "only_first": len(first.rates.keys() - other.rates.keys()),
        "only_other": len(other.rates.keys() - first.rates.keys()),
    }


def markdown(values: dict[str, Any]) -> str:
    """Both tables as Markdown."""
    lines = ["| run | pass@1 | 95 % interval | problems | tokens | of passing |", f"|{' --- |' * 6}"]
    for run in values["runs"]:
        tokens = run["tokens"] or {}
        shown = ["" if tokens.get(key) is None else f"{tokens[key]:.1f}" for key in ("mean", "passing_mean")]
        cells = [run["run"], percent(run["pass@1"]), interval(run["interval"]), str(run["n"]), *shown]
        lines.append(f"| {' | '.join(cells)} |")
    mean, weighted = percent(values["mean_of_columns"]), percent(values["weighted_mean"])
    lines += ["", f"Mean of the runs {mean}, weighted by problems {weighted}.", ""]
    for each in values["comparisons"]:
        p = "not asked (problems that passed in part)" if each["mcnemar_p"] is None else f"p = {each['mcnemar_p']:.3g}"
        lines.append(
            f"{each['other']} against {each['first']}: {100 * each['difference']:+.1f} points "
            f"{interval(each['interval'])} on {each['n']} shared problems, {len(each['won'])} won, "
            f"{len(each['lost'])} lost; McNemar {p}."
        )
    return "\n".join(lines) + "\n"

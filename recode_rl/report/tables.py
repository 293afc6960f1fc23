"""The tables of the page, as rows of cells."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from recode_rl.report import summary, words
from recode_rl.report.panels import COMPONENTS
from recode_rl.report.run import Record, Run, column, inside, number
from recode_rl.report.summary import Change


@dataclass(frozen=True, slots=True)
class Cell:
    """A value with its interval or a remark in small letters under it."""

    text: str
    small: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """The first column holds names, the others numbers."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


def of_run(run: Run) -> list[Table]:
    """Every table whose numbers this run has."""
    made = [_evaluations(run), _changes(run), _difficulty(run), _statuses(run), *_reward_model(run), _stages(run)]
    return [table for table in made if table is not None]


def _evaluations(run: Run) -> Table | None:
    if not run.evaluations:
        return None
    rows = []
    for evaluation in run.evaluations:
        results = evaluation.results
        rows.append(
            (
                Cell(words.name(evaluation.label), _size(results)),
                Cell(words.percent(results.get("pass@1")), words.percent_interval(results.get("interval"))),
                *(_reward(results, part) for part in COMPONENTS),
                _tokens(results),
            )
        )
    header = ("evaluation", "pass rate", *(words.name(part) for part in COMPONENTS), "tokens")
    return Table("Evaluations", header, tuple(rows), "Small figures: 95 % intervals.")


def _size(results: Record) -> str:
    n, samples = number(results.get("n")), number(results.get("samples"))
    if n is None:
        return ""
    return f"{n:.0f} problems" + (f", {samples:.0f} samples" if samples and samples != n else "")


def _reward(results: Record, part: str) -> Cell:
    found = inside(results, "reward", part)
    return Cell(words.decimal(inside(found, "mean")), words.decimal_interval(inside(found, "interval")))


def _tokens(results: Record) -> Cell:
    passing = number(inside(results, "tokens", "passing_mean"))
    small = "" if passing is None else f"passing {words.decimal(passing, 0)}"
    return Cell(words.decimal(inside(results, "tokens", "mean"), 0), small)


def _changes(run: Run) -> Table | None:
    """Each evaluation against the one before, then last against first, paired by problem."""
    shown = list(run.evaluations)
    steps = list(pairwise(shown))
    if len(shown) > 2:
        steps.append((shown[0], shown[-1]))
    rows = []
    for first, last in steps:
        passed = summary.between(first, last, summary.pass_at_1, summary.passes_by_problem)
        total = summary.between(first, last, summary.mean_total, summary.totals_by_problem)
        if passed.difference is None and total.difference is None:
            continue
        rows.append(
            (
                Cell(f"{words.name(first.label)} → {words.name(last.label)}"),
                _difference(passed, words.points, words.percent_interval),
                Cell(words.p_value(passed.p)),
                _difference(total, words.signed, words.decimal_interval),
            )
        )
    if not rows:
        return None
    header = ("change", "pass rate", "McNemar p", "total reward")
    return Table("What changed", header, tuple(rows), "The same problems before and after, paired; exact two-sided p.")


def _difference(change: Change, write: Any, write_interval: Any) -> Cell:
    if change.difference is None:
        return Cell(words.ABSENT)
    return Cell(write(change.difference.mean), write_interval(change.difference.as_list()))


def _difficulty(run: Run) -> Table | None:
    return _grid(run, "by_difficulty", "Pass rate by difficulty", _share_of_difficulty)


def _share_of_difficulty(found: Any) -> Cell:
    value = inside(found, "pass@1")
    if value is None:
        return Cell(words.ABSENT)
    n = number(inside(found, "n"))
    interval = words.percent_interval(inside(found, "interval"))
    return Cell(words.percent(value), interval + (f" · n {n:.0f}" if n is not None else ""))


def _statuses(run: Run) -> Table | None:
    return _grid(run, "by_status", "How programs ended", lambda found: Cell(words.plain(found) if found else "0"))


def _grid(run: Run, key: str, title: str, cell: Any) -> Table | None:
    """Evaluations as rows, the keys of one of their objects as columns."""
    shown = [e for e in run.evaluations if isinstance(e.results.get(key), dict) and e.results[key]]
    if not shown:
        return None
    kinds = list(dict.fromkeys(str(kind) for e in shown for kind in e.results[key]))
    if key == "by_difficulty":
        kinds.sort(key=words.difficulty_order)
    rows = tuple((Cell(words.name(e.label)), *(cell(e.results[key].get(kind)) for kind in kinds)) for e in shown)
    return Table(title, ("evaluation", *(words.name(kind) for kind in kinds)), rows)


def _reward_model(run: Run) -> list[Table]:
    evaluation = run.reward_model
    if number(evaluation.get("accuracy")) is None:
        return []
    rows = [_accuracy("all pairs", evaluation)]
    for key in ("by_kind", "by_method"):
        rows += [_accuracy(words.name(kind), part) for kind, part in _items(evaluation.get(key))]
    for kind, part in _items(evaluation.get("baselines")):
        best = " (best baseline)" if kind == evaluation.get("best_baseline") else " (baseline)"
        rows.append(_accuracy(words.name(kind) + best, part))
    known = summary.reward_model(run)
    if known["difference"] is not None:
        interval = words.percent_interval(known["difference_interval"])
        rows.append((Cell("reward model − best baseline"), Cell(words.points(known["difference"]), interval), Cell("")))
    tables = [Table("Reward model", ("pairs", "accuracy", "n"), tuple(rows))]
    folds = [part for part in evaluation.get("folds") or [] if isinstance(part, dict)]
    if folds:
        rows = [_accuracy(f"fold {words.plain(part.get('fold'))}", part) for part in folds]
        tables.append(Table("Reward model by fold", ("fold", "accuracy", "n"), tuple(rows)))
    return tables


def _accuracy(title: str, part: Any) -> tuple[Cell, ...]:
    interval = words.percent_interval(inside(part, "interval"))
    return Cell(title), Cell(words.percent(inside(part, "accuracy")), interval), Cell(words.plain(inside(part, "n")))


def _items(value: Any) -> Iterable[tuple[str, Any]]:
    return value.items() if isinstance(value, dict) else ()


def _stages(run: Run) -> Table | None:
    stages = run.manifest.get("stages")
    rows = tuple(
        (Cell(words.name(stage)), Cell(words.duration(inside(part, "seconds"))))
        for stage, part in _items(stages)
        if number(inside(part, "seconds")) is not None
    )
    return Table("Time by stage", ("stage", "time"), rows) if rows else None


def measurements(run: Run) -> Table | None:
    """Every number of the training log, also those that no figure shows."""
    keys = dict.fromkeys(key for row in run.rl for key in row if key != "step")
    rows = []
    for key in keys:
        values = [value for _, value in column(run.rl, key) if value is not None]
        if values:
            mean = sum(values) / len(values)
            shown = (values[0], values[-1], mean, min(values), max(values))
            rows.append((Cell(key), *(Cell(words.plain(value)) for value in shown), Cell(str(len(values)))))
    header = ("measurement", "first", "last", "mean", "least", "most", "steps")
    return Table("Everything in the training log", header, tuple(rows)) if rows else None


def settings_that_differ(runs: Sequence[Run]) -> Table | None:
    """Settings in which the runs' configs are not alike."""
    flat = [_flat(run.manifest.get("config")) for run in runs]
    keys = dict.fromkeys(key for settings in flat for key in settings)
    differing = [key for key in keys if len({settings.get(key) for settings in flat}) > 1]
    rows = tuple((Cell(key), *(Cell(settings.get(key, words.ABSENT)) for settings in flat)) for key in differing)
    return Table("Settings that differ", ("setting", *(run.name for run in runs)), rows) if rows else None


def _flat(value: Any, prefix: str = "") -> dict[str, str]:
    if isinstance(value, dict):
        found: dict[str, str] = {}
        for key, part in value.items():
            found |= _flat(part, f"{prefix}.{key}" if prefix else str(key))
        return found
    return {prefix: json.dumps(value, ensure_ascii=False)} if prefix else {}

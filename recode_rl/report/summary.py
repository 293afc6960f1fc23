"""The few numbers a run comes down to, and what in it deserves a second look."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recode_rl.report import words
from recode_rl.report.run import Evaluation, Record, Run, column, ends, inside, number, pair, read_run, records
from recode_rl.statistics import Interval, difference_interval, mcnemar

_SATURATED = 0.95
_STALLED = 0.02
_OFTEN_CUT = 0.2


@dataclass(frozen=True, slots=True)
class Change:
    """A number before and after; `difference` is paired by problem, None where the samples are not there."""

    after: float
    after_label: str
    after_interval: tuple[float, float] | None = None
    before: float | None = None
    before_label: str = ""
    difference: Interval | None = None
    p: float | None = None


def summarise(run: Path) -> Record:
    """The headline of a run folder as plain values; None for what the run does not have."""
    found = read_run(run)
    passed, total = pass_rate(found), total_reward(found)
    gate = ends(found.rl, "gate/open_share")
    return {
        "run": found.name,
        "steps": int(found.rl[-1]["step"]) if found.rl else None,
        "evaluations": {e.label: number(e.results.get("pass@1")) for e in found.evaluations},
        "pass@1": _as_record(passed),
        "reward_total": _as_record(total),
        "gate_open_share": {"first": gate[0], "last": gate[1]} if gate else None,
        "reward_model": reward_model(found) or None,
        "notices": notices(found),
    }


def _as_record(change: Change | None) -> Record | None:
    if change is None:
        return None
    difference = change.difference
    plain = None if change.before is None else change.after - change.before
    return {
        "before": change.before,
        "after": change.after,
        "from": change.before_label or None,
        "to": change.after_label,
        "difference": difference.mean if difference else plain,
        "interval": difference.as_list() if difference else None,
        "n": difference.n if difference else None,
    }


def pass_rate(run: Run) -> Change | None:
    """First to last evaluation's pass@1, or the evaluations made during training."""
    return _change(run, pass_at_1, passes_by_problem, "eval/pass_rate")


def total_reward(run: Run) -> Change | None:
    """First to last evaluation's mean total reward, or that of the evaluations made during training."""
    return _change(run, mean_total, totals_by_problem, "eval/reward_total")


def pass_at_1(results: Record) -> tuple[Any, Any]:
    """pass@1 and its interval as a results file has them."""
    return results.get("pass@1"), results.get("interval")


def mean_total(results: Record) -> tuple[Any, Any]:
    """Mean total reward and its interval as a results file has them."""
    return inside(results, "reward", "total", "mean"), inside(results, "reward", "total", "interval")


def passes_by_problem(evaluation: Evaluation) -> dict[str, float]:
    """Share of passing samples of each problem."""
    return _by_problem(evaluation.folder / "verdicts.jsonl", lambda record: record.get("passed"))


def totals_by_problem(evaluation: Evaluation) -> dict[str, float]:
    """Mean total reward of each problem."""
    return _by_problem(evaluation.folder / "rewards.jsonl", lambda record: record.get("total"))


def _change(
    run: Run,
    pick: Callable[[Record], tuple[Any, Any]],
    by_problem: Callable[[Evaluation], dict[str, float]],
    key: str,
) -> Change | None:
    shown = [e for e in run.evaluations if number(pick(e.results)[0]) is not None]
    if shown:
        return between(shown[0], shown[-1], pick, by_problem)
    points = [(step, value) for step, value in column(run.rl, key) if value is not None]
    if not points:
        return None
    (first, before), (last, after) = points[0], points[-1]
    if len(points) == 1:
        return Change(after, f"step {last:.0f}")
    return Change(after, f"step {last:.0f}", before=before, before_label=f"step {first:.0f}")


def between(
    first: Evaluation,
    last: Evaluation,
    pick: Callable[[Record], tuple[Any, Any]],
    by_problem: Callable[[Evaluation], dict[str, float]],
) -> Change:
    """What changed from one evaluation to another, paired by the problems that both have."""
    value, interval = pick(last.results)
    after = number(value) or 0.0
    if first.label == last.label:
        return Change(after, words.name(last.label), pair(interval))
    difference, p = _paired(by_problem(last), by_problem(first))
    return Change(
        after,
        words.name(last.label),
        pair(interval),
        number(pick(first.results)[0]),
        words.name(first.label),
        difference,
        p,
    )


def _paired(after: dict[str, float], before: dict[str, float]) -> tuple[Interval | None, float | None]:
    """The paired difference, and McNemar's p where every problem simply passed or failed."""
    shared = [problem for problem in after if problem in before]
    if len(shared) < 2:
        return None, None
    a, b = [after[problem] for problem in shared], [before[problem] for problem in shared]
    p = mcnemar([x == 1 for x in a], [x == 1 for x in b]) if {*a, *b} <= {0.0, 1.0} else None
    return difference_interval(a, b), p


def _by_problem(path: Path, value: Callable[[Record], Any]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for record in records(path):
        found = value(record)
        if found is not None:
            values.setdefault(str(record.get("problem_id")), []).append(float(found))
    return {problem: sum(found) / len(found) for problem, found in values.items()}


def reward_model(run: Run) -> Record:
    """Accuracy of the reward model beside the best baseline; empty where it was not evaluated."""
    evaluation = run.reward_model
    accuracy = number(evaluation.get("accuracy"))
    if accuracy is None:
        return {}
    best = evaluation.get("best_baseline")
    return {
        "accuracy": accuracy,
        "interval": pair(evaluation.get("interval")),
        "n": evaluation.get("n"),
        "best_baseline": best,
        "baseline_accuracy": number(inside(evaluation, "baselines", best, "accuracy")) if best else None,
        "difference": number(evaluation.get("difference")),
        "difference_interval": pair(evaluation.get("difference_interval")),
    }


def notices(run: Run) -> list[str]:
    """Sentences about what in this run deserves a second look: saturation, a closed gate, cut-offs, losses."""
    found = [*_training_notices(run), *_reward_model_notices(run)]
    for evaluation in run.evaluations:
        left_out = evaluation.results.get("not_evaluated")
        if isinstance(left_out, list) and left_out:
            count = "1 sample was" if len(left_out) == 1 else f"{len(left_out)} samples were"
            found.append(f"Evaluation {words.name(evaluation.label)}: {count} not evaluated.")
    return found


def _training_notices(run: Run) -> list[str]:
    found = [
        f"Alarm at step {words.plain(alarm.get('step'))}, {words.name(alarm.get('name'))}: {alarm.get('message')}. "
        f"Look at: {alarm.get('look_at')}."
        for alarm in run.alarms
    ]
    process, outcome = ends(run.rl, "reward/process_passing"), ends(run.rl, "reward/outcome")
    if process and outcome and process[1] > _SATURATED and outcome[1] - outcome[0] < _STALLED:
        found.append(
            f"The process reward stands at {process[1]:.2f} while the pass rate moved by "
            f"{words.points(outcome[1] - outcome[0])}: the policy may be pleasing the reward model."
        )
    gate = ends(run.rl, "gate/open_share")
    if gate and gate[1] == 0:
        found.append("In the last tenth of the steps no completion passed: the gate stayed shut.")
    cut = ends(run.rl, "tokens/truncated_share")
    if cut and cut[1] > _OFTEN_CUT:
        found.append(f"In the last tenth of the steps {words.percent(cut[1], 0)} of the completions were cut off.")
    failed = sum(value for _, value in column(run.rl, "infra/failed") if value is not None)
    if failed:
        found.append(f"Infrastructure failed during training: infra/failed adds up to {words.plain(failed)}.")
    return found


def _reward_model_notices(run: Run) -> list[str]:
    known = reward_model(run)
    difference = known.get("difference_interval")
    if difference and difference[0] <= 0:
        best = words.name(known["best_baseline"]) if known.get("best_baseline") else "best"
        return [
            f"The reward model is not clearly better than the baseline “{best}”, which does not read the reasoning."
        ]
    return []

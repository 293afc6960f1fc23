"""Which figures a report has: training, gate, lengths, evaluations, reward model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from recode_rl import jsonl
from recode_rl.report import drawing, plots, words
from recode_rl.report.drawing import RUN_COLOURS, Panel
from recode_rl.report.plots import Scale, Unit
from recode_rl.report.run import Record, Run, column, inside, number, pair, read_run

COMPONENTS = ("total", "format", "outcome", "process_passing")
_COMPONENT_COLOURS = {"total": "total", "format": "format", "outcome": "outcome", "process_passing": "process"}
_REWARD_TITLES = {
    "total": "Total reward",
    "format": "Format reward",
    "outcome": "Outcome reward",
    "process_passing": "Process reward, where the program passed",
}
# Drawn as circles over the training curve of the same quantity. The outcome reward is a pass rate only without a gate
# (plain GRPO); under the compiler rule it is not.
_EVALUATED_AT = {"reward/total": "eval/reward_total", "gate/open_share": "eval/pass_rate"}
_EVALUATED_AT_WITHOUT_GATE = {"reward/total": "eval/reward_total", "reward/outcome": "eval/pass_rate"}
_HEALTH: tuple[tuple[str, str, str, Scale], ...] = (
    ("loss", "RL: loss", "total", "free"),
    ("grad_norm", "RL: gradient norm", "total", "free"),
    ("entropy", "RL: entropy", "process", "free"),
    ("clip/high_share", "RL: share of tokens clipped from above", "alert", "share"),
    ("infra/failed", "RL: samples without a reward (infrastructure)", "alert", "zero"),
)
_GROUPS_NOTE = "Outcome alone teaches in mixed groups only."
_CURVE_NAMES = {
    "loss": "training",
    "accuracy": "training",
    "eval_loss": "held out",
    "eval_accuracy": "held out",
    "process/passing": "passed",
    "process/failing": "failed, watched only",
    "reasoning/phrase_rise": "growth of its share",
    "reasoning/phrase_favour": "process reward more with it",
    "reasoning/relevance": "about its own problem",
    "reasoning/copied_share": "copied from the statement",
    "format/empty_share": "empty form",
    "groups/all_correct_signal": "all passed",
    "groups/mixed_signal": "mixed",
    "groups/all_wrong_signal": "none passed",
    "advantage/process_share_scaled": "from the process reward",
    "advantage/failing_share": "to failing completions",
    "tokens/passing_mean": "passed",
    "tokens/failing_mean": "failed",
    "time/generate_s": "generate",
    "time/grade_s": "grade",
    "time/score_s": "score",
    "time/audit_s": "audit",
    "time/update_s": "update",
}
# Title, columns with their colours, scale: what the monitor watches.
_WATCHED: tuple[tuple[str, dict[str, str], Scale], ...] = (
    (
        "Process reward, passed and failed",
        {"process/passing": "process", "process/failing": "alert"},
        "zero",
    ),
    (
        "The phrase that spreads most",
        {"reasoning/phrase_rise": "alert", "reasoning/phrase_favour": "process"},
        "free",
    ),
    (
        "What reasonings are made of",
        {"reasoning/relevance": "outcome", "reasoning/copied_share": "alert", "format/empty_share": "format"},
        "share",
    ),
    (
        "Groups that carry signal",
        {"groups/all_correct_signal": "outcome", "groups/mixed_signal": "mixed", "groups/all_wrong_signal": "format"},
        "share",
    ),
    (
        "Where the advantage comes from and goes to",
        {"advantage/process_share_scaled": "process", "advantage/failing_share": "alert"},
        "share",
    ),
    (
        "Tokens where programs passed and failed",
        {"tokens/passing_mean": "outcome", "tokens/failing_mean": "alert"},
        "free",
    ),
    (
        "Seconds of a step by stage",
        {
            "time/generate_s": "total",
            "time/grade_s": "outcome",
            "time/score_s": "process",
            "time/audit_s": "alert",
            "time/update_s": "format",
        },
        "zero",
    ),
)


def training(runs: Sequence[Run]) -> list[Panel]:
    """Total reward and its three parts over steps."""
    found = []
    for part in COMPONENTS:
        found += _over_steps(runs, f"reward/{part}", _REWARD_TITLES[part], _COMPONENT_COLOURS[part], "zero")
    return found


def gate(runs: Sequence[Run]) -> list[Panel]:
    """How often the gate was open, and how the groups came out, one panel a run."""
    found = _over_steps(runs, "gate/open_share", "Gate open: share of completions that passed", "outcome", "share")
    for run in runs:
        kinds = [_groups(row) for row in run.rl]
        known = [(float(row["step"]), kind) for row, kind in zip(run.rl, kinds, strict=True) if kind]
        if known:
            found.append(_group_panel(known, f"Groups{_of(run, runs)}"))
    found += _over_steps(
        runs, "advantage/process_share", "Share of the advantage from the process reward", "process", scale="share"
    )
    return found


def lengths(runs: Sequence[Run]) -> list[Panel]:
    """Tokens of a completion and the share that was cut off."""
    return [
        *_over_steps(runs, "tokens/completion_mean", "Tokens in a completion", "total"),
        *_over_steps(runs, "tokens/truncated_share", "Cut off at the length limit", "alert", scale="share"),
    ]


def watched(runs: Sequence[Run]) -> list[Panel]:
    """What the monitor watches; empty for runs without one."""
    seen = [run for run in runs if any("reasoning/relevance" in row for row in run.rl)]
    found: list[Panel] = []
    for title, colours, scale in _WATCHED:
        found += _several([(run.rl, run) for run in seen], (*colours,), title, (*colours.values(),), scale)
    return found + _over_steps(seen, "process/saturated_share", "Process rewards of 0.95 and more", "alert", "share")


def evaluations(runs: Sequence[Run]) -> list[Panel]:
    """Pass rate and every reward component of every evaluation, with intervals."""
    found = [
        *_bar_panel(runs, "Pass rate (pass@1)", "outcome", lambda r: (r.get("pass@1"), r.get("interval")), "share"),
        *_by_difficulty(runs),
    ]
    for part in COMPONENTS:
        found += _bar_panel(
            runs,
            _REWARD_TITLES[part],
            _COMPONENT_COLOURS[part],
            lambda r, part=part: (inside(r, "reward", part, "mean"), inside(r, "reward", part, "interval")),  # type: ignore[misc]
            "number",
        )
    return found


def _bar_panel(
    runs: Sequence[Run], title: str, colour: str, pick: Callable[[Record], tuple[Any, Any]], unit: Unit
) -> list[Panel]:
    groups = _bars_of(runs, colour, pick)
    return [Panel(title, lambda ax: plots.bars(ax, groups, unit))] if groups else []


def reward_model(runs: Sequence[Run]) -> list[Panel]:
    """Pair accuracy by kind beside the baselines, one panel a run, then the training of the reward model."""
    found = []
    for run in runs:
        bars = _accuracies(run.reward_model)
        if bars:
            found.append(
                Panel(
                    f"Pair accuracy{_of(run, runs)}",
                    lambda ax, bars=bars: plots.dots(ax, bars),  # type: ignore[misc]
                    "Bars are 95 % intervals, the dashed line is chance; baselines do not read the reasoning.",
                    (("reward model", "process"), ("baseline", "format")),
                    height=max(drawing.SIZE[1], 0.62 + 0.25 * len(bars)),
                )
            )
    source = [(run.reward_model_training, run) for run in runs]
    found += _several(source, ("loss", "eval_loss"), "Reward model: loss", ("process", "alert"))
    return found + _several(
        source, ("accuracy", "eval_accuracy"), "Reward model: accuracy", ("process", "alert"), scale="share"
    )


def optimiser(runs: Sequence[Run]) -> list[Panel]:
    """What to look at when a run misbehaves."""
    found = _several([(run.sft, run) for run in runs], ("loss",), "Fine-tuning: loss", ("total",))
    for key, title, colour, scale in _HEALTH:
        found += _over_steps(runs, key, title, colour, scale=scale)
    return found


def main_panels(run: Run) -> list[Panel]:
    """The figure that stands for a run: reward components, gate, and the evaluations' pass rate."""
    chosen = [*training([run]), *gate([run])[:1], *evaluations([run])[:1]]
    return chosen or reward_model([run]) or optimiser([run])


def figure_png(run: Path, out: Path) -> None:
    """Save the main figure of a run folder as PNG. Raises DataError where the run has nothing to draw."""
    from recode_rl.errors import DataError

    drawing.require_matplotlib()
    panels = main_panels(read_run(run))
    if not panels:
        raise DataError(f"{run}: nothing to draw; expected metrics.jsonl or eval/LABEL/results.json in the run folder")
    jsonl.write_bytes(out, drawing.png(panels, columns=min(3, len(panels))))


def run_colour(place: int) -> str:
    """The colour of the n-th of several runs."""
    return RUN_COLOURS[place % len(RUN_COLOURS)]


def _of(run: Run, runs: Sequence[Run]) -> str:
    return f": {run.name}" if len(runs) > 1 else ""


def _over_steps(runs: Sequence[Run], key: str, title: str, colour: str, scale: Scale = "free") -> list[Panel]:
    """One panel with a curve for each run that has the column; the runs' colours where there are several runs."""
    curves = [
        plots.Curve(run.rl, key, run_colour(place) if len(runs) > 1 else colour)
        for place, run in enumerate(runs)
        if any(value is not None for _, value in column(run.rl, key))
    ]
    if not curves:
        return []
    gated = any("gate/open_share" in row for run in runs for row in run.rl)
    marks = (_EVALUATED_AT if gated else _EVALUATED_AT_WITHOUT_GATE).get(key)
    marked = marks is not None and any(marks in row for curve in curves for row in curve.rows)
    note = "Circles: evaluation of problems kept out of training." if marked else ""
    return [Panel(title, lambda ax: plots.lines(ax, curves, scale, marks), note)]


def _several(
    source: Sequence[tuple[Sequence[Record], Run]],
    keys: tuple[str, ...],
    title: str,
    colours: tuple[str, ...],
    scale: Scale = "free",
) -> list[Panel]:
    """One panel a run with several columns in it."""
    found = []
    runs = [run for _, run in source]
    for rows, run in source:
        curves = [
            plots.Curve(rows, key, colour)
            for key, colour in zip(keys, colours, strict=True)
            if any(value is not None for _, value in column(rows, key))
        ]
        if not curves:
            continue
        legend = tuple((_CURVE_NAMES[curve.key], curve.colour) for curve in curves) if len(keys) > 1 else ()
        found.append(
            Panel(
                title + _of(run, runs),
                lambda ax, curves=curves: plots.lines(ax, curves, scale, None),  # type: ignore[misc]
                legend=legend,
            )
        )
    return found


def _groups(row: Record) -> tuple[float, float, float] | None:
    """Shares of all-correct, mixed and all-wrong groups, from counts or shares alike."""
    parts = [number(row.get(f"groups/{kind}")) or 0.0 for kind in ("all_correct", "mixed", "all_wrong")]
    whole = sum(parts)
    return (parts[0] / whole, parts[1] / whole, parts[2] / whole) if whole > 0 else None


def _group_panel(points: Sequence[tuple[float, tuple[float, float, float]]], title: str) -> Panel:
    names = (("all passed", "outcome"), ("mixed", "mixed"), ("none passed", "wrong"))

    steps = [step for step, _ in points]
    shares = [[kind[layer] for _, kind in points] for layer in range(3)]
    colours = [colour for _, colour in names]

    return Panel(title, lambda ax: plots.layers(ax, steps, shares, colours), _GROUPS_NOTE, names)


def _bars_of(
    runs: Sequence[Run], colour: str, pick: Callable[[Record], tuple[Any, Any]]
) -> list[tuple[str, list[plots.Bar]]]:
    """For each evaluation label in order: a bar for each run that has it."""
    labels = dict.fromkeys(evaluation.label for run in runs for evaluation in run.evaluations)
    found: dict[str, list[plots.Bar]] = {label: [] for label in labels}
    for place, run in enumerate(runs):
        for evaluation in run.evaluations:
            value, interval = pick(evaluation.results)
            mean = number(value)
            if mean is not None:
                shade = run_colour(place) if len(runs) > 1 else colour
                found[evaluation.label].append(plots.Bar(run.name, mean, pair(interval), shade))
    return [(label, bars) for label, bars in found.items() if bars]


def _by_difficulty(runs: Sequence[Run]) -> list[Panel]:
    """Pass rate by difficulty, first and last evaluation, one panel a run."""
    found = []
    for run in runs:
        shown = [e for e in run.evaluations if isinstance(e.results.get("by_difficulty"), dict)]
        shown = [shown[0], shown[-1]] if len(shown) > 1 else shown
        kinds = dict.fromkeys(kind for e in shown for kind in e.results["by_difficulty"])
        order = sorted(kinds, key=words.difficulty_order)
        shades = ("wrong", "outcome") if len(shown) > 1 else ("outcome",)
        groups = [
            (
                kind,
                [
                    plots.Bar(e.label, value, pair(inside(e.results, "by_difficulty", kind, "interval")), shade)
                    for e, shade in zip(shown, shades, strict=True)
                    if (value := number(inside(e.results, "by_difficulty", kind, "pass@1"))) is not None
                ],
            )
            for kind in order
        ]
        groups = [group for group in groups if group[1]]
        if len(groups) > 1:
            legend = tuple((words.name(e.label), shade) for e, shade in zip(shown, shades, strict=True))
            title = f"Pass rate by difficulty{_of(run, runs)}"
            found.append(Panel(title, lambda ax, groups=groups: plots.bars(ax, groups, "share"), legend=legend))  # type: ignore[misc]
    return found


def _accuracies(evaluation: Record) -> list[plots.Bar]:
    """All pairs, each kind, then each baseline."""
    rows = [("all pairs", evaluation, "process")]
    rows += [(words.name(kind), part, "process") for kind, part in (evaluation.get("by_kind") or {}).items()]
    rows += [(words.name(kind), part, "format") for kind, part in (evaluation.get("baselines") or {}).items()]
    return [
        plots.Bar(label, value, pair(inside(part, "interval")), colour)
        for label, part, colour in rows
        if (value := number(inside(part, "accuracy"))) is not None
    ]

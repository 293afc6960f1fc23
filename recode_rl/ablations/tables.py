"""The table of a study in Markdown, made from its numbers; the paper's own rows stand apart, under their heading."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from recode_rl.ablations.config import StudyConfig
from recode_rl.ablations.numbers import CURVES
from recode_rl.ablations.sets import HELD_OUT
from recode_rl.report import words

Record = dict[str, Any]
_SHARES = ("watch/process", "watch/process_passing", "watch/process_failing", "reward/pass_rate", "eval/pass_rate")


def markdown(study: StudyConfig, found: Record) -> str:
    """The whole table."""
    parts = [f"# {study.title}"]
    parts += [study.note] if study.note else []
    for name, judged in found["sets"].items():
        parts += _set(study, found, name, judged)
    if found["training"]:
        parts += _training(study, found)
    parts += _paper(study)
    parts += _left(found)
    return "\n\n".join(parts) + "\n"


def _set(study: StudyConfig, found: Record, name: str, judged: Record) -> list[str]:
    if not judged["arms"]:
        return []
    reference, best = found["arms"][found["reference"]]["label"], words.name(judged["best_baseline"])
    kinds = list(next(iter(judged["baselines"].values()))["by_kind"])
    shown = kinds if len(kinds) > 1 else []
    header = [
        "arm",
        "seeds",
        "accuracy",
        f"minus “{reference}”",
        f"minus “{best}”",
        *(words.name(kind) for kind in shown),
    ]
    rows = [
        [
            found["arms"][arm]["label"],
            str(len(values["seeds"])),
            _accuracy(values),
            _points(values["against_reference"]),
            _points(values["against_baseline"]),
            *(_accuracy(values["by_kind"][kind]) for kind in shown),
        ]
        for arm, values in judged["arms"].items()
    ]
    rows += [
        [
            f"*blind: {words.name(key)}*",
            "",
            _accuracy(values),
            "",
            "",
            *(_accuracy(values["by_kind"][k]) for k in shown),
        ]
        for key, values in judged["baselines"].items()
    ]
    title = f"## Pairs of {'held-out problems' if name == HELD_OUT else name}"
    text = (
        f"{judged['pairs']} pairs of {judged['problems']} problems, the same for every arm and seed. Pair accuracy in "
        "percent; in brackets 95 % intervals, a bootstrap over seeds and problems. Differences are paired by pair and "
        "seed. Blind baselines read neither the problem nor the reasoning as a whole."
    )
    parts = [title, text, _table(header, rows)]
    for key, what in (("by_method", "method of the damage"), ("by_generator", "generator")):
        parts += _by(found, judged, key, what)
    return parts


def _by(found: Record, judged: Record, key: str, what: str) -> list[str]:
    """Accuracies by method or generator, where there is more than one."""
    names = list(next(iter(judged["arms"].values()))[key])
    if len(names) < 2:
        return []
    rows = [
        [found["arms"][arm]["label"], *(_accuracy(values[key][name]) for name in names)]
        for arm, values in judged["arms"].items()
    ]
    return [f"By {what}:", _table(["arm", *(words.name(name) for name in names)], rows)]


def _training(study: StudyConfig, found: Record) -> list[str]:
    reference = found["arms"][found["reference"]]["label"]
    rows = []
    for key, what in CURVES.items():
        for arm, columns in found["training"].items():
            if key in columns:
                rows.append([what, found["arms"][arm]["label"], *_ends(key, columns[key])])
    header = ["", "arm", "first sixth", "last sixth", "last sixth, by seed", f"last sixth minus “{reference}”"]
    text = (
        "Means over the first and the last sixth of the steps; an evaluation that was made less often has its first "
        "and last value there. Intervals are 95 % bootstrap intervals over steps and seeds together, and say little "
        "about other seeds. Differences are paired by seed and step, which have the same prompts. The process reward "
        "is that of everything the policy wrote, scored behind the training, whether its rule asked for it or not."
    )
    return ["## Training", text, _table(header, rows), *_alarms(found)]


def _alarms(found: Record) -> list[str]:
    """What the monitor of the runs said."""
    rows = [
        [found["arms"][arm]["label"], str(seed), ", ".join(f"{a['name']} (step {a['step']})" for a in alarms)]
        for arm in found["training"]
        for seed, alarms in found["arms"][arm]["alarms"].items()
    ]
    if not rows:
        return ["The monitor of these runs raised no alarm."]
    return ["Alarms of the monitor:", _table(["arm", "seed", "alarms"], rows)]


def _paper(study: StudyConfig) -> list[str]:
    if not study.paper:
        return []
    text = (
        "**Not ours.** Quoted from the ReCode paper; other models, other data and another budget, so these numbers and "
        "those above cannot be set against each other. What can be compared is the order of the rows."
    )
    rows = [[row.what, row.on, row.value] for row in study.paper]
    return ["## What the paper reports", text, _table(["the paper's row", "on", "the paper's value"], rows)]


def _left(found: Record) -> list[str]:
    waiting = [values["label"] for values in found["arms"].values() if not values["seeds"]]
    return [f"Not recorded yet: {', '.join(waiting)}."] if waiting else []


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def _accuracy(values: Record) -> str:
    low, high = values["interval"]
    return f"{100 * values['accuracy']:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def _points(values: Record | None) -> str:
    if values is None:
        return ""
    low, high = values["interval"]
    return f"{100 * values['difference']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]".replace("-", "−")


def _value(key: str, value: float) -> str:
    text = f"{value:.3f}" if key in _SHARES else f"{value:.0f}"
    return text.replace("-", "−")


def _ends(key: str, values: Record) -> list[str]:
    """The cells of one column of one arm."""
    first = values["first"]
    return [
        "" if first is None else _value(key, first["mean"]),
        _with_interval(key, values["last"]),
        ", ".join(_value(key, mean) for mean in values["last_by_seed"].values()),
        _with_interval(key, values["against_reference"]),
    ]


def _with_interval(key: str, values: Record | None) -> str:
    if values is None:
        return ""
    return f"{_value(key, values['mean'])} [{', '.join(_value(key, end) for end in values['interval'])}]"

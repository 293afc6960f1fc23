"""The picture of a study: accuracies with intervals beside the paper's own, and training curves by arm."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from recode_rl.ablations.config import StudyConfig
from recode_rl.ablations.numbers import CURVES, curves
from recode_rl.ablations.sets import HELD_OUT
from recode_rl.report import drawing, plots, words
from recode_rl.report.drawing import COLOURS, RUN_COLOURS
from recode_rl.report.plots import Bar

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Record = dict[str, Any]
_ROW = 0.24  # inches for one row of dots
_WIDE = 5.4
_DPI = 150
_LABEL = 40
_FEW = 8  # points of a curve that are marked and not smoothed


def png(study: StudyConfig, found: Record) -> bytes | None:
    """All panels of a study as one PNG; None where nothing is recorded yet."""
    panels = [*_sets(study, found), *_training(study, found)]
    if not panels:
        return None
    with drawing.style():
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine

        columns = min(2, len(panels))
        rows = -(-len(panels) // columns)
        height = max(drawing.SIZE[1] * 1.12, _ROW * _most_rows(found) + 0.7)
        engine = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1)
        figure = Figure(figsize=(_WIDE * columns, height * rows), layout=engine, facecolor="white")
        for place, (title, draw) in enumerate(panels, start=1):
            axes = figure.add_subplot(rows, columns, place)
            draw(axes)
            axes.set_title(title, loc="left", fontsize=10, fontweight="bold", color=COLOURS["ink"])
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    return buffer.getvalue()


def _most_rows(found: Record) -> int:
    return max((len(judged["arms"]) + len(judged["baselines"]) for judged in found["sets"].values()), default=0)


Panel = tuple[str, Callable[["Axes"], None]]


def _sets(study: StudyConfig, found: Record) -> list[Panel]:
    panels: list[Panel] = []
    for name, judged in found["sets"].items():
        bars = [_bar(found["arms"][arm]["label"], values, "process") for arm, values in judged["arms"].items()]
        if not bars:
            continue
        blind = [_bar(f"blind: {words.name(key)}", v, "format") for key, v in judged["baselines"].items()]
        title = "Held-out problems" if name == HELD_OUT else f"Transfer: {name}"
        panels.append((title, lambda axes, rows=[*bars, *blind]: _dots(axes, rows, len(rows))))  # type: ignore[misc]
    quoted = [Bar(f"{row.what}: {row.on}", row.accuracy, None, "run-2") for row in study.paper if row.accuracy]
    if panels and quoted:
        panels.append(("Not ours: the paper's rows", lambda axes: _dots(axes, quoted, _most_rows(found))))
    return panels


def _dots(axes: Axes, bars: Sequence[Bar], rows: int) -> None:
    """Dots as dense as in a panel of `rows` rows."""
    plots.dots(axes, bars, _LABEL)
    axes.set_ylim(max(rows, len(bars)) - 0.4, -0.6)


def _bar(label: str, values: Record, colour: str) -> Bar:
    low, high = values["interval"]
    return Bar(label, values["accuracy"], (low, high), colour)


def _training(study: StudyConfig, found: Record) -> list[Panel]:
    panels: list[Panel] = []
    for key, title in CURVES.items():
        shown = [arm for arm, columns in found["training"].items() if key in columns]
        if shown:
            panels.append((title.capitalize(), lambda axes, key=key: _lines(axes, study, found, key)))  # type: ignore[misc]
    return panels


def _lines(axes: Axes, study: StudyConfig, found: Record, key: str) -> None:
    """Each seed thin, the mean over seeds thick and smoothed where there are steps enough."""
    from matplotlib.ticker import MaxNLocator

    longest = 0
    for number, arm in enumerate(found["training"]):
        colour = COLOURS[RUN_COLOURS[number % len(RUN_COLOURS)]]
        by_step: dict[int, list[float]] = {}
        for rows in curves(study, arm).values():
            points = [(int(row["step"]), float(row[key])) for row in rows if row.get(key) is not None]
            steps, values = [step for step, _ in points], [value for _, value in points]
            longest = max([longest, *(int(row["step"]) for row in rows)])
            dots = "o" if len(points) < _FEW else None
            axes.plot(steps, values, color=colour, alpha=0.25, linewidth=0.8, marker=dots, markersize=3)
            for step, value in points:
                by_step.setdefault(step, []).append(value)
        means = [sum(by_step[step]) / len(by_step[step]) for step in sorted(by_step)]
        few = len(means) < _FEW
        shown = means if few else plots.smoothed(means)
        label = found["arms"][arm]["label"]
        axes.plot(sorted(by_step), shown, color=colour, label=label, marker="o" if few else None, markersize=4)
    axes.set_xlim(0, longest * 1.04)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_xlabel("step", loc="right", fontsize=8)
    axes.legend(fontsize=7, frameon=False)

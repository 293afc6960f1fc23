"""Draws curves, bars, dots and layers into matplotlib axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from recode_rl.report import words
from recode_rl.report.drawing import COLOURS
from recode_rl.report.run import Record, column

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# share: percent from 0; zero: plain numbers from 0; free: plain numbers, from 0 where that costs little.
Scale = Literal["share", "zero", "free"]
Unit = Literal["share", "number"]

_LEAST_FOR_SMOOTHING = 8


@dataclass(frozen=True, slots=True)
class Curve:
    """One column of one run over its steps."""

    rows: Sequence[Record]
    key: str
    colour: str


@dataclass(frozen=True, slots=True)
class Bar:
    """One value with its interval."""

    label: str
    value: float
    interval: tuple[float, float] | None
    colour: str


def lines(ax: Axes, curves: Sequence[Curve], scale: Scale, marks: str | None) -> None:
    """Each curve thin, and its smoothed form over it; `marks` names a column drawn as circles."""
    for curve in curves:
        points = column(curve.rows, curve.key)
        steps = [step for step, _ in points]
        values = [float("nan") if value is None else value for _, value in points]
        colour = COLOURS[curve.colour]
        smooth = len(values) >= _LEAST_FOR_SMOOTHING
        small = {"marker": "o", "markersize": 3.5} if len(values) < _LEAST_FOR_SMOOTHING else {}
        ax.plot(steps, values, color=colour, alpha=0.3 if smooth else 1.0, linewidth=1.0 if smooth else 2.0, **small)  # type: ignore[arg-type]
        if smooth:
            ax.plot(steps, smoothed(values), color=colour)
        if marks is not None:
            _circles(ax, curve.rows, marks, colour)
    _axes(ax, scale)


def _circles(ax: Axes, rows: Sequence[Record], key: str, colour: str) -> None:
    points = [(step, value) for step, value in column(rows, key) if value is not None]
    if points:
        ax.plot(
            [step for step, _ in points],
            [value for _, value in points],
            color=colour,
            linewidth=1.2,
            linestyle=(0, (2, 2)),
            marker="o",
            markersize=6,
            markerfacecolor=COLOURS["card"],
            markeredgewidth=1.8,
            clip_on=False,
            zorder=5,
        )


def smoothed(values: Sequence[float]) -> list[float]:
    """Mean over a centred window of about a tenth of the run; a nan is left out, not carried on."""
    half = max(1, round(len(values) / 20))
    found = []
    for place in range(len(values)):
        window = [value for value in values[max(0, place - half) : place + half + 1] if value == value]
        found.append(sum(window) / len(window) if window else float("nan"))
    return found


def _axes(ax: Axes, scale: Scale) -> None:
    from matplotlib.ticker import MaxNLocator

    low, high = ax.get_ylim()
    if ax.dataLim.y0 == ax.dataLim.y1 == 0:
        low, high = 0.0, 0.05  # all zero: no room below
    if low >= 0 and (scale != "free" or low < 0.6 * high):
        ax.set_ylim(0, min(max(high, 0.05), 1.04) if scale == "share" else high)
    if scale == "share":
        _percent_axis(ax)
    ax.yaxis.set_major_locator(MaxNLocator(4))
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.set_xlabel("step", loc="right", fontsize=8)
    ax.margins(x=0.01)


def _few_ticks(ax: Axes, most: float | None) -> None:
    """About four ticks; a share has none above 100 %, though the axis leaves room for the numbers over the bars."""
    from matplotlib.ticker import MaxNLocator

    low, high = ax.get_ylim()
    ticks = [float(tick) for tick in MaxNLocator(4).tick_values(low, high) if low <= tick <= high]
    ax.set_yticks([tick for tick in ticks if most is None or tick <= most + 1e-9])


def _percent_axis(ax: Axes) -> None:
    from matplotlib.ticker import FuncFormatter

    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g} %"))


def layers(ax: Axes, steps: Sequence[float], shares: Sequence[Sequence[float]], colours: Sequence[str]) -> None:
    """Shares that add up to one, stacked and smoothed; `shares` has one row a layer."""
    ax.stackplot(
        steps, *[smoothed(row) for row in shares], colors=[COLOURS[name] for name in colours], linewidth=0, alpha=0.9
    )
    ax.set_ylim(0, 1)
    _axes(ax, "share")
    ax.set_ylim(0, 1)


def bars(ax: Axes, groups: Sequence[tuple[str, Sequence[Bar]]], unit: Unit) -> None:
    """Groups of bars side by side, each with its interval and its value; `unit` is share or number."""
    for place, (_, bars) in enumerate(groups):
        width = min(0.56, 0.8 / len(bars))
        for i, bar in enumerate(bars):
            x = place + (i - (len(bars) - 1) / 2) * width
            ax.bar(x, bar.value, width * 0.92, color=COLOURS[bar.colour], alpha=0.85, linewidth=0)
            top = bar.value
            if bar.interval:
                ax.plot([x, x], bar.interval, color=COLOURS["ink"], linewidth=1.3, solid_capstyle="butt")
                top = max(top, bar.interval[1])
            text = f"{100 * bar.value:.1f}" if unit == "share" else words.decimal(bar.value)
            ax.annotate(
                text,
                (x, max(top, 0)),
                xytext=(0, 3),
                textcoords="offset points",
                ha="center",
                fontsize=9 if len(bars) < 3 else 7.5,
                fontweight="bold",
                color=COLOURS["ink"],
            )
    ax.set_xticks(range(len(groups)), [short(words.name(label)) for label, _ in groups])
    if len(groups) > 4:
        ax.tick_params(axis="x", labelrotation=25)
    ax.tick_params(axis="x", length=0)
    ax.set_xlim(-0.6, len(groups) - 0.4)
    ax.margins(y=0.16)
    ax.autoscale_view(scalex=False)
    _few_ticks(ax, most=1.0 if unit == "share" else None)
    if unit == "share":
        _percent_axis(ax)


def short(text: str, limit: int = 18) -> str:
    """A label that fits under its bar."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def dots(ax: Axes, bars: Sequence[Bar], limit: int = 24) -> None:
    """One row a share: a dot, its interval, its value at the right; the dashed line is chance. `limit`: of a label."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    for place, bar in enumerate(bars):
        colour = COLOURS[bar.colour]
        if bar.interval:
            ax.plot(bar.interval, [place, place], color=colour, linewidth=2.2, alpha=0.5)
        ax.plot([bar.value], [place], "o", color=colour, markersize=6.5)
        ax.annotate(
            f"{100 * bar.value:.1f}",
            (1.0, place),
            xycoords=("axes fraction", "data"),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontweight="bold",
            color=COLOURS["ink"],
        )
    ax.axvline(0.5, color=COLOURS["muted"], linewidth=1.0, linestyle=(0, (3, 3)), zorder=0)
    ax.set_yticks(range(len(bars)), [short(bar.label, limit) for bar in bars])
    ax.invert_yaxis()
    ax.grid(False, axis="y")
    ax.grid(True, axis="x")
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g} %"))
    ax.xaxis.set_major_locator(MaxNLocator(4))
    low = min([bar.interval[0] if bar.interval else bar.value for bar in bars] + [0.45])
    ax.set_xlim(max(0.0, low - 0.03), 1.0)

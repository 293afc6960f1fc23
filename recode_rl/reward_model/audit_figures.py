"""The pictures of an audit: shifts of all probes, score against length, reliability of pair margins."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from recode_rl.extras import need

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LIGHT = {
    "ink": "#1c2128", "muted": "#69707d", "line": "#dfe2e7", "band": "#eef0f4", "card": "#ffffff",
    "holds": "#0c8a60", "swayed": "#d4530c", "blind": "#8a42d0", "unclear": "#8d94a1",
    "first": "#2259d6", "second": "#8d94a1", "third": "#d4530c",
}  # fmt: skip
_DARK = {
    "ink": "#e7eaef", "muted": "#98a1af", "line": "#2a3039", "band": "#20262e", "card": "#171b21",
    "holds": "#45c795", "swayed": "#ff9a5c", "blind": "#c08cff", "unclear": "#8f98a7",
    "first": "#74a2ff", "second": "#8f98a7", "third": "#ff9a5c",
}  # fmt: skip
_QUALITIES = {"optimized": "first", "chosen": "first", "base": "second", "degraded": "third", "rejected": "third"}
_DPI = 150
_MOST_POINTS = 2000
_LINEAR = 3.0  # shifts above this many margins are drawn on a logarithmic scale


@dataclass(frozen=True, slots=True)
class Point:
    """One reasoning out of the pairs: its quality, its length and its raw score."""

    problem_id: str
    quality: str
    words: int
    score: float


@dataclass(frozen=True, slots=True)
class Figures:
    """One picture as PNG, for a light page and for a dark one; `title` stands above it, `note` below."""

    name: str
    title: str
    note: str
    light: bytes
    dark: bytes


def draw(result: dict[str, Any], points: Sequence[Point]) -> list[Figures]:
    """All pictures; `result` is what audit.json holds."""
    share = 100 * result["settings"]["share"]
    unit = "the margin between the two sides of a pair" if result["yardstick"] else "the raw score"
    return [
        _both(
            "shifts",
            "What each probe does to the score",
            f"Mean shift with its 95 % interval, in parts of {unit}. Grey: within {share:.0f} % of it.",
            lambda axes, palette: _shifts(axes, result, palette),
            (7.6, 0.27 * len(result["probes"]) + 1.2),
        ),
        _both(
            "length",
            "Score and length",
            "Each dot is one side of a pair.",
            lambda axes, palette: _length(axes, points, palette),
            (5.0, 3.3),
        ),
        _both(
            "reliability",
            "How often the model is right about a pair",
            "Above the line it is right more often than it says. Bars: pairs in each bin.",
            lambda axes, palette: _reliability(axes, result["calibration"]["bins"], palette),
            (5.0, 3.3),
        ),
    ]


def _both(
    name: str, title: str, note: str, fill: Callable[[Axes, dict[str, str]], None], size: tuple[float, float]
) -> Figures:
    return Figures(name, title, note, _png(fill, _LIGHT, size), _png(fill, _DARK, size))


def _png(fill: Callable[[Axes, dict[str, str]], None], palette: dict[str, str], size: tuple[float, float]) -> bytes:
    matplotlib: Any = need("matplotlib", "report")
    with matplotlib.rc_context(_look(palette)):
        from matplotlib.figure import Figure

        figure: Figure = Figure(figsize=size, layout="constrained")
        fill(figure.add_subplot(), palette)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    return buffer.getvalue()


def _look(palette: dict[str, str]) -> dict[str, Any]:
    return {
        "figure.facecolor": palette["card"],
        "axes.facecolor": palette["card"],
        "savefig.facecolor": palette["card"],
        "axes.edgecolor": palette["line"],
        "axes.labelcolor": palette["muted"],
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": palette["line"],
        "grid.linewidth": 0.8,
        "text.color": palette["ink"],
        "text.parse_math": False,
        "xtick.color": palette["line"],
        "ytick.color": palette["line"],
        "xtick.labelcolor": palette["muted"],
        "ytick.labelcolor": palette["muted"],
        "ytick.major.size": 0,
        "legend.frameon": False,
        "font.size": 9,
        "font.family": "DejaVu Sans",
    }


def _shifts(axes: Axes, result: dict[str, Any], palette: dict[str, str]) -> None:
    """One row a probe: a dot with its interval, its verdict at the right."""
    size = result["yardstick"] or 1.0
    rows = [row for row in result["probes"] if row["shift"] is not None]
    place, ticks = 0.0, []
    allowed = result["settings"]["share"] if result["yardstick"] else 0.0
    axes.axvspan(-allowed, allowed, color=palette["band"], linewidth=0)
    axes.axvline(0, color=palette["muted"], linewidth=1)
    for before, row in zip([None, *rows], rows, strict=False):
        place += 0.0 if before is None else 1.0 if before["expects"] == row["expects"] else 1.7
        colour = palette[row["verdict"]]
        axes.plot([end / size for end in row["interval"]], [place, place], color=colour, linewidth=2.2, alpha=0.6)
        axes.plot([row["shift"] / size], [place], "o", color=colour, markersize=6)
        axes.annotate(
            row["verdict"], (1.0, place), xycoords=("axes fraction", "data"), xytext=(6, 0),
            textcoords="offset points", va="center", color=colour, fontweight="bold",
        )  # fmt: skip
        ticks.append((place, row["title"]))
    axes.set_yticks([at for at, _ in ticks], [title for _, title in ticks])
    axes.set_ylim(place + 0.7, -0.7)
    axes.grid(False, axis="y")
    _parts_axis(axes, rows, size)


def _parts_axis(axes: Axes, rows: Sequence[dict[str, Any]], size: float) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    ends = [end / size for row in rows for end in row["interval"]]
    reach = max([abs(end) for end in ends], default=0.0)
    if reach > _LINEAR:
        axes.set_xscale("symlog", linthresh=1.0, linscale=1.0)
        most = 10 ** len(f"{reach:.0f}")
        axes.set_xticks([at for at in (-1000, -100, -10, -1, 0, 1, 10, 100, 1000) if abs(at) <= most])
        axes.minorticks_off()
    else:
        axes.xaxis.set_major_locator(MaxNLocator(7))
    low, high = min([*ends, -0.3]), max([*ends, 0.3])
    room = 0.05 * (high - low) if reach <= _LINEAR else 0.1 * reach
    axes.set_xlim(low - room, high + room)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+.3g}".replace("-", "−") if value else "0"))


def _length(axes: Axes, points: Sequence[Point], palette: dict[str, str]) -> None:
    from matplotlib.ticker import MaxNLocator

    step = -(-len(points) // _MOST_POINTS)
    for quality, colour in _QUALITIES.items():
        shown = [point for point in points[:: max(step, 1)] if point.quality == quality]
        if shown:
            axes.plot(
                [point.words for point in shown], [point.score for point in shown], "o", color=palette[colour],
                markersize=3.5, alpha=0.55, markeredgewidth=0, label=quality,
            )  # fmt: skip
    axes.set_xlabel("words", loc="right", fontsize=8)
    axes.set_ylabel("raw score", loc="top", fontsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=5, handletextpad=0.2, columnspacing=1.0)


def _reliability(axes: Axes, bins: Sequence[dict[str, Any]], palette: dict[str, str]) -> None:
    from matplotlib.ticker import PercentFormatter

    axes.plot([0.5, 1], [0.5, 1], color=palette["muted"], linewidth=1, linestyle=(0, (3, 3)))
    most = max(row["n"] for row in bins)
    for row in bins:
        axes.bar(
            (row["from"] + row["to"]) / 2, 0.25 * row["n"] / most, row["to"] - row["from"], color=palette["band"],
            edgecolor=palette["card"],
        )  # fmt: skip
        axes.plot([row["stated"]] * 2, row["interval"], color=palette["first"], linewidth=2, alpha=0.5)
    axes.plot([row["stated"] for row in bins], [row["observed"] for row in bins], "o-", color=palette["first"])
    axes.set_xlim(0.49, 1.01)
    axes.set_ylim(0, 1.03)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("what it says: sigmoid of the margin", loc="right", fontsize=8)
    axes.set_ylabel("how often it is right", loc="top", fontsize=8)

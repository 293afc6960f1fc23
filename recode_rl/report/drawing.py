"""Draws one small panel and turns it into SVG that takes its colours and its font from the page around it."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from recode_rl.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Name of the CSS variable → colour in the light scheme. Panels are drawn in these colours; in the page each is replaced
# by its variable, so that one drawing serves both schemes. The colours are all different for that reason.
COLOURS = {
    "ink": "#1c2128",
    "muted": "#69707d",
    "line": "#dfe2e7",
    "card": "#fffffe",
    "total": "#2259d6",
    "format": "#8d94a1",
    "outcome": "#0c8a60",
    "process": "#8a42d0",
    "alert": "#d4530c",
    "mixed": "#84aaf3",
    "wrong": "#c6cad2",
    "run-2": "#d9660a",
    "run-3": "#0f9aa8",
    "run-4": "#c02f6b",
    "run-5": "#7d6a0a",
    "run-6": "#5c6b8a",
}
RUN_COLOURS = ("total", "run-2", "run-3", "run-4", "run-5", "run-6")
SIZE = (4.3, 2.55)  # inches; about 310 CSS pixels wide before the page scales it, so text stays readable on a phone


@dataclass(frozen=True, slots=True)
class Panel:
    """One small figure: `legend` holds (words, name of a colour)."""

    title: str
    draw: Callable[[Axes], None]
    note: str = ""
    legend: tuple[tuple[str, str], ...] = ()
    height: float = SIZE[1]


def require_matplotlib() -> None:
    """Raise MissingExtraError where there is no matplotlib."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise MissingExtraError('figures need matplotlib; install it with: pip install "recode-rl[report]"') from None


@contextmanager
def style() -> Iterator[None]:
    """Our look, for the time of one drawing."""
    require_matplotlib()
    import matplotlib

    settings: dict[str, Any] = {
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "savefig.facecolor": "none",
        "axes.edgecolor": COLOURS["line"],
        "axes.labelcolor": COLOURS["muted"],
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.axisbelow": True,
        "grid.color": COLOURS["line"],
        "grid.linewidth": 0.8,
        "text.color": COLOURS["ink"],
        "text.parse_math": False,  # labels come from files: a "$" in one is a dollar
        "xtick.color": COLOURS["line"],
        "ytick.color": COLOURS["line"],
        "xtick.labelcolor": COLOURS["muted"],
        "ytick.labelcolor": COLOURS["muted"],
        "ytick.major.size": 0,
        "font.size": 9,
        "font.family": "DejaVu Sans",
        "lines.linewidth": 2.0,
        "lines.solid_capstyle": "round",
        "svg.fonttype": "none",
        "svg.hashsalt": "recode-rl",
    }
    with matplotlib.rc_context(settings):
        yield


def svg(panel: Panel, identity: str) -> str:
    """The panel as an inline `<svg>` element; `identity` (unique on the page) keeps its inner references apart."""
    with style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(SIZE[0], panel.height), layout="constrained")
        panel.draw(figure.add_subplot())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return _for_page(buffer.getvalue(), panel.title, identity)


def png(panels: Sequence[Panel], columns: int = 3, dpi: int = 160) -> bytes:
    """Several panels as one picture in the light scheme."""
    with style():
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine

        rows = -(-len(panels) // columns)
        size = (SIZE[0] * columns, SIZE[1] * rows * 1.12)
        figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1), facecolor="white")
        for place, panel in enumerate(panels, start=1):
            axis = figure.add_subplot(rows, columns, place)
            panel.draw(axis)
            axis.set_title(panel.title, loc="left", fontsize=10, fontweight="bold", color=COLOURS["ink"])
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def _for_page(text: str, title: str, identity: str) -> str:
    """Only the `<svg>` element, without what a page does not need, and with variables in place of colours."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    found = re.search(r'viewBox="([^"]*)"', text)
    box = found.group(1) if found else ""
    opening = f'<svg viewBox="{box}" role="img" aria-label="{html.escape(title)}">'
    text = opening + text[text.index(">") + 1 :]
    text = re.sub(r' id="[A-Za-z0-9_.]+_\d+"', "", text)  # nothing refers to these; the same in every figure
    text = re.sub(r'id="([mp][0-9a-f]+)"', rf'id="{identity}-\1"', text)
    text = re.sub(r'xlink:href="#([mp][0-9a-f]+)"', rf'href="#{identity}-\1"', text)
    text = re.sub(r"url\(#([mp][0-9a-f]+)\)", rf"url(#{identity}-\1)", text)
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "sans-serif", text)
    for variable, colour in COLOURS.items():
        text = text.replace(colour, f"var(--{variable})")
    return text.strip()

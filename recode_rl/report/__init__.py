"""One self-contained HTML page over one or more run folders, its main figure as a picture, and a one-line summary."""

from recode_rl.report.page import build_report
from recode_rl.report.panels import figure_png
from recode_rl.report.summary import summarise

__all__ = ["build_report", "figure_png", "summarise"]

"""An evaluation for people: results.md, and results.html, one page that loads nothing and shows every sample's fate."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from recode_rl import jsonl
from recode_rl.evals.grading import Graded
from recode_rl.types import Verdict

_MOST_ROWS = 2000
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1b1b1b;
       background: #fff }
table { border-collapse: collapse; margin: 1rem 0 } th, td { text-align: left; padding: .2rem .9rem .2rem 0;
       border-bottom: 1px solid #ddd; vertical-align: top } td { font-variant-numeric: tabular-nums }
pre { background: #f6f6f4; padding: .7rem; overflow-x: auto; white-space: pre-wrap } summary { cursor: pointer }
.passed { color: #14622c } .failed { color: #8c1c13 }
@media (prefers-color-scheme: dark) { body { background: #161616; color: #e6e6e6 } pre { background: #222 }
       th, td { border-color: #444 } .passed { color: #7fd69a } .failed { color: #ff9d92 } }
"""
Table = tuple[list[str], list[list[str]]]


def write(out: Path, title: str, results: dict[str, Any], graded: Sequence[Graded]) -> None:
    """Both files, each in one rename."""
    jsonl.write_text(out / "results.md", markdown(title, results))
    jsonl.write_text(out / "results.html", page(title, results, graded))


def markdown(title: str, results: Mapping[str, Any]) -> str:
    """The numbers as Markdown."""
    parts = [f"# {title}", "", headline(results), ""]
    for name, (head, rows) in tables(results):
        parts += [f"## {name}", "", _line(head), _line(["---"] * len(head)), *map(_line, rows), ""]
    return "\n".join(parts)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def headline(results: Mapping[str, Any]) -> str:
    """pass@1 in a sentence, with what was not evaluated."""
    missing = len(results["not_evaluated"])
    rest = ""
    if missing:
        of_all = percent(results["pass@1_of_all"])
        rest = f" {missing} problems were not evaluated; counted as failed, they make pass@1 {of_all}."
    return (
        f"pass@1 {percent(results['pass@1'])} {interval(results['interval'])} on {results['n']} problems, "
        f"{results['samples']} samples.{rest}"
    )


def tables(results: Mapping[str, Any]) -> list[tuple[str, Table]]:
    """Every table that has rows: numbers by group, pass@k, averages, statuses, tokens, what was not evaluated."""
    found: list[tuple[str, Table]] = []
    ks = [[k, percent(results[k]), interval(known)] for k, known in results["intervals"].items()]
    found.append(("pass@k", (["k", "pass@k", "95 % interval"], ks)))
    for name, key in (("By difficulty", "by_difficulty"), ("By date", "by_date"), ("By source", "by_source")):
        rows = [[g, percent(v["pass@1"]), interval(v["interval"]), str(v["n"])] for g, v in results[key].items()]
        found.append((name, (["", "pass@1", "95 % interval", "problems"], rows)))
    averages = [["mean of columns", percent(results["mean_of_columns"]), ", ".join(results["columns"])]]
    averages.append(["weighted by problems", percent(results["weighted_mean"]), f"{results['n']} problems"])
    found.append(("Averages", (["", "pass@1", "over"], averages if results["columns"] else [])))
    statuses = sorted(results["by_status"].items(), key=lambda item: -item[1])
    shares = [[status, str(count), percent(count / results["samples"])] for status, count in statuses]
    found.append(("Statuses", (["status", "samples", "share"], shares)))
    tokens = results["tokens"]
    lengths = [
        [label, f"{tokens[key]:.1f}", interval(tokens[bounds], number=True)]
        for label, key, bounds in (
            ("all completions", "mean", "interval"),
            ("passing completions", "passing_mean", "passing_interval"),
        )
        if tokens[key] is not None
    ]
    found.append(("Mean tokens", (["", "tokens", "95 % interval"], lengths)))
    reasons = dict(results.get("excused") or {})
    missing = [[problem, reasons.get(problem, "no sample")] for problem in results["not_evaluated"]]
    found.append(("Not evaluated", (["problem", "why"], missing)))
    return [(name, table) for name, table in found if table[1]]


def page(title: str, results: Mapping[str, Any], graded: Sequence[Graded]) -> str:
    """The same as one HTML page, with each sample, its verdict and its completion."""
    body = [f"<h1>{html.escape(title)}</h1><p>{html.escape(headline(results))}</p>"]
    for name, (names, rows) in tables(results):
        cells = "".join(f"<th>{html.escape(cell)}</th>" for cell in names)
        lines = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in rows)
        body.append(f"<h2>{html.escape(name)}</h2><table><tr>{cells}</tr>{lines}</table>")
    shown = graded[:_MOST_ROWS]
    note = f" (the first {_MOST_ROWS} of {len(graded)})" if len(graded) > _MOST_ROWS else ""
    body.append(f"<h2>Samples{note}</h2>")
    body += [_sample(g) for g in shown]
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(body)}</body></html>\n'


def _sample(graded: Graded) -> str:
    verdict = graded.verdict
    if not isinstance(verdict, Verdict):
        return ""
    kind = "passed" if verdict.passed else "failed"
    tests = f"{verdict.tests_passed}/{verdict.tests_total} tests"
    head = f'<span class="{kind}">{verdict.status}</span> {html.escape(graded.name)}, {tests}'
    written = graded.sample.completion if graded.sample.completion is not None else graded.sample.program or ""
    why = f"<p>{html.escape(verdict.detail)}</p>" if verdict.detail else ""
    return f"<details><summary>{head}</summary>{why}<pre>{html.escape(written)}</pre></details>"


def percent(share: float) -> str:
    """A share as percent with one digit."""
    return f"{100 * share:.1f} %"


def interval(bounds: Sequence[float] | None, number: bool = False) -> str:
    """The ends of an interval, of shares or of numbers."""
    if bounds is None:
        return ""
    low, high = bounds
    return f"[{low:.1f}, {high:.1f}]" if number else f"[{100 * low:.1f}, {100 * high:.1f}]"

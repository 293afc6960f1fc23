"""What an audit leaves in its folder: audit.json, audit.md, one HTML page that loads nothing, and its pictures."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recode_rl import jsonl
from recode_rl.extras import need
from recode_rl.reward_model import audit_figures
from recode_rl.reward_model.audit_figures import Figures, Point

VERDICTS = {
    "holds": "it does what it should",
    "swayed": "it is raised by something that adds nothing",
    "blind": "it does not see that the content is gone",
    "unclear": "the interval leaves it open",
}
EXPECTATIONS = {"no rise": "not rise", "fall": "fall"}
NO_TRUTH = (
    "Calibration here is that of pairs: which side is preferred, and how surely. Whether a single score of 0.7 is "
    "right cannot be said: there is no ground truth for it, as nobody has judged these reasonings one by one."
)
METHOD = (
    "Each probe changes the better reasoning of a pair, for each problem one. Its shift is the raw score of the "
    "changed text less that of the original. Intervals are 95 % bootstraps over problems, each for itself: of {count} "
    "probes, one may lie outside by chance. A probe that adds nothing sways the model where the interval lies above "
    "{share} of the margin between the two sides of a pair; to one that destroys the content the model is blind where "
    "the interval does not reach below −{share} of it."
)
_LONGEST = 6000


@dataclass(frozen=True, slots=True)
class Example:
    """A text before and after a probe, with its raw scores."""

    original: str
    probed: str
    problem: str
    problem_id: str
    before: float
    after: float

    @property
    def shift(self) -> float:
        """How much the probe raised the raw score."""
        return self.after - self.before


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the page shows besides the numbers: the scores of all sides, and for each probe one text."""

    points: Sequence[Point]
    examples: Mapping[str, Example]


def require_packages() -> None:
    """MissingExtraError where matplotlib or jinja2 is not there."""
    need("matplotlib", "report")
    need("jinja2", "report")


def write(out: Path, result: dict[str, Any], evidence: Evidence) -> None:
    """Write all files into the folder, each in one rename."""
    figures = audit_figures.draw(result, evidence.points)
    for figure in figures:
        jsonl.write_bytes(out / f"{figure.name}.png", figure.light)
    jsonl.write_text(out / "audit.md", markdown(result))
    jsonl.write_text(out / "audit.html", html(result, evidence, figures))
    jsonl.write_json(out / "audit.json", result)


def html(result: dict[str, Any], evidence: Evidence, figures: Sequence[Figures]) -> str:
    """The page. Everything that a model or a data set wrote is escaped."""
    jinja2: Any = need("jinja2", "report")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(signed=signed, percent=percent, decimal=decimal, interval=interval, cut=_cut, png=_data)
    page: str = environment.get_template("audit.html.j2").render(
        result=result,
        verdicts=VERDICTS,
        expectations=EXPECTATIONS,
        examples=evidence.examples,
        figures=figures,
        calibration=rows_of_calibration(result["calibration"]),
        length=rows_of_length(result["length"]),
        method=_method(result),
        no_truth=NO_TRUTH,
    )
    return page.encode("utf-8", "replace").decode("utf-8")  # half of a pair of surrogates, which UTF-8 lacks


def _method(result: dict[str, Any]) -> str:
    return METHOD.format(count=len(result["probes"]), share=percent(result["settings"]["share"]))


def markdown(result: dict[str, Any]) -> str:
    """The tables as Markdown; it has no text of models and data sets but the name of the model."""
    length, found = result["length"], result["calibration"]
    lines = [
        f"# Audit of {_code(result['model'])}",
        "",
        f"{result['problems']} problems, {result['pairs']} pairs; accuracy {percent(found['accuracy'], 1)} "
        f"({_percents(found['accuracy_interval'])}), margin {signed(result['margin'])} "
        f"({interval(result['margin_interval'])}).",
        "",
        *(f"> {notice}\n" for notice in result["notices"]),
        "| probe | should | n | shift | 95 % interval | of the margin | rises | verdict | |",
        "|---|---|---|---|---|---|---|---|---|",
        *(_row(row) for row in result["probes"]),
        "",
        result["empty"]["words"],
        "",
        _method(result),
        "",
        "![shifts](shifts.png)",
        "",
        "## Length",
        "",
        f"Partial to quality: {length['verdict']} (from a rank correlation of {length['threshold']} on).",
        "",
        "| rank correlation with the number of words | rho | 95 % interval | n |",
        "|---|---|---|---|",
        *(
            f"| {words} | {signed(row['rho'])} | {interval(row['interval'])} | {row['n']} |"
            for words, row in rows_of_length(length)
        ),
        "",
        "![score and length](length.png)",
        "",
        "## Calibration",
        "",
        f"{found['verdict'].capitalize()}. {NO_TRUTH}",
        "",
        "| | | 95 % interval |",
        "|---|---|---|",
        *(f"| {words} | {value} | {ends} |" for words, value, ends in rows_of_calibration(found)),
        "",
        "![reliability](reliability.png)",
        "",
    ]  # fmt: skip
    return "\n".join(lines)


def _row(row: dict[str, Any]) -> str:
    cells = [
        row["title"],
        EXPECTATIONS[row["expects"]],
        str(row["n"]),
        signed(row["shift"]),
        interval(row["interval"]),
        percent(row.get("effect")),
        percent(row.get("rises")),
        f"**{row['verdict']}**",
        row["words"],
    ]
    return f"| {' | '.join(cells)} |"


def rows_of_length(length: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """What is correlated, in words, and the numbers."""
    return [
        *((f"within {quality}", row) for quality, row in length["within"].items()),
        ("all, partial to quality", length["partial"]),
        ("over pairs: margin and lead in words, partial to kind", length["pairs"]),
    ]


def rows_of_calibration(found: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Words, value and interval."""
    mean, quantile = found["ece_if_calibrated"]
    return [
        ("right about a pair", percent(found["accuracy"], 1), _percents(found["accuracy_interval"])),
        ("says it is right", percent(found["stated"], 1), ""),
        ("over-confidence", percent(found["over_confidence"], 1), _percents(found["over_confidence_interval"])),
        ("expected calibration error", percent(found["ece"], 1), _percents(found["ece_interval"])),
        ("… of a calibrated model on as many pairs", percent(mean, 1), f"95 % below {percent(quantile, 1)}"),
        ("Brier score", decimal(found["brier"], 3), _decimals(found["brier_interval"])),
    ]


def decimal(value: float | None, digits: int = 2) -> str:
    """0.1234 → `0.12`."""
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def signed(value: float | None) -> str:
    """0.3 → `+0.30`."""
    return "–" if value is None else f"{value:+.2f}".replace("-", "−")


def percent(value: float | None, digits: int = 0) -> str:
    """0.4375 → `44 %`."""
    return "–" if value is None else f"{100 * value:.{digits}f} %".replace("-", "−")


def interval(ends: Sequence[float] | None) -> str:
    """[-0.1, 0.25] → `−0.10 to +0.25`."""
    return "–" if ends is None else f"{signed(ends[0])} to {signed(ends[1])}"


def _percents(ends: Sequence[float] | None) -> str:
    return "–" if ends is None else f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f}".replace("-", "−")


def _decimals(ends: Sequence[float]) -> str:
    return f"{decimal(ends[0], 3)} to {decimal(ends[1], 3)}"


def _code(text: str) -> str:
    """A name as code in Markdown, whatever is in it."""
    return f"`{' '.join(text.split()).replace('`', chr(39))}`"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"


def _data(image: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(image).decode()

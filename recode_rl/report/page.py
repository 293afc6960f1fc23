"""Puts the page together: headline, figures, tables, completions, manifests, as one HTML file that loads nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recode_rl import jsonl
from recode_rl.errors import MissingExtraError
from recode_rl.report import completions, drawing, panels, summary, tables, words
from recode_rl.report.drawing import Panel
from recode_rl.report.run import Run, ends, read_runs
from recode_rl.report.summary import Change

if TYPE_CHECKING:
    from jinja2 import Environment


_AGREES = 0.005


@dataclass(frozen=True, slots=True)
class Tile:
    """One headline number."""

    title: str
    before: str
    after: str
    small: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with its figures; `absent` holds a sentence for each run that lacks the part."""

    title: str
    panels: list[Panel]
    absent: list[str]
    note: str = ""
    folded: bool = False


def build_report(runs: Sequence[Path], out: Path) -> None:
    """Write one self-contained HTML page about these run folders to `out`, in one rename.

    Raises DataError where a folder is no run or a file in it is broken, MissingExtraError without matplotlib or jinja2.
    """
    drawing.require_matplotlib()
    template = _environment().get_template("page.html.j2")
    found = read_runs(runs)
    page = template.render(
        title=found[0].name if len(found) == 1 else f"{len(found)} runs",
        runs=found,
        several=len(found) > 1,
        colours=[panels.run_colour(place) for place in range(len(found))],
        tiles=[tiles(run) for run in found],
        notices=[summary.notices(run) for run in found],
        sections=sections(found),
        differing=tables.settings_that_differ(found) if len(found) > 1 else None,
        tables=[tables.of_run(run) for run in found],
        completions=[completions.choose(run) for run in found],
        completion_sources=[completions.source(run) for run in found],
        measurements=[tables.measurements(run) for run in found],
        manifests=[_pretty(run) for run in found],
    )
    jsonl.write_text(out, page)


def _environment() -> Environment:
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError:
        raise MissingExtraError('the report needs jinja2; install it with: pip install "recode-rl[report]"') from None
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(name=words.name, decimal=words.decimal, plain=words.plain, moment=words.moment)
    # Our own drawing: matplotlib escapes the labels in it.
    environment.globals["svg"] = lambda panel, identity: Markup(drawing.svg(panel, identity))
    return environment


def tiles(run: Run) -> list[Tile]:
    """The row of numbers at the top."""
    found = [
        _changed("Pass rate", summary.pass_rate(run), words.percent, words.points, words.percent_interval),
        _changed("Total reward", summary.total_reward(run), words.decimal, words.signed, words.decimal_interval),
    ]
    gate = ends(run.rl, "gate/open_share")
    if gate:
        found.append(
            Tile("Gate open", words.percent(gate[0]), words.percent(gate[1]), ("first and last tenth of the steps",))
        )
    known = summary.reward_model(run)
    if known:
        best = known["best_baseline"]
        beside = f"best baseline {words.percent(known['baseline_accuracy'])} ({words.name(best)})" if best else ""
        found.append(Tile("Reward model accuracy", "", words.percent(known["accuracy"]), (beside,)))
    return [tile for tile in found if tile is not None]


def _changed(
    title: str,
    change: Change | None,
    write: Callable[[Any], str],
    write_difference: Callable[[Any], str],
    write_interval: Callable[[Any], str],
) -> Tile | None:
    if change is None:
        return None
    if change.before is None:
        return Tile(title, "", write(change.after), (write_interval(change.after_interval), change.after_label))
    small: tuple[str, ...] = (f"{change.before_label} → {change.after_label}",)
    if change.difference:
        interval = write_interval(change.difference.as_list())
        # Paired over the problems that both evaluations have, which need not be all.
        partly = abs(change.difference.mean - (change.after - change.before)) > _AGREES
        where = f" on {change.difference.n} shared problems" if partly else ""
        small = (f"{write_difference(change.difference.mean)} ({interval}){where}", *small)
    return Tile(title, write(change.before), write(change.after), small)


def sections(runs: Sequence[Run]) -> list[Section]:
    """The figures in the order of the method, and for each part the runs that do not have it."""
    return [
        Section(
            "Evaluation",
            panels.evaluations(runs),
            _absent(runs, "evaluation", lambda run: run.evaluations),
            "Thin lines are 95 % intervals.",
        ),
        Section(
            "Training",
            [*panels.training(runs), *panels.gate(runs), *panels.lengths(runs)],
            _absent(runs, "RL metrics", lambda run: run.rl),
            "Thin: each step. Thick: mean of neighbouring steps. Gaps: nothing passed in that step.",
        ),
        Section(
            "Watch on reward hacking",
            panels.watched(runs),
            [],
            "Failing completions are scored to be watched, never to be rewarded.",
        ),
        Section(
            "Reward model",
            panels.reward_model(runs),
            _absent(runs, "reward model evaluation", lambda run: run.reward_model),
        ),
        Section(
            "Optimiser and fine-tuning",
            panels.optimiser(runs),
            _absent(runs, "fine-tuning metrics", lambda run: run.sft),
            folded=True,
        ),
    ]


def _absent(runs: Sequence[Run], part: str, there: Callable[[Run], Any]) -> list[str]:
    where = "this run" if len(runs) == 1 else ""
    return [f"No {part} in {where or run.name}." for run in runs if not there(run)]


def _pretty(run: Run) -> str:
    return json.dumps(run.manifest, ensure_ascii=False, indent=2) if run.manifest else ""

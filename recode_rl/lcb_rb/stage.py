"""The commands `check`, `build` and `correlation` over files: read, do, write, and leave a manifest."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from recode_rl import jsonl
from recode_rl.errors import BudgetSpent, ConfigError, Interrupted
from recode_rl.lcb_rb import building
from recode_rl.lcb_rb.agreement import judge_against_humans, summarise
from recode_rl.lcb_rb.building import Baselines, BuildSettings
from recode_rl.lcb_rb.candidates import Selection, draw, write_candidates
from recode_rl.lcb_rb.card import CardFacts, write_card
from recode_rl.lcb_rb.checking import Judges, check, load_prompt, questions
from recode_rl.lcb_rb.correlation import Table, correlate, join, load_records, table_of
from recode_rl.lcb_rb.records import (
    finals,
    load_all_decisions,
    load_judgements,
    load_verdicts,
    write_judgements,
)
from recode_rl.problems.records import load_problems
from recode_rl.sampling import load_samples


@dataclass(frozen=True, slots=True)
class Checking:
    """Files and settings of `lcb-rb check`."""

    problems: Path
    samples: Path
    verdicts: Path
    out: Path
    candidates: Path
    model: str
    prompts: Path | None = None
    attempts: int = 3
    per_side: int | None = None
    one_sided: bool = False
    seed: int = 0


def check_file(job: Checking, judges: Judges) -> dict[str, Any]:
    """Judge every sample into judgements.jsonl and draw candidates.jsonl; the summary names what was not judged.

    Replies are kept in `*.replies.jsonl` beside the judgements. At the end of a budget, Interrupted; the replies are
    there, and the same command with a larger budget goes on.
    """
    prompt = load_prompt(job.prompts)
    verdicts = load_verdicts(job.verdicts)
    asked, skipped = questions(load_problems(job.problems), load_samples(job.samples), prompt, job.model)
    replies = job.out.with_name(f"{job.out.name.removesuffix('.jsonl')}.replies.jsonl")
    try:
        checked = check(judges, asked, prompt, job.model, replies, job.attempts)
    except BudgetSpent as spent:
        raise Interrupted(
            f"{spent}; replies so far are in {replies}: run the same command with a larger budget"
        ) from None
    write_judgements(job.out, checked.judgements)
    drawn = draw(checked.judgements, verdicts, Selection(job.per_side, job.one_sided, job.seed))
    write_candidates(job.candidates, drawn.candidates)
    values = {
        "judgements": dict(Counter(line.judgement for line in checked.judgements)),
        "skipped": dict(skipped),
        "replies": checked.replies,
        "unreadable_replies": checked.unreadable_replies,
        "candidates": len(drawn.candidates),
        "candidates_by_side": dict(
            Counter(f"{c.side}, {'passed' if c.passed else 'failed'}" for c in drawn.candidates)
        ),
        "problems": len({candidate.problem_id for candidate in drawn.candidates}),
        "dropped": dict(drawn.dropped.most_common()),
        "judge": job.model,
        "prompt_version": prompt.version,
        "not_judged": checked.failed,
        "first_failure": checked.first_failure,
    }
    jsonl.write_json(jsonl.manifest_path(job.out), jsonl.manifest("lcb-rb check", _plain(job), results=values))
    return values


@dataclass(frozen=True, slots=True)
class Building:
    """Files and settings of `lcb-rb build`."""

    problems: Path
    samples: Path
    decisions: tuple[Path, ...]
    out: Path
    judgements: Path | None = None
    verdicts: Path | None = None
    annotators: int = 2
    reserved: tuple[str, str] | None = building.RESERVED
    statements: bool = True
    title: str = "A benchmark of reasoning pairs"
    note: str = ""
    seed: int = 0


def build_files(job: Building, baselines: Baselines) -> dict[str, Any]:
    """Write pairs.jsonl, README.md and manifest.json into the folder; the summary is the manifest's results."""
    problems, samples = load_problems(job.problems), load_samples(job.samples)
    decisions = load_all_decisions(job.decisions)
    verdicts = None if job.verdicts is None else load_verdicts(job.verdicts)
    judgements = None if job.judgements is None else load_judgements(job.judgements)
    settings = BuildSettings(job.reserved, job.seed)
    built = building.build(problems, samples, finals(decisions, job.annotators), settings)
    results = building.measure(built, baselines, verdicts)
    stats = summarise(decisions, judgements, job.annotators)
    jsonl.write(job.out / "pairs.jsonl", building.records(built, verdicts, job.statements))
    used = {pair.problem_id for pair in built.pairs}
    facts = CardFacts(
        title=job.title,
        note=job.note,
        results=results,
        stats=stats,
        problems=[problem for problem in problems if problem.id in used],
        settings=dataclasses.asdict(settings),
        statements=job.statements,
    )
    jsonl.write_text(job.out / "README.md", write_card(facts))
    manifest = jsonl.manifest("lcb-rb build", _plain(job), results=results, stats=stats)
    jsonl.write_json(job.out / "manifest.json", manifest)
    judge = stats["judge"]
    return {**results, "judge_overruled": None if judge is None else judge["overruled"], "out": str(job.out)}


def read_reserve(text: str) -> tuple[str, str] | None:
    """Dates of "FROM..TO", or None for "none"."""
    if text == "none":
        return None
    first, _, last = text.partition("..")
    try:
        start, end = date.fromisoformat(first), date.fromisoformat(last)
    except ValueError:
        raise ConfigError(f"reserve {text!r}: expected two days as 2024-10-01..2025-02-28, or none") from None
    if end < start:
        raise ConfigError(f"reserve {text!r}: the first day comes after the last one")
    return start.isoformat(), end.isoformat()


def correlate_files(
    records: Path | None,
    table: tuple[int, int, int, int] | None,
    judgements: Path | None,
    verdicts: Path | None,
    decisions: Sequence[Path],
    annotators: int,
    seed: int,
) -> dict[str, Any]:
    """The correlation of a table, of records, or of judgements with verdicts; one of the three is given."""
    if table is not None:
        return correlate(Table(*table), seed=seed)
    judged = [] if judgements is None else load_judgements(judgements)
    if records is not None:
        study = load_records(records)
    else:
        assert verdicts is not None, "judgements come with verdicts"
        study = join(judged, load_verdicts(verdicts))
    values = correlate(table_of(study.rows), study.rows, seed)
    values["left_out"] = study.left_out
    if decisions:
        values["judge"] = judge_against_humans(judged, load_all_decisions(decisions), annotators)
    return values


def _plain(job: Any) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, Path) else value for name, value in dataclasses.asdict(job).items()}

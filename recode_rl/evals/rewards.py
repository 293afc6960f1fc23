"""The `reward` command: the reward of stored samples by any rule, with a reward model or with stored scores."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recode_rl import jsonl
from recode_rl.errors import ConfigError, DataError
from recode_rl.evals import grading
from recode_rl.grading import AnyGrader
from recode_rl.reward import Rule, Scorer, find_rule
from recode_rl.scorer import open_scorer
from recode_rl.types import Problem, Sample


@dataclass(frozen=True, slots=True)
class Source:
    """A rule, and where its process reward comes from."""

    rule: Rule
    scorer: Scorer | None = None
    stored: dict[tuple[str, str], float] | None = None


def source_of(rule: str, reward_model: str | None, scores: Path | None) -> Source:
    """Check that a rule which can ask for the process reward has exactly one source of it."""
    found = find_rule(rule)
    if not found.uses_process:
        return Source(found)
    if (reward_model is None) == (scores is None):
        raise ConfigError(f"reward rule {rule!r} needs one of --reward-model and --scores")
    if scores is not None:
        return Source(found, stored=load_scores(scores))
    return Source(found, scorer=open_scorer(str(reward_model)))


def load_scores(path: Path) -> dict[tuple[str, str], float]:
    """Read stored process rewards; each must be a number in [0, 1], and ids must not repeat."""
    found: dict[tuple[str, str], float] = {}
    for number, record in jsonl.read(path):
        key = (str(record.get("problem_id")), str(record.get("sample_id")))
        value = record.get("process")
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise DataError(f"{path}: line {number}: process {value!r}: expected a number in [0, 1] or null")
        if key in found:
            raise DataError(f"{path}: line {number}: sample {key[1]!r} of problem {key[0]!r} occurs twice")
        found[key] = float(value)
    return found


def reward_file(
    problems: Sequence[Problem], samples: Sequence[Sample], out: Path, source: Source, grader: AnyGrader
) -> dict[str, Any]:
    """Write rewards.jsonl; verdicts are kept beside it, so that a second run grades only what is missing."""
    verdicts = out.with_name(f"{out.name.removesuffix('.gz').removesuffix('.jsonl')}.verdicts.jsonl")
    graded = grading.grade_samples(problems, samples, verdicts, grader)
    outcomes = grading.price_graded(graded, source.rule, source.scorer, source.stored)
    records = grading.reward_records(graded, outcomes)
    jsonl.write(out, records)
    totals = [record["total"] for record in records]
    return {
        "rewarded": len(records),
        "mean": round(statistics.fmean(totals), 6) if totals else None,
        "rule": source.rule.name,
        "not_rewarded": grading.failed(graded, outcomes),
    }

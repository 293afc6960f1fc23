"""Reasonings, and reasonings with the score that a judge gave them: scored.jsonl, what the score-based baseline learns.

    {"id", "problem_id", "problem", "reasoning", "score", "variant", "generator", "judge", "prompt_version"}

`score` is a number in [0, 1] in steps of 0.1; all keys behind it may be left out.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from recode_rl import jsonl
from recode_rl.errors import DataError
from recode_rl.types import Quality

Wanted = Quality | Literal["all"]


@dataclass(frozen=True, slots=True)
class Reasoning:
    """One reasoning for a problem; `variant` is its quality, where its file says one."""

    id: str
    problem_id: str
    problem: str
    reasoning: str
    variant: str = ""
    generator: str = ""


@dataclass(frozen=True, slots=True)
class ScoredReasoning:
    """One reasoning with a score in [0, 1], by whom and asked how."""

    id: str
    problem_id: str
    problem: str
    reasoning: str
    score: float
    variant: str = ""
    generator: str = ""
    judge: str = ""
    prompt_version: str = ""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Reasonings of a file, and how many of its lines are not among them, by reason."""

    reasonings: list[Reasoning]
    left_out: Counter[str]


def load_reasonings(path: Path, statements: Mapping[str, str], wanted: Wanted = "base") -> Chosen:
    """The reasonings of a variants.jsonl, or of any file with `problem_id` and `reasoning`, once each.

    A statement is the record's own `problem`, or the one of its problem in `statements`. Records of another quality
    than `wanted` are left out; those that name none are taken. DataError names the line that cannot be used.
    """
    chosen: list[Reasoning] = []
    left_out: Counter[str] = Counter()
    seen: set[tuple[str, str]] = set()
    names: Counter[str] = Counter()
    for found in jsonl.load(path, lambda record: _reasoning(record, statements)):
        names[found.id] += 1
        if wanted != "all" and found.variant not in ("", wanted):
            left_out[f"{found.variant}, not {wanted}"] += 1
        elif (found.problem_id, found.reasoning.strip()) in seen:
            left_out["equal to another"] += 1
        else:
            seen.add((found.problem_id, found.reasoning.strip()))
            number = names[found.id]
            chosen.append(dataclasses.replace(found, id=f"{found.id}/{number}") if number > 1 else found)
    if not chosen:
        raise DataError(f"{path}: no {'' if wanted == 'all' else wanted + ' '}reasonings in it; give another file")
    return Chosen(chosen, left_out)


def _reasoning(record: dict[str, Any], statements: Mapping[str, str]) -> Reasoning:
    for key in ("problem_id", "reasoning"):
        _text(record, key)
    problem_id, variant = record["problem_id"], str(record.get("variant") or "")
    if "problem" not in record and problem_id not in statements:
        raise DataError(f"problem {problem_id!r}: its statement is not known; give the file of its problem")
    stated = {"problem": statements.get(problem_id), **record}
    _text(stated, "problem")
    name = f"{problem_id}/{variant or 'reasoning'}"
    generator = str(record.get("generator") or "")
    return Reasoning(name, problem_id, stated["problem"], record["reasoning"], variant, generator)


def load_scored(path: Path) -> list[ScoredReasoning]:
    """Read scored.jsonl; ids that occur twice, and a reasoning that has two scores of one judge, are errors."""
    found = jsonl.load_unique(path, scored_from_record, "scored reasoning", lambda one: one.id)
    first: dict[tuple[str, ...], str] = {}
    for one in found:
        key = (one.problem_id, one.reasoning.strip(), one.judge, one.prompt_version)
        if key in first:
            raise DataError(f"{path}: {one.id!r} is the same reasoning as {first[key]!r}; remove one of them")
        first[key] = one.id
    return found


def scored_from_record(record: dict[str, Any]) -> ScoredReasoning:
    """One line of scored.jsonl."""
    for key in ("id", "problem", "reasoning"):
        _text(record, key)
    score = record.get("score")
    if not isinstance(score, (int, float)) or isinstance(score, bool) or not 0 <= score <= 1:
        raise DataError(f"{record['id']!r}: score {score!r}: expected a number from 0 to 1")
    texts = {key: record.get(key) or "" for key in ("variant", "generator", "judge", "prompt_version")}
    problem_id = str(record.get("problem_id") or record["id"])
    return ScoredReasoning(
        record["id"], problem_id, record["problem"], record["reasoning"], round(float(score), 1), **texts
    )


def _text(record: dict[str, Any], key: str) -> None:
    if not isinstance(record.get(key), str) or not record[key].strip():
        raise DataError(f"key {key!r}: {str(record.get(key))[:60]!r}; expected text that is not empty")


def by_score(scored: Sequence[ScoredReasoning]) -> dict[str, int]:
    """How many reasonings got which score, from "0.0" to "1.0"."""
    counts = Counter(f"{one.score:.1f}" for one in scored)
    return {score: counts[score] for score in sorted(counts)}

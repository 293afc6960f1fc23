"""What a reward worker writes down of each sample, and the rows that come of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from recode_rl import completion as completions
from recode_rl.errors import InfrastructureError
from recode_rl.grading.records import verdict_from_record
from recode_rl.policy.rewards import Row
from recode_rl.reward import Rule, Scored, combine


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sample belongs: its step, its part of the data ("train" or "held_out"), its group and its place in it."""

    step: int
    split: str
    group: str
    member: int


def to_record(place: Place, row: Row) -> dict[str, Any]:
    """One line of a worker's file: enough to price the sample again, and its parts for a reader."""
    about = {**dataclasses.asdict(place), "problem_id": row.problem_id, "completion": row.text}
    about |= {"tokens": row.tokens, "truncated": row.truncated}
    if isinstance(row.outcome, InfrastructureError):
        return {**about, "error": str(row.outcome)}
    reward = row.outcome.reward
    parts = {"format": reward.format, "outcome": reward.outcome, "process": reward.process, "total": reward.total}
    return {**about, **parts, "verdict": dataclasses.asdict(row.outcome.verdict)}


def from_record(rule: Rule, record: dict[str, Any]) -> tuple[Place, Row]:
    """The sample of a line, its reward added up anew by the same equation."""
    place = Place(record["step"], record["split"], record["group"], record["member"])
    text, tokens, truncated = record["completion"], record["tokens"], record["truncated"]
    return place, Row(record["problem_id"], text, tokens, _outcome(rule, record), truncated)


def _outcome(rule: Rule, record: dict[str, Any]) -> Scored | InfrastructureError:
    if "error" in record:
        return InfrastructureError(record["error"])
    completion = completions.parse(record["completion"])
    verdict = verdict_from_record(record["verdict"])
    reward = combine(rule, format_ok=completion.format_ok, verdict=verdict, process=record["process"])
    return Scored(completion, verdict, reward)


def in_groups(samples: Sequence[tuple[Place, Row]], size: int) -> list[Row]:
    """Rows of whole groups one after another, in a fixed order.

    A sample of which no word came back (its worker was killed) is filled in as failed by our infrastructure.
    """
    groups: dict[str, dict[int, Row]] = {}
    for place, row in samples:
        groups.setdefault(place.group, {})[place.member] = row  # a sample that was scored twice counts once
    rows: list[Row] = []
    for _, members in sorted(groups.items()):
        known = next(iter(members.values()))
        lost = Row(known.problem_id, "", 0, InfrastructureError("the reward worker gave no answer"))
        rows += [members.get(member, lost) for member in range(max(size, max(members) + 1))]
    return rows

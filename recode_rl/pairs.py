"""Variants → preference pairs, and pairs.jsonl.

A problem with reasonings t (base), t⁺ (optimized) and t⁻ (degraded) gives three pairs, the better one first:
opt_deg (t⁺, t⁻), opt_ori (t⁺, t), ori_deg (t, t⁻). Where a problem has several variants of a quality, the first goes
with the first, the second with the second, and the last of the shorter list with all that are left: one base reasoning
meets every optimized and every degraded one.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, get_args

from recode_rl import jsonl
from recode_rl.errors import DataError
from recode_rl.types import PairKind, PreferencePair, Problem, Quality, Variant

_KINDS: dict[PairKind, tuple[Quality, Quality]] = {
    "opt_deg": ("optimized", "degraded"),
    "opt_ori": ("optimized", "base"),
    "ori_deg": ("base", "degraded"),
}


@dataclass(frozen=True, slots=True)
class PairSet:
    """The pairs that could be made, and how many were refused, by reason."""

    pairs: list[PreferencePair]
    refused: Counter[str]


def make_pairs(problems: Iterable[Problem], variants: Iterable[Variant]) -> PairSet:
    """Every pair that the variants of a problem allow; equal or empty sides are refused and counted."""
    problems = list(problems)
    by_problem: dict[str, dict[Quality, list[Variant]]] = {problem.id: {} for problem in problems}
    pairs: list[PreferencePair] = []
    refused: Counter[str] = Counter()
    for variant in variants:
        if variant.problem_id not in by_problem:
            refused["variant of an unknown problem"] += 1
        else:
            by_problem[variant.problem_id].setdefault(variant.variant, []).append(variant)
    for problem in problems:
        found = by_problem[problem.id]
        for kind, (better, worse) in _KINDS.items():
            if better not in found or worse not in found:
                refused[f"{kind}: variant missing"] += 1
                continue
            for number, (chosen, rejected) in enumerate(_aligned(found[better], found[worse])):
                if not chosen.reasoning.strip() or not rejected.reasoning.strip():
                    refused[f"{kind}: empty side"] += 1
                elif chosen.reasoning.strip() == rejected.reasoning.strip():
                    refused[f"{kind}: equal sides"] += 1
                else:
                    pairs.append(_pair(problem, kind, number, chosen, rejected))
    return PairSet(pairs, refused)


def _aligned(better: Sequence[Variant], worse: Sequence[Variant]) -> list[tuple[Variant, Variant]]:
    """The first with the first and so on; the last one of the shorter list stands in for those it lacks."""
    count = max(len(better), len(worse))
    return [(better[min(i, len(better) - 1)], worse[min(i, len(worse) - 1)]) for i in range(count)]


def _pair(problem: Problem, kind: PairKind, number: int, chosen: Variant, rejected: Variant) -> PreferencePair:
    return PreferencePair(
        id=f"{problem.id}/{kind}" + (f"/{number + 1}" if number else ""),
        problem_id=problem.id,
        problem=problem.prompt,
        chosen=chosen.reasoning,
        rejected=rejected.reasoning,
        kind=kind,
        methods=tuple(rejected.methods if kind != "opt_ori" else chosen.methods),
        generator=chosen.generator,
        difficulty=problem.difficulty,
    )


def load_pairs(path: Path | str) -> list[PreferencePair]:
    """Read pairs.jsonl; equal or empty sides and ids that occur twice are errors that name the line."""
    pairs: list[PreferencePair] = []
    lines: dict[str, int] = {}
    for number, record in jsonl.read(path):
        try:
            pair = pair_from_record(record)
        except DataError as error:
            raise DataError(f"{path}: line {number}: {error}") from None
        if pair.id in lines:
            first = lines[pair.id]
            raise DataError(f"{path}: line {number}: pair id {pair.id!r} occurs twice (first in line {first})")
        lines[pair.id] = number
        pairs.append(pair)
    if not pairs:
        raise DataError(f"{path}: no pairs in it; expected one JSON object a line")
    return pairs


class Stated(Protocol):
    """What has an id, and is of a problem with an id and a statement."""

    @property
    def id(self) -> str:
        """Its id in its file."""
        ...

    @property
    def problem_id(self) -> str:
        """The id of its problem."""
        ...

    @property
    def problem(self) -> str:
        """The statement of its problem."""
        ...


def refuse_overlap(
    train: Sequence[Stated],
    held_out: Sequence[Stated],
    train_file: Path | str | None = None,
    held_out_file: Path | str | None = None,
    noun: str = "pair",
) -> None:
    """Refuse a split that has a problem on both sides, by its id or by its statement (white space aside).

    Raises DataError with the problem, one pair of each side, and their lines where the files are given. `noun` is what
    the records are, where they are not pairs.
    """
    by_id = {pair.problem_id: pair for pair in reversed(train)}
    by_text = {_squeezed(pair.problem): pair for pair in reversed(train)}
    shared = [pair for pair in held_out if pair.problem_id in by_id or _squeezed(pair.problem) in by_text]
    if not shared:
        return
    pair = shared[0]
    other = by_id.get(pair.problem_id) or by_text[_squeezed(pair.problem)]
    named = f"problem {pair.problem_id!r}"
    if other.problem_id != pair.problem_id:
        named += f" (with the statement of {other.problem_id!r})"
    problems = len({pair.problem_id for pair in shared})
    more = f", and so are {problems - 1} more" if problems > 1 else ""
    raise DataError(
        f"{named} is on both sides of the split: {_place(other, train_file, noun, 'training')} and "
        f"{_place(pair, held_out_file, noun, 'held-out')}{more}; take each problem out of one side"
    )


def _place(one: Stated, path: Path | str | None, noun: str, side: str) -> str:
    if path is None:
        return f"{noun} {one.id!r} of the {side} {noun}s"
    number = next((number for number, record in jsonl.read(path) if record.get("id") == one.id), None)
    return f"{path}: line {number} ({noun} {one.id!r})"


def _squeezed(text: str) -> str:
    return "".join(text.split())


def pair_from_record(record: dict[str, Any]) -> PreferencePair:
    """One line of pairs.jsonl."""
    for key in ("id", "problem", "chosen", "rejected"):
        if not isinstance(record.get(key), str) or not record[key].strip():
            raise DataError(f"key {key!r}: {str(record.get(key))[:60]!r}; expected text that is not empty")
    kind = record.get("kind", "other")
    if kind not in get_args(PairKind):
        raise DataError(f"kind {kind!r}: expected one of {', '.join(get_args(PairKind))}")
    if not isinstance(record.get("methods") or [], list):
        raise DataError(f"pair {record['id']!r}: methods {record['methods']!r}: expected a list of names")
    if record["chosen"].strip() == record["rejected"].strip():
        raise DataError(f"pair {record['id']!r}: chosen and rejected are equal; remove the pair")
    return PreferencePair(
        id=record["id"],
        problem_id=str(record.get("problem_id") or record["id"]),
        problem=record["problem"],
        chosen=record["chosen"],
        rejected=record["rejected"],
        kind=kind,
        methods=tuple(record.get("methods") or ()),
        generator=record.get("generator") or "",
        difficulty=record.get("difficulty"),
    )


def write_pairs(path: Path | str, pairs: Sequence[PreferencePair]) -> int:
    """Replace a pairs file; returns the number of pairs."""
    return jsonl.write(path, (dataclasses.asdict(pair) for pair in pairs))

"""Which samples people look at: candidates for both sides of a pair, passing and failing, a few of each problem."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from recode_rl import jsonl
from recode_rl.errors import DataError
from recode_rl.lcb_rb.records import Judged, Key
from recode_rl.types import Verdict

Side = Literal["chosen", "rejected"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sample that the judge puts on a side: sound ones may be chosen, flawed ones rejected, passing or failing."""

    problem_id: str
    sample_id: str
    side: Side
    passed: bool

    @property
    def key(self) -> Key:
        """Which sample it is."""
        return self.problem_id, self.sample_id


@dataclass(frozen=True, slots=True)
class Selection:
    """Which samples are drawn: at most `per_side` of each side of a problem (None: all), evenly of both outcomes.

    `one_sided` keeps problems where the judge found one side alone; people may overrule it.
    """

    per_side: int | None = None
    one_sided: bool = False
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Drawn:
    """The candidates, problem by problem, and how many samples were dropped, by reason."""

    candidates: list[Candidate]
    dropped: Counter[str]


def draw(judgements: Sequence[Judged], verdicts: Mapping[Key, Verdict], selection: Selection) -> Drawn:
    """Candidates for people to decide about. Samples without a verdict are dropped and counted like all others."""
    dropped: Counter[str] = Counter()
    by_problem: dict[str, list[Candidate]] = {}
    for line in judgements:
        if line.judgement in ("misaligned", "unparsable"):
            dropped[line.judgement] += 1
        elif line.key not in verdicts:
            dropped["no verdict"] += 1
        else:
            side: Side = "chosen" if line.judgement == "sound" else "rejected"
            found = Candidate(line.problem_id, line.sample_id, side, verdicts[line.key].passed)
            by_problem.setdefault(line.problem_id, []).append(found)
    kept: list[Candidate] = []
    for found_of_problem in by_problem.values():
        if len({candidate.side for candidate in found_of_problem}) < 2 and not selection.one_sided:
            dropped["problem with one side alone"] += len(found_of_problem)
            continue
        for wanted in ("chosen", "rejected"):
            of_side = [candidate for candidate in found_of_problem if candidate.side == wanted]
            taken = _even(of_side, selection)
            kept += taken
            if more := len(of_side) - len(taken):
                dropped["more than wanted of a side"] += more
    return Drawn(kept, dropped)


def _even(candidates: Sequence[Candidate], selection: Selection) -> list[Candidate]:
    """As many passing as failing ones as there can be, drawn by the seed."""
    shuffled = sorted(candidates, key=lambda candidate: _draw_key(candidate.key, selection.seed))
    if selection.per_side is None:
        return shuffled
    lots = {passed: [c for c in shuffled if c.passed is passed] for passed in (True, False)}
    taken: list[Candidate] = []
    while len(taken) < selection.per_side and any(lots.values()):
        for passed in (True, False):
            if lots[passed] and len(taken) < selection.per_side:
                taken.append(lots[passed].pop(0))
    return taken


def _draw_key(key: Key, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}/{key[0]}/{key[1]}".encode()).digest()


def load_candidates(path: Path | str) -> list[Candidate]:
    """Read candidates.jsonl."""
    return jsonl.load(path, _candidate)


def write_candidates(path: Path | str, candidates: Iterable[Candidate]) -> int:
    """Replace candidates.jsonl; returns the number of lines."""
    return jsonl.write(path, map(dataclasses.asdict, candidates))


def _candidate(record: dict[str, Any]) -> Candidate:
    side, passed = record.get("side"), record.get("passed")
    if side not in ("chosen", "rejected") or not isinstance(passed, bool):
        raise DataError("expected keys problem_id, sample_id, side (chosen or rejected) and passed (true or false)")
    return Candidate(str(record["problem_id"]), str(record["sample_id"]), side, passed)

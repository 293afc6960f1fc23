"""What passes between the steps: judgements.jsonl of the judge, decisions.jsonl of the annotators, passes of verdicts.

A reasoning is *sound* or *flawed*, and its program follows it or not. Where it does not, what became of the program
says nothing about the reasoning, so *misaligned* goes before both.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from recode_rl import jsonl
from recode_rl.errors import DataError
from recode_rl.grading import verdict_from_record
from recode_rl.types import Verdict

Judgement = Literal["sound", "flawed", "misaligned"]
Verb = Literal["sound", "flawed", "misaligned", "unparsable"]
Role = Literal["annotator", "resolver"]
Key = tuple[str, str]  # problem id and sample id
JUDGEMENTS: tuple[Judgement, ...] = get_args(Judgement)


@dataclass(frozen=True, slots=True)
class Judged:
    """One line of judgements.jsonl: what the judge made of a sample; "unparsable" where no reply could be read."""

    problem_id: str
    sample_id: str
    judgement: Verb
    judge: str
    explanation: str = ""
    prompt_version: str = ""
    attempts: int = 1

    @property
    def key(self) -> Key:
        """Which sample it is about."""
        return self.problem_id, self.sample_id


@dataclass(frozen=True, slots=True)
class Decision:
    """One line of decisions.jsonl: both questions answered by one person. A resolver decides where others disagree."""

    problem_id: str
    sample_id: str
    annotator: str
    sound: bool
    aligned: bool
    note: str = ""
    at: str = ""
    role: Role = "annotator"

    @property
    def key(self) -> Key:
        """Which sample it is about."""
        return self.problem_id, self.sample_id

    @property
    def judgement(self) -> Judgement:
        """Both answers in one word."""
        return judgement_of(self.sound, self.aligned)


def judgement_of(sound: bool, aligned: bool) -> Judgement:
    """Both answers in one word."""
    if not aligned:
        return "misaligned"
    return "sound" if sound else "flawed"


def load_judgements(path: Path | str) -> list[Judged]:
    """Read judgements.jsonl; a sample that occurs twice is an error that names it."""
    found = jsonl.load(path, _judged)
    _once(path, [(line.key, "") for line in found])
    return found


def write_judgements(path: Path | str, lines: Iterable[Judged]) -> int:
    """Replace judgements.jsonl; returns the number of lines."""
    return jsonl.write(path, map(dataclasses.asdict, lines))


def load_decisions(path: Path | str) -> list[Decision]:
    """Read decisions.jsonl; two decisions of one annotator on one sample are an error that names it."""
    found = jsonl.load(path, decision_from_record)
    _once(path, [(line.key, line.annotator) for line in found])
    return found


def load_all_decisions(paths: Sequence[Path]) -> list[Decision]:
    """Decisions of several files as one, such as one file of each annotator."""
    found = [decision for path in paths for decision in load_decisions(path)]
    _once(" and ".join(map(str, paths)), [(line.key, line.annotator) for line in found])
    return found


def write_decisions(path: Path | str, lines: Iterable[Decision]) -> int:
    """Replace decisions.jsonl; returns the number of lines."""
    return jsonl.write(path, map(dataclasses.asdict, lines))


def load_verdicts(path: Path | str) -> dict[Key, Verdict]:
    """Verdicts of verdicts.jsonl by sample."""
    found = jsonl.load(path, lambda record: ((_id(record, "problem_id"), _id(record, "sample_id")), record))
    verdicts = {}
    for key, record in found:
        try:
            verdicts[key] = verdict_from_record(record)
        except DataError as error:
            raise DataError(f"{path}: sample {key[1]!r} of problem {key[0]!r}: {error}") from None
    return verdicts


def _judged(record: dict[str, Any]) -> Judged:
    said: Any = record.get("judgement")
    if said not in get_args(Verb):
        raise DataError(f"judgement {said!r}: expected one of {', '.join(get_args(Verb))}")
    return Judged(
        _id(record, "problem_id"),
        _id(record, "sample_id"),
        said,
        str(record.get("judge") or ""),
        str(record.get("explanation") or ""),
        str(record.get("prompt_version") or ""),
        int(record.get("attempts") or 1),
    )


def decision_from_record(record: dict[str, Any]) -> Decision:
    """One line of decisions.jsonl; DataError names the key that is wrong."""
    for name in ("sound", "aligned"):
        if not isinstance(record.get(name), bool):
            raise DataError(f"{name} {record.get(name)!r}: expected true or false")
    role, note = record.get("role", "annotator"), record.get("note") or ""
    if role not in get_args(Role):
        raise DataError(f"role {role!r}: expected one of {', '.join(get_args(Role))}")
    if not isinstance(note, str):
        raise DataError(f"note {str(note)[:60]!r}: expected text")
    who = _id(record, "annotator").strip()
    if not who:
        raise DataError("annotator: empty; expected a name")
    ids = _id(record, "problem_id"), _id(record, "sample_id")
    return Decision(*ids, who, record["sound"], record["aligned"], note, str(record.get("at") or ""), role)


def _id(record: dict[str, Any], name: str) -> str:
    value = record.get(name)
    if not isinstance(value, (str, int)) or isinstance(value, bool):
        raise DataError(f"key {name!r}: {value!r}; expected text")
    return str(value)


def _once(path: Path | str, keys: Sequence[tuple[Key, str]]) -> None:
    for (key, who), count in Counter(keys).items():
        if count > 1:
            by = f" by {who}" if who else ""
            raise DataError(
                f"{path}: sample {key[1]!r} of problem {key[0]!r} is judged {count} times{by}; keep one line"
            )


@dataclass(frozen=True, slots=True)
class Final:
    """What is held of a sample in the end: a judgement, or why there is none."""

    judgement: Judgement | None
    reason: str = ""


def finals(decisions: Sequence[Decision], annotators: int = 2) -> dict[Key, Final]:
    """The end of every sample: what all annotators agree on, else what a resolver said.

    Samples with fewer than `annotators` decisions, and disagreements without a resolution, have no judgement.
    """
    by_key: dict[Key, list[Decision]] = {}
    for decision in decisions:
        by_key.setdefault(decision.key, []).append(decision)
    return {key: _final(found, annotators) for key, found in by_key.items()}


def _final(found: Sequence[Decision], annotators: int) -> Final:
    people = [decision for decision in found if decision.role == "annotator"]
    resolved = [decision for decision in found if decision.role == "resolver"]
    if len(people) < annotators:
        return Final(None, f"fewer than {annotators} annotators")
    if len({(decision.sound, decision.aligned) for decision in people}) == 1:
        return Final(people[0].judgement)
    if resolved:
        return Final(max(resolved, key=lambda decision: decision.at).judgement)
    # Two who differ on a question that does not matter for the end agree all the same: both say misaligned.
    said = {decision.judgement for decision in people}
    return Final(said.pop()) if len(said) == 1 else Final(None, "disagreement without a resolution")

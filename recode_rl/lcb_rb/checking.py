"""The dual-consistency check: a judge model says whether a reasoning is flawed, and whether its program follows it.

The prompt's "Flawed: Yes" is turned into a judgement here, in `read_reply`, and nowhere else. A reply counts only where
it has both answers, each once or always the same; another is asked for with another seed, and in the end counted.
Every reply is kept in a file beside the judgements, so that a run that was stopped asks for nothing twice.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from recode_rl import completion, jsonl, prompts
from recode_rl.errors import DataError, ReCodeError
from recode_rl.lcb_rb.records import Judged, Judgement, judgement_of
from recode_rl.progress import Progress
from recode_rl.prompts import Versioned
from recode_rl.types import Problem, Sample

Messages = list[dict[str, str]]
PROMPT = "check"
_FIELDS = ("problem", "reasoning", "program")
_GIVE_UP_AFTER = 10
_MARKS = r"[ \t>*_`#-]*"
_ANSWERS = {
    name: re.compile(rf"^{_MARKS}{name}{_MARKS}:{_MARKS}(yes|no)\b[ \t.*_`]*$", re.IGNORECASE | re.MULTILINE)
    for name in ("flawed", "aligned")
}


class Judge(Protocol):
    """What is needed of `chat.ChatClient`."""

    def ask_all(self, jobs: Iterable[tuple[str, Messages]]) -> Iterator[tuple[str, Any]]:
        """Replies (`text`, `finish_reason`) or errors by key, in any order."""
        ...


class Judges(Protocol):
    """Opens the judge for one attempt: 0 for the first question, 1 and up for a reply that could not be read."""

    def __call__(self, attempt: int) -> AbstractContextManager[Judge]:
        """The judge, which is closed at the end of the block."""
        ...


@dataclass(frozen=True, slots=True)
class Answers:
    """What a reply says, as the judgement it amounts to, and the words before the answers."""

    judgement: Judgement
    explanation: str


@dataclass(frozen=True, slots=True)
class Question:
    """One sample with what is asked about it; samples with the same texts share a request."""

    sample: Sample
    request: str
    messages: Messages


@dataclass(slots=True)
class Checked:
    """The judgements in the order of the samples, and what happened on the way.

    `skipped` counts samples that could not be asked about; `failed` names those that the endpoint gave no reply for.
    """

    judgements: list[Judged]
    skipped: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    first_failure: str = ""
    replies: int = 0
    unreadable_replies: int = 0


def read_reply(text: str) -> Answers | None:
    """The answers of a reply, None where one is missing or two contradict each other. Thinking aloud does not count."""
    text = text.rpartition("</think>")[2]
    found = {name: list(pattern.finditer(text)) for name, pattern in _ANSWERS.items()}
    said = {name: {match[1].lower() for match in matches} for name, matches in found.items()}
    if any(len(words) != 1 for words in said.values()):
        return None
    begin = min(match.start() for matches in found.values() for match in matches)
    judgement = judgement_of(sound=said["flawed"] == {"no"}, aligned=said["aligned"] == {"yes"})
    return Answers(judgement, text[:begin].strip())


def load_prompt(folder: Path | None = None) -> Versioned:
    """`check.txt`, from the user's folder where it has one."""
    return prompts.versioned(PROMPT, _FIELDS, folder)


def questions(
    problems: Sequence[Problem], samples: Sequence[Sample], prompt: Versioned, judge: str
) -> tuple[list[Question], Counter[str]]:
    """What is asked, and how many samples are not asked about, by reason."""
    by_id = {problem.id: problem for problem in problems}
    asked: list[Question] = []
    skipped: Counter[str] = Counter()
    for sample in samples:
        if sample.problem_id not in by_id:
            raise DataError(
                f"sample {sample.sample_id!r} is for problem {sample.problem_id!r}, which is not among the problems; "
                "give the problems file the samples were made from"
            )
        parsed = completion.parse(sample.completion or "")
        if sample.finish_reason == "length":
            skipped["cut off"] += 1
        elif not parsed.reasoning:
            skipped["no reasoning"] += 1
        elif not parsed.program:
            skipped["no program"] += 1
        else:
            asked.append(_question(by_id[sample.problem_id], sample, parsed.reasoning, parsed.program, prompt, judge))
    return asked, skipped


def _question(
    problem: Problem, sample: Sample, reasoning: str, program: str, prompt: Versioned, judge: str
) -> Question:
    values = {"problem": problem.prompt.strip(), "reasoning": reasoning, "program": program.strip()}
    content = prompts.fill(prompt.text, values)
    digest = hashlib.sha256(f"{judge}\n{content}".encode("utf-8", "surrogatepass")).hexdigest()[:20]
    return Question(sample, digest, [{"role": "user", "content": content}])


def check(
    judges: Judges, asked: Sequence[Question], prompt: Versioned, judge: str, replies: Path, attempts: int = 3
) -> Checked:
    """Ask about every sample until its reply can be read, at most `attempts` times; what is in `replies` is kept.

    Requests that fail leave their samples without a judgement; after ten in a row the rest is not asked.
    """
    jobs = {question.request: question.messages for question in asked}
    kept = _Kept(replies, set(jobs))
    checked = Checked([])
    with Progress("asking the judge", len(jobs), len(kept.settled(attempts))) as progress:
        for attempt in range(attempts):
            missing = [(key, messages) for key, messages in jobs.items() if kept.open(key, attempt)]
            if missing and not _ask(judges, attempt, missing, kept, checked, progress, attempts, (judge, prompt)):
                break
    for question in asked:
        record = kept.end(question.request, attempts)
        if record is None:
            checked.failed.append(f"{question.sample.problem_id}/{question.sample.sample_id}")
        else:
            checked.judgements.append(_judged(question.sample, record, judge, prompt))
    checked.replies, checked.unreadable_replies = kept.counts()
    return checked


def _ask(
    judges: Judges,
    attempt: int,
    jobs: list[tuple[str, Messages]],
    kept: _Kept,
    checked: Checked,
    progress: Progress,
    attempts: int,
    about: tuple[str, Versioned],
) -> bool:
    """One round of questions; False where the endpoint was given up."""
    in_a_row = 0
    with judges(attempt) as judge, jsonl.Appender(kept.path) as file:
        for key, reply in judge.ask_all(jobs):
            overlong = getattr(reply, "overlong", False)
            if isinstance(reply, ReCodeError) and not overlong:
                checked.first_failure = checked.first_failure or str(reply)
                in_a_row += 1
                if in_a_row == _GIVE_UP_AFTER:
                    return False
                continue
            in_a_row = 0
            text, ending = ("", "overlong") if overlong else (reply.text, reply.finish_reason)
            found = read_reply(text) if ending not in ("length", "overlong") else None
            record = {
                "request": key,
                "judge": about[0],
                "prompt_version": about[1].version,
                "attempt": attempt,
                "judgement": found.judgement if found else None,
                "finish_reason": ending,
                "reply": text,
            }
            file.append(record)
            kept.add(record)
            progress.advance(int(found is not None or ending == "overlong" or attempt + 1 == attempts))
    return True


class _Kept:
    """The replies that are there, by request; of each the one that could be read, or all that could not."""

    def __init__(self, path: Path, wanted: set[str]) -> None:
        self.path, self._wanted = path, wanted
        self._by_request: dict[str, list[dict[str, Any]]] = {}
        jsonl.repair(path)
        if path.exists():
            for number, record in jsonl.read(path):
                if not isinstance(record.get("request"), str) or "judgement" not in record:
                    raise DataError(f"{path}: line {number}: not a reply of a judge; choose another --out")
                self.add(record)

    def add(self, record: dict[str, Any]) -> None:
        """Take one reply."""
        self._by_request.setdefault(record["request"], []).append(record)

    def open(self, key: str, attempt: int) -> bool:
        """Whether a request is to be asked in this round."""
        found = self._by_request.get(key, [])
        settled = any(r["judgement"] is not None or r.get("finish_reason") == "overlong" for r in found)
        return not settled and len(found) == attempt

    def settled(self, attempts: int) -> list[str]:
        """Requests that nothing more is asked about."""
        return [key for key in self._wanted if self.end(key, attempts) is not None]

    def end(self, key: str, attempts: int) -> dict[str, Any] | None:
        """The reply that counts: the first that can be read, else the last; None where more is to be asked."""
        found = self._by_request.get(key, [])
        readable = [record for record in found if record["judgement"] is not None]
        if readable:
            return {**readable[0], "attempts": found.index(readable[0]) + 1}
        if len(found) >= attempts or any(record.get("finish_reason") == "overlong" for record in found):
            return {**found[-1], "attempts": len(found)}
        return None

    def counts(self) -> tuple[int, int]:
        """Replies to the requests of this run, and how many of them could not be read."""
        mine = [record for key in self._wanted for record in self._by_request.get(key, [])]
        return len(mine), sum(record["judgement"] is None for record in mine)


def _judged(sample: Sample, record: dict[str, Any], judge: str, prompt: Versioned) -> Judged:
    found = read_reply(record["reply"]) if record["judgement"] is not None else None
    return Judged(
        sample.problem_id,
        sample.sample_id,
        found.judgement if found else "unparsable",
        judge,
        found.explanation if found else str(record["reply"]),
        prompt.version,
        record["attempts"],
    )

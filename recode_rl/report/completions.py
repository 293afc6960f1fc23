"""Chooses three completions of the last evaluation to read: passed and well reasoned, passed and less so, failed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recode_rl import completion
from recode_rl.report.run import Evaluation, Record, Run, number, present, records

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Shown:
    """A completion with all that is known of it; texts are as the model wrote them and must be escaped."""

    title: str
    problem_id: str
    statement: str
    reasoning: str
    program: str
    text: str  # the whole completion where it could not be taken apart
    verdict: Record
    rewards: Record


@dataclass(frozen=True, slots=True)
class _Judged:
    sample: Record
    verdict: Record
    rewards: Record

    @property
    def problem_id(self) -> str:
        return str(self.sample.get("problem_id"))

    @property
    def process(self) -> float | None:
        return number(self.rewards.get("process"))


def source(run: Run) -> Evaluation | None:
    """The last evaluation that kept its samples and verdicts."""
    for evaluation in reversed(run.evaluations):
        if present(evaluation.folder / "samples.jsonl") and present(evaluation.folder / "verdicts.jsonl"):
            return evaluation
    return None


def choose(run: Run) -> list[Shown]:
    """Up to three completions; none where the run kept no samples."""
    evaluation = source(run)
    if evaluation is None:
        return []
    judged = _join(evaluation)
    passed = [one for one in judged if one.verdict.get("passed")]
    failed = [one for one in judged if not one.verdict.get("passed")]
    chosen = _passing(passed)
    if failed:
        chosen.append(("Failed", next((one for one in failed if _parts(one.sample)[0]), failed[0])))
    wanted = {one.problem_id for _, one in chosen}
    statements = _statements(run, evaluation, wanted)
    return [_shown(title, one, statements.get(one.problem_id, "")) for title, one in chosen]


def _passing(passed: list[_Judged]) -> list[tuple[str, _Judged]]:
    """The passing completion that the reward model likes best, and the least liked one of another problem."""
    scored = sorted((one for one in passed if one.process is not None), key=lambda one: one.process or 0.0)
    if not scored:
        distinct = {one.problem_id: one for one in reversed(passed)}
        return [("Passed", one) for one in list(reversed(distinct.values()))[:2]]
    best = scored[-1]
    others = [one for one in scored if one.problem_id != best.problem_id] or scored[:-1]
    return [("Passed, highest process reward", best), *(("Passed, lowest process reward", one) for one in others[:1])]


def _join(evaluation: Evaluation) -> list[_Judged]:
    """Samples that have a verdict, in the order of the samples."""
    verdicts = _by_key(evaluation, "verdicts.jsonl")
    rewards = _by_key(evaluation, "rewards.jsonl")
    samples = records(evaluation.folder / "samples.jsonl")
    return [
        _Judged(sample, verdicts[key], rewards.get(key, {})) for sample in samples if (key := _key(sample)) in verdicts
    ]


def _by_key(evaluation: Evaluation, name: str) -> dict[Key, Record]:
    return {_key(record): record for record in records(evaluation.folder / name)}


def _key(record: Record) -> Key:
    return str(record.get("problem_id")), str(record.get("sample_id"))


def _statements(run: Run, evaluation: Evaluation, wanted: set[str]) -> dict[str, str]:
    for folder in (run.path, evaluation.folder):
        found = {
            str(record.get("id")): str(record.get("prompt") or "")
            for record in records(folder / "problems.jsonl")
            if str(record.get("id")) in wanted
        }
        if found:
            return found
    return {}


def _parts(sample: Record) -> tuple[str, str]:
    """Reasoning and program of a sample, empty where there is none."""
    text: Any = sample.get("completion")
    if not isinstance(text, str):
        return "", str(sample.get("program") or "")
    parsed = completion.parse(text)
    return parsed.reasoning or "", parsed.program or ""


def _shown(title: str, one: _Judged, statement: str) -> Shown:
    reasoning, program = _parts(one.sample)
    whole = "" if reasoning else str(one.sample.get("completion") or "")
    return Shown(title, one.problem_id, statement, reasoning, program, whole, one.verdict, one.rewards)

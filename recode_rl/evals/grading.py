"""Stored samples → verdicts.jsonl and rewards.jsonl: in the order of the input, resumable, nothing dropped."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recode_rl import completion, jsonl
from recode_rl.errors import DataError, InfrastructureError, SandboxError
from recode_rl.grading import AnyGrader, verdict_from_record, verdict_to_record
from recode_rl.grading.grader import Done, Job
from recode_rl.progress import Progress
from recode_rl.reward import Rule, Scored, Scorer, price
from recode_rl.types import Completion, Problem, Sample, Verdict


@dataclass(frozen=True, slots=True)
class Graded:
    """A sample with its verdict and with what the parser found; `verdict` is an error where there is none."""

    problem: Problem
    sample: Sample
    parsed: Completion
    verdict: Verdict | SandboxError

    @property
    def name(self) -> str:
        """How messages name the sample."""
        return f"{self.sample.problem_id}/{self.sample.sample_id}"


def match(problems: Sequence[Problem], samples: Sequence[Sample]) -> list[Problem]:
    """The problem of each sample; DataError names a sample whose problem is not there."""
    by_id = {problem.id: problem for problem in problems}
    for sample in samples:
        if sample.problem_id not in by_id:
            raise DataError(
                f"sample {sample.sample_id!r} is for problem {sample.problem_id!r}, which is not among the "
                f"{len(by_id)} problems; give the problems file the samples were made from"
            )
    return [by_id[sample.problem_id] for sample in samples]


def grade_samples(
    problems: Sequence[Problem], samples: Sequence[Sample], out: Path, grader: AnyGrader, title: str = "grading"
) -> list[Graded]:
    """Grade every sample into verdicts.jsonl, continuing behind the lines that are there.

    Lines are written in the order of the samples, each as soon as those before it are there, up to the first sample
    that our own infrastructure failed: that one stays without a line (a further run grades it and what follows) and is
    returned as its error.
    """
    matched = match(problems, samples)
    parsed = [_parsed(sample) for sample in samples]
    verdicts: list[Verdict | SandboxError] = list(_continue(out, samples))
    start = len(verdicts)
    with Progress(title, len(samples), start) as progress, jsonl.Appender(out) as file:
        waiting: dict[int, Verdict | SandboxError] = {}
        written = start

        def on_done(place: int, verdict: Verdict | SandboxError) -> None:
            nonlocal written
            waiting[start + place] = verdict
            while isinstance(ready := waiting.get(written), Verdict):
                sample = samples[written]
                format_ok = None if sample.completion is None else parsed[written].format_ok
                file.append(verdict_to_record(ready, sample.problem_id, sample.sample_id, format_ok))
                del waiting[written]
                written += 1
            progress.advance(1)

        rest = zip(matched[start:], parsed[start:], strict=True)
        jobs = [(problem, completion.submission(found, problem.tests)) for problem, found in rest]
        verdicts += grade_once(grader, jobs, on_done)
    return [Graded(*row) for row in zip(matched, samples, parsed, verdicts, strict=True)]


def grade_once(grader: AnyGrader, jobs: Sequence[Job], on_done: Done) -> list[Verdict | SandboxError]:
    """`grade_many`, with programs that are the same for the same problem run once: models write many things twice."""
    places: dict[tuple[str, str | None], list[int]] = {}
    for place, (problem, program) in enumerate(jobs):
        places.setdefault((problem.id, program), []).append(place)
    same = list(places.values())

    def on_one(number: int, verdict: Verdict | SandboxError) -> None:
        for place in same[number]:
            on_done(place, verdict)

    verdicts = grader.grade_many([jobs[found[0]] for found in same], on_one)
    by_place = {place: verdict for found, verdict in zip(same, verdicts, strict=True) for place in found}
    return [by_place[place] for place in range(len(jobs))]


def write_manifest(out: Path, grader: AnyGrader) -> None:
    """`verdicts.manifest.json` beside `verdicts.jsonl`: what the programs ran in, and under which limits."""
    jsonl.write_json(jsonl.manifest_path(out), jsonl.manifest("grade", None, grader=grader.describe()))


def _parsed(sample: Sample) -> Completion:
    """What a sample says: a bare program is a completion without text, one beside a completion is taken from it."""
    if sample.completion is not None:
        parsed = completion.parse(sample.completion)
        return parsed if sample.program is None else dataclasses.replace(parsed, program=sample.program or None)
    program = sample.program if sample.program and sample.program.strip() else None
    return Completion(text="", reasoning=None, answer=None, program=program, format_ok=False)


def _continue(out: Path, samples: Sequence[Sample]) -> list[Verdict]:
    """The verdicts that an earlier run left; DataError where they are of other samples."""
    jsonl.repair(out)
    if not out.exists():
        return []
    verdicts: list[Verdict] = []
    for number, record in jsonl.read(out):
        index = len(verdicts)
        key = (record.get("problem_id"), record.get("sample_id"))
        if index >= len(samples) or key != (samples[index].problem_id, samples[index].sample_id):
            raise DataError(
                f"{out}: line {number}: a verdict on other samples; remove the file or choose another --out"
            )
        verdicts.append(verdict_from_record(record))
    return verdicts


def not_graded(graded: Sequence[Graded]) -> list[str]:
    """Names of the samples without a verdict, for the message at the end."""
    return [g.name for g in graded if isinstance(g.verdict, SandboxError)]


def summary(graded: Sequence[Graded]) -> dict[str, Any]:
    """What `grade --json` prints."""
    verdicts = [g.verdict for g in graded if isinstance(g.verdict, Verdict)]
    return {
        "samples": len(graded),
        "passed": sum(v.passed for v in verdicts),
        "by_status": dict(Counter(v.status for v in verdicts)),
        "not_graded": not_graded(graded),
    }


def reward_records(graded: Sequence[Graded], outcomes: Sequence[Scored | InfrastructureError]) -> list[dict[str, Any]]:
    """Lines of rewards.jsonl; a sample that the infrastructure failed has none."""
    records = []
    for g, outcome in zip(graded, outcomes, strict=True):
        if isinstance(outcome, InfrastructureError):
            continue
        values = dataclasses.asdict(outcome.reward)
        del values["process_weight"]
        records.append({"problem_id": g.sample.problem_id, "sample_id": g.sample.sample_id, **values})
    return records


def price_graded(
    graded: Sequence[Graded], rule: Rule, scorer: Scorer | None, stored: dict[tuple[str, str], float] | None = None
) -> list[Scored | InfrastructureError]:
    """The reward of each graded sample; `stored` process rewards (by problem and sample id) replace the scorer."""
    known = None if stored is None else [_stored(g, stored) for g in graded]
    return price(
        rule, scorer, [g.problem for g in graded], [g.parsed for g in graded], [g.verdict for g in graded], known
    )


def _stored(graded: Graded, stored: dict[tuple[str, str], float]) -> float | None:
    """The score of a sample. An empty completion earns 0 without one; a bare program has no text, but a score."""
    if graded.sample.completion == "":
        return 0.0
    return stored.get((graded.sample.problem_id, graded.sample.sample_id))


def failed(graded: Sequence[Graded], outcomes: Sequence[Scored | InfrastructureError]) -> list[str]:
    """Names of the samples that have no reward."""
    return [g.name for g, outcome in zip(graded, outcomes, strict=True) if isinstance(outcome, InfrastructureError)]

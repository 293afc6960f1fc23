"""Sample → grade → reward → results: one evaluation of one model on one set of problems."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recode_rl import jsonl
from recode_rl.errors import DataError, InfrastructureError
from recode_rl.evals import grading, pages
from recode_rl.evals.results import summarise
from recode_rl.grading import AnyGrader
from recode_rl.problems.records import problem_to_record
from recode_rl.reward import Scored, Scorer, find_rule
from recode_rl.sampling import EndpointModel, LocalModel, SamplingSettings, draw, load_samples
from recode_rl.types import Problem, Sample

_GREEDY = SamplingSettings()


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What to evaluate: problems, where the samples come from (a model, or a samples file), and the reward rule.

    With `grade_only` nothing is generated: the samples in `out` (or in `samples`) are graded anew. Problems that are
    named in `excused` cannot be graded here, by the reason: they are reported as not evaluated, never as failed.
    """

    problems: Sequence[Problem]
    out: Path
    model: Callable[[], LocalModel | EndpointModel] | None = None
    model_name: str | None = None  # where it is given, samples of another model in `out` are refused
    samples: Path | None = None
    grade_only: bool = False
    excused: Mapping[str, str] = dataclasses.field(default_factory=dict)
    sampling: SamplingSettings = _GREEDY
    rule: str = "outcome_only"
    scorer: Scorer | None = None
    title: str = "evaluation"


def evaluate(job: Evaluation, grader: AnyGrader) -> dict[str, Any]:
    """Run what is not there yet and return the content of results.json.

    InfrastructureError, with the names, where samples could not be graded or scored; running again does the rest.
    """
    job.out.mkdir(parents=True, exist_ok=True)
    verdicts = job.out / "verdicts.jsonl"
    given = _samples(job)
    samples = [written for written in given if written.problem_id not in job.excused]
    if not samples:
        raise DataError(f"{job.out}: none of the {len(given)} samples is for a problem that can be graded here")
    grading.match(job.problems, samples)
    inputs = _same_inputs(job, samples, verdicts)
    graded = grading.grade_samples(job.problems, samples, verdicts, grader, f"{job.title}: grading")
    outcomes = grading.price_graded(graded, find_rule(job.rule), job.scorer)
    jsonl.write(job.out / "rewards.jsonl", grading.reward_records(graded, outcomes))
    missing = grading.failed(graded, outcomes)
    if missing:
        raise InfrastructureError(
            f"{job.out}: {len(missing)} samples could not be graded or scored ({', '.join(missing[:5])}"
            f"{' …' if len(missing) > 5 else ''}); run the same command again"
        )
    results = {
        **summarise(job.problems, graded, [outcome for outcome in outcomes if isinstance(outcome, Scored)]),
        "excused": dict(sorted(job.excused.items())),
        "rule": job.rule,
        "model": job.model_name or _only_model(samples),
        "sampling": dataclasses.asdict(job.sampling) if job.samples is None and not job.grade_only else None,
        "samples_digest": _digest([dataclasses.asdict(written) for written in samples]),
        "manifest": jsonl.manifest("eval", None, problems=len(job.problems), grader=_described(grader)),
    }
    jsonl.write_json(job.out / "results.json", results)
    jsonl.write_json(job.out / "graded.json", inputs)
    pages.write(job.out, job.title, results, graded)
    return results


def _described(grader: AnyGrader) -> dict[str, Any] | None:
    return grader.describe() if hasattr(grader, "describe") else None


def _only_model(samples: Sequence[Sample]) -> str | None:
    names = {written.model for written in samples}
    return names.pop() if len(names) == 1 else None


def _digest(records: Sequence[Any]) -> str:
    text = json.dumps(records, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()


def _same_inputs(job: Evaluation, samples: Sequence[Sample], verdicts: Path) -> dict[str, str]:
    """The digests of samples and tests. Verdicts that are there count only for the same ones.

    DataError where they are of others. With `grade_only` they count only where such a run was stopped.
    """
    path = job.out / "graded.json"
    asked = {written.problem_id for written in samples}
    tests = [problem_to_record(problem) for problem in job.problems if problem.id in asked]
    kept = [[each["id"], each["tests"], each["limits"]] for each in tests]
    wanted = {"samples": _digest([dataclasses.asdict(written) for written in samples]), "tests": _digest(kept)}
    found = jsonl.read_json(path) if path.exists() else None
    if job.grade_only and found != {**wanted, "anew": True}:
        verdicts.unlink(missing_ok=True)
    elif found is not None and verdicts.exists() and any(found.get(key) != wanted[key] for key in wanted):
        other = " and ".join(key for key in wanted if found.get(key) != wanted[key])
        raise DataError(f"{job.out} holds verdicts on other {other}; choose another --out, or add --grade-only")
    jsonl.write_json(path, {**wanted, "anew": True} if job.grade_only else wanted)
    return wanted


def _samples(job: Evaluation) -> list[Sample]:
    source = job.samples or (job.out / "samples.jsonl" if job.grade_only else None)
    if source is not None:
        given = load_samples(source)
        if not given:
            raise DataError(f"{source}: no samples in it; expected one JSON object a line")
        return given
    assert job.model is not None, "an evaluation needs a model or samples"
    path = job.out / "samples.jsonl"
    return draw(job.model, job.problems, job.sampling, path, f"{job.title}: sampling", job.model_name)

"""Best of n: choose one sample of each problem with the reward model, and measure it against choices that need none."""

from __future__ import annotations

import statistics as plain
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recode_rl import completion, jsonl
from recode_rl.errors import ConfigError, DataError, SandboxError
from recode_rl.evals import grading
from recode_rl.evals.rewards import load_scores
from recode_rl.grading import Grader, verdict_from_record
from recode_rl.grading.outputs import Answer
from recode_rl.progress import Progress
from recode_rl.reward import Scorer
from recode_rl.statistics import Interval, difference_interval, mean_interval
from recode_rl.types import Problem, Sample

Key = tuple[str, str]
_PROBLEMS_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Reranking:
    """What to choose among, and where scores, choices and verdicts are kept.

    `inputs` is how many inputs of a problem's tests the majority is taken over; `verdicts` are those of an earlier
    `grade`, None grades into `out`; with `choose_only` nothing is graded and nothing measured.
    """

    problems: Sequence[Problem]
    samples: Sequence[Sample]
    out: Path
    model: str
    inputs: int = 3
    verdicts: Path | None = None
    choose_only: bool = False


@dataclass(frozen=True, slots=True)
class Candidate:
    """One sample with what the choosers go by; `answer` is None where its program answers nothing."""

    key: Key
    score: float
    length: int
    answer: str | None = None
    passed: float = 0.0


def rerank(job: Reranking, scorer: Scorer, grader: Grader) -> dict[str, Any]:
    """Score, choose and measure what is not there yet, and return the content of results.json.

    InfrastructureError where samples could not be scored; running again does the rest.
    """
    matched = grading.match(job.problems, job.samples)
    _same_model(job)
    scores, silent = _scores(job, matched, scorer)
    candidates = _candidates(job.samples, scores)
    chosen = {problem: best(found) for problem, found in candidates.items()}
    jsonl.write(job.out / "choices.jsonl", [_choice(candidates[p], one) for p, one in chosen.items()])
    results: dict[str, Any] = {
        "problems": len(candidates),
        "samples": len(job.samples),
        "model": job.model,
        "without_reasoning": silent,
        "choices": str(job.out / "choices.jsonl"),
    }
    if not job.choose_only:
        results |= _measured(job, matched, scores, grader)
    jsonl.write_json(job.out / "results.json", results | {"manifest": jsonl.manifest("rerank", None)})
    return results


def _same_model(job: Reranking) -> None:
    """Scores and answers are kept, and would be taken for those of another model."""
    path, wanted = job.out / "settings.json", {"model": job.model, "inputs": job.inputs}
    if path.exists() and jsonl.read_json(path) != wanted:
        raise ConfigError(
            f"{job.out} holds a reranking with {jsonl.read_json(path)}; choose another --out or remove it"
        )
    jsonl.write_json(path, wanted)


def _scores(job: Reranking, matched: Sequence[Problem], scorer: Scorer) -> tuple[dict[Key, float], int]:
    """R_proc of every sample, kept in scores.jsonl as they come; and how many have no reasoning, which score 0.0."""
    path = job.out / "scores.jsonl"
    jsonl.repair(path)
    scores = load_scores(path) if path.exists() else {}
    waiting: dict[str, list[tuple[Key, str, str]]] = {}
    silent = 0
    for problem, sample in zip(matched, job.samples, strict=True):
        reasoning = (completion.parse(sample.completion).reasoning if sample.completion else None) or ""
        silent += not reasoning.strip()
        if _key(sample) not in scores:
            waiting.setdefault(problem.id, []).append((_key(sample), problem.prompt, reasoning))
    groups = list(waiting.values())
    done = len(job.samples) - sum(map(len, groups))
    with Progress("scoring", len(job.samples), done) as progress, jsonl.Appender(path) as file:
        for start in range(0, len(groups), _PROBLEMS_AT_ONCE):
            batch = [item for group in groups[start : start + _PROBLEMS_AT_ONCE] for item in group]
            asked = [item for item in batch if item[2].strip()]
            found = dict(zip((key for key, *_ in asked), scorer([(p, r) for _, p, r in asked]), strict=True))
            for key, *_ in batch:
                scores[key] = found.get(key, 0.0)
                file.append({"problem_id": key[0], "sample_id": key[1], "process": scores[key]})
            progress.advance(len(batch))
    return scores, silent


def _key(sample: Sample) -> Key:
    return sample.problem_id, sample.sample_id


def _candidates(samples: Sequence[Sample], scores: dict[Key, float]) -> dict[str, list[Candidate]]:
    found: dict[str, list[Candidate]] = {}
    for sample in samples:
        found.setdefault(sample.problem_id, []).append(Candidate(_key(sample), scores[_key(sample)], _length(sample)))
    return found


def _length(sample: Sample) -> int:
    """Characters of what was written: tokens are not known of all samples."""
    return len(sample.completion if sample.completion is not None else sample.program or "")


def _choice(candidates: Sequence[Candidate], chosen: Candidate) -> dict[str, Any]:
    """One line of choices.jsonl."""
    return {
        "problem_id": chosen.key[0],
        "sample_id": chosen.key[1],
        "process": chosen.score,
        "of": len(candidates),
        "second": max((c.score for c in candidates if c is not chosen), default=None),
    }


def best(candidates: Sequence[Candidate]) -> Candidate:
    """The one that the reward model likes best; of equals the first."""
    return max(candidates, key=lambda c: c.score)


def shortest(candidates: Sequence[Candidate]) -> Candidate:
    """The one with the fewest characters; of equals the first."""
    return min(candidates, key=lambda c: c.length)


def majority(candidates: Sequence[Candidate]) -> Candidate | None:
    """The first of those whose answers most others give, too; None where no program answers."""
    counts = Counter(c.answer for c in candidates if c.answer is not None)
    return max((c for c in candidates if c.answer is not None), key=lambda c: counts[c.answer or ""], default=None)


def best_of_majority(candidates: Sequence[Candidate]) -> Candidate | None:
    """The one that the reward model likes best of those whose answers most others give, too."""
    first = majority(candidates)
    return None if first is None else best([c for c in candidates if c.answer == first.answer])


CHOOSERS: dict[str, Callable[[Sequence[Candidate]], Candidate | None]] = {
    "reward_model": best,
    "shortest": shortest,
    "majority": majority,
    "reward_model_of_majority": best_of_majority,
}


def _measured(job: Reranking, matched: Sequence[Problem], scores: dict[Key, float], grader: Grader) -> dict[str, Any]:
    passed, missing = _passed(job, grader)
    found, unanswered = _answers(job, matched, grader)
    judged: dict[str, list[Candidate]] = {}
    for sample in job.samples:
        key = _key(sample)
        if key in passed:
            one = Candidate(key, scores[key], _length(sample), found.get(key), passed[key])
            judged.setdefault(sample.problem_id, []).append(one)
    runnable = {problem.id for problem in matched if problem.tests.kind in ("stdio", "calls")}
    return {
        **compare(judged),
        "majority_over": {
            "inputs": job.inputs,
            "problems": len(runnable & set(judged)),
            "without_inputs": len(set(judged) - runnable),
        },
        "not_graded": missing,
        "not_run": unanswered,
    }


def compare(judged: dict[str, list[Candidate]]) -> dict[str, Any]:
    """The pass rate of each way to choose, by problem, and its difference to a random choice and to the reward model.

    A chooser that cannot decide (no program answers, no inputs to run on) is credited with a random choice. `mixed` are
    the problems whose samples do not all do the same: on the others no choice matters.
    """
    if not judged:
        raise DataError("no sample has a verdict, so nothing can be measured; grade them, or only choose")
    rates = {name: [_rate(choose(found), found) for found in judged.values()] for name, choose in CHOOSERS.items()}
    rates["random"] = [_rate(None, found) for found in judged.values()]
    rates["any"] = [max(c.passed for c in found) for found in judged.values()]
    mixed = [place for place, rate in enumerate(rates["random"]) if 0 < rate < 1]
    ours = rates["reward_model"]
    others = [name for name in rates if name not in ("reward_model", "any")]
    undecided = {name: sum(choose(found) is None for found in judged.values()) for name, choose in CHOOSERS.items()}
    return {
        "mixed": len(mixed),
        "choosers": {
            name: _chooser(values, mixed) | {"undecided": undecided.get(name, 0)} for name, values in rates.items()
        },
        "differences": {
            f"reward_model - {name}": _difference(difference_interval(ours, rates[name])) for name in others
        },
    }


def _rate(chosen: Candidate | None, candidates: Sequence[Candidate]) -> float:
    """Whether the chosen one passed; without one, the chance of a random choice."""
    return plain.fmean(c.passed for c in candidates) if chosen is None else chosen.passed


def _chooser(values: Sequence[float], mixed: Sequence[int]) -> dict[str, Any]:
    whole = mean_interval(values)
    part = mean_interval([values[place] for place in mixed]) if mixed else None
    return {
        "pass@1": whole.mean,
        "interval": whole.as_list(),
        "mixed_pass@1": part.mean if part else None,
        "mixed_interval": part.as_list() if part else None,
    }


def _difference(interval: Interval) -> dict[str, Any]:
    return {"difference": interval.mean, "interval": interval.as_list(), "n": interval.n}


def _passed(job: Reranking, grader: Grader) -> tuple[dict[Key, float], list[str]]:
    """Which samples passed, and the names of those that are not graded."""
    if job.verdicts is None:
        graded = grading.grade_samples(job.problems, job.samples, job.out / "verdicts.jsonl", grader)
        known = {_key(g.sample): float(g.verdict.passed) for g in graded if not isinstance(g.verdict, SandboxError)}
        return known, grading.not_graded(graded)
    known = {}
    for _, record in jsonl.read(job.verdicts):
        known[str(record.get("problem_id")), str(record.get("sample_id"))] = float(verdict_from_record(record).passed)
    return known, ["/".join(_key(sample)) for sample in job.samples if _key(sample) not in known]


def _answers(job: Reranking, matched: Sequence[Problem], grader: Grader) -> tuple[dict[Key, str | None], list[str]]:
    """The digest of each sample's answers, kept in answers.jsonl as they come; and the names of what was not run."""
    path = job.out / "answers.jsonl"
    jsonl.repair(path)
    known: dict[Key, str | None] = {}
    if path.exists():
        known = {(r["problem_id"], r["sample_id"]): r["answers"] for _, r in jsonl.read(path)}
    rest = [(p, s) for p, s in zip(matched, job.samples, strict=True) if _key(s) not in known]
    rest = [(p, s) for p, s in rest if p.tests.kind in ("stdio", "calls")]
    missing: list[str] = []
    with Progress("running", len(rest)) as progress, jsonl.Appender(path) as file:

        def on_done(place: int, answer: Answer) -> None:
            key = _key(rest[place][1])
            if isinstance(answer, SandboxError):
                missing.append("/".join(key))
            else:
                known[key] = answer
                file.append({"problem_id": key[0], "sample_id": key[1], "answers": answer})
            progress.advance()

        grader.answers_many([(problem, _program(sample)) for problem, sample in rest], job.inputs, on_done)
    return known, missing


def _program(sample: Sample) -> str | None:
    return sample.program if sample.completion is None else completion.parse(sample.completion).program


def table(results: dict[str, Any]) -> str:
    """The choosers as lines of text, the best first."""
    names = sorted(results["choosers"], key=lambda name: -results["choosers"][name]["pass@1"])
    lines = [f"{'chosen by':<26}{'pass@1':>8}  {'95 % interval':<18}{'where it matters':>16}"]
    for name in names:
        row = results["choosers"][name]
        low, high = row["interval"]
        mixed = "–" if row["mixed_pass@1"] is None else f"{row['mixed_pass@1']:.3f}"
        lines.append(f"{name:<26}{row['pass@1']:>8.3f}  [{low:.3f}, {high:.3f}]{mixed:>18}")
    return "\n".join(lines)

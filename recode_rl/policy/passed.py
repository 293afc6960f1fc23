"""Completions that passed their tests, as targets of supervised training on the data of reinforcement learning."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recode_rl import completion, jsonl
from recode_rl.errors import DataError
from recode_rl.sampling import load_samples
from recode_rl.types import Problem


def targets(problems: Sequence[Problem], samples: Path, verdicts: Path) -> list[tuple[Problem, str]]:
    """Each well-formed completion that passed, with its problem, in the order of `samples`; equal ones once.

    Samples of other problems are left aside. DataError where a file is broken, or a sample has no verdict.
    """
    by_id = {problem.id: problem for problem in problems}
    passed = dict(jsonl.load(verdicts, _verdict))
    found: dict[tuple[str, str], Problem] = {}
    for sample in load_samples(samples):
        problem = by_id.get(sample.problem_id)
        if problem is None or sample.completion is None:
            continue
        key = sample.problem_id, sample.sample_id
        if key not in passed:
            raise DataError(f"{verdicts}: no verdict on sample {key[1]!r} of {key[0]!r}; grade {samples} to its end")
        if passed[key] and completion.parse(sample.completion).format_ok:
            found[problem.id, sample.completion] = problem
    return [(problem, text) for (_, text), problem in found.items()]


def _verdict(record: dict[str, Any]) -> tuple[tuple[str, str], bool]:
    key = record.get("problem_id"), record.get("sample_id")
    if not all(isinstance(part, str) for part in key) or type(record.get("passed")) is not bool:
        raise DataError("a verdict needs problem_id, sample_id and passed, true or false")
    return (str(key[0]), str(key[1])), record["passed"]

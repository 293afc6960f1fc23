"""Reference solutions of HumanEval and MBPP pass, and broken variants of them do not."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from recode_rl.grading import Grader
from recode_rl.types import Problem, Verdict
from recode_rl.types import Tests as Given

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no data sets at {DATA}")


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader() as made:
        yield made


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


def humaneval() -> list[tuple[Problem, str]]:
    jobs = []
    for row in rows("humaneval/HumanEval.jsonl"):
        tests = Given("check", entry_point=row["entry_point"], code=row["test"])
        jobs.append((Problem(row["task_id"], row["prompt"], tests), row["prompt"] + row["canonical_solution"]))
    return jobs


def mbpp() -> list[tuple[Problem, str]]:
    jobs = []
    for row in rows("mbpp/sanitized_mbpp.jsonl"):
        defined = set(re.findall(r"^def (\w+)", row["code"], re.MULTILINE))
        used = [node.id for node in ast.walk(ast.parse(row["test_list"][0])) if isinstance(node, ast.Name)]
        name = next(name for name in used if name in defined)
        tests = Given(
            "asserts", entry_point=name, setup="\n".join(row["test_imports"]), asserts=tuple(row["test_list"])
        )
        jobs.append((Problem(f"MBPP/{row['task_id']}", row["prompt"], tests), row["code"]))
    return jobs


def failed(grader: Grader, jobs: list[tuple[Problem, str]]) -> list[str]:
    results = grader.grade_many(jobs)
    return [
        problem.id
        for (problem, _), result in zip(jobs, results, strict=True)
        if not (isinstance(result, Verdict) and result.passed)
    ]


def broken(problem: Problem, program: str) -> str:
    """The same program, but what the entry point returns is wrapped into one more tuple."""
    name = problem.tests.entry_point
    return f"{program}\n_right = {name}\ndef {name}(*args, **kwargs):\n    return (_right(*args, **kwargs), 'broken')\n"


def test_humaneval_references_pass(grader: Grader) -> None:
    jobs = humaneval()
    assert len(jobs) == 164
    assert failed(grader, jobs) == []


def test_humaneval_tests_are_kept_apart(grader: Grader) -> None:
    jobs = humaneval()[:60]
    shared = {
        problem.id
        for (problem, _), result in zip(jobs, grader.grade_many(jobs), strict=True)
        if isinstance(result, Verdict) and result.isolation != "proxied"
    }
    assert shared == {"HumanEval/32", "HumanEval/38", "HumanEval/50"}  # these use helpers that the program defines


def test_humaneval_broken_variants_fail(grader: Grader) -> None:
    jobs = [(problem, broken(problem, program)) for problem, program in humaneval()[:60]]
    assert len(failed(grader, jobs)) == 60


def test_mbpp_references_pass_and_broken_ones_fail(grader: Grader) -> None:
    jobs = mbpp()[:60]
    assert failed(grader, jobs) == []
    assert len(failed(grader, [(problem, broken(problem, program)) for problem, program in jobs])) == 60


@pytest.mark.slow
def test_mbpp_all_references_pass(grader: Grader) -> None:
    assert failed(grader, mbpp()) == []

"""HumanEval and HumanEval+ rows become problems that their own reference programs pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recode_rl import problems
from recode_rl.errors import DataError
from recode_rl.grading import Grader
from recode_rl.problems import humaneval
from recode_rl.problems.records import problem_from_record, problem_to_record
from recode_rl.types import Verdict

ROW: dict[str, Any] = {
    "task_id": "HumanEval/900",
    "prompt": 'import math\n\n\ndef helper(x):\n    return x\n\n\ndef twice(x: int) -> int:\n    """ Twice x. """\n',
    "canonical_solution": "    return helper(x) * 2\n",
    "entry_point": "twice",
    "test": "def check(candidate):\n    assert candidate(2) == helper(4)\n    assert candidate(0) == 0\n",
}


def test_a_row_becomes_a_problem() -> None:
    problem = humaneval.problem(ROW)
    assert (problem.id, problem.source, problem.limits) == ("HumanEval/900", "humaneval", None)
    assert (problem.tests.kind, problem.tests.entry_point, problem.tests.code) == ("check", "twice", ROW["test"])
    assert problem.tests.setup == "import math\n\n\ndef helper(x):\n    return x"
    reference = ROW["prompt"] + ROW["canonical_solution"]
    assert problem.metadata == {"split": "held_out", "reference": reference, "beginning": ROW["prompt"]}
    instruction, _, code = problem.prompt.partition("```python\n")
    assert "complete" in instruction and "`twice`" in instruction
    assert code == ROW["prompt"].strip() + "\n```"


def test_a_row_of_the_plus_set_has_room_for_its_many_tests() -> None:
    problem = humaneval.plus_problem(ROW)
    assert problem.source == "humaneval+"
    assert problem.limits == humaneval.PLUS_LIMITS
    assert "mended" not in problem.metadata


def test_the_broken_check_of_find_zero_is_mended_and_the_problem_says_so() -> None:
    broken = "def check(candidate):\n    for inp in inputs:\n        assert _poly(*candidate(*inp), inp) <= 0.0001\n"
    problem = humaneval.plus_problem({**ROW, "test": broken})
    assert problem.tests.code is not None
    assert "assert abs(_poly(*inp, candidate(*inp))) <= 0.0001" in problem.tests.code
    assert "*candidate(" not in problem.tests.code
    assert "_poly" in problem.metadata["mended"]


@pytest.mark.parametrize("column", ROW)
def test_a_missing_column_is_named(column: str) -> None:
    with pytest.raises(DataError, match=f"column '{column}'"):
        humaneval.problem({key: value for key, value in ROW.items() if key != column})


def test_a_prompt_without_the_function_is_refused() -> None:
    with pytest.raises(DataError, match=r"'HumanEval/900'.*does not define 'thrice'"):
        humaneval.problem({**ROW, "entry_point": "thrice"})


def test_a_helper_of_the_prompt_is_there_for_the_tests(grader: Grader) -> None:
    problem = humaneval.problem(ROW)
    right, own_helper_only, wrong = grader.grade_many(
        [
            (problem, problem.metadata["reference"]),
            (problem, "def twice(x):\n    return x + x\n"),
            (problem, "def twice(x):\n    return x * x + 1\n"),
        ]
    )
    assert [getattr(verdict, "status", verdict) for verdict in (right, own_helper_only, wrong)] == [
        "passed",
        "passed",
        "wrong_answer",
    ]


def failures(grader: Grader, chosen: list[Any]) -> dict[str, Any]:
    """The problems whose own reference program does not pass."""
    results = grader.grade_many([(problem, problem.metadata["reference"]) for problem in chosen])
    return {
        problem.id: result
        for problem, result in zip(chosen, results, strict=True)
        if not (isinstance(result, Verdict) and result.passed)
    }


@pytest.mark.parametrize("dataset", ["humaneval", "humaneval+"])
def test_the_real_set_is_read_whole(shared_data: Path, dataset: str) -> None:
    found = problems.load(dataset, shared_data)
    assert [problem.id for problem in found] == [f"HumanEval/{number}" for number in range(164)]
    assert {problem.metadata["split"] for problem in found} == {"held_out"}
    assert [problem.id for problem in found if "mended" in problem.metadata] == (
        ["HumanEval/32"] if dataset == "humaneval+" else []
    )
    assert "def poly" in found[32].tests.setup
    assert [problem_from_record(problem_to_record(problem)) for problem in found] == found


def test_a_sample_of_humaneval_passes(shared_data: Path, grader: Grader) -> None:
    found = problems.load("humaneval", shared_data)
    by_id = {problem.id: problem for problem in found}
    with_helpers = [by_id["HumanEval/32"], by_id["HumanEval/38"], by_id["HumanEval/50"]]
    assert failures(grader, [*found[:120:10], *with_helpers]) == {}


def test_a_sample_of_humaneval_plus_passes(shared_data: Path, grader: Grader) -> None:
    found = problems.load("humaneval+", shared_data)
    assert failures(grader, [*found[:112:8], found[32]]) == {}


@pytest.mark.slow
@pytest.mark.parametrize("dataset", ["humaneval", "humaneval+"])
def test_every_reference_program_passes(shared_data: Path, grader: Grader, dataset: str) -> None:
    assert failures(grader, problems.load(dataset, shared_data)) == {}

"""MBPP rows, full, sanitized and plus, become problems that their own reference programs pass."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from recode_rl import jsonl, problems
from recode_rl.errors import DataError
from recode_rl.grading import Grader
from recode_rl.problems import mbpp
from recode_rl.problems.records import problem_from_record, problem_to_record
from recode_rl.types import Verdict

FULL: dict[str, Any] = {
    "task_id": 700,
    "text": "Write a function to double a number.\r\n",
    "code": "import math\r\ndef helper(x):\r\n    return x\r\ndef double(x):\r\n    return helper(x) * 2\r\n",
    "test_setup_code": "import math",
    "test_list": ["assert double(2) == 4", "assert double(0) == 0"],
    "challenge_test_list": ["assert double(-1) == -2"],
}
SANITIZED: dict[str, Any] = {
    "task_id": 700,
    "prompt": "Write a function to double a number.",
    "code": "def double(x):\n    return x * 2\n",
    "test_imports": ["import math", "import re"],
    "test_list": ["assert math.isclose(double(2), 4)", "assert double(0) == 0"],
    "source_file": "x.ipynb",
}


def test_a_row_of_the_full_set() -> None:
    problem = mbpp.full_problem(FULL)
    assert (problem.id, problem.source, problem.limits) == ("Mbpp/700", "mbpp-full", None)
    assert (problem.tests.kind, problem.tests.entry_point, problem.tests.setup) == ("asserts", "double", "import math")
    assert problem.tests.asserts == ("assert double(2) == 4", "assert double(0) == 0")
    assert problem.prompt == (
        "Write a function to double a number.\n\nYour code must pass these tests:\n\n"
        "```python\nassert double(2) == 4\nassert double(0) == 0\n```"
    )
    assert problem.metadata["challenge_test_list"] == ["assert double(-1) == -2"]
    assert "\r" not in problem.metadata["reference"]


def test_a_row_of_the_sanitized_set() -> None:
    problem = mbpp.problem(SANITIZED)
    assert (problem.source, problem.tests.entry_point) == ("mbpp", "double")
    assert problem.tests.setup == "import math\nimport re"
    beginning = problem.metadata.pop("beginning")
    assert problem.metadata == {"split": "train", "reference": SANITIZED["code"]}
    assert beginning.startswith('"""\n') and SANITIZED["prompt"] in beginning and SANITIZED["test_list"][0] in beginning


def test_a_row_of_the_plus_set_is_tested_by_its_script() -> None:
    script = "inputs = [[1]]\nfor i in inputs:\n    assert double(*i) == 2\n"
    problem = mbpp.plus_problem({**SANITIZED, "test": script})
    assert problem.tests.asserts == (script,)
    assert (problem.source, problem.tests.entry_point, problem.limits) == ("mbpp+", "double", mbpp.PLUS_LIMITS)
    assert "assert double(0) == 0" in problem.prompt and "inputs" not in problem.prompt


@pytest.mark.parametrize(
    ("number", "split"),
    [(1, "prompt"), (10, "prompt"), (11, "held_out"), (511, "held_out"), (600, "held_out"), (601, "train")],
)
def test_the_split_follows_the_number(number: int, split: str) -> None:
    assert mbpp.full_problem({**FULL, "task_id": number}).metadata["split"] == split


@pytest.mark.parametrize(
    ("stated", "split"),
    [("train", "train"), ("test", "held_out"), ("validation", "held_out"), ("prompt", "prompt")],
)
def test_a_stated_split_counts(stated: str, split: str) -> None:
    assert mbpp.problem({**SANITIZED, "split": stated}).metadata["split"] == split


@pytest.mark.parametrize(
    ("reference", "test", "name"),
    [
        ("def f(x): ...", "assert f(1) == 2", "f"),
        ("def f(x): ...", "assert set(f(1)) == {2}", "f"),
        ("def f(x): ...\ndef g(x): ...", "assert g(f(1)) == 2", "g"),
        ("class Pair: ...\ndef f(x): ...", "assert f([Pair(1, 2)]) == 2", "f"),
        ("def f(x): ...\ndef g(x): ...", "assert not g(1)", "g"),
        ("def f(x): ...", "root = Node(1)\nassert (f(root)) == True", "f"),
    ],
)
def test_the_entry_point_is_the_reference_function_that_the_test_calls(reference: str, test: str, name: str) -> None:
    assert mbpp.entry_point(reference, test, "Mbpp/1") == name


@pytest.mark.parametrize(
    ("reference", "test"),
    [("def f(x): ...", "assert g(1) == 2"), ("def f(x", "assert f(1)"), ("def f(x): ...", "assert f(1")],
)
def test_a_row_without_an_entry_point_is_named(reference: str, test: str) -> None:
    with pytest.raises(DataError, match=r"'Mbpp/5'"):
        mbpp.entry_point(reference, test, "Mbpp/5")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"task_id": "700"}, "column 'task_id'"),
        ({"prompt": None}, "column 'prompt'"),
        ({"code": 3}, "column 'code'"),
        ({"test_list": "assert double(1) == 2"}, "column 'test_list'"),
        ({"test_list": []}, "test_list is empty"),
        ({"split": "dev"}, "split 'dev': expected one of train, test, validation, prompt"),
    ],
)
def test_a_bad_row_is_named(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        mbpp.problem({**SANITIZED, **change})


def test_a_plus_row_without_its_script_is_named() -> None:
    with pytest.raises(DataError, match=r"column 'test'"):
        mbpp.plus_problem(SANITIZED)


def failures(grader: Grader, chosen: list[Any]) -> dict[str, Any]:
    """The problems whose own reference program does not pass."""
    results = grader.grade_many([(problem, problem.metadata["reference"]) for problem in chosen])
    return {
        problem.id: result
        for problem, result in zip(chosen, results, strict=True)
        if not (isinstance(result, Verdict) and result.passed)
    }


@pytest.mark.parametrize(
    ("dataset", "splits"),
    [
        ("mbpp", {"train": 120, "held_out": 300, "prompt": 7}),
        ("mbpp-full", {"train": 374, "held_out": 590, "prompt": 10}),
        ("mbpp+", {"train": 108, "held_out": 263, "prompt": 7}),
    ],
)
def test_the_real_set_is_read_whole(shared_data: Path, dataset: str, splits: dict[str, int]) -> None:
    found = problems.load(dataset, shared_data)
    assert Counter(problem.metadata["split"] for problem in found) == splits
    assert [problem_from_record(problem_to_record(problem)) for problem in found] == found
    numbers = [int(problem.id.removeprefix("Mbpp/")) for problem in found]
    assert numbers == sorted(numbers)


def test_a_problem_has_the_same_split_in_all_three_sets(shared_data: Path) -> None:
    full = {problem.id: problem.metadata["split"] for problem in problems.load("mbpp-full", shared_data)}
    for dataset in ("mbpp", "mbpp+"):
        assert all(full[p.id] == p.metadata["split"] for p in problems.load(dataset, shared_data))


def test_the_entry_points_are_those_that_evalplus_states(shared_data: Path) -> None:
    rows = [row for _, row in jsonl.read(shared_data / "mbppplus" / "MbppPlus.jsonl.gz")]
    stated = {row["task_id"]: row["entry_point"] for row in rows}
    assert {p.id: p.tests.entry_point for p in problems.load("mbpp+", shared_data)} == stated


@pytest.mark.parametrize("dataset", ["mbpp", "mbpp-full"])
def test_a_sample_passes(shared_data: Path, grader: Grader, dataset: str) -> None:
    found = problems.load(dataset, shared_data)
    assert failures(grader, found[:: len(found) // 14][:15]) == {}


def test_a_sample_of_the_plus_set_passes(shared_data: Path, grader: Grader) -> None:
    assert failures(grader, problems.load("mbpp+", shared_data)[:375:25]) == {}


@pytest.mark.slow
@pytest.mark.parametrize("dataset", ["mbpp", "mbpp-full", "mbpp+"])
def test_every_reference_program_passes(shared_data: Path, grader: Grader, dataset: str) -> None:
    assert failures(grader, problems.load(dataset, shared_data)) == {}

"""Stored samples to verdicts.jsonl: one line a sample in the order of the input, whatever happens on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from recode_rl import jsonl
from recode_rl.errors import DataError, SandboxError
from recode_rl.evals import grading
from recode_rl.grading import Grader, verdict_from_record
from recode_rl.types import Problem, Sample, Verdict
from recode_rl.types import Tests as Given

PROBLEMS = [
    Problem("double", "2x", Given("calls", entry_point="f", cases=({"args": [2], "expected": 4},))),
    Problem("echo", "print the line", Given("stdio", cases=({"input": "a\n", "output": "a\n"},))),
]
RIGHT = {"double": "def f(x):\n    return 2 * x\n", "echo": "print(input())\n"}
WRONG = {"double": "def f(x):\n    return x\n", "echo": "print(1 / 0)\n"}
SAMPLES = [
    Sample("echo", "0", completion=f"<think>read, print</think><answer>{RIGHT['echo']}</answer>"),
    Sample("double", "0", completion=f"so:\n```python\n{WRONG['double']}```"),
    Sample("double", "1", program=RIGHT["double"]),
    Sample("echo", "1", completion="I do not know."),
    Sample("echo", "2", program=WRONG["echo"]),
    Sample("double", "2", program="  \n"),
]
EXPECTED = [
    ("echo", "0", "passed", True),
    ("double", "0", "wrong_answer", False),
    ("double", "1", "passed", None),
    ("echo", "1", "no_code", False),
    ("echo", "2", "runtime_error", None),
    ("double", "2", "no_code", None),
]


class Faulty:
    """A grader that loses the jobs it is told to, and counts what it is asked."""

    def __init__(self, lost: Callable[[Problem, str | None], bool]) -> None:
        self.lost, self.asked = lost, 0

    def grade_many(self, jobs: Sequence[tuple[Problem, str | None]], on_done: Any = None) -> list[Any]:
        self.asked += len(jobs)
        found: list[Any] = []
        for index, (problem, program) in enumerate(jobs):
            gone = self.lost(problem, program)
            found.append(SandboxError(f"{problem.id}: gone") if gone else Verdict("passed", 1, 1, "stdio"))
            on_done(index, found[-1])
        return found


def lines(path: Path) -> list[dict[str, Any]]:
    return [record for _, record in jsonl.read(path)]


def keys(path: Path) -> list[tuple[str, str]]:
    return [(record["problem_id"], record["sample_id"]) for record in lines(path)]


def many(count: int) -> list[Sample]:
    return [Sample("double", str(number), program=f"# {number}") for number in range(count)]


def test_every_sample_has_one_line_in_the_order_of_the_input(tmp_path: Path, grader: Grader) -> None:
    out = tmp_path / "verdicts.jsonl"
    graded = grading.grade_samples(PROBLEMS, SAMPLES, out, grader)
    assert [(r["problem_id"], r["sample_id"], r["status"], r["format_ok"]) for r in lines(out)] == EXPECTED
    assert [verdict_from_record(record) for record in lines(out)] == [g.verdict for g in graded]
    assert [g.sample for g in graded] == SAMPLES
    assert grading.summary(graded) == {
        "samples": 6,
        "passed": 2,
        "by_status": {"passed": 2, "wrong_answer": 1, "no_code": 2, "runtime_error": 1},
        "not_graded": [],
    }


def test_what_is_graded_is_not_graded_again(tmp_path: Path, grader: Grader) -> None:
    out = tmp_path / "verdicts.jsonl"
    first = grading.grade_samples(PROBLEMS, SAMPLES[:4], out, grader)
    before = out.read_bytes()
    with out.open("ab") as file:
        file.write(b'{"problem_id": "echo", "sam')  # what a kill leaves
    asked: list[str] = []

    class Watching:
        def grade_many(self, jobs: Sequence[tuple[Problem, str | None]], on_done: Any = None) -> Any:
            asked.extend(problem.id for problem, _ in jobs)
            return grader.grade_many(jobs, on_done)

    graded = grading.grade_samples(PROBLEMS, SAMPLES, out, Watching())  # type: ignore[arg-type]
    assert asked == ["echo", "double"]
    assert out.read_bytes().startswith(before)
    assert [g.verdict for g in graded[:4]] == [g.verdict for g in first]
    assert [(r["problem_id"], r["sample_id"], r["status"], r["format_ok"]) for r in lines(out)] == EXPECTED


def test_a_failure_of_ours_leaves_a_gap_that_a_second_run_fills(tmp_path: Path) -> None:
    out, samples = tmp_path / "verdicts.jsonl", many(150)
    graded = grading.grade_samples(PROBLEMS, samples, out, Faulty(lambda _, program: program == "# 70"))  # type: ignore[arg-type]
    assert grading.not_graded(graded) == ["double/70"]
    assert grading.summary(graded)["not_graded"] == ["double/70"]
    assert grading.summary(graded)["passed"] == 149
    assert keys(out) == [("double", str(number)) for number in range(70)]  # in order, so none behind the gap

    second = Faulty(lambda *_: False)
    graded = grading.grade_samples(PROBLEMS, samples, out, second)  # type: ignore[arg-type]
    assert second.asked == 80
    assert grading.not_graded(graded) == []
    assert keys(out) == [("double", str(number)) for number in range(150)]


def test_nothing_is_asked_where_everything_is_there(tmp_path: Path) -> None:
    out, samples = tmp_path / "verdicts.jsonl", many(3)
    grading.grade_samples(PROBLEMS, samples, out, Faulty(lambda *_: False))  # type: ignore[arg-type]
    again = Faulty(lambda *_: True)
    assert len(grading.grade_samples(PROBLEMS, samples, out, again)) == 3  # type: ignore[arg-type]
    assert again.asked == 0


@pytest.mark.parametrize("samples", [many(4)[1:], many(2), many(4)[::-1]], ids=["others", "fewer", "another order"])
def test_verdicts_of_other_samples_are_not_taken_for_these(tmp_path: Path, samples: list[Sample]) -> None:
    out = tmp_path / "verdicts.jsonl"
    grading.grade_samples(PROBLEMS, many(4), out, Faulty(lambda *_: False))  # type: ignore[arg-type]
    before = out.read_bytes()
    with pytest.raises(DataError, match=r"verdicts\.jsonl: line \d: a verdict on other samples; remove the file"):
        grading.grade_samples(PROBLEMS, samples, out, Faulty(lambda *_: False))  # type: ignore[arg-type]
    assert out.read_bytes() == before


def test_a_sample_of_an_unknown_problem_is_named_before_anything_is_written(tmp_path: Path) -> None:
    out = tmp_path / "verdicts.jsonl"
    with pytest.raises(DataError, match=r"sample '7' is for problem 'triple'.*the 2 problems"):
        grading.grade_samples(PROBLEMS, [*SAMPLES, Sample("triple", "7", program="x")], out, Faulty(lambda *_: False))  # type: ignore[arg-type]
    assert not out.exists()


def test_a_broken_line_in_the_middle_is_named(tmp_path: Path) -> None:
    out = tmp_path / "verdicts.jsonl"
    out.write_text("not json\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"verdicts\.jsonl: line 1"):
        grading.grade_samples(PROBLEMS, many(2), out, Faulty(lambda *_: False))  # type: ignore[arg-type]

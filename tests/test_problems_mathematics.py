"""Data sets of mathematics: what becomes the answer, what is skipped, splits, and the real files."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from recode_rl import jsonl, problems
from recode_rl.errors import DataError
from recode_rl.problems import gsm8k, mathematics
from recode_rl.problems.records import problem_from_record, problem_to_record
from recode_rl.problems.rows import UnusableRow

EGGS = {
    "question": "A hen lays 2 eggs a day. How many in 500 days?",
    "answer": "She lays 2 * 500 = <<2*500=1000>>1,000 eggs.\n#### 1,000",
}
HALF = {
    "problem": "What is half of one?",
    "solution": r"It is $\frac{1}{2}$, so $\boxed{\frac{1}{2}}$.",
    "answer": r"\frac{1}{2}",
    "subject": "Algebra",
    "level": 4,
    "unique_id": "test/algebra/7.json",
}
DAPO = {
    "data_source": "math_dapo",
    "prompt": [
        {
            "role": "user",
            "content": "Solve the following math problem step by step. The last line of your response should be of the "
            "form Answer: $Answer (without quotes) where $Answer is the answer to the problem.\n\n"
            'What is 6 times 7?\n\nRemember to put your answer on its own line after "Answer:".',
        }
    ],
    "ability": "MATH",
    "reward_model": {"ground_truth": "42", "style": "rule-lighteval/MATH_v2"},
    "extra_info": {"index": "9a9b6eb4"},
}


def test_a_row_of_gsm8k() -> None:
    problem = gsm8k.problem({**EGGS, "hub_split": "test"})
    assert (problem.tests.kind, problem.tests.answer, problem.source) == ("answer", "1000", "gsm8k")
    assert problem.prompt == EGGS["question"]
    assert problem.metadata == {"split": "held_out", "solution": "She lays 2 * 500 = 1,000 eggs."}
    assert gsm8k.problem({**EGGS, "hub_split": "train"}).metadata["split"] == "train"
    assert "split" not in gsm8k.problem(EGGS).metadata
    assert problem_from_record(problem_to_record(problem)) == problem


@pytest.mark.parametrize("answer", ["no last line", "#### ", "twelve\n####"])
def test_a_row_of_gsm8k_without_an_answer_is_skipped(answer: str) -> None:
    with pytest.raises(UnusableRow, match="no answer"):
        gsm8k.problem({**EGGS, "answer": answer})


def test_a_row_of_another_set_is_an_error_that_names_the_column() -> None:
    with pytest.raises(DataError, match=r"'question'.*problem, solution"):
        gsm8k.problem(HALF)
    with pytest.raises(DataError, match="'unique_id'"):
        mathematics.math500_problem({**HALF, "unique_id": None})
    with pytest.raises(DataError, match="reward_model"):
        mathematics.dapo_problem({"prompt": "What?", "solution": "1"})


def test_a_row_of_math500() -> None:
    problem = mathematics.math500_problem(HALF)
    assert (problem.id, problem.tests.answer) == ("math500/test/algebra/7", r"\frac{1}{2}")
    assert problem.difficulty == "hard"
    assert problem.metadata == {
        "split": "held_out",
        "level": 4,
        "subject": "Algebra",
        "solution": HALF["solution"],
    }


@pytest.mark.parametrize(
    ("level", "difficulty"), [(1, "easy"), ("Level 2", "easy"), (3.0, "medium"), (5, "hard"), ("Level ?", None)]
)
def test_levels_are_numbers_or_words(level: Any, difficulty: str | None) -> None:
    assert mathematics.math_problem({**HALF, "level": level}).difficulty == difficulty


def test_without_a_column_of_answers_the_box_of_the_solution_is_the_answer() -> None:
    row = {"problem": HALF["problem"], "solution": HALF["solution"], "type": "Physics", "idx": 3}
    problem = mathematics.minerva_problem(row)
    assert (problem.id, problem.tests.answer, problem.metadata["subject"]) == ("minerva/3", r"\frac{1}{2}", "Physics")
    hub = mathematics.minerva_problem({"question": "What is half of one?", "answer": "0.5"})
    assert hub.tests.answer == "0.5" and hub.id.startswith("minerva/")
    with pytest.raises(UnusableRow, match="no answer"):
        mathematics.minerva_problem({**row, "solution": "It is clear."})


def test_a_row_of_aime() -> None:
    problem = mathematics.aime24_problem({"id": 60, "problem": "How many?", "answer": 73, "solution": "So 073."})
    assert (problem.id, problem.tests.answer, problem.metadata["split"]) == ("aime24/60", "73", "held_out")


def test_a_row_of_dapo_is_the_problem_without_its_instructions() -> None:
    problem = mathematics.dapo_problem(DAPO)
    assert (problem.prompt, problem.tests.answer) == ("What is 6 times 7?", "42")
    text = {**DAPO, "prompt": DAPO["prompt"][0]["content"], "solution": "42"}  # type: ignore[index]
    assert mathematics.dapo_problem(text) == problem
    with pytest.raises(UnusableRow, match="no statement"):
        mathematics.dapo_problem({**DAPO, "prompt": " "})


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{json.dumps(row)}\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def test_gsm8k_is_read_from_both_of_its_files(tmp_path: Path) -> None:
    write(tmp_path / "gsm8k" / "train.jsonl.gz", [EGGS])
    other = write(tmp_path / "gsm8k" / "test.jsonl", [{**EGGS, "question": "And in one?"}])
    for place in (tmp_path, tmp_path / "gsm8k"):
        found = problems.load("gsm8k", place)
        assert sorted(problem.metadata["split"] for problem in found) == ["held_out", "train"]
    assert [problem.metadata["split"] for problem in problems.load("gsm8k", other)] == ["held_out"]


def test_gsm8k_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gsm8k/train\.jsonl\.gz and gsm8k/test\.jsonl"):
        problems.load("gsm8k", tmp_path)


def test_dapo_repeats_its_rows_and_each_is_kept_once(tmp_path: Path) -> None:
    row = {**DAPO, "extra_info": {"index": "other"}}
    unreadable = {**DAPO, "prompt": "What?", "reward_model": {"ground_truth": ""}}
    write(tmp_path / "dapo-math-17k.jsonl", [DAPO, row, unreadable, DAPO])
    loaded = problems.read("dapo-math", tmp_path)
    assert [problem.tests.answer for problem in loaded.problems] == ["42"]
    assert loaded.counts() == {"it occurs again": 2, "no answer": 1}


def test_dapo_is_read_from_the_files_it_is_published_as(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="needs the extra [train]")
    datasets.Dataset.from_list([DAPO, DAPO]).to_parquet(tmp_path / "dapo-math-17k.parquet")
    assert [problem.prompt for problem in problems.load("dapo-math", tmp_path)] == ["What is 6 times 7?"]


@pytest.mark.parametrize(
    ("name", "count", "held_out", "skipped"),
    [
        ("gsm8k", 8792, 1319, {}),
        ("math500", 500, 500, {}),
        ("minerva", 272, 272, {}),
        ("aime24", 30, 30, {}),
        ("math", 7470, None, {"no answer": 4}),
    ],
)
def test_the_real_files(
    shared_data: Path, name: str, count: int, held_out: int | None, skipped: dict[str, int]
) -> None:
    loaded = problems.read(name, shared_data)
    assert len(loaded.problems) == count
    assert loaded.counts() == skipped
    if held_out is not None:
        assert len(problems.splits.select(loaded.problems, "held_out")) == held_out
    assert all(problem.tests.kind == "answer" and problem.tests.answer for problem in loaded.problems)


def test_counts_and_what_was_skipped_are_kept(tmp_path: Path) -> None:
    source = write(tmp_path / "dapo-math-17k.jsonl", [DAPO, DAPO])
    out = tmp_path / "problems.jsonl"
    values = problems.write("dapo-math", source, "all", out)
    assert (values["problems"], values["skipped"], values["kinds"]) == (1, {"it occurs again": 1}, {"answer": 1})
    assert jsonl.read_json(tmp_path / "problems.manifest.json")["counts"]["problems"] == 1

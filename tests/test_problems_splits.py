"""One split by problem that never moves a problem."""

from __future__ import annotations

import pytest

from recode_rl.problems.splits import HELD_OUT_PERCENT, fold_of, select, split_by_id, split_of
from recode_rl.types import Problem
from recode_rl.types import Tests as ProblemTests


def problem(identifier: str, **metadata: str) -> Problem:
    return Problem(identifier, "p", ProblemTests("answer", answer="1"), metadata=dict(metadata))


@pytest.mark.parametrize(
    ("identifier", "split", "fold"),
    [("starter/sum_positive", "train", 2), ("a", "held_out", 4), ("b", "train", 0), ("c", "held_out", 3)],
)
def test_a_split_stays_what_it_was_when_it_was_first_computed(identifier: str, split: str, fold: int) -> None:
    assert (split_by_id(identifier), fold_of(identifier, 5)) == (split, fold)


def test_the_share_that_is_held_out() -> None:
    held_out = sum(split_by_id(f"problem-{number}") == "held_out" for number in range(4000))
    assert abs(held_out / 40 - HELD_OUT_PERCENT) < 3


def test_a_stated_split_counts_more_than_the_id() -> None:
    assert split_of(problem("a")) == "held_out"
    assert split_of(problem("a", split="train")) == "train"
    assert split_of(problem("a", split="prompt")) == "prompt"


def test_every_problem_is_in_one_split_and_in_order() -> None:
    problems = [problem(str(number)) for number in range(50)]
    train, held_out = select(problems, "train"), select(problems, "held_out")
    assert sorted([*train, *held_out], key=problems.index) == problems
    assert train and held_out
    assert train == sorted(train, key=problems.index)
    assert select(problems, "all") == problems


def test_prompt_rows_are_in_no_stage() -> None:
    problems = [problem("a", split="prompt"), problem("b", split="train")]
    assert select(problems, "train") == [problems[1]]
    assert select(problems, "held_out") == []


def test_folds_are_even_and_do_not_follow_the_split() -> None:
    folds = [fold_of(f"problem-{number}", 5) for number in range(2000)]
    assert set(folds) == set(range(5))
    assert all(350 < folds.count(fold) < 450 for fold in range(5))
    held_out = [fold_of(f"p{n}", 5) for n in range(2000) if split_by_id(f"p{n}") == "held_out"]
    assert all(60 < held_out.count(fold) < 140 for fold in range(5))

"""Which training problems say what an evaluation problem says."""

from __future__ import annotations

from pathlib import Path

import pytest

from recode_rl import problems
from recode_rl.errors import ConfigError, DataError
from recode_rl.problems.overlap import Index, grams, leave_out, read_evaluations, split_off, words
from recode_rl.problems.records import write_problems
from recode_rl.types import Problem
from recode_rl.types import Tests as Given

STATEMENT = (
    "A gardener waters every third tree of a row and skips those whose number is a square. Given the number of trees, "
    "return how many trees are watered before the first one is watered twice."
)
BOILERPLATE = "The first line contains a single integer t, the number of test cases, each described on two lines."


def problem(name: str, text: str) -> Problem:
    return Problem(name, text, Given("stdio", cases=({"input": "1\n", "output": "1\n"},)))


def left_out(training: str, *evaluations: str) -> bool:
    sets = {"eval": [problem(f"e{number}", text) for number, text in enumerate(evaluations)]}
    return split_off([problem("t", training)], sets)[0] == []


def test_words_are_runs_of_letters_and_digits_in_lower_case() -> None:
    assert words("Return x_1 + `Foo(2)`;\n É") == ["return", "x", "1", "foo", "2", "é"]


def test_ngrams_are_distinct_and_a_short_text_is_one() -> None:
    assert grams(["a", "b", "a", "b"], 2) == {("a", "b"), ("b", "a")}
    assert grams(["a", "b"], 3) == {("a", "b")}
    assert grams([], 3) == set()


@pytest.mark.parametrize(
    "training",
    [
        STATEMENT,
        STATEMENT.upper().replace(" ", "\n  "),
        f"{BOILERPLATE} {STATEMENT} Print one number a line, and nothing else. Time is limited to two seconds for all.",
        STATEMENT[: len(STATEMENT) // 2],
    ],
    ids=["same", "other layout", "with more around it", "half of it"],
)
def test_the_same_statement_is_found_in_other_clothes(training: str) -> None:
    assert left_out(training, STATEMENT)


def test_another_problem_stays() -> None:
    other = (
        "Count the pairs of a list whose sum is even; the list has at most a thousand numbers and none of them is 0."
    )
    assert not left_out(other, STATEMENT)


def test_a_few_words_in_common_are_no_overlap() -> None:
    story = "Return how many trees are watered before the first one " + " ".join(f"word{n}" for n in range(60))
    assert not left_out(story, STATEMENT)


def test_phrases_of_the_trade_are_no_evidence() -> None:
    """One statement whose words another has is enough; the same words in five statements belong to nobody."""
    assert left_out(BOILERPLATE, f"{BOILERPLATE} Sum them.")
    several = [
        f"{BOILERPLATE} {verb} them all, one after the other." for verb in ("Add", "Sort", "Count", "Join", "Halve")
    ]
    assert not left_out(BOILERPLATE, *several)


def test_a_short_statement_counts_as_a_whole() -> None:
    assert left_out("Write a function to add two numbers. Use no loop.", "Write a function to add two numbers.")
    assert not left_out("Write a function to add three numbers.", "Write a function to add two numbers.")


def test_the_nearest_problem_is_named_with_the_share() -> None:
    index = Index({"one": [problem("a", BOILERPLATE)], "two": [problem("b", STATEMENT)]})
    found = index.nearest(problem("t", STATEMENT))
    assert found is not None
    assert (found.problem_id, found.dataset, found.evaluation_id, found.share) == ("t", "two", "b", 1.0)
    assert index.nearest(problem("t", "")) is None


def test_what_was_left_out_is_counted_by_set(tmp_path: Path) -> None:
    path = tmp_path / "eval.jsonl"
    write_problems(path, [problem("e", STATEMENT), problem("f", BOILERPLATE)])
    given = [problem("t", STATEMENT), problem("u", "Something else that has nothing to do with any of it.")]
    kept, counts = leave_out(given, [f"file={path}"], None)
    assert [p.id for p in kept] == ["u"]
    assert counts == {
        "against": {"file": 2},
        "compared": 2,
        "left_out": 1,
        "by_dataset": {"file": 1},
        "pairs": [["t", "e", 1.0]],
    }


def test_a_set_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected one of"):
        read_evaluations(["humanevil"], None)
    with pytest.raises(DataError):
        read_evaluations(["humaneval"], tmp_path)


def test_the_starter_corpus_overlaps_with_no_benchmark(shared_data: Path) -> None:
    named = ["humaneval", "mbpp+", "livecodebench", "bigcodebench"]
    given = [*problems.read("starter").problems, *problems.read("starter-harder").problems]
    assert leave_out(given, named, shared_data)[1]["left_out"] == 0


def test_problems_that_are_in_both_sets_are_found(shared_data: Path) -> None:
    """MBPP+ is a part of MBPP with other texts around the same statements: what was trained on by mistake is found."""
    evaluations = read_evaluations(["mbpp+"], shared_data)
    kept, overlaps = split_off(problems.read("mbpp-full", shared_data).problems, evaluations)
    same = {p.id for p in evaluations["mbpp+"]}
    found = {overlap.problem_id for overlap in overlaps}
    assert len(same & found) >= 0.95 * len(same)
    assert len(found - same) <= 0.04 * len(kept)

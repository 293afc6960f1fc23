"""The starter corpus keeps what its data card promises."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from statistics import fmean

import pytest

from recode_rl.grading import Grader
from recode_rl.pairs import make_pairs
from recode_rl.problems import starter
from recode_rl.problems.splits import select, split_by_id
from recode_rl.reward_model.baselines import run_baselines
from recode_rl.types import DEGRADE_METHODS, OPTIMIZE_METHODS, Quality, Verdict

ENTRIES = starter.entries()
QUALITIES: tuple[Quality, ...] = ("base", "optimized", "degraded")


def words(entry: starter.StarterEntry, quality: Quality) -> int:
    return len(entry.variants[quality].reasoning.split())


def test_there_are_enough_problems_of_both_kinds_and_all_difficulties() -> None:
    assert len(ENTRIES) >= 120
    kinds = Counter(entry.problem.tests.kind for entry in ENTRIES)
    assert set(kinds) == {"calls", "stdio"}
    assert kinds["calls"] / len(ENTRIES) == pytest.approx(2 / 3, abs=0.03)
    difficulties = Counter(entry.problem.difficulty for entry in ENTRIES)
    assert set(difficulties) == {"easy", "medium", "hard"}
    assert min(difficulties.values()) >= 0.15 * len(ENTRIES)


def test_ids_are_unique_and_sorted() -> None:
    ids = [entry.problem.id for entry in ENTRIES]
    assert ids == sorted(set(ids))
    assert all(identifier.startswith("starter/") for identifier in ids)


def test_statements_differ() -> None:
    assert len({entry.problem.prompt for entry in ENTRIES}) == len(ENTRIES)


def test_every_problem_has_six_different_cases() -> None:
    for entry in ENTRIES:
        cases = entry.problem.tests.cases
        given = {repr(case["input"] if "input" in case else (case["args"], case["kwargs"])) for case in cases}
        assert len(given) == len(cases) >= 6, entry.problem.id


def test_both_splits_have_problems_of_every_difficulty() -> None:
    problems = starter.load()
    for split in ("train", "held_out"):
        chosen = select(problems, split)
        assert {problem.difficulty for problem in chosen} == {"easy", "medium", "hard"}
        assert all(split_by_id(problem.id) == split for problem in chosen)


def test_the_three_reasonings_of_a_problem_differ() -> None:
    for entry in ENTRIES:
        assert set(entry.variants) == set(QUALITIES)
        texts = {entry.variants[quality].reasoning.strip() for quality in QUALITIES}
        assert len(texts) == 3 and all(texts), entry.problem.id
        assert all(entry.variants[quality].problem_id == entry.problem.id for quality in QUALITIES)


def test_the_reasonings_of_a_problem_are_about_as_long() -> None:
    for entry in ENTRIES:
        for one, other in combinations(QUALITIES, 2):
            assert 1 / 1.2 < words(entry, one) / words(entry, other) < 1.2, entry.problem.id
    means = [fmean(words(entry, quality) for entry in ENTRIES) for quality in QUALITIES]
    assert max(means) / min(means) < 1.03


def test_no_quality_is_always_the_longest() -> None:
    longest = Counter(max(QUALITIES, key=lambda quality: words(entry, quality)) for entry in ENTRIES)
    assert max(longest.values()) <= 0.5 * len(ENTRIES)


def test_the_methods_are_known_and_all_of_them_are_used() -> None:
    degraded = Counter(method for entry in ENTRIES for method in entry.variants["degraded"].methods)
    optimized = Counter(method for entry in ENTRIES for method in entry.variants["optimized"].methods)
    assert set(degraded) == set(DEGRADE_METHODS)
    assert set(optimized) == set(OPTIMIZE_METHODS)
    assert min(degraded.values()) >= 0.1 * len(ENTRIES)
    for entry in ENTRIES:
        assert entry.variants["base"].methods == ()
        assert len(entry.variants["degraded"].methods) == 1
        assert entry.variants["optimized"].methods


def test_reasonings_hold_no_code_blocks_and_none_of_the_tags() -> None:
    for variant in starter.variants():
        assert not any(mark in variant.reasoning for mark in ("```", "<think>", "<answer>")), variant.problem_id


def test_every_problem_gives_three_pairs() -> None:
    made = make_pairs(starter.load(), starter.variants())
    assert len(made.pairs) == 3 * len(ENTRIES)
    assert not made.refused


def test_baselines_that_do_not_read_the_problem_find_little() -> None:
    pytest.importorskip("sklearn", reason="the n-gram baseline needs the train extra")
    scores = run_baselines(make_pairs(starter.load(), starter.variants()).pairs)
    assert max(fmean(values) for values in scores.values()) <= 0.6


def test_every_reference_passes(grader: Grader) -> None:
    verdicts = grader.grade_many([(entry.problem, entry.reference) for entry in ENTRIES])
    failed = [entry.problem.id for entry, verdict in zip(ENTRIES, verdicts, strict=True) if not passed(verdict)]
    assert failed == []
    totals = [verdict.tests_total for verdict in verdicts if isinstance(verdict, Verdict)]
    assert totals == [len(entry.problem.tests.cases) for entry in ENTRIES]


def test_every_wrong_program_runs_and_fails(grader: Grader) -> None:
    verdicts = grader.grade_many([(entry.problem, entry.wrong) for entry in ENTRIES])
    by_id = {entry.problem.id: verdict for entry, verdict in zip(ENTRIES, verdicts, strict=True)}
    assert all(isinstance(verdict, Verdict) for verdict in by_id.values())
    unfit = ("passed", "compile_error", "no_code", "timeout")
    assert {name: verdict for name, verdict in by_id.items() if getattr(verdict, "status", None) in unfit} == {}


def passed(verdict: object) -> bool:
    return isinstance(verdict, Verdict) and verdict.passed and verdict.tests_passed == verdict.tests_total

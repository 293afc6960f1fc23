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
from recode_rl.types import DEGRADE_METHODS, OPTIMIZE_METHODS, PreferencePair, Quality, Variant, Verdict

ENTRIES = starter.entries("all")
TRIPLES = [(entry, triple) for entry in ENTRIES for triple in (entry.variants, *entry.styled.values())]
QUALITIES: tuple[Quality, ...] = ("base", "optimized", "degraded")


def words(triple: dict[Quality, Variant], quality: Quality) -> int:
    return len(triple[quality].reasoning.split())


def test_there_are_enough_problems_of_both_kinds_and_all_difficulties() -> None:
    core, harder = starter.entries("core"), starter.entries("harder")
    assert len(core) >= 120 and len(core) + len(harder) == len(ENTRIES) >= 200
    for part in (core, harder):
        kinds = Counter(entry.problem.tests.kind for entry in part)
        assert set(kinds) == {"calls", "stdio"}
        assert kinds["calls"] / len(part) == pytest.approx(2 / 3, abs=0.03)
        assert set(Counter(entry.problem.difficulty for entry in part)) == {"easy", "medium", "hard"}
    assert min(Counter(entry.problem.difficulty for entry in core).values()) >= 0.15 * len(core)
    assert sum(entry.problem.difficulty == "hard" for entry in harder) >= 0.5 * len(harder)


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
    problems = starter.load("all")
    for split in ("train", "held_out"):
        chosen = select(problems, split)
        assert {problem.difficulty for problem in chosen} == {"easy", "medium", "hard"}
        assert all(split_by_id(problem.id) == split for problem in chosen)


def test_every_problem_has_reasonings_in_three_styles() -> None:
    for entry in ENTRIES:
        assert set(entry.styled) == {"steps", "notes"}, entry.problem.id


def test_the_reasonings_of_a_problem_differ() -> None:
    for entry in ENTRIES:
        texts = [variant.reasoning.strip() for variant in starter.variants() if variant.problem_id == entry.problem.id]
        assert len(set(texts)) == len(texts) and all(texts), entry.problem.id
    for entry, triple in TRIPLES:
        assert set(triple) == set(QUALITIES)
        assert all(triple[quality].problem_id == entry.problem.id for quality in QUALITIES)


def test_the_reasonings_of_a_triple_are_about_as_long() -> None:
    for entry, triple in TRIPLES:
        for one, other in combinations(QUALITIES, 2):
            assert 1 / 1.2 < words(triple, one) / words(triple, other) < 1.2, entry.problem.id
    for triples in by_style().values():
        means = [fmean(words(triple, quality) for triple in triples) for quality in QUALITIES]
        assert max(means) / min(means) < 1.03


def test_no_quality_is_always_the_longest() -> None:
    for triples in by_style().values():
        longest = Counter(max(QUALITIES, key=lambda quality: words(triple, quality)) for triple in triples)
        assert max(longest.values()) <= 0.5 * len(triples)


def by_style() -> dict[str, list[dict[Quality, Variant]]]:
    found: dict[str, list[dict[Quality, Variant]]] = {}
    for _, triple in TRIPLES:
        found.setdefault(triple["base"].generator, []).append(triple)
    return found


def test_the_methods_are_known_and_all_of_them_are_used() -> None:
    degraded = Counter(method for _, triple in TRIPLES for method in triple["degraded"].methods)
    optimized = Counter(method for _, triple in TRIPLES for method in triple["optimized"].methods)
    assert set(degraded) == set(DEGRADE_METHODS)
    assert set(optimized) == set(OPTIMIZE_METHODS)
    assert min(degraded.values()) >= 0.15 * len(TRIPLES)
    assert max(degraded.values()) <= 0.25 * len(TRIPLES)
    for _, triple in TRIPLES:
        assert triple["base"].methods == ()
        assert len(triple["degraded"].methods) == 1
        assert triple["optimized"].methods


def test_reasonings_hold_no_code_blocks_and_none_of_the_tags() -> None:
    for variant in starter.variants():
        assert not any(mark in variant.reasoning for mark in ("```", "<think>", "<answer>")), variant.problem_id


def pairs(part: starter.Part = "all") -> list[PreferencePair]:
    made = make_pairs(starter.load(part), starter.variants(part))
    assert not made.refused
    return made.pairs


def test_every_triple_gives_three_pairs() -> None:
    assert len(pairs()) == 3 * len(TRIPLES)


@pytest.mark.parametrize("part", ["all", "harder"])
def test_baselines_that_do_not_read_the_problem_find_little(part: starter.Part) -> None:
    pytest.importorskip("sklearn", reason="the n-gram baseline needs the train extra")
    scores = {name: fmean(values) for name, values in run_baselines(pairs(part)).items()}
    assert max(scores.values()) <= 0.58, scores


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

"""The baselines find what can be found without the problem, and nothing where there is nothing."""

from __future__ import annotations

import random
from statistics import fmean

import pytest

from recode_rl.reward_model.baselines import run_baselines
from recode_rl.types import PreferencePair

pytest.importorskip("sklearn", reason="the n-gram baseline needs the train extra")

WORDS = [f"word{number}" for number in range(40)]


def pair(number: int, chosen: str, rejected: str, problem_id: str | None = None) -> PreferencePair:
    return PreferencePair(str(number), problem_id or f"p{number}", "statement", chosen, rejected, "opt_deg")


def text(rng: random.Random, words: int = 12) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(words))


def test_a_telltale_word_is_found() -> None:
    rng = random.Random(0)
    pairs = [pair(n, text(rng) + " therefore", text(rng) + " probably") for n in range(120)]
    scores = run_baselines(pairs)
    assert fmean(scores["ngrams"]) >= 0.97
    assert set(scores["shorter"]) == set(scores["longer"]) == {0.5}


def test_a_telltale_order_of_words_is_found() -> None:
    rng = random.Random(0)
    pairs = [
        pair(n, f"{text(rng)} sort then loop {text(rng)}", f"{text(rng)} loop then sort {text(rng)}")
        for n in range(150)
    ]
    assert fmean(run_baselines(pairs)["ngrams"]) >= 0.9


def test_nothing_is_found_in_noise() -> None:
    rng = random.Random(1)
    scores = run_baselines([pair(n, text(rng), text(rng)) for n in range(400)])
    assert 0.4 < fmean(scores["ngrams"]) < 0.6


def test_what_is_known_of_a_problem_does_not_help_with_its_other_pairs() -> None:
    """Sides that are the same within a problem and random otherwise: folds that cut through it would find them."""
    rng = random.Random(2)
    pairs = []
    for problem in range(60):
        good, bad = text(rng), text(rng)
        pairs += [pair(10 * problem + copy, good, bad, f"p{problem}") for copy in range(6)]
    assert 0.3 < fmean(run_baselines(pairs)["ngrams"]) < 0.7


def test_length_is_counted_in_words_and_a_tie_is_half() -> None:
    pairs = [pair(0, "a", "b c d"), pair(1, "aaaaaaaaaa bb", "c"), pair(2, "a b", "c d")]
    scores = run_baselines(pairs)
    assert scores["shorter"] == [1.0, 0.0, 0.5]
    assert scores["longer"] == [0.0, 1.0, 0.5]


def test_length_in_characters_leaves_fewer_ties() -> None:
    scores = run_baselines([pair(0, "aa b", "c d"), pair(1, "a", "b cc"), pair(2, "ab", "cd")])
    assert scores["shorter_characters"] == [0.0, 1.0, 0.5]
    assert scores["longer_characters"] == [1.0, 0.0, 0.5]


def test_length_alone_is_found_by_the_regression_too() -> None:
    rng = random.Random(3)
    scores = run_baselines([pair(n, text(rng, 8), text(rng, 24)) for n in range(120)])
    assert fmean(scores["shorter"]) == 1.0
    assert fmean(scores["ngrams"]) >= 0.95


def test_scores_are_in_the_order_of_the_pairs_and_repeatable() -> None:
    rng = random.Random(4)
    pairs = [pair(n, text(rng) + " therefore", text(rng)) for n in range(60)]
    flipped = [pair(n, p.rejected, p.chosen, p.problem_id) if n % 10 == 0 else p for n, p in enumerate(pairs)]
    scores = run_baselines(flipped)
    assert all(len(values) == len(pairs) for values in scores.values())
    assert fmean(scores["ngrams"][::10]) < 0.2
    assert fmean(value for n, value in enumerate(scores["ngrams"]) if n % 10) > 0.8
    assert run_baselines(flipped) == scores


def test_one_pair_leaves_nothing_to_learn_from() -> None:
    assert run_baselines([pair(0, "a b", "c")]) == {
        "shorter": [0.0],
        "longer": [1.0],
        "shorter_characters": [0.0],
        "longer_characters": [1.0],
        "ngrams": [0.5],
    }

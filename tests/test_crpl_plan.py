"""Methods, seeds and shares: even, reproducible, and the same whatever the order."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from recode_rl.crpl.plan import plan_methods, rounds, seed_of, share_of, slots
from recode_rl.types import DEGRADE_METHODS, OPTIMIZE_METHODS

IDS = [f"problem/{n}" for n in range(103)]


def used(plan: dict[tuple[str, str, int], tuple[str, ...]], quality: str) -> Counter[str]:
    return Counter(name for key, methods in plan.items() if key[1] == quality for name in methods)


@pytest.mark.parametrize("per_variant", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("variants", [1, 2, 3])
@pytest.mark.parametrize("count", [1, 5, 7, 22, 103])
def test_methods_are_applied_equally_often(per_variant: int, variants: int, count: int) -> None:
    plan = plan_methods(IDS[:count], variants, per_variant, 1, seed=0)
    assert len(plan) == 2 * count * variants
    for quality, names in (("optimized", OPTIMIZE_METHODS), ("degraded", DEGRADE_METHODS)):
        found = used(plan, quality)
        assert max(found[name] for name in names) - min(found[name] for name in names) <= 1
    for (_, quality, _), methods in plan.items():
        assert len(set(methods)) == per_variant
        assert set(methods) <= set(OPTIMIZE_METHODS if quality == "optimized" else DEGRADE_METHODS)


@pytest.mark.parametrize("shares", [2, 3])
def test_each_generator_applies_them_equally_often(shares: int) -> None:
    plan = plan_methods(IDS, 1, 1, shares, seed=5)
    for share in range(shares):
        mine = {key: methods for key, methods in plan.items() if share_of(key[0], shares) == share}
        for quality in ("optimized", "degraded"):
            found = used(mine, quality)
            assert len(found) == 5
            assert max(found.values()) - min(found.values()) <= 1
    found = used(plan, "degraded")
    assert max(found.values()) - min(found.values()) <= 1


def test_the_plan_depends_on_ids_and_seed_alone() -> None:
    shuffled = random.Random(1).sample(IDS, len(IDS))
    assert plan_methods(shuffled, 2, 2, 2, seed=0) == plan_methods(IDS, 2, 2, 2, seed=0)
    assert plan_methods(IDS, 1, 1, 1, seed=1) != plan_methods(IDS, 1, 1, 1, seed=0)


def test_how_a_problem_is_improved_says_nothing_about_how_it_is_damaged() -> None:
    plan = plan_methods([f"p{n}" for n in range(500)], 1, 1, 1, seed=0)
    both = Counter((plan[f"p{n}", "optimized", 0], plan[f"p{n}", "degraded", 0]) for n in range(500))
    assert len(both) == 25
    assert max(both.values()) < 45


def test_variants_of_one_problem_get_different_methods() -> None:
    plan = plan_methods(IDS, 5, 1, 1, seed=0)
    assert all(len({plan[i, "degraded", index] for index in range(5)}) == 5 for i in IDS)


def test_rounds_hold_every_choice_once() -> None:
    made = rounds("abcde", 2, tuple("abcde"))
    assert len(set(made)) == len(made) == 10
    assert all(choice == tuple(sorted(choice)) for choice in made)


def test_seeds_differ_by_problem_variant_and_attempt_and_fit_every_server() -> None:
    seeds = {
        seed_of(seed, i, slot, attempt) for seed in (0, 1) for i in IDS for slot in slots(2) for attempt in range(3)
    }
    assert len(seeds) == 2 * len(IDS) * 5 * 3
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert seed_of(0, "a", ("base", 0), 0) == seed_of(0, "a", ("base", 0), 0)


def test_shares_are_about_equal() -> None:
    found = Counter(share_of(f"p{n}", 3) for n in range(3000))
    assert all(900 < found[share] < 1100 for share in range(3))


def test_the_base_comes_first() -> None:
    assert slots(1) == [("base", 0), ("optimized", 0), ("degraded", 0)]
    assert len(slots(3)) == 7

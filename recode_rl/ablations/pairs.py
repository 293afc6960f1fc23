"""Pairs for arms that can be compared: as many of each, of the same problems, drawn evenly by a seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from recode_rl.errors import DataError
from recode_rl.reward_model.scored import ScoredReasoning
from recode_rl.types import PairKind, PreferencePair


@dataclass(frozen=True, slots=True)
class Wanted:
    """How many pairs, of which kinds, whose (empty: of all generators), and how many of each problem."""

    count: int
    kinds: tuple[PairKind, ...]
    generators: tuple[str, ...] = ()
    per_problem: int = 1


def draw_pairs(pairs: Sequence[PreferencePair], wanted: Wanted, seed: int) -> list[PreferencePair]:
    """Up to `wanted.count` pairs, problem by problem in an order that the seed alone decides.

    Of each problem the pairs are taken whose kind, and then whose generator, has been taken least. So arms with other
    kinds or generators see the same problems in the same order, as long as every problem has such a pair, and each
    kind and each generator has its even share.
    """
    by_problem: dict[str, list[PreferencePair]] = {}
    for pair in pairs:
        fits = pair.kind in wanted.kinds and (not wanted.generators or pair.generator in wanted.generators)
        found = by_problem.setdefault(pair.problem_id, [])
        if fits:
            found.append(pair)
    generators = {name: place for place, name in enumerate(dict.fromkeys(pair.generator for pair in pairs))}
    kinds: Counter[str] = Counter()
    cells: Counter[tuple[str, str]] = Counter()
    chosen: list[PreferencePair] = []
    for problem in _order(by_problem, seed):
        left = by_problem[problem]
        for _ in range(min(wanted.per_problem, len(left), wanted.count - len(chosen))):
            pair = min(
                left,
                key=lambda p: (
                    kinds[p.kind],
                    cells[p.kind, p.generator],
                    wanted.kinds.index(p.kind),
                    generators[p.generator],
                    p.id,
                ),
            )
            left.remove(pair)
            chosen.append(pair)
            kinds[pair.kind] += 1
            cells[pair.kind, pair.generator] += 1
    return chosen


def draw_exactly(pairs: Sequence[PreferencePair], wanted: Wanted, seed: int, arm: str) -> list[PreferencePair]:
    """As `draw_pairs`; DataError where there are fewer, because an arm with fewer pairs cannot be compared."""
    known = {pair.generator for pair in pairs}
    for name in wanted.generators:
        if name not in known:
            raise DataError(f"arm {arm!r}: no pair of generator {name!r}; there are {', '.join(sorted(known))}")
    drawn = draw_pairs(pairs, wanted, seed)
    if len(drawn) < wanted.count:
        raise DataError(
            f"arm {arm!r}: {len(drawn)} pairs of {', '.join(wanted.kinds)} with {wanted.per_problem} a problem, but "
            f"every arm gets {wanted.count}; lower pairs.per_arm, or raise per_problem"
        )
    return drawn


def draw_scored(
    scored: Sequence[ScoredReasoning], pairs: Sequence[PreferencePair], wanted: Wanted, seed: int, arm: str
) -> list[ScoredReasoning]:
    """As many scored reasonings as the arms of `pairs` see sides of pairs, of the same problems, evenly by generator.

    DataError where there are fewer.
    """
    by_problem: dict[str, list[ScoredReasoning]] = {pair.problem_id: [] for pair in pairs}
    for one in scored:
        if one.problem_id in by_problem:
            by_problem[one.problem_id].append(one)
    used: Counter[str] = Counter()
    chosen: list[ScoredReasoning] = []
    for problem in _order(by_problem, seed):
        left = by_problem[problem]
        for _ in range(min(2 * wanted.per_problem, len(left), 2 * wanted.count - len(chosen))):
            one = min(left, key=lambda found: (used[found.generator], found.id))
            left.remove(one)
            chosen.append(one)
            used[one.generator] += 1
    if len(chosen) < 2 * wanted.count:
        raise DataError(
            f"arm {arm!r}: {len(chosen)} scored reasonings of problems to train on, with {2 * wanted.per_problem} a "
            f"problem, but the pairs of every other arm have {2 * wanted.count} sides; have more of them judged, or "
            "lower pairs.per_arm"
        )
    return chosen


def _order(problems: Iterable[str], seed: int) -> list[str]:
    """The problems in an order that depends on nothing but their ids and the seed."""
    order = sorted(problems)
    random.Random(seed).shuffle(order)
    return order

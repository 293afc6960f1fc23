"""Who makes which variant by which methods and with which seed: all of it from the ids, whatever the order of work."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from itertools import combinations

from recode_rl.crpl.asking import METHODS
from recode_rl.types import Quality

Slot = tuple[Quality, int]


def slots(variants: int) -> list[Slot]:
    """The reasonings of one problem in the order in which they are made: the base, the optimized, the degraded ones."""
    made: list[Slot] = [("base", 0)]
    for quality in METHODS:
        made += [(quality, index) for index in range(variants)]
    return made


def share_of(problem_id: str, shares: int) -> int:
    """Which of so many generators makes the variants of a problem."""
    return _digest(f"generator/{problem_id}") % shares


def draw(ids: Iterable[str], limit: int, seed: int) -> set[str]:
    """So many of the ids, by digest: a larger limit adds to what a smaller one draws."""
    return set(sorted(ids, key=lambda i: (_digest(f"{seed}/draw/{i}"), i))[:limit])


def seed_of(seed: int, problem_id: str, slot: Slot, attempt: int) -> int:
    """The seed of one request, in 31 bits, which every server takes."""
    return _digest(f"{seed}/{problem_id}/{slot[0]}/{slot[1]}/{attempt}") % (1 << 31)


def plan_methods(
    ids: Iterable[str], variants: int, per_variant: int, shares: int, seed: int
) -> dict[tuple[str, Quality, int], tuple[str, ...]]:
    """The methods of every variant. Problems take turns in an order by digest, one generator's share after the other.

    So each method is applied equally often, up to one, in all and by each generator with one method a variant; and the
    order of the optimize methods has nothing to do with that of the degrade methods.
    """
    ids = list(ids)
    plan: dict[tuple[str, Quality, int], tuple[str, ...]] = {}
    for quality, known in METHODS.items():
        names = sorted(known, key=lambda name: _digest(f"{seed}/method/{name}"))
        turns = rounds(names, per_variant, known)
        shuffled = sorted(ids, key=lambda i: (share_of(i, shares), _digest(f"{seed}/{quality}/{i}"), i))
        for place, problem_id in enumerate(shuffled):
            for index in range(variants):
                plan[problem_id, quality, index] = turns[(place * variants + index) % len(turns)]
    return plan


def rounds(names: Iterable[str], size: int, order: tuple[str, ...]) -> list[tuple[str, ...]]:
    """All choices of `size` of the names, so ordered that every beginning of the list has each name equally often,
    as far as that can be. Within a choice the names are in `order`."""
    left = [tuple(choice) for choice in combinations(names, size)]
    used: Counter[str] = Counter()
    made = []
    while left:
        best = min(left, key=lambda choice: sorted((used[name] for name in choice), reverse=True))
        left.remove(best)
        used.update(best)
        made.append(tuple(sorted(best, key=order.index)))
    return made


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big")

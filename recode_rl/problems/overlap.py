"""Training problems that say what an evaluation problem says: found by word n-grams, left out, counted.

A problem overlaps with an evaluation problem where the one holds at least `share` of the n-grams of the other, in
whichever direction it is more: statements come with and without their examples. n-grams that stand in several
evaluation problems are nobody's ("the first line contains an integer"), so they are no evidence. A statement of fewer
than n words is one n-gram of its own.

Ten words are what Qwen2.5-Coder's authors removed training data by (their report, section on data); one shared n-gram
was enough for them, which on programming problems removes most of what is told in the usual phrases.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recode_rl import problems as datasets
from recode_rl.progress import say
from recode_rl.types import Problem

Gram = tuple[str, ...]
WORDS = 10
SHARE = 0.25
_WORD = re.compile(r"[^\W_]+")
_COMMON = 4  # evaluation problems that one n-gram may stand in before it is a phrase of the trade


@dataclass(frozen=True, slots=True)
class Overlap:
    """A training problem, the evaluation problem it is most like, and the share of n-grams they share."""

    problem_id: str
    dataset: str
    evaluation_id: str
    share: float


def words(text: str) -> list[str]:
    """Letters and digits in runs, in lower case: spaces, signs and code layout make no difference."""
    return _WORD.findall(text.lower())


def grams(said: Sequence[str], size: int = WORDS) -> set[Gram]:
    """The distinct n-grams of words; all words together where there are fewer, nothing where there are none."""
    if len(said) < size:
        return {tuple(said)} if said else set()
    return set(zip(*(said[start:] for start in range(size)), strict=False))


class Index:
    """The n-grams of evaluation problems, by data set, and who they belong to."""

    def __init__(self, evaluations: Mapping[str, Iterable[Problem]], size: int = WORDS) -> None:
        self._size = size
        owners: dict[Gram, set[tuple[str, str]]] = defaultdict(set)
        known: set[tuple[str, ...]] = set()
        for dataset, given in evaluations.items():
            for problem in given:
                said = tuple(words(problem.prompt))
                if said in known:  # the same statement in several sets (HumanEval, HumanEval+) is one
                    continue
                known.add(said)
                for gram in grams(said, size):
                    owners[gram].add((dataset, problem.id))
        self._common = {gram for gram, those in owners.items() if len(those) > _COMMON}
        self._owners = {gram: those for gram, those in owners.items() if gram not in self._common}
        self._sizes = Counter(owner for those in self._owners.values() for owner in those)
        self._short = {len(gram) for gram in self._owners if len(gram) < size}

    def nearest(self, problem: Problem) -> Overlap | None:
        """The evaluation problem that shares most with this one; None where none shares anything."""
        said = words(problem.prompt)
        own = grams(said, self._size) - self._common
        shorter = set().union(*(grams(said, size) for size in self._short)) - own
        held = Counter(owner for gram in own for owner in self._owners.get(gram, ()))
        found = {owner: max(count / self._sizes[owner], count / len(own)) for owner, count in held.items()}
        found |= {owner: 1.0 for gram in shorter for owner in self._owners.get(gram, ())}  # it holds all of these
        if not found:
            return None
        (dataset, identifier), share = max(found.items(), key=lambda item: (item[1], item[0]))
        return Overlap(problem.id, dataset, identifier, share)


def leave_out(
    given: Sequence[Problem], named: Sequence[str], path: Path | None, share: float = SHARE
) -> tuple[list[Problem], dict[str, Any]]:
    """The problems that overlap with no evaluation problem of the sets `named`, and for a manifest what was left out.

    The sets are as `read_evaluations` takes them.
    """
    evaluations = read_evaluations(named, path)
    kept, overlaps = split_off(given, evaluations, share)
    if overlaps:
        say(f"{len(overlaps)} of {len(given)} problems left out: they are in {', '.join(evaluations)} as well")
    return kept, {
        "against": {name: len(those) for name, those in evaluations.items()},
        "compared": len(given),
        "left_out": len(overlaps),
        "by_dataset": dict(Counter(found.dataset for found in overlaps)),
        "pairs": [[found.problem_id, found.evaluation_id, round(found.share, 3)] for found in overlaps],
    }


def split_off(
    given: Sequence[Problem], evaluations: Mapping[str, Sequence[Problem]], share: float = SHARE
) -> tuple[list[Problem], list[Overlap]]:
    """The problems that share less than `share` with every evaluation problem, in their order, and the others'
    overlaps."""
    index, kept, overlaps = Index(evaluations), [], []
    for problem in given:
        found = index.nearest(problem)
        if found is not None and found.share >= share:
            overlaps.append(found)
        else:
            kept.append(problem)
    return kept, overlaps


def read_evaluations(named: Iterable[str], path: Path | None) -> dict[str, list[Problem]]:
    """Evaluation sets: each as `NAME`, whose files are looked for in `path` (None: on the hub), or as `NAME=FILE`.

    DataError, ConfigError where one cannot be read: a set that is not there would be a promise that nobody kept.
    """
    found = {}
    for entry in named:
        name, _, place = entry.partition("=")
        found[name] = datasets.read(name, Path(place) if place else path).problems
    return found

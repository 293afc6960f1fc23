"""What can be said about a reasoning without understanding it: its words, what it copies, what problem it is about."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence

_TOKEN = re.compile(r"\w+|[^\w\s]")
_CONTENT = re.compile(r"[a-z_][a-z_0-9]{2,}|\d+")
COPIED_WORDS = 8
_POOL = 32


def tokens(text: str) -> list[str]:
    """Words and single signs, in lower case."""
    return _TOKEN.findall(text.lower())


def words(text: str) -> list[str]:
    """Words and numbers alone, in lower case."""
    return re.findall(r"\w+", text.lower())


def digest(text: str) -> str:
    """What chooses between texts where nothing may be drawn from the generators of random numbers."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def copied_share(reasoning: str, statement: str) -> float:
    """The share of the reasoning's runs of eight words that stand in the statement, in [0, 1]; 0 for fewer words."""
    ours = _runs(words(reasoning))
    if not ours:
        return 0.0
    theirs = set(_runs(words(statement)))
    return sum(run in theirs for run in ours) / len(ours)


def _runs(found: Sequence[str]) -> list[tuple[str, ...]]:
    return [tuple(found[start : start + COPIED_WORDS]) for start in range(len(found) - COPIED_WORDS + 1)]


class Relevance:
    """Whether a reasoning is about its own problem: how many other statements of a pool its own one beats.

    A statement's likeness to a reasoning is the weight of the words they share over the root of the weight of all its
    words; a word weighs log(N / n), where n of the pool's N statements have it. 1 says that no other statement is as
    like, 0.5 is chance: the reasoning could belong to any problem.
    """

    def __init__(self, statements: Mapping[str, str]) -> None:
        chosen = sorted(statements, key=digest)[:_POOL]
        self._pool = {identifier: _content(statements[identifier]) for identifier in chosen}
        holding = Counter(word for content in self._pool.values() for word in content)
        self._weights = {word: math.log((1 + len(self._pool)) / count) for word, count in holding.items()}
        self._rare = math.log(1 + len(self._pool)) if self._pool else 1.0

    def of(self, reasoning: str, problem_id: str, statement: str) -> float | None:
        """In [0, 1]; None where there is no reasoning, or no other problem to compare with."""
        said = _content(reasoning)
        others = [content for identifier, content in self._pool.items() if identifier != problem_id]
        if not said or not others:
            return None
        own = self._likeness(said, _content(statement))
        likeness = [self._likeness(said, content) for content in others]
        return sum(1.0 if own > other else 0.5 * (own == other) for other in likeness) / len(others)

    def _likeness(self, said: frozenset[str], content: frozenset[str]) -> float:
        whole = self._weight(content)
        return self._weight(said & content) / math.sqrt(whole) if whole else 0.0

    def _weight(self, content: frozenset[str]) -> float:
        # fsum: the order of a set must not decide about the last digit
        return math.fsum(self._weights.get(word, self._rare) for word in content)


def _content(text: str) -> frozenset[str]:
    """The words that say what a text is about: of three letters and more, and numbers."""
    return frozenset(_CONTENT.findall(text.lower()))

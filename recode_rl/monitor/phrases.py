"""Finds the phrase that more and more reasonings share, and whether the reward model likes it.

A policy that has found out what a reward model likes says it everywhere. So the phrases of one to five words are
counted by the share of reasonings that hold them, over the first steps and over the last ones.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from recode_rl.monitor.texts import digest, tokens

LENGTHS = (1, 2, 3, 4, 5)
_MOST_TOKENS = 240  # of a reasoning: its head and its tail
_MOST_REASONINGS = 48  # of a step, evenly over its groups
_LEAST_SHARE = 0.1  # of a step: rarer phrases are no habit
_CANDIDATES = 20
_SAME_RISE = 0.02
_LEAST_EACH = 3  # reasonings with and without the phrase, to compare their scores
_MEMORY = 4  # windows whose scores are kept


@dataclass(frozen=True, slots=True)
class Said:
    """One reasoning of a step: its group, its text, and R_proc where it is known."""

    group: str
    reasoning: str
    process: float | None


@dataclass(frozen=True, slots=True)
class Phrase:
    """A phrase with the share of reasonings that hold it, now and in the first steps.

    `favour` is what R_proc is on average higher with it than without, within groups where they have both; None where
    too few of either are known.
    """

    text: str
    share: float
    before: float
    favour: float | None

    @property
    def rise(self) -> float:
        """The growth of the share."""
        return self.share - self.before


class PhraseBook:
    """Counts over the first `first` steps that had reasonings, and over the last `window` ones."""

    def __init__(self, first: int, window: int) -> None:
        self._first, self._window = first, window
        self._steps = 0
        self._before: Counter[str] = Counter()
        self._recent: deque[dict[str, float]] = deque(maxlen=window)
        self._scored: deque[list[Said]] = deque(maxlen=_MEMORY * window)

    def add(self, said: Sequence[Said]) -> None:
        """The reasonings of one step."""
        chosen = list(_chosen([one for one in said if one.reasoning.strip()]))
        if not chosen:
            return
        self._steps += 1
        first = self._steps <= self._first
        shares = _shares(chosen, 0.0 if first else _LEAST_SHARE)
        if first:
            self._before.update({phrase: share / self._first for phrase, share in shares.items()})
        else:
            self._recent.append(shares)
        self._scored.append([one for one in chosen if one.process is not None])

    def strongest(self, rise: float) -> Phrase | None:
        """The phrase that has grown most; of those that grew by `rise` the one that the reward model favours most.

        None until there are as many steps behind the first ones as a window has.
        """
        if len(self._recent) < self._window:
            return None
        now: defaultdict[str, float] = defaultdict(float)
        for shares in self._recent:
            for phrase, share in shares.items():
                now[phrase] += share / len(self._recent)
        grown = sorted(now, key=lambda phrase: (self._before[phrase] - now[phrase], phrase))
        if not grown:
            return None
        most = now[grown[0]] - self._before[grown[0]]
        wanted = [p for p in grown[: 50 * _CANDIDATES] if now[p] - self._before[p] >= min(rise, most - _SAME_RISE)]
        # All parts of a phrase grow with it: those with most words that are new say best what it is.
        wanted.sort(key=lambda phrase: (-self._newness(phrase), self._before[phrase] - now[phrase], phrase))
        found = [Phrase(p, now[p], self._before[p], self._favour(p)) for p in wanted[:_CANDIDATES]]
        return max(found, key=lambda p: (p.rise >= rise, round(p.favour or 0.0, 1)))

    def _newness(self, phrase: str) -> float:
        """How many of the words were not there before."""
        return round(sum(1 - min(1.0, self._before[word]) for word in phrase.split()), 2)

    def _favour(self, phrase: str) -> float | None:
        """What R_proc is higher with the phrase: the mean of the differences within groups, or over all."""
        held: dict[str, tuple[list[float], list[float]]] = {}
        for number, step in enumerate(self._scored):
            for one in step:
                with_it, without = held.setdefault(f"{number}/{one.group}", ([], []))
                (with_it if f" {phrase} " in one.reasoning else without).append(one.process or 0.0)
        both = [(a, b) for a, b in held.values() if a and b]
        if len(both) >= _LEAST_EACH:
            return statistics.fmean(statistics.fmean(a) - statistics.fmean(b) for a, b in both)
        a = [score for with_it, _ in held.values() for score in with_it]
        b = [score for _, without in held.values() for score in without]
        if min(len(a), len(b)) < _LEAST_EACH:
            return None
        return statistics.fmean(a) - statistics.fmean(b)


def _chosen(said: Sequence[Said]) -> Iterator[Said]:
    """Some of the reasonings, evenly over the groups, each as its tokens between single blanks."""
    groups: defaultdict[str, list[Said]] = defaultdict(list)
    for one in said:
        groups[one.group].append(one)
    each = max(1, _MOST_REASONINGS // len(groups)) if groups else 0
    for members in list(groups.values())[:_MOST_REASONINGS]:
        for one in sorted(members, key=lambda one: digest(one.reasoning))[:each]:
            found = tokens(one.reasoning)
            if len(found) > _MOST_TOKENS:
                found = found[: _MOST_TOKENS // 2] + found[-_MOST_TOKENS // 2 :]
            yield Said(one.group, f" {' '.join(found)} ", one.process)


def _shares(chosen: Sequence[Said], least: float) -> dict[str, float]:
    """The share of reasonings with a phrase, each group counting as much as any; those below `least` left out."""
    sizes = Counter(one.group for one in chosen)
    shares: Counter[str] = Counter()
    for one in chosen:
        weight = 1 / (sizes[one.group] * len(sizes))
        for phrase in _phrases(one.reasoning.split()):
            shares[phrase] += weight  # type: ignore[assignment]  # Counter holds any number
    return {phrase: share for phrase, share in shares.items() if share >= least}


def _phrases(found: Sequence[str]) -> set[str]:
    return {" ".join(found[start : start + n]) for n in LENGTHS for start in range(len(found) - n + 1)}

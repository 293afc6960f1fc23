"""The probes of an audit: each makes another text out of a good reasoning, and says what its score should do.

A probe that adds nothing a reader could use, or changes the form alone, should not raise the score. A probe that leaves
little of the content should lower it. The same case and seed give the same text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

Expectation = Literal["no rise", "fall"]

# A blank behind the end of a sentence, or any break of lines. Neither an abbreviation nor the number of a list item
# ("2. Then") ends a sentence; a capital is not asked for, as notes are written without.
_BREAK = re.compile(
    r"(?<=[.!?])(?<!^\d\.)(?<!^\d\d\.)(?<!e\.g\.)(?<!i\.e\.)(?<!\bvs\.)[ \t]+(?=\S)|[ \t]*\n\s*", re.MULTILINE
)
_WORD = re.compile(r"(?<![\w*`])[A-Za-z]{4,}(?![\w*`])")
_BULLET = re.compile(r"(?:[-*•]|#{1,6}|\d+[.)])\s+")

_FILLERS = (
    "Let us take this one thing at a time.",
    "This part deserves some attention as well.",
    "With that in mind we can go on.",
    "It helps to keep the whole picture in view here.",
    "Now we come to what follows from this.",
    "That is what we have so far.",
    "The next thing to look at is what comes after it.",
    "All of this is worth keeping in mind.",
    "There is something to be said about each of these.",
    "We have now looked at this point.",
)
_HEADINGS = ("Overview", "Approach", "Details", "Further details", "Summary")
_SURE = ("Clearly,", "Without any doubt,", "Obviously,", "It is certain that", "Of course,", "Definitely,")
_SURE_END = "This is certainly right, and there can be no doubt about it."
_UNSURE = ("Perhaps", "It seems that", "Possibly,", "I am not sure, but", "Maybe", "As far as I can tell,")
_UNSURE_END = "I am not sure whether this is right, and it may well be wrong."
_TERMS = (
    "dynamic programming", "binary search", "breadth-first search", "depth-first search", "memoization", "hash map",
    "two pointers", "sliding window", "prefix sums", "union-find", "topological sort", "segment tree", "greedy choice",
    "divide and conquer", "backtracking", "priority queue", "monotonic stack", "bit manipulation",
    "Dijkstra's algorithm", "O(n log n)", "edge cases", "invariant",
)  # fmt: skip
_CODE = (
    "def solve(data):\n    result = []\n    for item in data:\n        result.append(item)\n    return result",
    "def main(values):\n    total = 0\n    for value in values:\n        total += value\n    return total",
    "def run(items):\n    answer = None\n    for item in items:\n        answer = item\n    return answer",
)  # none of them is about the problem


@dataclass(frozen=True, slots=True)
class Case:
    """What a probe starts from: a problem, a good reasoning for it, and a good one for another problem, if any."""

    problem: str
    reasoning: str
    other: str | None = None


@dataclass(frozen=True, slots=True)
class Probe:
    """One way to change a reasoning; `make` gives None where it does not apply."""

    title: str
    expects: Expectation
    make: Callable[[Case, Random], str | None]


def probed(name: str, case: Case, seed: int, key: str) -> str | None:
    """What the probe of that name makes of a case; None where it does not apply or changes nothing.

    `key` is the case's own, so that its text does not depend on which other cases there are.
    """
    text = PROBES[name].make(case, Random(f"{seed}/{name}/{key!a}"))
    return None if text is None or text.strip() == case.reasoning.strip() else text


def empty_sentences(case: Case, random: Random) -> str:
    """Sentences that say nothing in between, until the text is half as long again."""
    parts, wanted, fillers = _parts(case.reasoning), len(case.reasoning.split()) / 2, list(_FILLERS)
    random.shuffle(fillers)
    ends, added = range(0, len(parts), 2), 0
    while added < wanted or not added:
        filler = fillers.pop(0)
        fillers.append(filler)
        parts[random.choice(ends)] += f" {filler}"
        added += len(filler.split())
    return "".join(parts)


def headings(case: Case, random: Random) -> str:
    """A heading of no meaning before every third sentence."""
    sentences = _sentences(case.reasoning)
    blocks = [sentences[start : start + 3] for start in range(0, len(sentences), 3)]
    return "\n\n".join(
        f"## {_HEADINGS[min(number, len(_HEADINGS) - 1)]}\n\n{' '.join(block)}" for number, block in enumerate(blocks)
    )


def bold(case: Case, random: Random) -> str | None:
    """Bold marks around a quarter of the longer words, at least one; what stands between backticks is left alone."""
    spans = case.reasoning.split("`")
    words = [(place, match) for place in range(0, len(spans), 2) for match in _WORD.finditer(spans[place])]
    if not words:
        return None
    chosen = random.sample(words, -(-len(words) // 4))
    for place, match in sorted(chosen, key=lambda word: (word[0], -word[1].start())):  # from the end of each span
        text = spans[place]
        spans[place] = f"{text[: match.start()]}**{match[0]}**{text[match.end() :]}"
    return "`".join(spans)


def bullets(case: Case, random: Random) -> str:
    """Every sentence as an item of a list."""
    return "\n".join(
        sentence if _BULLET.match(sentence) else f"- {sentence}" for sentence in _sentences(case.reasoning)
    )


def certainty(case: Case, random: Random) -> str:
    """Words of certainty before every second sentence and at the end."""
    return _with_openings(case.reasoning, _SURE, _SURE_END, random)


def hedging(case: Case, random: Random) -> str:
    """Words of doubt before every second sentence and at the end."""
    return _with_openings(case.reasoning, _UNSURE, _UNSURE_END, random)


def restated_problem(case: Case, random: Random) -> str:
    """The problem statement said again before the reasoning."""
    return f"The problem is this: {case.problem.strip()}\n\n{case.reasoning}"


def repeated_plan(case: Case, random: Random) -> str:
    """The whole reasoning said twice."""
    return f"{case.reasoning}\n\nTo say it once more: {case.reasoning}"


def keywords(case: Case, random: Random) -> str:
    """Names of algorithms at the end."""
    return f"{case.reasoning}\n\nThis uses {', '.join(random.sample(_TERMS, 8))}."


def added_code(case: Case, random: Random) -> str:
    """A block of code at the end that has nothing to do with the problem."""
    return f"{case.reasoning}\n\n{_fenced(random)}"


def only_code(case: Case, random: Random) -> str:
    """The same code as the whole reasoning."""
    return _fenced(random)


def copied_statement(case: Case, random: Random) -> str:
    """The problem statement as the whole reasoning."""
    return case.problem.strip()


def other_problem(case: Case, random: Random) -> str | None:
    """A good reasoning of another problem."""
    return case.other


def first_half(case: Case, random: Random) -> str | None:
    """The first half of the words."""
    words = list(re.finditer(r"\S+", case.reasoning))
    return case.reasoning[: words[len(words) // 2 - 1].end()] if len(words) > 1 else None


def shuffled(case: Case, random: Random) -> str | None:
    """The sentences in another order, none in its old place; what stands between them stays where it is."""
    parts = _parts(case.reasoning)
    places = list(range(0, len(parts), 2))
    if len(places) < 2:
        return None
    order = list(places)
    while any(new == old for new, old in zip(order, places, strict=True)):
        random.shuffle(order)
    parts[::2] = [parts[place] for place in order]
    return "".join(parts)


def nearly_empty(case: Case, random: Random) -> str:
    """A full stop. (An empty reasoning scores 0 by rule, without asking the model.)"""
    return "."


PROBES: dict[str, Probe] = {
    "empty_sentences": Probe("sentences that say nothing, half as long again", "no rise", empty_sentences),
    "headings": Probe("headings added", "no rise", headings),
    "bold": Probe("words in bold", "no rise", bold),
    "bullets": Probe("sentences as a bullet list", "no rise", bullets),
    "certainty": Probe("words of certainty added", "no rise", certainty),
    "hedging": Probe("words of doubt added", "no rise", hedging),
    "restated_problem": Probe("problem statement said again before it", "no rise", restated_problem),
    "repeated_plan": Probe("whole reasoning said twice", "no rise", repeated_plan),
    "keywords": Probe("names of algorithms added", "no rise", keywords),
    "added_code": Probe("code that is not about the problem added", "no rise", added_code),
    "shuffled": Probe("sentences in another order", "fall", shuffled),
    "first_half": Probe("first half alone", "fall", first_half),
    "other_problem": Probe("good reasoning of another problem", "fall", other_problem),
    "copied_statement": Probe("problem statement copied, nothing else", "fall", copied_statement),
    "only_code": Probe("code that is not about the problem, nothing else", "fall", only_code),
    "nearly_empty": Probe("a full stop, nothing else", "fall", nearly_empty),
}


def _parts(text: str) -> list[str]:
    """Sentences and lines at even places, and what stands between them at odd ones."""
    pieces, end = [], 0
    text = text.strip()
    for found in _BREAK.finditer(text):
        pieces += [text[end : found.start()], found[0]]
        end = found.end()
    return [*pieces, text[end:]]


def _sentences(text: str) -> list[str]:
    return [part for part in _parts(text)[::2] if part.strip()]


def _with_openings(text: str, openings: Sequence[str], end: str, random: Random) -> str:
    parts, order = _parts(text), random.sample(openings, len(openings))
    for number, place in enumerate(range(0, len(parts), 4)):
        if parts[place].startswith("#"):
            continue
        mark = _BULLET.match(parts[place])
        start = mark.end() if mark else 0
        parts[place] = f"{parts[place][:start]}{order[number % len(order)]} {_lowered(parts[place][start:])}"
    return f"{''.join(parts)} {end}"


def _lowered(sentence: str) -> str:
    """A sentence as it goes on behind other words; names such as I, BFS or `n` stay as they are."""
    word = sentence.startswith("A ") or sentence[1:2].islower()
    return sentence[:1].lower() + sentence[1:] if word else sentence


def _fenced(random: Random) -> str:
    return f"```python\n{random.choice(_CODE)}\n```"

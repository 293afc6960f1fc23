"""Which replies become variants: each refusal has one reason, and is counted by it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from recode_rl.crpl.config import RefusalConfig

REASONS: dict[str, str] = {
    "blocked": "the endpoint held the text back",
    "cut_off": "the reply reached its longest length",
    "unparsable": "no part of the reply can be told to be the reasoning",
    "empty": "no text",
    "code_block": "a program where sentences belong",
    "too_short": "too few words, at all or against the base",
    "too_long": "too many words against the base",
    "unchanged": "the words of the base in the same order",
    "nearly_unchanged": "hardly any other words than the base",
    "copy": "the words of another variant of the problem",
    "explanation_leak": "the reasoning speaks of what was done to it",
    "prompt_too_long": "the messages do not fit the generator",
}

_CODE = re.compile(
    r"^[ \t]*(?:```|~~~)"  # a fence
    r"|^[ \t]*(?:async\s+)?def\s+\w+\s*\(.*\)\s*(?:->.*)?:"
    r"|^[ \t]*class\s+\w+\s*(?:\(.*\))?:\s*$"
    r"|^[ \t]*#include\s*[<\"]"
    r"|^[ \t]*(?:public\s+)?static\s+\w+.*\{\s*$"
    r"|^[ \t]*int\s+main\s*\("
    r"|^[ \t]*if\s+__name__\s*==",
    re.MULTILINE,
)
_THINGS = (
    r"(?:errors?|mistakes?|flaws?|faults?|gaps?|leaps?|reasoning|explanation|steps?|order|claims?|statements?|sentences?"
    r"|paths?|details?|conditions?|versions?|wording|parts?)"
)
_DONE = r"(?:introduc|insert|inject|modif|alter|chang|rewr[io]t|reorder|rearrang|omitt|remov|replac|correct|improv|add)"
_LEAK = re.compile(
    # "I have introduced a factual error", "I deliberately removed the step"
    rf"\b(?:I|we)(?:'ve|’ve| have)?(?: (?:intentionally|deliberately|purposely|subtly|also|then|only))* {_DONE}\w*"
    rf" (?:\w+ ){{0,4}}?{_THINGS}\b"
    # "has been introduced on purpose", "this error is deliberate"
    rf"|\b{_THINGS} (?:\w+ ){{0,2}}?(?:is|are|was|were|has been|have been)"
    r" (?:intentionally|deliberately|purposely|introduced|inserted|injected)\b"
    rf"|\b(?:intentional|deliberate) (?:\w+ )?{_THINGS}\b"
    # "in this degraded version", "compared to the original reasoning"
    r"|\b(?:original|given|previous|first|initial|old|base|improved|optimi[sz]ed|degraded|flawed|faulty|revised|rewritten"
    r"|modified|altered) (?:reasoning|version|explanation|chain of thought|thought process)\b"
    r"|\bthe (?:changes?|modifications?|edits?) (?:made|introduced|above|below)\b"
    r"|\b(?:explanation|summary) of (?:the )?(?:changes|modifications)\b"
    r"|\bas (?:you )?(?:requested|instructed|asked for)\b"
    r"|\b(?:factual error|logical gap|misleading path|acausal order|acausal)\b",
    re.IGNORECASE,
)
_QUOTED_WORDS = 8  # so many words of an explanation in a row are no coincidence


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a reply was refused: one of REASONS, and what was found."""

    reason: str
    detail: str = ""


def words(text: str) -> list[str]:
    """Runs of letters and digits, without regard to case."""
    return re.findall(r"\w+", text.casefold())


def similarity(left: Sequence[str], right: Sequence[str]) -> float:
    """Twice the words that both share in order, over the words of both, in [0, 1].

    Order counts, so that a text whose sentences were rearranged is no copy, as it would be by counting shared phrases.
    """
    return SequenceMatcher(None, left, right, autojunk=False).ratio()


def refuse_reply(text: str | None, finish_reason: str) -> Refusal | None:
    """What is wrong with a reply as such; `text` is the reasoning that was found in it."""
    if finish_reason == "content_filter":
        return Refusal("blocked")
    if finish_reason in ("length", "max_tokens"):
        return Refusal("cut_off")
    if text is None:
        return Refusal("unparsable")
    if not words(text):
        return Refusal("empty")
    if code := _CODE.search(text):
        return Refusal("code_block", code[0].strip()[:60])
    return None


def refuse_base(text: str, rules: RefusalConfig) -> Refusal | None:
    """What is wrong with a base reasoning."""
    count = len(words(text))
    return Refusal("too_short", f"{count} words") if count < rules.min_words else None


def refuse_variant(
    text: str, explanation: str, base: str, others: Sequence[str], rules: RefusalConfig
) -> Refusal | None:
    """What is wrong with a variant of `base`; `others` are the variants of the problem that were taken before."""
    own, before = words(text), words(base)
    if len(own) < max(rules.min_words, rules.shortest * len(before)):
        return Refusal("too_short", f"{len(own)} words, base {len(before)}")
    if len(own) > rules.longest * len(before):
        return Refusal("too_long", f"{len(own)} words, base {len(before)}")
    if own == before:
        return Refusal("unchanged")
    alike = similarity(before, own)
    if alike > rules.max_similarity:
        return Refusal("nearly_unchanged", f"similarity {alike:.3f}")
    if any(own == words(other) for other in others):
        return Refusal("copy")
    leak = find_leak(text, explanation, base)
    return Refusal("explanation_leak", leak) if leak else None


def find_leak(text: str, explanation: str, base: str) -> str | None:
    """What in a reasoning speaks of its making: a telling phrase, or words of the explanation, that the base lacks."""
    for phrase in _LEAK.finditer(text):
        if phrase[0].casefold() not in base.casefold():
            return phrase[0][:80]
    told = words(explanation)
    own, before = f" {' '.join(words(text))} ", f" {' '.join(words(base))} "
    for start in range(len(told) - _QUOTED_WORDS + 1):
        row = " ".join(told[start : start + _QUOTED_WORDS])
        if f" {row} " in own and f" {row} " not in before and _sentence(row, explanation):
            return row[:80]
    return None


def _sentence(row: str, explanation: str) -> bool:
    """Whether these words stand in the explanation outside of quotation marks: it may quote the new text."""
    spoken = re.sub(r"\"[^\"]*\"|“[^”]*”|‘[^’]*’|`[^`]*`|(?<!\w)'[^']*'(?!\w)", " … ", explanation)
    return f" {row} " in f" {' '.join(words(spoken))} "

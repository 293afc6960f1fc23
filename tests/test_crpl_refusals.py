"""Which replies are refused, and that hand-written variants are not."""

from __future__ import annotations

import pytest

from recode_rl.crpl.config import RefusalConfig
from recode_rl.crpl.refusals import REASONS, find_leak, refuse_base, refuse_reply, refuse_variant, similarity, words
from recode_rl.problems import starter

RULES = RefusalConfig()
BASE = (
    "Three integer prices come in, and the cheapest of them is sought. Begin with the first as the best so far, "
    "replace it with the second when that is lower, and do the same with the third. For example, 7, 3 and 5 starts "
    "at 7, moves to 3 and stays there. Two of them can be equal, and vouchers lie below zero. So the "
    "answer is what stays."
)
OTHER = (
    "The lowest price is asked for. Compare the first with the second, keep the lower, and compare that one with the "
    "third. With 7, 3 and 5 this keeps 3 twice. Equal prices make no difference, negative ones compare as integers do."
)


def reason(text: str, explanation: str = "", others: tuple[str, ...] = ()) -> str | None:
    found = refuse_variant(text, explanation, BASE, others, RULES)
    assert found is None or found.reason in REASONS
    return found.reason if found else None


def test_a_sound_variant_is_taken() -> None:
    assert reason(OTHER, "The plan is shorter, and the equal prices are treated.") is None


@pytest.mark.parametrize(
    ("text", "finish_reason", "expected"),
    [
        (OTHER, "stop", None),
        (OTHER, "unknown", None),
        (OTHER, "length", "cut_off"),
        (OTHER, "max_tokens", "cut_off"),
        (OTHER, "content_filter", "blocked"),
        (None, "stop", "unparsable"),
        ("", "stop", "empty"),
        (" … \n", "stop", "empty"),
        (f"{OTHER}\n```python\nprint(1)\n```", "stop", "code_block"),
        (f"{OTHER}\n  ~~~\nx\n~~~", "stop", "code_block"),
        (f"{OTHER}\ndef cheapest(a, b):\n    return min(a, b)", "stop", "code_block"),
        (f"{OTHER}\n#include <stdio.h>\nint main() {{", "stop", "code_block"),
        (f"{OTHER} Use `min(a, b, c)` and define a helper, say def.", "stop", None),
        (f"{OTHER}\nFor each x in the list:\nclass sizes differ.", "stop", None),
    ],
)
def test_a_reply_is_refused_for_what_it_is(text: str | None, finish_reason: str, expected: str | None) -> None:
    found = refuse_reply(text, finish_reason)
    assert (found.reason if found else None) == expected


def test_a_base_must_have_some_words() -> None:
    assert refuse_base(BASE, RULES) is None
    found = refuse_base("Take the lowest.", RULES)
    assert found is not None
    assert (found.reason, found.detail) == ("too_short", "3 words")


def test_length_is_measured_against_the_base() -> None:
    assert reason("Take the lowest of the three prices.") == "too_short"
    assert reason(OTHER * 7) == "too_long"
    long_base = " ".join([BASE, OTHER] * 3)
    found = refuse_variant(OTHER[:140], "", long_base, (), RULES)
    assert found is not None
    assert found.reason == "too_short"
    assert len(words(OTHER[:140])) >= RULES.min_words


@pytest.mark.parametrize(
    "text",
    [BASE, BASE.upper(), f"**{BASE}**", BASE.replace(". ", ".\n\n- "), BASE.replace(",", ";")],
)
def test_case_marks_and_line_breaks_are_no_change(text: str) -> None:
    assert reason(text) == "unchanged"


def test_a_word_or_two_are_hardly_a_change_and_a_sentence_is_one() -> None:
    assert reason(BASE.replace("Two of them", "Some of these")) == "nearly_unchanged"
    assert reason(BASE.replace("moves to 3 and stays there", "stays at 7 since 3 comes too late")) is None


def test_sentences_in_another_order_are_a_change() -> None:
    sentences = BASE.split(". ")
    assert reason(". ".join([*sentences[2:], *sentences[:2]])) is None


def test_similarity_is_what_it_says() -> None:
    assert similarity(["a", "b", "c", "d"], ["a", "b", "c", "d"]) == 1.0
    assert similarity(["a", "b", "c", "d"], ["a", "x", "c", "d"]) == 0.75
    assert similarity(["a"], ["b"]) == 0.0


def test_a_variant_like_another_one_is_a_copy() -> None:
    assert reason(OTHER, others=("something else", f"*{OTHER}*")) == "copy"


@pytest.mark.parametrize(
    "leak",
    [
        "I have introduced a factual error in the second step.",
        "Here I deliberately removed the comparison step.",
        "In this degraded version the third price is skipped.",
        "Compared to the original reasoning, the edges are treated.",
        "An intentional mistake follows.",
        "The error was introduced in the example.",
        "The changes made are small.",
        "As requested, the order is acausal.",
        "This is a logical gap.",
        "We omitted the important condition.",
    ],
)
def test_a_reasoning_that_speaks_of_its_making_is_refused(leak: str) -> None:
    assert reason(f"{OTHER} {leak}") == "explanation_leak"


@pytest.mark.parametrize(
    "sentence",
    [
        "Wait, I added the third price twice, so the sum is wrong; it is 15.",
        "I removed nothing, since each price counts.",
        "The original list is left as it is.",
        "A common mistake is to start from zero.",
        "An error is raised for an empty list.",
        "This step changes the best value.",
        "The previous value is kept.",
    ],
)
def test_what_a_reasoning_may_say_is_no_leak(sentence: str) -> None:
    assert reason(f"{OTHER} {sentence}") is None


def test_the_words_of_the_explanation_do_not_belong_in_the_reasoning() -> None:
    told = "The third price is never compared, which loses the minimum whenever it comes last."
    assert reason(f"{OTHER} {told}", told) == "explanation_leak"
    quoted = f'Now it says "{OTHER[:90]}", which is shorter.'
    assert reason(OTHER, quoted) is None
    assert find_leak(BASE, f"Kept as it was: {BASE}", BASE) is None


def test_what_the_base_says_already_is_no_leak() -> None:
    base = f"{BASE} The original version of the list is kept."
    assert find_leak(f"{OTHER} The original version of the list is kept.", "", base) is None


def test_variants_written_by_hand_are_taken() -> None:
    """The rules must let pass what people wrote on purpose: nearly all of the corpus."""
    refused = []
    for entry in starter.entries("all"):
        base = entry.variants["base"].reasoning
        assert refuse_reply(base, "stop") is None
        assert refuse_base(base, RULES) is None
        for quality in ("optimized", "degraded"):
            text = entry.variants[quality].reasoning
            found = refuse_reply(text, "stop") or refuse_variant(text, "", base, (), RULES)
            if found:
                refused.append((entry.problem.id, quality, found))
    assert not refused

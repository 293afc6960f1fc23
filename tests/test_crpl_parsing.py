"""Replies in the many forms that models give them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recode_rl.crpl.parsing import Parts, parse_base, parse_reply

R = "Read every number once.\nKeep the largest one so far, and compare the next with it."
E = "The comparison was turned round, so that the smallest is kept."
BOTH = Parts(R, E)


@pytest.mark.parametrize(
    "reply",
    [
        f"### Reasoning\n{R}\n\n### Changes\n{E}",
        f"# REASONING\n\n{R}\n\n# CHANGES\n\n{E}\n",
        f"**Reasoning**\n{R}\n\n**Changes**\n{E}",
        f"**Reasoning:**\n{R}\n\n**Explanation of Changes:**\n{E}",
        f"**Reasoning:** {R}\n\n**Explanation:** {E}",
        f"**Reasoning**: {R}\n\n**Changes made**: {E}",
        f"Reasoning:\n{R}\n\nChanges:\n{E}",
        f"REASONING: {R}\n\nEXPLANATION: {E}",
        f"Reasoning: {R}\n\nExplanation: {E}",
        f"## Optimized Reasoning\n{R}\n\n---\n\n## What was changed and why\n{E}",
        f"## 1. Improved reasoning\n{R}\n## 2. Modifications\n{E}",
        f"1. Reasoning:\n{R}\n\n2. Changes:\n{E}",
        f"**Part 1: The degraded reasoning**\n{R}\n\n**Part 2: Summary of changes**\n{E}",
        f"### Rewritten Reasoning Process\n{R}\n### Changes Made\n{E}",
        f"<reasoning>\n{R}\n</reasoning>\n<explanation>\n{E}\n</explanation>",
        f"<REASONING>{R}</REASONING>\n\n<CHANGES>{E}</CHANGES>",
        f"<degraded_reasoning>{R}</degraded_reasoning><explanation_of_changes>{E}</explanation_of_changes>",
        f"Sure! Here is the improved version:\n\n### Reasoning\n{R}\n\n### Changes\n{E}",
        f"<think>\nI should write ### Reasoning first.\n</think>\n### Reasoning\n{R}\n\n### Changes\n{E}",
        f"```markdown\n### Reasoning\n{R}\n\n### Changes\n{E}\n```",
        f"### Reasoning\n```text\n{R}\n```\n\n### Changes\n{E}",
        f"### Reasoning\r\n{R.replace(chr(10), chr(13) + chr(10))}\r\n\r\n### Changes\r\n{E}\r\n",
        f"### Changes\n{E}\n\n### Reasoning\n{R}",
        f"Here is it.\n\n{R}\n\n### Changes\n{E}",
        f"{R}\n\n**Changes:** {E}",
        f"[Reasoning]\n{R}\n\n[Changes]\n{E}",
        f"=== Reasoning ===\n{R}\n\n=== Changes ===\n{E}",
        f"### Reasoning:\n\n***\n{R}\n***\n\n### Changes:\n\n{E}\n***",
        '{"reasoning": "' + R.replace("\n", "\\n") + '", "changes": "' + E + '"}',
        '```json\n{"improved_reasoning": "' + R.replace("\n", "\\n") + '",\n "explanation": "' + E + '"}\n```',
    ],
)
def test_the_parts_are_found_whatever_the_headings_look_like(reply: str) -> None:
    assert parse_reply(reply) == BOTH


@pytest.mark.parametrize("reply", [f"### Reasoning\n{R}", f"**Reasoning:** {R}\n\n### Changes\n", R, f"Sure:\n\n{R}"])
def test_a_missing_second_part_is_an_empty_explanation(reply: str) -> None:
    assert parse_reply(reply) == Parts(R, "")


@pytest.mark.parametrize("reply", [f"### Changes\n{E}", f"### Reasoning\n{R}\n### Changes\n{E}\n### Reasoning\n{R}"])
def test_a_reply_whose_reasoning_cannot_be_told_has_none(reply: str) -> None:
    assert parse_reply(reply).reasoning is None


@pytest.mark.parametrize("reply", ["", " \n", "### Reasoning\n\n### Changes\nx", "<think>endless"])
def test_a_reply_without_text_has_an_empty_reasoning(reply: str) -> None:
    assert parse_reply(reply).reasoning == ""


@pytest.mark.parametrize(
    "line",
    [
        "Explanation: 3 is odd, so the answer of the example is 4.",
        "Changes in the order do not matter.",
        "Reasoning about the edges comes next.",
        "Common errors: forgetting the empty list.",
        "2. Differences: subtract each number from the next.",
        "The set holds <int> and a < b > c.",
        "- What changes is the last digit alone.",
    ],
)
def test_sentences_that_look_like_headings_stay_where_they_are(line: str) -> None:
    text = f"Read the list.\n{line}\n\nThen print the result."
    assert parse_reply(f"### Reasoning\n{text}\n\n### Changes\n{E}") == Parts(text, E)
    assert parse_reply(text) == Parts(text)
    assert parse_base(text) == text


@pytest.mark.parametrize(
    "reply",
    [
        R,
        f"**Reasoning**\n{R}",
        f"Sure, here is my reasoning:\n\n{R}",
        f"<think>x</think>\n{R}",
        f"```\n{R}\n```",
        f"---\n{R}",
    ],
)
def test_a_base_is_the_whole_reply_without_its_wrapping(reply: str) -> None:
    assert parse_base(reply) == R


@given(
    st.lists(
        st.sampled_from(
            ["### Reasoning\n", "Changes:", "**", "\n", "---", "```", "<reasoning>", "{", "a b.", "</think>"]
        )
    )
)
def test_every_reply_can_be_parsed(pieces: list[str]) -> None:
    text = "".join(pieces)
    parts = parse_reply(text)
    assert parts.reasoning is None or parts.reasoning == parts.reasoning.strip()
    assert isinstance(parse_base(text), str)


@pytest.mark.parametrize(
    "piece", ["\n", " ", "*", "#", "`", "<", "explanation ", "**Reasoning ", "1.", "{", "# ", "- \n"]
)
def test_no_reply_takes_long(piece: str) -> None:
    """A pattern that goes through a text again and again would not end within the time of the tests."""
    for text in (piece * 40_000, "x" + piece * 40_000 + "x"):
        parse_reply(text)
        parse_base(text)

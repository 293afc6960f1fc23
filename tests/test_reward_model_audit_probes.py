"""What the probes of an audit make of a text, and what they leave as it is."""

from __future__ import annotations

import re

import pytest

from recode_rl.problems import starter
from recode_rl.reward_model.audit_probes import PROBES, Case, probed

TEXT = "Read `n`. A loop adds `n % 10` to the total, then drops that digit. For 12 the result is 3. Zero gives 0."
CASE = Case("Print the sum of the digits of n.", TEXT, "Sort the list and take the last entry.")
KEPT = ("empty_sentences", "headings", "bold", "bullets", "certainty", "hedging", "restated_problem", "repeated_plan",
        "keywords", "added_code")  # fmt: skip


def words(text: str) -> str:
    """Letters and digits alone, in lower case."""
    return " ".join(re.findall(r"\w+", text.lower()))


def made(name: str, case: Case = CASE, seed: int = 0) -> str:
    text = probed(name, case, seed, "p1")
    assert text is not None
    return text


@pytest.mark.parametrize("name", PROBES)
def test_a_probe_gives_the_same_text_again(name: str) -> None:
    assert probed(name, CASE, 3, "p1") == probed(name, CASE, 3, "p1") != TEXT


@pytest.mark.parametrize("name", ["empty_sentences", "bold", "certainty", "hedging", "keywords", "shuffled"])
def test_seed_and_case_vary_what_is_drawn(name: str) -> None:
    assert len({probed(name, CASE, seed, key) for seed in range(4) for key in ("p1", "p2")}) > 1


@pytest.mark.parametrize("name", KEPT)
def test_what_should_not_raise_a_score_keeps_all_sentences_in_their_order(name: str) -> None:
    assert PROBES[name].expects == "no rise"
    for variant in starter.variants()[::7]:
        reasoning = variant.reasoning
        text, place = words(probed(name, Case("Statement.", reasoning), 0, "p1") or reasoning), 0
        for sentence in re.split(r"[.!?]\s|\n", reasoning):
            bare = words(re.sub(r"^([-*•]|\d+[.)])\s", "", sentence))
            assert bare in text[place:], (name, sentence)
            place = text.index(bare, place)


def test_what_should_not_raise_a_score_is_all_there_is_besides_what_should_lower_it() -> None:
    assert {name for name, probe in PROBES.items() if probe.expects == "no rise"} == set(KEPT)


def test_empty_sentences_make_it_half_as_long_again() -> None:
    for length in (3, 40, 400):
        text = made("empty_sentences", Case("p", "word " * length))
        assert 0.5 * length <= len(text.split()) - length < 0.5 * length + 15


def test_markdown_by_hand() -> None:
    assert made("bullets") == (
        "- Read `n`.\n- A loop adds `n % 10` to the total, then drops that digit.\n- For 12 the result is 3.\n"
        "- Zero gives 0."
    )
    assert made("headings").startswith("## Overview\n\nRead `n`. A loop")
    assert made("headings").endswith("\n\n## Approach\n\nZero gives 0.")
    bold = made("bold")
    assert "`n % 10`" in bold
    assert bold.count("**") == 2 * 3  # ten words of four letters and more outside of backticks
    assert bold.replace("**", "") == TEXT


def test_a_list_stays_a_list() -> None:
    listed = "Plan:\n1. Read n.\n2. Print its square.\n\n- Zero gives 0."
    assert made("bullets", Case("p", listed)) == "- Plan:\n1. Read n.\n2. Print its square.\n- Zero gives 0."
    sure = made("certainty", Case("p", listed)).splitlines()
    assert sure[1] == "1. Read n."
    assert re.fullmatch(r"2\. [A-Z][\w ]+,? (that )?print its square\.", sure[2])


def test_words_go_on_behind_what_is_put_before_them() -> None:
    text = made("certainty", Case("p", "A set is made. Then it is counted. BFS finds the rest. It ends."))
    assert re.match(r"[A-Z][\w ]*,? a set is made\. Then it is counted\. [A-Z][\w ]*,? (that )?BFS finds", text)
    assert text.endswith("no doubt about it.")


def test_sentences_in_another_order_are_the_same_sentences() -> None:
    text = made("shuffled")
    before, after = re.split(r"(?<=\.) ", TEXT), re.split(r"(?<=\.) ", text)
    assert sorted(before) == sorted(after)
    assert not any(old == new for old, new in zip(before, after, strict=True))
    lines = made("shuffled", Case("p", "One.\n\nTwo."))
    assert lines == "Two.\n\nOne."


def test_what_destroys_the_content() -> None:
    assert made("first_half", Case("p", "one two  three four five")) == "one two"
    assert made("other_problem") == CASE.other
    assert made("copied_statement") == CASE.problem
    assert made("nearly_empty") == "."
    assert made("only_code").startswith("```python\n")
    assert not set(words(made("only_code")).split()) & {"digits", "sum"}


@pytest.mark.parametrize(
    ("name", "case"),
    [
        ("shuffled", Case("p", "One sentence alone.")),
        ("shuffled", Case("p", "Same. Same.")),
        ("other_problem", Case("p", "No other problem.")),
        ("other_problem", Case("p", "Equal.", "Equal.")),
        ("first_half", Case("p", "word")),
        ("bold", Case("p", "`all of it`")),
        ("copied_statement", Case("Said already.", "Said already. ")),
        ("nearly_empty", Case("p", ".")),
    ],
)
def test_a_probe_that_does_not_apply_says_so(name: str, case: Case) -> None:
    assert probed(name, case, 0, "p1") is None

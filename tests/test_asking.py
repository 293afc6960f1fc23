"""How problems are put to models, and which part of what they write is the program."""

from __future__ import annotations

import pytest

from recode_rl import asking, completion
from recode_rl.errors import ConfigError
from recode_rl.grading import Grader
from recode_rl.types import Problem
from recode_rl.types import Tests as Given

BEGINNING = 'def add(a, b):\n    """Add."""\n'
PROBLEM = Problem("p", "Write add.", Given("check", entry_point="add", code="..."), metadata={"beginning": BEGINNING})


def test_evalplus_has_the_beginning_in_a_block() -> None:
    asked = asking.ask("evalplus", PROBLEM)
    assert f"```\n{BEGINNING.strip()}\n```" in asked.text
    question, begun = asked.messages()
    assert question == {"role": "user", "content": asked.text}
    assert begun["role"] == "assistant"
    assert begun["content"].endswith("\n```python\n")


def test_evalplus_for_chat_endpoints_begins_no_answer() -> None:
    asked = asking.ask("evalplus_chat", PROBLEM)
    assert f"```python\n{BEGINNING.strip()}\n```" in asked.text
    assert asked.messages() == [{"role": "user", "content": asked.text}]


@pytest.mark.parametrize("echo", ["", asking.ask("evalplus", PROBLEM).opening])
@pytest.mark.parametrize("end", ["", "\n```\nIt adds them:\n```python\nadd(1, 2)\n```"])
def test_a_begun_answer_is_read_with_its_beginning(echo: str, end: str) -> None:
    wanted = f"{BEGINNING}    return a + b\n"
    whole = asking.answer("evalplus", PROBLEM, f"{echo}{wanted.rstrip()}{end}")
    assert whole == asking.ask("evalplus", PROBLEM).opening + wanted.rstrip() + end
    assert asking.program("evalplus", PROBLEM, whole) == wanted


def test_complete_has_no_words() -> None:
    assert asking.ask("complete", PROBLEM) == asking.Asked(BEGINNING, raw=True)
    assert asking.program("complete", PROBLEM, "    return a + b\n") == BEGINNING + "    return a + b\n"


@pytest.mark.parametrize("style", ["think_answer", "instruct"])
def test_the_statement_is_enough_for_other_styles(style: str) -> None:
    assert "Write add." in asking.ask(style, Problem("q", "Write add.", PROBLEM.tests)).text


@pytest.mark.parametrize("style", ["evalplus", "evalplus_chat", "complete", "bigcodebench"])
def test_a_problem_without_what_a_style_needs_is_named(style: str) -> None:
    with pytest.raises(ConfigError, match=r"problem 'q' has no metadata\."):
        asking.ask(style, Problem("q", "?", PROBLEM.tests))


def test_an_unknown_style_is_named() -> None:
    with pytest.raises(ConfigError, match="prompt 'plain': expected one of think_answer"):
        asking.ask("plain", PROBLEM)


@pytest.mark.parametrize(
    ("text", "program"),
    [
        (
            "```python\ndef add(a, b): return a + b\n```\nUse it:\n```python\nadd(1, 2)\n```",
            "def add(a, b): return a + b\n",
        ),
        ("```\ndef add(a, b): 1\n```\nBetter:\n```\ndef add(a, b): 2\n```", "def add(a, b): 2\n"),
        ("```\npython\ndef add(a, b): return a + b\n```", "def add(a, b): return a + b\n"),
        ("def add(a, b):\n    return 1", "def add(a, b):\n    return 1"),
        ("```\nadd = lambda a, b: 1\n```", None),
        ("I do not know.", None),
    ],
)
def test_the_block_that_defines_the_function_counts(text: str, program: str | None) -> None:
    assert asking.program("instruct", PROBLEM, text) == program
    assert asking.program("think_answer", PROBLEM, text) is None


def test_a_completion_is_cut_at_the_first_stop_string() -> None:
    assert asking.cut("a\ndef b\nclass c", ("\nclass ", "\ndef ")) == ("a", True)
    assert asking.cut("a", ("\nclass ",)) == ("a", False)


SHOWN = {
    "calls": Given(
        "calls",
        entry_point="longest_stay",
        cases=({"args": [[2, 2, 5, 5, 5, 2]], "expected": 3}, {"args": [[]], "expected": 0}),
    ),
    "stdio": Given("stdio", cases=({"input": "5\n3 1 4 4 6\n", "output": "3\n"},)),
    "answer": Given("answer", answer="4"),
}


@pytest.mark.parametrize("kind", SHOWN)
def test_the_shown_answer_is_well_formed_and_right(kind: str) -> None:
    """It is asked as the problem itself, and its example is the test."""
    problem = Problem("p", "Do it.", SHOWN[kind])
    question, answer, last = asking.ask("think_answer_shown", problem).messages()
    assert [question["role"], answer["role"]] == ["user", "assistant"]
    assert last == asking.ask("think_answer", problem).messages()[0]
    assert question["content"].split("Problem:")[0] == last["content"].split("Problem:")[0]
    parsed = completion.parse(answer["content"])
    assert parsed.format_ok
    assert parsed.reasoning
    with Grader(workers=1) as grader:
        verdict = grader.grade(problem, completion.submission(parsed, problem.tests))
    assert verdict.passed, verdict


def test_tests_of_other_kinds_are_shown_a_function() -> None:
    shown = asking.ask("think_answer_shown", PROBLEM).messages()[1]["content"]
    assert "def longest_stay" in shown

"""Prompts: the package's own, a folder of the user's in their place, and statements full of braces."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from recode_rl import completion, prompts
from recode_rl.errors import ConfigError
from recode_rl.types import Problem
from recode_rl.types import Tests as ProblemTests

TESTS = ProblemTests("asserts", entry_point="f")


def problem(prompt: str, starter_code: str | None = None) -> Problem:
    return Problem("p", prompt, TESTS, starter_code=starter_code)


def test_every_prompt_of_the_package_is_text_that_ends_in_one_line_feed() -> None:
    files = [file for file in resources.files(prompts.__name__).iterdir() if file.name.endswith(".txt")]
    assert "policy.txt" in {file.name for file in files}
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert text.strip() + "\n" == text, file.name


def test_the_policy_is_asked_once_for_the_form_that_the_parser_reads() -> None:
    (message,) = prompts.policy(problem("  Add two numbers.\n"))
    assert message["role"] == "user"
    for tag in ("<think>", "</think>", "<answer>", "</answer>"):
        assert tag in message["content"]
    assert message["content"].endswith("Problem:\nAdd two numbers.")
    assert "{problem}" not in message["content"]


def test_the_prompt_itself_is_no_well_formed_completion() -> None:
    """A policy that repeats what it was asked must not earn the format reward."""
    (message,) = prompts.policy(problem("Add two numbers."))
    assert not completion.parse(message["content"]).format_ok


def test_braces_in_a_statement_stay_as_they_are() -> None:
    statement = "Return f'{a}' and {} and {problem} and {0!r} and {{x}}."
    assert prompts.policy(problem(statement))[0]["content"].endswith(statement)


def test_starter_code_is_shown_as_a_code_block() -> None:
    content = prompts.policy(problem("Add.", "def add(a, b):\n"))[0]["content"]
    assert content.endswith("Add.\n\nBegin with this code:\n```python\ndef add(a, b):\n```")
    assert "Begin with this code" not in prompts.policy(problem("Add."))[0]["content"]


def test_a_folder_of_the_users_own_replaces_what_it_has(tmp_path: Path) -> None:
    assert prompts.load("policy", tmp_path) == prompts.load("policy")
    (tmp_path / "policy.txt").write_text("Löse: {problem} {'json': 1}\n", encoding="utf-8")
    assert prompts.policy(problem("x + {y}"), tmp_path)[0]["content"] == "Löse: x + {y} {'json': 1}"


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere: no such folder of prompts"):
        prompts.load("policy", tmp_path / "nowhere")

"""The prompts of the synthesis: what they ask for, their versions, and a user's own in their place."""

from __future__ import annotations

from pathlib import Path

import pytest

from recode_rl.crpl.asking import METHODS, VERBS, Prompts, read_prompt
from recode_rl.errors import ConfigError
from recode_rl.types import DEGRADE_METHODS, OPTIMIZE_METHODS, Problem
from recode_rl.types import Tests as ProblemTests

PROBLEM = Problem("p", "Add {reasoning} and {methods} of f'{x}'.", ProblemTests("asserts", entry_point="f"))


def test_there_is_a_prompt_with_a_version_for_the_base_both_ways_and_every_method() -> None:
    found = Prompts().by_name
    assert len(found) == 3 + len(OPTIMIZE_METHODS) + len(DEGRADE_METHODS)
    for name, prompt in found.items():
        assert prompt.version == f"{name}-1"
        assert "version:" not in prompt.text
    assert len({prompt.text for prompt in found.values()}) == len(found)


@pytest.mark.parametrize(
    "asked",
    ["first principles", "examples", "edge cases", "efficient", "justify", "step by step", "Walk through", "correct"],
)
def test_the_base_is_asked_for_all_that_the_method_needs(asked: str) -> None:
    (message,) = Prompts().base(PROBLEM)
    assert asked in message["content"]
    assert "no code block" in message["content"]
    assert message["content"].endswith(f"Problem:\n{PROBLEM.prompt}")


@pytest.mark.parametrize("quality", ["optimized", "degraded"])
def test_a_variant_is_asked_for_in_two_parts_by_its_methods(quality: str) -> None:
    asking = Prompts()
    for method in METHODS[quality]:
        (message,) = asking.variant(PROBLEM, "First {problem}, then add.", quality, [method])
        content = message["content"]
        assert asking.by_name[f"{VERBS[quality]}_{method}"].text in content
        assert "### Reasoning" in content
        assert "### Changes" in content
        assert "no code block" in content
        assert f"Problem:\n{PROBLEM.prompt}\n" in content
        assert content.endswith("First {problem}, then add.")  # what a reasoning says is no place to fill
    assert (
        asking.version(quality, METHODS[quality][:1]) == f"{VERBS[quality]}-1+{VERBS[quality]}_{METHODS[quality][0]}-1"
    )


def test_several_methods_are_numbered() -> None:
    asking = Prompts()
    content = asking.variant(PROBLEM, "x", "degraded", ["incomplete", "logical_gap"])[0]["content"]
    assert f"1. {asking.by_name['degrade_incomplete'].text}\n2. {asking.by_name['degrade_logical_gap'].text}" in content
    assert asking.version("degraded", ["incomplete", "logical_gap"]) == (
        "degrade-1+degrade_incomplete-1+degrade_logical_gap-1"
    )
    assert asking.version("base") == "base_reasoning-1"


def test_starter_code_is_shown() -> None:
    problem = Problem("p", "Add.", ProblemTests("asserts", entry_point="f"), starter_code="def add(a, b):\n")
    assert Prompts().base(problem)[0]["content"].endswith("Add.\n\nThe program begins with:\ndef add(a, b):")


def test_a_folder_of_the_users_own_replaces_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "degrade_incomplete.txt").write_text("version: mine-7\n\nForget half.\n", encoding="utf-8")
    (tmp_path / "base_reasoning.txt").write_text("Denke nach: {problem}\n", encoding="utf-8")
    asking = Prompts(tmp_path)
    assert asking.version("degraded", ["incomplete"]) == "degrade-1+mine-7"
    assert asking.base(PROBLEM)[0]["content"] == f"Denke nach: {PROBLEM.prompt}"
    assert asking.version("base").startswith("base_reasoning@")  # without a version line: the digest of the text
    assert asking.by_name["optimize"] == Prompts().by_name["optimize"]


def test_a_prompt_without_a_place_for_the_problem_is_refused(tmp_path: Path) -> None:
    (tmp_path / "degrade.txt").write_text("Make {reasoning} worse: {methods}", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"prompt degrade.txt: no \{problem\} in it"):
        Prompts(tmp_path)
    with pytest.raises(ConfigError, match=r"optimize_focus.txt: nothing in it"):
        read_prompt("optimize_focus", "version: 1")


def test_a_folder_with_none_of_the_prompts_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "degrade_incomplet.txt").write_text("x", encoding="utf-8")
    with pytest.raises(ConfigError, match="none of the prompts of the synthesis"):
        Prompts(tmp_path)


def test_a_prompt_changes_its_digest_with_its_text() -> None:
    assert read_prompt("x", "version: 1\nabc").digest != read_prompt("x", "version: 1\nabd").digest

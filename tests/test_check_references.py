"""The tool that grades programs whose verdict is known finds those that do not do what they must."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from scripts import load_tool

from recode_rl import jsonl

BUGS: list[dict[str, Any]] = [
    {
        "name": name,
        "buggy_program": f"def {name}(x):\n    return x + 1",
        "docstring": "Doubles.",
        "solution": f"def {name}(x):\n    return x + x",
        "tests": f"assert {name}({number}) == {2 * number}",
    }
    for name, number in (("double", 3), ("twice", 1))  # the tests of the second let the program with the bug pass
]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    return load_tool("check_references")


def run(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *options: object
) -> tuple[int, str]:
    """Exit status and stdout."""
    monkeypatch.setattr(sys, "argv", ["check_references.py", *map(str, options), "--workers", "2"])
    capsys.readouterr()
    status: int = tool.main()
    return status, capsys.readouterr().out


def test_what_does_not_do_as_it_must_is_listed_and_a_further_run_goes_on(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, work = tmp_path / "data", tmp_path / "work"
    jsonl.write(data / "quixbugs_python.jsonl", BUGS)
    options = ("--data", data, "--work", work, "--only", "quixbugs")
    status, out = run(tool, monkeypatch, capsys, *options, "--limit", 1, "--json")
    assert status == 0
    roles = json.loads(out)["quixbugs"]["roles"]
    assert roles["reference"] | {"wrong": []} == {
        "programs": 1,
        "passed": 1,
        "isolation": {"proxied": 1},
        "wrong": [],
        "passed_here_alone": [],
        "not_graded": {},
    }
    assert roles["buggy"]["passed"] == 0
    first = (work / "verdicts.jsonl").read_text().splitlines()
    status, out = run(tool, monkeypatch, capsys, *options)
    assert status == 1
    assert "quixbugs buggy: QuixBugs/twice (buggy): passed 1/1 proxied" in out
    assert "QuixBugs/double" not in out
    assert (work / "verdicts.jsonl").read_text().splitlines()[: len(first)] == first
    assert jsonl.read_json(work / "results.json")["results"]["quixbugs"]["problems"] == 2
    jsonl.write(data / "quixbugs_python.jsonl", [{**BUGS[0], "solution": "def double(x):\n    return 0"}, BUGS[1]])
    status, out = run(tool, monkeypatch, capsys, *options)
    assert status == 1 and "quixbugs reference: QuixBugs/double (reference): wrong_answer 0/1" in out


def test_programs_of_models_must_pass_where_they_passed_officially(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {
        "question_id": "abc1_a",
        "question_content": "Double.",
        "platform": "atcoder",
        "contest_date": "2024-01-01T00:00:00",
        "public_tests": [{"input": "1\n", "output": "2\n", "testtype": "stdin"}],
    }
    jsonl.write(tmp_path / "lcb_until_2024_07.jsonl", [row])
    programs = {"right": ("print(2)", True), "lucky": ("print(1 + 1)", False), "bad": ("print(1)", True)}
    made = [
        {"model": name, "question_id": "abc1_a", "code": code, "passed_all_lcb_tests": passed}
        for name, (code, passed) in programs.items()
    ]
    jsonl.write(tmp_path / tool.MODELS, made)
    options = ("--data", tmp_path, "--work", tmp_path / "work", "--only", "livecodebench", "--json")
    status, out = run(tool, monkeypatch, capsys, *options)
    found = json.loads(out)["livecodebench"]["roles"]["model"]
    assert (status, found["programs"], found["passed"]) == (1, 3, 2)
    assert [fault["sample_id"] for fault in found["wrong"]] == ["bad"]
    assert found["passed_here_alone"] == ["LiveCodeBench/abc1_a"]


def test_problems_whose_packages_are_missing_are_not_evaluated(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    test = "import unittest\nclass TestCases(unittest.TestCase):\n    def test_a(self):\n        "
    rows = [
        {
            "task_id": f"BigCodeBench/{number}",
            "complete_prompt": f"{begin}\ndef task_func():\n",
            "canonical_solution": f"    {body}\n",
            "test": f"{test}self.assertEqual(task_func(), 1)\n",
            "entry_point": "task_func",
            "libs": libs,
        }
        for number, (begin, body, libs) in enumerate(
            [
                ("import math", "return 1", "['math']"),
                ("import no_such_package.part", "return 1", "['math']"),
                ("import math", "return 1", "['no_such_library']"),
                ("import math", "__import__('hidden_package')", "['math']"),
            ]
        )
    ]
    jsonl.write(tmp_path / "BigCodeBench.jsonl", rows)
    options = ("--data", tmp_path, "--work", tmp_path / "work", "--only", "bigcodebench", "--json")
    status, out = run(tool, monkeypatch, capsys, *options)
    found = json.loads(out)["bigcodebench"]
    assert (status, found["roles"]["reference"]["programs"], found["roles"]["reference"]["passed"]) == (0, 1, 1)
    assert found["not_evaluated"] == {
        "no_such_package": ["BigCodeBench/1"],
        "no_such_library": ["BigCodeBench/2"],
        "hidden_package": ["BigCodeBench/3"],
    }


def test_a_data_set_that_is_not_there_is_said(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        sys, "argv", ["x", "--data", str(tmp_path), "--work", str(tmp_path / "w"), "--only", "quixbugs"]
    )
    assert tool.main() == 0
    assert "quixbugs: " in capsys.readouterr().err

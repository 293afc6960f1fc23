"""The tool that grades answers whose verdict is known finds those that do not get the one they must."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from scripts import load_tool

pytest.importorskip("math_verify", reason="needs the extra [math]")
ROWS = [
    {
        "problem": "Half?",
        "solution": r"So \boxed{\frac{1}{2}}.",
        "answer": r"\frac{1}{2}",
        "unique_id": "test/a/1.json",
    },
    {"problem": "How far?", "solution": r"So \boxed{7}.", "answer": "7", "unique_id": "test/a/2.json"},
    {"problem": "How large?", "solution": r"So \boxed{9}.", "answer": r"15\mbox{ cm}^2", "unique_id": "test/a/3.json"},
]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    return load_tool("check_answers")


def test_what_gets_another_verdict_than_it_must_is_listed(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "math500.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in ROWS), encoding="utf-8")
    command = ["check_answers.py", "--data", str(tmp_path), "--only", "math500", "--workers", "1", "--json"]
    monkeypatch.setattr(sys, "argv", command)
    assert tool.main() == 1
    values = json.loads(capsys.readouterr().out)
    forms = values["by_form"]["math500"]
    assert forms["boxed"] == {"n": 3, "as it must": 3}
    assert forms["negated"] == {"n": 2, "as it must": 2}
    assert forms["solution"] == {"n": 3, "as it must": 2, "otherwise": 1}
    found = {(surprise["problem_id"], surprise["form"]) for surprise in values["surprises"]}
    # The power of a unit is not compared, and the last solution ends in another answer than the row's own.
    assert found == {("math500/test/a/3", form) for form in ("altered", "two boxes", "solution")}
    known = dict.fromkeys(found, "as it is")
    monkeypatch.setattr(tool, "KNOWN", known)
    assert tool.main() == 0
    assert {surprise["known"] for surprise in json.loads(capsys.readouterr().out)["surprises"]} == {"as it is"}


def test_alterations_change_the_value_and_rewritings_do_not(tool: ModuleType) -> None:
    assert tool.altered("1,099") == "1,100"
    assert tool.altered(r"\frac{1}{2}") == r"\frac{1}{3}"
    assert tool.altered("Evelyn") == "Evelyq"
    assert tool.rewritten("-7") == r"\frac{-14}{2}"
    assert tool.rewritten("1,099") == "1099"
    assert tool.rewritten(r"\left(1, \frac{1}{2}\right)") == r"(1, \dfrac{1}{2})"

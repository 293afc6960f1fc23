"""Which stored completions are imitated: those that passed, in the wanted form, of the problems that are trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny import write_lines

from recode_rl.config import SftConfig, build
from recode_rl.errors import ConfigError, DataError
from recode_rl.policy import sft
from recode_rl.policy.passed import targets
from recode_rl.problems.records import write_problems
from recode_rl.types import Problem
from recode_rl.types import Tests as Given

GOOD = "<think>plan {0}</think><answer>x</answer>"
PROBLEMS = [
    Problem(name, f"Do {name}.", Given("calls", entry_point="f", cases=({"args": [], "expected": 1},))) for name in "pq"
]


def stored(folder: Path, rows: list[tuple[str, str, str, bool]]) -> tuple[Path, Path]:
    """samples.jsonl and verdicts.jsonl of (problem, sample, completion, passed)."""
    samples = [{"problem_id": p, "sample_id": s, "completion": text} for p, s, text, _ in rows]
    verdicts = [{"problem_id": p, "sample_id": s, "passed": passed} for p, s, _, passed in rows]
    return write_lines(folder / "s.jsonl", samples), write_lines(folder / "v.jsonl", verdicts)


def test_what_passed_in_the_wanted_form_is_imitated_once(tmp_path: Path) -> None:
    rows = [
        ("p", "0", GOOD.format(1), True),
        ("p", "1", GOOD.format(2), False),
        ("p", "2", "only text", True),
        ("p", "3", GOOD.format(1), True),
        ("q", "0", GOOD.format(1), True),
        ("elsewhere", "0", GOOD.format(1), True),
    ]
    found = targets(PROBLEMS, *stored(tmp_path, rows))
    assert [(problem.id, text) for problem, text in found] == [("p", GOOD.format(1)), ("q", GOOD.format(1))]


def test_a_sample_without_a_verdict_is_named(tmp_path: Path) -> None:
    samples, _ = stored(tmp_path, [("p", "0", GOOD, True), ("p", "1", GOOD, True)])
    verdicts = write_lines(tmp_path / "half.jsonl", [{"problem_id": "p", "sample_id": "0", "passed": True}])
    with pytest.raises(DataError, match=r"half\.jsonl: no verdict on sample '1' of 'p'"):
        targets(PROBLEMS, samples, verdicts)


@pytest.mark.parametrize(
    "line", [{"problem_id": "p", "passed": True}, {"problem_id": "p", "sample_id": "0", "passed": 1}]
)
def test_a_broken_verdict_is_named_by_its_line(tmp_path: Path, line: dict[str, Any]) -> None:
    samples, _ = stored(tmp_path, [("p", "0", GOOD, True)])
    with pytest.raises(DataError, match=r"bad\.jsonl: line 1"):
        targets(PROBLEMS, samples, write_lines(tmp_path / "bad.jsonl", [line]))


def test_sft_takes_them_in_place_of_what_the_data_set_has(tmp_path: Path) -> None:
    samples, verdicts = stored(tmp_path, [("p", "0", GOOD.format(1), True), ("q", "0", GOOD.format(2), False)])
    write_problems(tmp_path / "problems.jsonl", PROBLEMS)
    data = {"dataset": "file", "path": str(tmp_path / "problems.jsonl"), "split": "all"}
    values = {"out": str(tmp_path / "sft"), "data": data, "samples": str(samples), "verdicts": str(verdicts)}
    (row,) = sft.examples(build(SftConfig, values, "test"))
    assert row["completion"] == [{"role": "assistant", "content": GOOD.format(1)}]
    assert "Do p." in row["prompt"][0]["content"]
    del values["verdicts"]
    with pytest.raises(ConfigError, match="samples and verdicts go together"):
        build(SftConfig, values, "test")

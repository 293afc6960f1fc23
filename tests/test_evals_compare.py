"""Two evaluations held against each other: by problem, with McNemar's test, and with what only one of them has."""

from __future__ import annotations

from pathlib import Path

import pytest

from recode_rl import jsonl
from recode_rl.errors import DataError
from recode_rl.evals import compare
from recode_rl.grading import verdict_to_record
from recode_rl.types import Verdict


def run(folder: Path, passed: dict[str, list[bool]]) -> Path:
    records = []
    for problem, values in passed.items():
        for number, value in enumerate(values):
            status = "passed" if value else "wrong_answer"
            verdict = Verdict(status, int(value), 1, "stdio")  # type: ignore[arg-type]
            records.append(verdict_to_record(verdict, problem, str(number), None))
    jsonl.write(folder / "verdicts.jsonl", records)
    rates = [sum(values) / len(values) for values in passed.values()]
    mean = sum(rates) / len(rates)
    numbers = {"pass@1": mean, "interval": [0.0, 1.0], "n": len(passed), "samples": len(records), "tokens": {}}
    jsonl.write_json(folder / "results.json", numbers)
    return folder


def test_differences_are_by_problem(tmp_path: Path) -> None:
    first = run(tmp_path / "a", {"p": [True], "q": [False], "r": [False], "only": [True]})
    other = run(tmp_path / "b", {"p": [True], "q": [True], "r": [True], "s": [True]})
    values = compare.compare([first, other])
    (found,) = values["comparisons"]
    assert (found["n"], found["won"], found["lost"]) == (3, ["q", "r"], [])
    assert (found["only_first"], found["only_other"]) == (1, 1)
    assert found["difference"] == pytest.approx(2 / 3)
    assert found["mcnemar_p"] == pytest.approx(0.5)  # two of two discordant pairs one way: 2 · (1/2)²
    assert found["interval"][0] <= 2 / 3 <= found["interval"][1]
    text = compare.markdown(values)
    assert "+66.7 points" in text
    assert "2 won, 0 lost" in text


def test_mcnemar_is_not_asked_where_problems_passed_in_part(tmp_path: Path) -> None:
    first, other = run(tmp_path / "a", {"p": [True, False]}), run(tmp_path / "b", {"p": [True, True]})
    (found,) = compare.compare([first, other])["comparisons"]
    assert found["mcnemar_p"] is None
    assert found["difference"] == pytest.approx(0.5)


def test_both_averages_over_runs(tmp_path: Path) -> None:
    small = run(tmp_path / "a", {"p": [True]})
    large = run(tmp_path / "b", {name: [False] for name in "abc"})
    values = compare.compare([small, large])
    assert (values["mean_of_columns"], values["weighted_mean"]) == (0.5, 0.25)
    assert values["comparisons"] == []


def test_a_folder_without_results_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"results\.json: no such file"):
        compare.compare([tmp_path])

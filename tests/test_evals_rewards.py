"""The `reward` command on stored samples: every rule with numbers worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from recode_rl import jsonl
from recode_rl.errors import ConfigError, DataError, InfrastructureError, SandboxError
from recode_rl.evals import rewards
from recode_rl.grading import Grader
from recode_rl.reward import find_rule, rule_names
from recode_rl.types import Problem, Sample, Verdict
from recode_rl.types import Tests as Given

PROBLEM = Problem("p", "statement", Given("stdio", cases=({"input": "1\n", "output": "1\n"},) * 4))
FORM = "<think>plan</think><answer>{}</answer>"
ECHO = "print(input())"
VERDICTS = {
    "good": Verdict("passed", 4, 4, "stdio"),
    "unformed": Verdict("passed", 4, 4, "stdio"),
    "half": Verdict("wrong_answer", 2, 4, "stdio"),
    "crash": Verdict("runtime_error", 1, 4, "stdio"),
    "slow": Verdict("timeout", 0, 4, "stdio"),
    "broken": Verdict("compile_error", 0, 4, "stdio"),
    "none": Verdict("no_code", 0, 4, "none"),
    "thoughtless": Verdict("passed", 4, 4, "stdio"),
    "bare": Verdict("passed", 4, 4, "stdio"),
    "empty": Verdict("no_code", 0, 4, "none"),
}
SAMPLES = [
    Sample("p", "good", completion=FORM.format(1)),
    Sample("p", "unformed", completion="<think>plan</think> so <answer>2</answer>"),
    Sample("p", "half", completion=FORM.format(3)),
    Sample("p", "crash", completion=FORM.format(4)),
    Sample("p", "slow", completion=FORM.format(5)),
    Sample("p", "broken", completion=FORM.format(6)),
    Sample("p", "none", completion=FORM.format("")),
    Sample("p", "thoughtless", completion="<think> </think><answer>8</answer>"),
    Sample("p", "bare", program="9"),
    Sample("p", "empty", completion=""),
]
PROCESS = {
    "good": 0.8,
    "unformed": 0.6,
    "half": 0.4,
    "crash": 0.4,
    "slow": 0.4,
    "broken": 0.4,
    "none": 0.4,
    "bare": 0.2,
}
# Format is 1 but for unformed, bare (no completion) and empty; a missing or empty reasoning scores 0.
TOTALS = {
    "outcome_only": [2, 1, 1, 1, 1, 1, 1, 2, 1, 0],
    "consistency_gated": [2.8, 1.6, 1, 1, 1, 1, 1, 2, 1.2, 0],
    "posterior": [2.8, 1.6, 1, 1, 1, 1, 1, 2, 1.2, 0],
    "additive": [2.8, 1.6, 1.4, 1.4, 1.4, 1.4, 1.4, 2, 1.2, 0],
    "soft_gated": [2.8, 1.6, 1.2, 1.1, 1, 1, 1, 2, 1.2, 0],
    "compiler": [2, 1, 0.7, 0.4, 0.4, 0, 0, 2, 1, -1],
    "outcome_only+compiler": [2, 1, 0.7, 0.4, 0.4, 0, 0, 2, 1, -1],
    "consistency_gated+compiler": [2.8, 1.6, 0.7, 0.4, 0.4, 0, 0, 2, 1.2, -1],
    "posterior+compiler": [2.8, 1.6, 0.7, 0.4, 0.4, 0, 0, 2, 1.2, -1],
    "additive+compiler": [2.8, 1.6, 1.1, 0.8, 0.8, 0.4, 0.4, 2, 1.2, -1],
    "soft_gated+compiler": [2.8, 1.6, 0.9, 0.5, 0.4, 0, 0, 2, 1.2, -1],
}
ABSENT = {  # samples whose process reward is null
    "consistency_gated": {"half", "crash", "slow", "broken", "none", "empty"},
    "posterior": {"half", "crash", "slow", "broken", "none", "empty"},
    "additive": set(),
    "soft_gated": {"slow", "broken", "none", "empty"},
    "outcome_only": set(VERDICTS),
    "compiler": set(VERDICTS),
}


class Fixed:
    """Gives each program the verdict of its sample, but for those it has lost; programs are numbers, or not there."""

    def __init__(self, lost: Sequence[str] = ()) -> None:
        self.lost, self.asked = lost, 0

    def grade_many(self, jobs: Sequence[tuple[Problem, str | None]], on_done: Any = None) -> list[Any]:
        self.asked += len(jobs)
        names = [SAMPLES[int(program) - 1].sample_id if program else "none" for _, program in jobs]
        found = [SandboxError("gone") if name in self.lost else VERDICTS[name] for name in names]
        for place, result in enumerate(found):
            on_done(place, result)
        return found


def stored(path: Path, values: dict[str, float]) -> Path:
    jsonl.write(path, [{"problem_id": "p", "sample_id": name, "process": value} for name, value in values.items()])
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    return [record for _, record in jsonl.read(path)]


def test_every_rule_is_in_the_table() -> None:
    assert set(TOTALS) == set(rule_names())


@pytest.mark.parametrize("rule", TOTALS)
def test_the_reward_of_stored_samples_by_hand(tmp_path: Path, rule: str) -> None:
    uses = find_rule(rule).uses_process
    source = rewards.source_of(rule, None, stored(tmp_path / "scores.jsonl", PROCESS) if uses else None)
    out = tmp_path / "rewards.jsonl"
    summary = rewards.reward_file([PROBLEM], SAMPLES, out, source, Fixed())  # type: ignore[arg-type]
    records = lines(out)
    assert [record["sample_id"] for record in records] == [sample.sample_id for sample in SAMPLES]
    assert [record["total"] for record in records] == pytest.approx(TOTALS[rule])
    absent = {record["sample_id"] for record in records if record["process"] is None}
    assert absent == ABSENT[rule.partition("+")[0]]
    for record in records:
        assert set(record) == {
            "problem_id",
            "sample_id",
            "rule",
            "format",
            "outcome",
            "process",
            "pass_rate",
            "status",
            "total",
        }
        assert record["rule"] == rule
        assert record["status"] == VERDICTS[record["sample_id"]].status
        assert record["pass_rate"] == VERDICTS[record["sample_id"]].pass_rate
    assert summary == {
        "rewarded": 10,
        "mean": pytest.approx(sum(TOTALS[rule]) / 10),
        "rule": rule,
        "not_rewarded": [],
    }


def test_a_score_that_is_needed_and_not_there_is_named_and_has_no_line(tmp_path: Path) -> None:
    scores = stored(tmp_path / "scores.jsonl", {name: value for name, value in PROCESS.items() if name == "good"})
    out = tmp_path / "rewards.jsonl"
    source = rewards.source_of("consistency_gated", None, scores)
    summary = rewards.reward_file([PROBLEM], SAMPLES, out, source, Fixed())  # type: ignore[arg-type]
    assert summary["not_rewarded"] == ["p/unformed", "p/bare"]  # gated-out samples need none
    assert {"unformed", "bare"}.isdisjoint(record["sample_id"] for record in lines(out))
    assert summary["rewarded"] == 8


def test_a_sample_that_was_not_graded_is_named_and_graded_by_a_second_run(tmp_path: Path) -> None:
    out, source = tmp_path / "rewards.jsonl", rewards.source_of("outcome_only", None, None)
    summary = rewards.reward_file([PROBLEM], SAMPLES, out, source, Fixed(lost=["crash"]))  # type: ignore[arg-type]
    assert summary["not_rewarded"] == ["p/crash"]
    assert len(lines(out)) == 9
    again = Fixed()
    assert rewards.reward_file([PROBLEM], SAMPLES, out, source, again)["not_rewarded"] == []  # type: ignore[arg-type]
    assert again.asked == 6  # what is before the gap is kept, and the two without a program are one
    assert len(lines(out)) == 10


def test_the_reward_model_is_asked_once_and_only_for_samples_with_weight(tmp_path: Path) -> None:
    asked: list[Sequence[tuple[str, str]]] = []

    def scorer(items: Sequence[tuple[str, str]]) -> Sequence[float]:
        asked.append(items)
        return [0.5] * len(items)

    out = tmp_path / "rewards.jsonl"
    source = rewards.Source(find_rule("consistency_gated"), scorer=scorer)
    rewards.reward_file([PROBLEM], SAMPLES, out, source, Fixed())  # type: ignore[arg-type]
    assert asked == [[("statement", "plan"), ("statement", "plan")]]
    process = {record["sample_id"]: record["process"] for record in lines(out)}
    assert process["good"] == process["unformed"] == 0.5
    assert process["thoughtless"] == process["bare"] == 0.0
    assert process["half"] is None


def test_a_reward_model_that_is_down_leaves_out_what_needed_it(tmp_path: Path) -> None:
    def scorer(items: Sequence[tuple[str, str]]) -> Sequence[float]:
        raise InfrastructureError("down")

    source = rewards.Source(find_rule("consistency_gated"), scorer=scorer)
    summary = rewards.reward_file([PROBLEM], SAMPLES, tmp_path / "rewards.jsonl", source, Fixed())  # type: ignore[arg-type]
    assert summary["not_rewarded"] == ["p/good", "p/unformed"]


def test_real_programs_and_a_real_grader(tmp_path: Path, grader: Grader) -> None:
    samples = [Sample("p", "a", completion=FORM.format(ECHO)), Sample("p", "b", completion=FORM.format("print(2)"))]
    scores = tmp_path / "scores.jsonl"
    jsonl.write(scores, [{"problem_id": "p", "sample_id": "a", "process": 0.42}])
    source = rewards.source_of("consistency_gated", None, scores)
    rewards.reward_file([PROBLEM], samples, tmp_path / "rewards.jsonl", source, grader)
    assert [(r["status"], r["process"], r["total"]) for r in lines(tmp_path / "rewards.jsonl")] == [
        ("passed", 0.42, pytest.approx(2.42)),
        ("wrong_answer", None, 1.0),
    ]


@pytest.mark.parametrize("rule", ["consistency_gated", "additive", "soft_gated+compiler"])
def test_a_rule_with_a_process_reward_needs_exactly_one_source_of_it(tmp_path: Path, rule: str) -> None:
    with pytest.raises(ConfigError, match="one of --reward-model and --scores"):
        rewards.source_of(rule, None, None)
    with pytest.raises(ConfigError, match="one of --reward-model and --scores"):
        rewards.source_of(rule, "model", tmp_path / "scores.jsonl")


def test_a_rule_without_one_needs_none() -> None:
    assert rewards.source_of("compiler", None, None).scorer is None


def test_an_unknown_rule_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match=r"'gated': expected one of consistency_gated"):
        rewards.source_of("gated", None, None)


@pytest.mark.parametrize("value", ["1.5", "-0.1", '"0.5"', "true", "1e999", "[0.5]"])
def test_a_stored_score_that_is_none_is_named(tmp_path: Path, value: str) -> None:
    path = tmp_path / "scores.jsonl"
    path.write_text(f'{{"problem_id": "p", "sample_id": "a", "process": {value}}}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"scores\.jsonl: line 1: process .*expected a number in \[0, 1\]"):
        rewards.load_scores(path)


def test_a_score_given_twice_is_named_and_null_is_none(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    line = '{"problem_id": "p", "sample_id": 3, "process": 0.5}\n'
    path.write_text(line + '{"problem_id": "p", "sample_id": "4", "process": null}\n', encoding="utf-8")
    assert rewards.load_scores(path) == {("p", "3"): 0.5}
    path.write_text(line + line, encoding="utf-8")
    with pytest.raises(DataError, match="line 2: sample '3' of problem 'p' occurs twice"):
        rewards.load_scores(path)

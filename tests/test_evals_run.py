"""One evaluation: samples, verdicts, rewards and results.json, from a model or from a samples file."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from recode_rl import jsonl
from recode_rl.errors import ConfigError, DataError, InfrastructureError, SandboxError
from recode_rl.evals.run import Evaluation, evaluate
from recode_rl.grading import Grader
from recode_rl.problems import starter
from recode_rl.problems.records import load_problems, write_problems
from recode_rl.sampling import LocalModel, SamplingSettings
from recode_rl.types import Problem
from recode_rl.types import Tests as Given

RIGHT, WRONG = "def f(x):\n    return 2 * x\n", "def f(x):\n    return x\n"


def problem(name: str, difficulty: str | None) -> Problem:
    return Problem(
        name, "2x", Given("calls", entry_point="f", cases=({"args": [2], "expected": 4},)), difficulty=difficulty
    )


PROBLEMS = [problem("a", "easy"), problem("b", "easy"), problem("c", "hard"), problem("d", None), problem("e", "hard")]


def sample(problem_id: str, sample_id: int, right: bool, tokens: int | None = None) -> dict[str, Any]:
    program = RIGHT if right else WRONG
    return {
        "problem_id": problem_id,
        "sample_id": str(sample_id),
        "completion": f"<think>plan</think><answer>{program}# {sample_id}</answer>",
        **({} if tokens is None else {"tokens": tokens}),
    }


# a: 4 of 4, b: 2 of 4, c: 0 of 4, d: 1 of 4; nobody wrote anything for e.
WRITTEN = [
    sample(name, index, index < right, tokens=10 * (index + 1))
    for name, right in (("a", 4), ("b", 2), ("c", 0), ("d", 1))
    for index in range(4)
]


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    jsonl.write(tmp_path / "samples.jsonl", WRITTEN)
    return tmp_path / "samples.jsonl"


def halves(items: Sequence[tuple[str, str]]) -> Sequence[float]:
    return [0.5] * len(items)


def lines(path: Path) -> list[dict[str, Any]]:
    return [record for _, record in jsonl.read(path)]


def test_the_fields_of_results_by_hand(tmp_path: Path, samples: Path, grader: Grader) -> None:
    job = Evaluation(PROBLEMS, tmp_path / "run", samples=samples, rule="consistency_gated", scorer=halves)
    results = evaluate(job, grader)
    assert results == jsonl.read_json(tmp_path / "run" / "results.json")
    assert results["pass@1"] == pytest.approx(7 / 16)
    low, high = results["interval"]
    assert 0 <= low < 7 / 16 < high <= 1
    assert (results["n"], results["samples"]) == (4, 16)
    # pass@2 of 4 samples: 1, 1 - C(2,2)/C(4,2) = 5/6, 0, 1 - C(3,2)/C(4,2) = 1/2; pass@4: 1, 1, 0, 1.
    assert results["pass@2"] == pytest.approx((1 + 5 / 6 + 0 + 1 / 2) / 4)
    assert results["pass@4"] == pytest.approx(3 / 4)
    assert "pass@8" not in results
    assert {key: (v["pass@1"], v["n"]) for key, v in results["by_difficulty"].items()} == {
        "easy": (pytest.approx(6 / 8), 2),
        "hard": (0.0, 1),
    }
    assert results["by_status"] == {"passed": 7, "wrong_answer": 9}
    assert results["not_evaluated"] == ["e"]
    assert results["tokens"]["mean"] == pytest.approx(25.0)
    # Passing: a 10 20 30 40, b 10 20, d 10.
    assert results["tokens"]["passing_mean"] == pytest.approx(140 / 7)
    reward = results["reward"]
    assert reward["format"]["mean"] == 1.0
    assert reward["outcome"]["mean"] == pytest.approx(7 / 16)
    assert reward["total"]["mean"] == pytest.approx(1 + 7 / 16 * 1.5)
    assert (reward["process_passing"]["mean"], reward["process_passing"]["n"]) == (0.5, 7)
    assert results["rule"] == "consistency_gated"
    assert results["sampling"] is None
    assert results["manifest"]["stage"] == "eval"


def test_the_files_beside_results_have_a_line_a_sample(tmp_path: Path, samples: Path, grader: Grader) -> None:
    run = tmp_path / "run"
    evaluate(Evaluation(PROBLEMS, run, samples=samples), grader)
    wanted = [(record["problem_id"], record["sample_id"]) for record in WRITTEN]
    for name in ("verdicts.jsonl", "rewards.jsonl"):
        assert [(r["problem_id"], r["sample_id"]) for r in lines(run / name)] == wanted
    assert {record["process"] for record in lines(run / "rewards.jsonl")} == {None}
    write_problems(run / "problems.jsonl", PROBLEMS)
    assert [p.id for p in load_problems(run / "problems.jsonl")] == ["a", "b", "c", "d", "e"]


def test_programs_alone_can_be_evaluated(tmp_path: Path, grader: Grader) -> None:
    path = tmp_path / "programs.jsonl"
    jsonl.write(path, [{"problem_id": "a", "sample_id": "0", "program": RIGHT}])
    results = evaluate(Evaluation(PROBLEMS, tmp_path / "run", samples=path), grader)
    assert results["pass@1"] == 1.0
    assert results["interval"] == [1.0, 1.0]
    assert results["not_evaluated"] == ["b", "c", "d", "e"]
    assert [results["tokens"][key] for key in ("mean", "interval", "passing_mean", "known")] == [None, None, None, 0]
    assert results["pass@1_of_all"] == pytest.approx(1 / 5)
    assert results["reward"]["process_passing"] is None
    assert results["reward"]["format"]["mean"] == 0.0


def test_with_unequal_numbers_of_samples_every_problem_counts_the_same(tmp_path: Path, grader: Grader) -> None:
    path = tmp_path / "samples.jsonl"
    jsonl.write(path, [*WRITTEN[:4], sample("b", 0, True), sample("b", 1, False), sample("b", 2, False)])
    results = evaluate(Evaluation(PROBLEMS, tmp_path / "run", samples=path), grader)
    assert results["pass@1"] == pytest.approx((1 + 1 / 3) / 2)
    assert results["by_difficulty"]["easy"]["pass@1"] == pytest.approx((1 + 1 / 3) / 2)
    assert results["pass@2"] == pytest.approx((1 + (1 - 1 / 3)) / 2)
    assert "pass@4" not in results  # no more than every problem has


def test_an_empty_samples_file_is_one_sentence(tmp_path: Path, grader: Grader) -> None:
    (tmp_path / "samples.jsonl").touch()
    with pytest.raises(DataError, match=r"samples\.jsonl: no samples"):
        evaluate(Evaluation(PROBLEMS, tmp_path / "run", samples=tmp_path / "samples.jsonl"), grader)


def test_a_sample_that_could_not_be_graded_stops_before_the_results_and_a_second_run_completes(
    tmp_path: Path, samples: Path, grader: Grader
) -> None:
    class Faulty:
        def grade_many(self, jobs: Sequence[tuple[Problem, str | None]], on_done: Any = None) -> list[Any]:
            found: list[Any] = list(grader.grade_many(jobs))
            found[9] = SandboxError("gone")
            for place, result in enumerate(found):
                on_done(place, result)
            return found

    run = tmp_path / "run"
    with pytest.raises(InfrastructureError, match=r"1 samples could not be graded or scored \(c/1\).*again"):
        evaluate(Evaluation(PROBLEMS, run, samples=samples), Faulty())  # type: ignore[arg-type]
    assert not (run / "results.json").exists()
    assert len(lines(run / "verdicts.jsonl")) == 9
    assert evaluate(Evaluation(PROBLEMS, run, samples=samples), grader)["samples"] == 16


def test_a_reward_model_that_is_down_stops_before_the_results(tmp_path: Path, samples: Path, grader: Grader) -> None:
    def down(items: Sequence[tuple[str, str]]) -> Sequence[float]:
        raise InfrastructureError("down")

    job = Evaluation(PROBLEMS, tmp_path / "run", samples=samples, rule="consistency_gated", scorer=down)
    with pytest.raises(InfrastructureError, match=r"7 samples could not.*\(a/0, a/1, a/2, a/3, b/0 …\)"):
        evaluate(job, grader)
    assert len(lines(tmp_path / "run" / "rewards.jsonl")) == 9


@pytest.fixture
def from_model(tiny: Path, tmp_path: Path) -> Evaluation:
    torch = pytest.importorskip("torch", reason="needs the extra [train]")
    torch.set_num_threads(1)
    return Evaluation(
        starter.load()[:3],
        tmp_path / "run",
        model=lambda: LocalModel.load(str(tiny)),
        model_name=str(tiny),
        sampling=SamplingSettings(samples=2, temperature=1.0, max_tokens=12, batch=4),
    )


def test_a_model_writes_the_samples_once(from_model: Evaluation, grader: Grader) -> None:
    results = evaluate(from_model, grader)
    written = (from_model.out / "samples.jsonl").read_bytes()
    found = [(record["problem_id"], record["sample_id"]) for record in lines(from_model.out / "samples.jsonl")]
    assert found == [(problem.id, str(index)) for problem in from_model.problems for index in range(2)]
    assert (results["n"], results["samples"], results["not_evaluated"]) == (3, 6, [])
    assert 0 < results["tokens"]["mean"] <= 12
    assert results["sampling"]["temperature"] == 1.0

    def loaded_again() -> LocalModel:
        raise AssertionError("the samples are there")

    (from_model.out / "results.json").unlink()
    again = evaluate(dataclasses.replace(from_model, model=loaded_again), grader)
    assert (from_model.out / "samples.jsonl").read_bytes() == written
    assert again["pass@1"] == results["pass@1"]


def test_a_stopped_sampling_continues_and_doubles_nothing(
    from_model: Evaluation, grader: Grader, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate, calls = LocalModel.generate, 0

    def second_call_stops(self: LocalModel, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return generate(self, *args)

    monkeypatch.setattr(LocalModel, "generate", second_call_stops)
    with pytest.raises(KeyboardInterrupt):
        evaluate(from_model, grader)
    first = {(r["problem_id"], r["sample_id"]): r for r in lines(from_model.out / "samples.jsonl")}
    assert len(first) == 4
    evaluate(from_model, grader)
    after = {(r["problem_id"], r["sample_id"]): r for r in lines(from_model.out / "samples.jsonl")}
    assert len(lines(from_model.out / "samples.jsonl")) == len(after) == 6
    assert {key: after[key] for key in first} == first


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model_name": "another"}, "model '/"),
        ({"sampling": SamplingSettings(samples=2, temperature=0.5, max_tokens=12, batch=4)}, "temperature 1.0"),
    ],
)
def test_samples_of_another_model_or_temperature_are_not_taken_for_these(
    from_model: Evaluation, grader: Grader, change: dict[str, Any], named: str
) -> None:
    evaluate(from_model, grader)
    with pytest.raises(ConfigError, match=f"holds samples drawn with {named}.*choose another --out"):
        evaluate(dataclasses.replace(from_model, **change), grader)

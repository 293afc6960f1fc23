"""Evaluation as the field does it: samples through an endpoint, graded anew, with nothing leaving the denominator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import chat_server
import pytest

from recode_rl import jsonl
from recode_rl.chat import ChatSettings, Patience
from recode_rl.errors import DataError, InfrastructureError
from recode_rl.evals import grading, libraries
from recode_rl.evals.run import Evaluation, evaluate
from recode_rl.grading import Grader
from recode_rl.sampling import EndpointModel, SamplingSettings, load_samples, sample
from recode_rl.types import Problem, Sample, Verdict
from recode_rl.types import Tests as Given

pytest.importorskip("openai", reason="needs the extra [remote]")


def problem(name: str, source: str = "one", day: str | None = None) -> Problem:
    tests = Given("calls", entry_point="f", cases=({"args": [2], "expected": 4},))
    return Problem(name, f"Double, {name}.", tests, source=source, date=day)


PROBLEMS = [problem("a", day="2024-10-02"), problem("b", day="2024-11-03"), problem("c", "two", "2024-11-30")]


def writes(request: dict[str, Any]) -> str:
    right = "a." in request["messages"][0]["content"] or request["seed"] % 2
    program = f"```python\ndef f(x):\n    return x * {2 if right else 3}\n```"
    return f"<script>Here:\n{program}\n```python\nf({request['seed']})\n```"


def endpoint(server: chat_server.ChatServer) -> EndpointModel:
    return EndpointModel(ChatSettings(server.url, "tester", concurrency=2, attempts=2, timeout_s=20))


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recode_rl.chat.Patience", lambda: Patience(first_wait_s=0.01, longest_wait_s=0.02))


SETTINGS = SamplingSettings(samples=3, temperature=1.0, prompt="instruct", stop=("END",))


def test_samples_through_an_endpoint_are_kept_with_their_programs(tmp_path: Path) -> None:
    with chat_server.running(writes) as server:
        made = sample(endpoint(server), PROBLEMS, SETTINGS, tmp_path / "s.jsonl", "sampling")
        asked = [json.loads(json.dumps(request)) for request in server.requests]
    assert [(s.problem_id, s.sample_id) for s in made] == [(p.id, str(n)) for p in PROBLEMS for n in range(3)]
    assert all(s.program is not None and s.program.startswith("def f(x)") for s in made)
    assert {request["stop"][0] for request in asked} == {"END"}
    assert len({request["seed"] for request in asked}) == 9
    assert {s.model for s in load_samples(tmp_path / "s.jsonl")} == {"tester"}


def test_an_endpoint_with_error_pages_is_named_and_nothing_is_lost(tmp_path: Path) -> None:
    out = tmp_path / "s.jsonl"
    with chat_server.running(writes) as server:
        server.faults.extend(["garbage"] * 6)
        with pytest.raises(InfrastructureError, match=r"samples were not drawn \(.*\): http"):
            sample(endpoint(server), PROBLEMS, SETTINGS, out, "sampling")
        kept = {(s.problem_id, s.sample_id) for s in load_samples(out)}
        assert 0 < len(kept) < 9
        before = len(server.requests)
        sample(endpoint(server), PROBLEMS, SETTINGS, out, "sampling")
        assert len(server.requests) - before == 9 - len(kept)


def test_an_evaluation_through_an_endpoint(tmp_path: Path, grader: Grader) -> None:
    with chat_server.running(writes) as server:
        job = Evaluation(PROBLEMS, tmp_path, model=lambda: endpoint(server), model_name="tester", sampling=SETTINGS)
        results = evaluate(job, grader)
    assert (results["n"], results["samples"], results["model"]) == (3, 9, "tester")
    assert results["by_source"]["one"]["n"] == 2
    assert list(results["by_date"]) == ["2024-10", "2024-11"]
    rates = [results["by_source"][name]["pass@1"] for name in ("one", "two")]
    assert results["mean_of_columns"] == pytest.approx(sum(rates) / 2)
    assert results["weighted_mean"] == pytest.approx((2 * rates[0] + rates[1]) / 3)
    assert "pass@2" in results["intervals"]
    assert "| one |" in (tmp_path / "results.md").read_text()
    page = (tmp_path / "results.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;Here" in page
    assert page.count("<details>") == 9


def written(tmp_path: Path, program: str, count: int = 3) -> Path:
    path = tmp_path / "given.jsonl"
    jsonl.write(path, [{"problem_id": "a", "sample_id": str(n), "program": program} for n in range(count)])
    return path


def test_grade_only_grades_anew_and_draws_nothing(tmp_path: Path, grader: Grader) -> None:
    run = tmp_path / "run"
    evaluate(Evaluation(PROBLEMS, run, samples=written(tmp_path, "def f(x): return 4")), grader)
    (run / "samples.jsonl").write_bytes((tmp_path / "given.jsonl").read_bytes())
    stale = (run / "verdicts.jsonl").read_text().replace('"passed"', '"wrong_answer"').replace("true", "false")
    (run / "verdicts.jsonl").write_text(stale)
    assert evaluate(Evaluation(PROBLEMS, run, samples=tmp_path / "given.jsonl"), grader)["pass@1"] == 0.0  # kept
    assert evaluate(Evaluation(PROBLEMS, run, grade_only=True), grader)["pass@1"] == 1.0


def test_verdicts_on_other_programs_under_the_same_ids_are_not_taken(tmp_path: Path, grader: Grader) -> None:
    run = tmp_path / "run"
    evaluate(Evaluation(PROBLEMS, run, samples=written(tmp_path, "def f(x): return 4")), grader)
    other = Evaluation(PROBLEMS, run, samples=written(tmp_path, "def f(x): return 5"))
    with pytest.raises(DataError, match="holds verdicts on other samples; choose another --out"):
        evaluate(other, grader)


def test_problems_without_libraries_are_not_evaluated_and_not_failed(tmp_path: Path, grader: Grader) -> None:
    code = (
        "import unittest\nclass TestCases(unittest.TestCase):\n    def test_it(self):\n        self.assertEqual(f(), 1)"
    )
    there = Problem("there", "?", Given("unittest", code=code), metadata={"libs": ["json"]})
    absent = Problem("absent", "?", Given("unittest", code=code), metadata={"libs": ["no_such_library.part"]})
    excused = libraries.excused([there, absent])
    assert excused == {"absent": "not installed: no_such_library"}
    path = tmp_path / "s.jsonl"
    jsonl.write(
        path,
        [{"problem_id": p.id, "sample_id": "0", "program": "def f():\n    return 1"} for p in (there, absent)],
    )
    results = evaluate(Evaluation([there, absent], tmp_path / "run", samples=path, excused=excused), grader)
    assert (results["pass@1"], results["n"], results["not_evaluated"]) == (1.0, 1, ["absent"])
    assert results["pass@1_of_all"] == 0.5
    assert "not installed: no_such_library" in (tmp_path / "run" / "results.md").read_text()


def test_the_same_program_runs_once(tmp_path: Path) -> None:
    class Counting:
        asked = 0

        def grade_many(self, jobs: Any, on_done: Any) -> list[Verdict]:
            self.asked += len(jobs)
            verdicts = [Verdict("passed", 1, 1, "proxied") for _ in jobs]
            for place, verdict in enumerate(verdicts):
                on_done(place, verdict)
            return verdicts

    samples = [Sample(p, str(n), program=f"x = {n % 2}") for p in ("a", "b") for n in range(5)]
    grader = Counting()
    graded = grading.grade_samples(PROBLEMS, samples, tmp_path / "v.jsonl", grader)  # type: ignore[arg-type]
    assert grader.asked == 4
    assert [(g.sample.problem_id, g.sample.sample_id) for g in graded] == [(s.problem_id, s.sample_id) for s in samples]
    assert len(list(jsonl.read(tmp_path / "v.jsonl"))) == 10


def test_a_gzip_that_was_cut_short_is_named(tmp_path: Path, grader: Grader) -> None:
    whole = tmp_path / "s.jsonl.gz"
    jsonl.write(whole, [{"problem_id": "a", "sample_id": str(n), "program": f"x = {n * n}"} for n in range(500)])
    whole.write_bytes(whole.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"s\.jsonl\.gz: after line \d+: the gzip stream is broken"):
        evaluate(Evaluation(PROBLEMS, tmp_path / "run", samples=whole), grader)

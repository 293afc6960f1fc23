"""Best of n: what is chosen, what the choices are worth by hand, and that nothing is scored, graded or run twice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from recode_rl import completion, jsonl
from recode_rl.cli import app
from recode_rl.errors import ConfigError, DataError, InfrastructureError
from recode_rl.evals.rerank import Candidate, Reranking, best_of_majority, compare, majority, rerank, table
from recode_rl.grading import Grader
from recode_rl.problems.records import write_problems
from recode_rl.types import Problem, Sample, Tests

SQUARE = Problem(
    "square",
    "Print the square of n.",
    Tests("stdio", tuple({"input": f"{n}\n", "output": f"{n * n}\n"} for n in (2, 0, 3, 5))),
)
DOUBLE = Problem(
    "double",
    "Double x.",
    Tests("calls", entry_point="f", cases=tuple({"args": [n], "expected": 2 * n} for n in (0, 2, 5))),
)
HALF = Problem("half", "Halve x.", Tests("asserts", entry_point="f", asserts=("assert f(4) == 2",)))
PROGRAMS = {
    "square": ("n = int(input())\nprint(n + n)", "n = int(open(0).read())\nprint(n * n)", "print(int(input()) ** 2)"),
    "double": ("def f(x): return x ** 2", "def f(x): return [x]", "def f(x):\n    # longer\n    return x * x"),
    "half": ("def f(x): return x", "def f(x): return x // 2"),
}
LIKED = {("square", "0"), ("double", "1"), ("half", "1")}


def samples() -> list[Sample]:
    return [
        Sample(problem, str(i), completion.render(f"Reasoning {i} of {problem}.", program))
        for problem, programs in PROGRAMS.items()
        for i, program in enumerate(programs)
    ]


class Liking:
    """A reward model that likes a few, and can break down."""

    def __init__(self, lasts: int = 10**6) -> None:
        self.asked: list[str] = []
        self.lasts = lasts

    def __call__(self, items: Sequence[tuple[str, str]]) -> list[float]:
        if len(self.asked) + len(items) > self.lasts:
            raise InfrastructureError("the reward model is gone")
        self.asked += [reasoning for _, reasoning in items]
        return [
            0.9 if tuple(r.removeprefix("Reasoning ").rstrip(".").split(" of "))[::-1] in LIKED else 0.2
            for _, r in items
        ]


def job(out: Path, **changes: Any) -> Reranking:
    return Reranking(**{"problems": [SQUARE, DOUBLE, HALF], "samples": samples(), "out": out, "model": "rm", **changes})


def test_choices_and_their_worth_on_programs_that_run(grader: Grader, tmp_path: Path) -> None:
    found = rerank(job(tmp_path), Liking(), grader)
    chosen = {r["problem_id"]: r["sample_id"] for _, r in jsonl.read(tmp_path / "choices.jsonl")}
    assert chosen == {"square": "0", "double": "1", "half": "1"}
    worth = {name: row["pass@1"] for name, row in found["choosers"].items()}
    assert worth == {
        "reward_model": pytest.approx(1 / 3),
        "shortest": pytest.approx(1 / 3),  # of square: print(int(input()) ** 2)
        # square: two agree on 0 and 3, where n + n does not; double: two are wrong alike; half: no inputs, so by chance
        "majority": pytest.approx((1 + 0 + 0.5) / 3),
        "reward_model_of_majority": pytest.approx((1 + 0 + 0.5) / 3),
        "random": pytest.approx((2 / 3 + 0 + 1 / 2) / 3),
        "any": pytest.approx(2 / 3),
    }
    assert (found["problems"], found["samples"], found["mixed"]) == (3, 8, 2)
    assert found["majority_over"] == {"inputs": 3, "problems": 2, "without_inputs": 1}
    assert found["choosers"]["majority"]["undecided"] == 1
    assert found["choosers"]["random"]["mixed_pass@1"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    difference = found["differences"]["reward_model - random"]
    assert difference["difference"] == pytest.approx(1 / 3 - 7 / 18)
    assert difference["interval"][0] <= difference["difference"] <= difference["interval"][1]
    assert jsonl.read_json(tmp_path / "results.json")["choosers"] == found["choosers"]
    shown = table(found).splitlines()
    assert shown[1].startswith("any")
    assert len(shown) == 7


def test_a_second_run_asks_nobody(grader: Grader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = rerank(job(tmp_path), Liking(), grader)
    monkeypatch.setattr(Grader, "grade", lambda *_: pytest.fail("graded again"))
    monkeypatch.setattr(Grader, "_in_a_place", lambda *_: pytest.fail("run again"))
    scorer = Liking()
    assert rerank(job(tmp_path), scorer, grader) == first
    assert scorer.asked == []
    with pytest.raises(ConfigError, match="'model': 'rm'"):
        rerank(job(tmp_path, model="other"), Liking(), grader)


def test_scoring_goes_on_where_it_stopped(grader: Grader, tmp_path: Path) -> None:
    many = [Sample(f"p{i}", str(n), completion.render(f"{n}.", "1")) for i in range(6) for n in range(2)]
    problems = [Problem(f"p{i}", "x", HALF.tests) for i in range(6)]
    wanted = job(tmp_path, problems=problems, samples=many, choose_only=True)
    with pytest.raises(InfrastructureError):
        rerank(wanted, Liking(lasts=9), grader)
    scorer = Liking()
    found = rerank(wanted, scorer, grader)
    assert len(scorer.asked) == 4
    assert "choosers" not in found
    assert {path.name for path in tmp_path.iterdir()} == {
        "choices.jsonl",
        "results.json",
        "scores.jsonl",
        "settings.json",
    }


def test_verdicts_of_an_earlier_run_are_taken(grader: Grader, tmp_path: Path) -> None:
    verdicts = tmp_path / "verdicts.jsonl"
    line = {"status": "passed", "passed": True, "tests_passed": 1, "tests_total": 1, "isolation": "none"}
    jsonl.write(verdicts, [{"problem_id": s.problem_id, "sample_id": s.sample_id, **line} for s in samples()[:-1]])
    found = rerank(job(tmp_path / "out", verdicts=verdicts), Liking(), grader)
    assert found["choosers"]["reward_model"]["pass@1"] == 1.0
    assert found["not_graded"] == ["half/1"]
    assert not (tmp_path / "out" / "verdicts.jsonl").exists()


def test_samples_without_reasoning_score_nothing_and_are_counted(grader: Grader, tmp_path: Path) -> None:
    bare = [
        Sample("half", "0", program="def f(x): return x"),
        Sample("half", "1", completion.render("Reasoning 1 of half.", "1")),
    ]
    scorer = Liking()
    found = rerank(job(tmp_path, samples=bare, choose_only=True), scorer, grader)
    assert (found["without_reasoning"], len(scorer.asked)) == (1, 1)
    assert [r["process"] for _, r in jsonl.read(tmp_path / "scores.jsonl")] == [0.0, 0.9]


def test_a_majority_needs_answers_and_takes_the_first_of_equals() -> None:
    def one(number: int, answer: str | None, score: float = 0.0) -> Candidate:
        return Candidate(("p", str(number)), score, 1, answer)

    found = [one(0, None), one(1, "a"), one(2, "b", 0.1), one(3, "b", 0.7), one(4, "a")]
    assert majority(found) == found[1]
    assert best_of_majority([*found, one(5, "b")]) == found[3]
    assert majority([one(0, None)]) is None
    assert best_of_majority([]) is None


def test_without_verdicts_there_is_nothing_to_measure() -> None:
    with pytest.raises(DataError, match="no sample has a verdict"):
        compare({})


# -- what programs answer ----------------------------------------------------------------------------------------------


def test_programs_that_agree_on_the_inputs_have_one_digest(grader: Grader) -> None:
    programs = [
        "def f(x): return x * 2",
        "def f(x): return float(x + x)",
        "def f(x): return x ** 2",  # agrees on the first two inputs alone
        "def f(x): return 4 // x",  # fails on one
    ]
    two = grader.answers_many([(DOUBLE, program) for program in programs], 2)
    assert two[0] == two[1] == two[2] is not None
    assert two[3] not in (None, two[0])
    three = grader.answers_many([(DOUBLE, program) for program in programs], 3)
    assert three[0] == three[1] != three[2]


@pytest.mark.parametrize(
    ("problem", "program"),
    [
        (DOUBLE, None),
        (DOUBLE, "def f(x: return 1"),
        (DOUBLE, "def f(x): raise ValueError"),
        (DOUBLE, "import os\nos._exit(0)"),
        (SQUARE, "print(1"),
        (SQUARE, "raise SystemExit(3)"),
        (HALF, "def f(x): return x / 2"),
    ],
)
def test_what_answers_nothing_has_no_digest(grader: Grader, problem: Problem, program: str | None) -> None:
    assert grader.answers_many([(problem, program)], 3) == [None]


def test_scripts_are_compared_without_the_white_space_at_the_ends_of_lines(grader: Grader) -> None:
    found = grader.answers_many(
        [(SQUARE, f"n = int(input())\nprint(n, end='{end}')") for end in ("", " \\n\\n", "x")], 3
    )
    assert found[0] == found[1] != found[2]


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command_chooses_beside_the_samples(tiny_reward: Path, tmp_path: Path) -> None:
    write_problems(tmp_path / "problems.jsonl", [SQUARE, DOUBLE])
    kept = [s for s in samples() if s.problem_id != "half"]
    rows = [{"problem_id": s.problem_id, "sample_id": s.sample_id, "completion": s.completion} for s in kept]
    jsonl.write(tmp_path / "s.jsonl", rows)
    given = ["--problems", str(tmp_path / "problems.jsonl"), "--samples", str(tmp_path / "s.jsonl")]
    run = CliRunner().invoke(app, ["rerank", *given, "--model", str(tiny_reward), "--choose-only", "--json"])
    assert run.exit_code == 0, run.output
    assert json.loads(run.stdout)["problems"] == 2
    scores = {
        (r["problem_id"], r["sample_id"]): r["process"] for _, r in jsonl.read(tmp_path / "s.rerank/scores.jsonl")
    }
    for _, choice in jsonl.read(tmp_path / "s.rerank" / "choices.jsonl"):
        of_problem = [score for (problem, _), score in scores.items() if problem == choice["problem_id"]]
        assert choice["process"] == max(of_problem)
        assert choice["of"] == len(of_problem) == 3

"""The command `judge` against a scripted endpoint: what is asked, what is kept, what is counted, going on."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chat_server import ChatServer, running
from tiny import write_lines

from recode_rl import jsonl
from recode_rl.errors import ConfigError, DataError, InfrastructureError
from recode_rl.reward_model.judging import Judging, judge_reasonings
from recode_rl.reward_model.scored import load_reasonings, load_scored

pytest.importorskip("openai", reason="needs the extra [remote]")

WORTH = {"best": "0.9", "odd": "0.44", "poor": "0.1"}


def judged(request: dict[str, Any]) -> str:
    """A judge that knows three words, and has nothing to say about others."""
    text = re.search(r"<reasoning>\s*(.*?)\s*</reasoning>", request["messages"][-1]["content"], re.DOTALL)
    assert text is not None
    worth = WORTH.get(text[1].split()[0])
    return "I cannot say." if worth is None else f"Its faults are few.\nScore: {worth}"


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with running(judged) as server:
        yield server


def problem(name: str) -> dict[str, Any]:
    tests = {"kind": "asserts", "entry_point": "f", "asserts": ["assert f(1)"]}
    return {"id": name, "prompt": f"Solve {name}.", "tests": tests}


def variant(name: str, reasoning: str, quality: str = "base") -> dict[str, Any]:
    return {"problem_id": name, "variant": quality, "reasoning": reasoning, "generator": "g", "methods": []}


@pytest.fixture
def variants(tmp_path: Path) -> Path:
    write_lines(tmp_path / "problems.jsonl", [problem(name) for name in "abcd"])
    records = [
        variant("a", "best of all"),
        variant("a", "poor thing", "degraded"),
        variant("b", "odd one"),
        variant("c", "silent on this"),
        variant("d", "poor all of it"),
        variant("d", "poor all of it "),
    ]
    return write_lines(tmp_path / "variants.jsonl", records)


@pytest.fixture
def job(server: ChatServer, variants: Path, tmp_path: Path) -> Callable[..., Judging]:
    def make(**more: Any) -> Judging:
        values = {"reasonings": variants, "out": tmp_path / "out" / "scored.jsonl", "endpoint": server.url}
        return Judging(**{**values, "model": "j", **more})

    return make


def lines(path: Path) -> list[dict[str, Any]]:
    return [record for _, record in jsonl.read(path)]


def test_base_reasonings_get_scores_in_steps_of_a_tenth(job: Callable[..., Judging], server: ChatServer) -> None:
    asked = job()
    summary = judge_reasonings(asked)
    scored = load_scored(asked.out)
    assert [(one.id, one.problem, one.score) for one in scored] == [
        ("a/base", "Solve a.", 0.9),
        ("b/base", "Solve b.", 0.4),
        ("d/base", "Solve d.", 0.1),
    ]
    assert {(one.variant, one.generator, one.judge, one.prompt_version) for one in scored} == {
        ("base", "g", "j", "judge_score-2")
    }
    assert len(server.requests) == 4
    assert {(r["temperature"], r["model"]) for r in server.requests} == {(0.0, "j")}
    assert summary["unreadable"] == ["c/base"]
    assert summary["by_score"] == {"0.1": 1, "0.4": 1, "0.9": 1}
    assert (summary["scored"], summary["rounded"], summary["not_judged"], summary["stopped"]) == (3, 1, [], None)
    assert summary["mean"] == pytest.approx((0.9 + 0.44 + 0.1) / 3)
    assert summary["left_out"] == {"degraded, not base": 1, "equal to another": 1}
    manifest = jsonl.read_json(asked.out.with_name("scored.manifest.json"))
    assert (manifest["stage"], manifest["results"]) == ("judge", summary)


def test_a_run_that_was_stopped_asks_for_the_rest_alone(job: Callable[..., Judging], server: ChatServer) -> None:
    first = judge_reasonings(job(concurrency=1, max_requests=2))
    assert first["scored"] == 2
    assert first["not_judged"] == ["c/base", "d/base"]
    assert "the budget of 2 requests (max_requests) is used up" in first["stopped"]
    asked = job()
    with asked.out.with_name("scored.replies.jsonl").open("ab") as file:
        file.write(b'{"request": "cut sh')
    summary = judge_reasonings(asked)
    assert (summary["scored"], summary["not_judged"], summary["stopped"]) == (3, [], None)
    assert len(server.requests) == 4
    kept = asked.out.read_bytes()
    assert judge_reasonings(asked)["scored"] == 3
    assert len(server.requests) == 4
    whole = job(out=asked.out.with_name("whole.jsonl"))
    judge_reasonings(whole)
    assert whole.out.read_bytes() == kept == asked.out.read_bytes()


def test_what_the_endpoint_failed_is_named_and_asked_again(job: Callable[..., Judging], server: ChatServer) -> None:
    server.status = (400, b'{"error": {"message": "no such model"}}')
    with pytest.raises(InfrastructureError, match=r"the judge scored no reasoning: .*no such model"):
        judge_reasonings(job())
    assert not job().out.exists()
    server.status = None
    assert judge_reasonings(job())["scored"] == 3


def test_a_judge_that_says_no_scores_is_one_sentence(job: Callable[..., Judging], server: ChatServer) -> None:
    server.model = lambda request: "Well done!"
    with pytest.raises(InfrastructureError, match=r"none of its replies has a score; see .*scored\.replies\.jsonl"):
        judge_reasonings(job())


def test_scores_of_another_judge_and_other_files_are_not_written_over(
    job: Callable[..., Judging], variants: Path
) -> None:
    judge_reasonings(job())
    with pytest.raises(ConfigError, match="its scores are of another model; remove it"):
        judge_reasonings(job(model="k"))
    before = variants.read_bytes()
    with pytest.raises(ConfigError, match=r"variants\.jsonl: there already, and not made by 'judge'"):
        judge_reasonings(job(out=variants))
    assert variants.read_bytes() == before


def test_other_qualities_and_files_with_statements_of_their_own(job: Callable[..., Judging], tmp_path: Path) -> None:
    summary = judge_reasonings(job(wanted="degraded"))
    assert [one.id for one in load_scored(Path(summary["out"]))] == ["a/degraded"]
    (tmp_path / "own").mkdir()
    records = [{"problem_id": "x", "problem": "Do x.", "reasoning": f"best {n}"} for n in range(3)]
    own = write_lines(tmp_path / "own" / "reasonings.jsonl", records)
    summary = judge_reasonings(job(reasonings=own, out=tmp_path / "own" / "scored.jsonl"))
    found = load_scored(Path(summary["out"]))
    assert [one.id for one in found] == ["x/reasoning", "x/reasoning/2", "x/reasoning/3"]
    assert {(one.problem_id, one.problem, one.variant) for one in found} == {("x", "Do x.", "")}


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"problem_id": "a"}, "key 'reasoning': 'None'; expected text"),
        ({"problem_id": "a", "reasoning": "  "}, "key 'reasoning'"),
        ({"reasoning": "x"}, "key 'problem_id'"),
        ({"problem_id": "z", "reasoning": "x"}, "problem 'z': its statement is not known"),
        ({"problem_id": "a", "reasoning": "x", "problem": ""}, "key 'problem'"),
    ],
)
def test_reasonings_that_cannot_be_used_are_named_by_line(tmp_path: Path, record: dict[str, Any], reason: str) -> None:
    path = write_lines(tmp_path / "r.jsonl", [{"problem_id": "a", "reasoning": "fine"}, record])
    with pytest.raises(DataError, match=rf"r\.jsonl: line 2: {reason}"):
        load_reasonings(path, {"a": "Do a."})


def test_a_file_without_the_quality_that_is_wanted_is_one_sentence(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "r.jsonl", [variant("a", "fine", "optimized")])
    with pytest.raises(DataError, match="no base reasonings in it"):
        load_reasonings(path, {"a": "Do a."})


GOOD = {"id": "a/base", "problem_id": "a", "problem": "Do a.", "reasoning": "fine", "score": 0.5}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"score": 1.2}, r"line 2: 'b': score 1\.2: expected a number from 0 to 1"),
        ({"score": True}, "line 2: 'b': score True"),
        ({"score": None}, "line 2: 'b': score None"),
        ({"reasoning": " "}, "line 2: key 'reasoning'"),
        ({"id": "a/base", "reasoning": "other"}, "scored reasoning id 'a/base' occurs twice"),
        ({"reasoning": "fine "}, "'b' is the same reasoning as 'a/base'; remove one of them"),
    ],
)
def test_scored_reasonings_that_cannot_be_used_are_named(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    path = write_lines(tmp_path / "s.jsonl", [GOOD, {**GOOD, "id": "b", **changes}])
    with pytest.raises(DataError, match=rf"s\.jsonl: {reason}"):
        load_scored(path)


def test_two_judges_may_score_one_reasoning_and_scores_become_tenths(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "s.jsonl", [GOOD, {**GOOD, "id": "b", "judge": "k", "score": 1, "note": "kept out"}])
    assert [(one.judge, one.score) for one in load_scored(path)] == [("", 0.5), ("k", 1.0)]
    write_lines(path, [{**GOOD, "score": 0.66, "problem_id": None}])
    assert [(one.problem_id, one.score) for one in load_scored(path)] == [("a/base", 0.7)]

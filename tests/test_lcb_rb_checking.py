"""The dual-consistency judge: replies read strictly, tried again, counted, kept; the judge never sees a verdict."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chat_server import ChatServer, running
from lcb_rb_data import PROGRAM, REASONING, problem, sample, write_samples, write_world

from recode_rl import jsonl
from recode_rl.errors import ConfigError, DataError, Interrupted
from recode_rl.lcb_rb.candidates import load_candidates
from recode_rl.lcb_rb.checking import load_prompt, questions, read_reply
from recode_rl.lcb_rb.cli import _judges
from recode_rl.lcb_rb.records import load_judgements
from recode_rl.lcb_rb.stage import Checking, check_file
from recode_rl.types import Sample

for module in ("openai", "tenacity", "httpx2"):
    pytest.importorskip(module, reason="needs the extra [remote]")

SOUND, FLAWED, APART = "Fine.\nFlawed: No\nAligned: Yes", "Bad.\nFlawed: Yes\nAligned: Yes", "Flawed: No\nAligned: No"


@pytest.mark.parametrize(
    ("reply", "judgement"),
    [
        (SOUND, "sound"),
        (FLAWED, "flawed"),
        (APART, "misaligned"),
        ("Flawed: Yes\nAligned: No", "misaligned"),
        ("It has a gap.\n\n**Flawed:** Yes\n**Aligned:** Yes.", "flawed"),
        ("- flawed: no\n- aligned: yes\n", "sound"),
        ("<think>Flawed: Yes, or not?\nFlawed: Yes\nAligned: No</think>\nFlawed: No\nAligned: Yes", "sound"),
        ("Flawed: No\nAligned: Yes\nFlawed: No\nAligned: Yes", "sound"),
    ],
)
def test_a_reply_with_both_answers_is_a_judgement(reply: str, judgement: str) -> None:
    found = read_reply(reply)
    assert found is not None
    assert found.judgement == judgement


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "Flawed: No",
        "Aligned: Yes",
        "Flawed: No\nAligned: perhaps",
        "Flawed: Yes or No\nAligned: Yes",
        "Flawed: Yes/No\nAligned: Yes/No",
        "Flawed: No\nAligned: Yes\nFlawed: Yes",
        "The reasoning is flawed: no step follows.\nAligned: Yes",
        "Flawed: No, because it holds\nAligned: Yes",
        "Unflawed: No\nAligned: Yes",
        "<think>Flawed: No\nAligned: Yes</think>",
        '{"flawed": "no", "aligned": "yes"}',
    ],
)
def test_any_other_reply_is_none(reply: str) -> None:
    assert read_reply(reply) is None


@pytest.mark.timeout(60)  # a pattern that tries every place from every place takes longer
def test_long_replies_are_read() -> None:
    assert read_reply("flawed" * 20_000 + "<think>" * 5_000 + "\n>*_` " * 20_000) is None


def test_the_explanation_is_what_comes_before_the_answers() -> None:
    found = read_reply("Step 2 is wrong.\n\nFlawed: Yes\nAligned: Yes")
    assert found is not None
    assert found.explanation == "Step 2 is wrong."


def test_the_judge_sees_problem_reasoning_and_program_and_a_yes_means_flawed() -> None:
    prompt = load_prompt()
    assert prompt.version == "check-1"
    strange = problem("p", prompt="Print {reasoning} and {program}.")
    (asked,), skipped = questions([strange], [sample("p", 0, REASONING)], prompt, "j")
    content = asked.messages[0]["content"]
    assert "Print {reasoning} and {program}." in content
    assert REASONING in content
    assert PROGRAM.strip() in content
    assert "version:" not in content
    assert "Is the reasoning flawed?" in content
    assert "passed" in content  # only in that the judge is told that it does not learn it
    assert not skipped


def test_what_cannot_be_asked_about_is_counted() -> None:
    samples = [
        sample("p", 0),
        Sample("p", "1", completion="only words"),
        Sample("p", "2", completion="<think>t</think> no program"),
        Sample("p", "3", completion="<think>t</think><answer>x = 1</answer>", finish_reason="length"),
        Sample("p", "4", program="x = 1"),
    ]
    asked, skipped = questions([problem("p")], samples, load_prompt(), "j")
    assert [question.sample.sample_id for question in asked] == ["0"]
    assert skipped == {"no reasoning": 2, "no program": 1, "cut off": 1}
    with pytest.raises(DataError, match="not among the problems"):
        questions([problem("q")], samples, load_prompt(), "j")


def test_a_prompt_of_the_users_own_needs_all_places(tmp_path: Path) -> None:
    (tmp_path / "check.txt").write_text("version: mine-2\n{problem} {reasoning} {program}", encoding="utf-8")
    assert load_prompt(tmp_path).version == "mine-2"
    (tmp_path / "check.txt").write_text("{problem} {reasoning}", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"prompt check.txt has no \{program\}"):
        load_prompt(tmp_path)


# Over a real endpoint


def world(tmp_path: Path, count: int = 4) -> Checking:
    """Files of one problem, half of whose samples pass."""
    problems, samples = write_world(tmp_path, problems=1, samples=count)
    lines: list[dict[str, Any]] = []
    for i in range(count):
        ok = i % 2 == 0
        status = {"passed": ok, "status": "passed" if ok else "wrong_answer", "tests_passed": int(ok)}
        lines.append({"problem_id": "p0", "sample_id": str(i), **status, "tests_total": 1, "isolation": "stdio"})
    jsonl.write(tmp_path / "verdicts.jsonl", lines)
    out = tmp_path / "judgements.jsonl"
    return Checking(problems, samples, tmp_path / "verdicts.jsonl", out, tmp_path / "candidates.jsonl", "judge")


def by_number(answers: dict[str, list[str]]) -> Callable[[dict[str, Any]], str]:
    """Answers to the sample "number N", the next one at each time."""

    def model(request: dict[str, Any]) -> str:
        content = request["messages"][-1]["content"]
        number = content.split("Way number ")[1][0]
        left = answers[number]
        return left.pop(0) if len(left) > 1 else left[0]

    return model


def ask(job: Checking, server: ChatServer, **more: Any) -> dict[str, Any]:
    values = {"temperature": 0.0, "max_tokens": 64, "timeout": 30, "concurrency": 2, "max_requests": None, "seed": 5}
    return check_file(job, _judges(server.url, "judge", **{**values, **more}))


def test_samples_are_judged_and_candidates_drawn(tmp_path: Path) -> None:
    job = world(tmp_path)
    answers = {"0": [SOUND], "1": [FLAWED], "2": ["hm", "hm", FLAWED], "3": ["never"]}
    with running(by_number(answers)) as server:
        values = ask(job, server)
    assert values["judgements"] == {"sound": 1, "flawed": 2, "unparsable": 1}
    assert values["replies"] == 1 + 1 + 3 + 3
    assert values["unreadable_replies"] == 2 + 3
    assert values["candidates_by_side"] == {"chosen, passed": 1, "rejected, failed": 1, "rejected, passed": 1}
    judged = {line.sample_id: line for line in load_judgements(job.out)}
    assert [judged[i].judgement for i in "0123"] == ["sound", "flawed", "flawed", "unparsable"]
    assert judged["2"].attempts == 3
    assert judged["1"].explanation == "Bad."
    assert judged["3"].explanation == "never"
    assert judged["0"].prompt_version == "check-1"
    assert len(load_candidates(job.candidates)) == 3
    heats = {(r["temperature"], r["seed"]) for r in server.requests}
    assert heats == {(0.0, 5), (0.7, 6), (0.7, 7)}  # the same question would get the same reply
    sent = json.dumps(server.requests)
    assert not any(word in sent for word in ("wrong_answer", "tests_passed", "verdict"))


def test_a_second_run_asks_for_nothing(tmp_path: Path) -> None:
    job = world(tmp_path)
    with running(by_number({"0": [SOUND], "1": [FLAWED], "2": ["hm", SOUND], "3": ["never"]})) as server:
        first = ask(job, server)
        before = len(server.requests)
        assert ask(job, server) == first
        assert len(server.requests) == before


def test_a_budget_stops_the_run_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    job = world(tmp_path)
    with running(by_number({str(i): [SOUND if i else FLAWED] for i in range(4)})) as server:
        with pytest.raises(Interrupted, match="larger budget"):
            ask(job, server, max_requests=3)
        assert not job.out.exists()
        assert ask(job, server, max_requests=3)["judgements"] == {"flawed": 1, "sound": 3}
        assert len(server.requests) == 4


def test_a_dead_endpoint_leaves_samples_without_a_judgement(tmp_path: Path) -> None:
    job = world(tmp_path)
    with running(by_number({str(i): [SOUND] for i in range(4)})) as server:
        server.status = (400, b'{"error": {"message": "no such model"}}')
        values = ask(job, server)
        assert values["not_judged"] == ["p0/0", "p0/1", "p0/2", "p0/3"]
        assert "no such model" in values["first_failure"]
        server.status = None
        assert ask(job, server)["not_judged"] == []


def test_replies_of_another_prompt_are_not_taken_for_this_one(tmp_path: Path) -> None:
    job = world(tmp_path)
    own = tmp_path / "prompts"
    own.mkdir()
    (own / "check.txt").write_text("Other {problem} {reasoning} {program}", encoding="utf-8")
    with running(by_number({str(i): [SOUND] for i in range(4)})) as server:
        ask(job, server)
        other = Checking(**{**{name: getattr(job, name) for name in job.__slots__}, "prompts": own})
        assert ask(other, server)["replies"] == 4
    assert len(server.requests) == 8


def test_the_same_texts_are_asked_about_once(tmp_path: Path) -> None:
    job = world(tmp_path)
    write_samples(job.samples, [sample("p0", i, "All alike, number 0: Way number 0.") for i in range(4)])
    with running(by_number({"0": [SOUND]})) as server:
        assert ask(job, server)["judgements"] == {"sound": 4}
    assert len(server.requests) == 1


def test_a_judge_in_this_process_is_asked_in_the_same_way(tmp_path: Path, tiny: Path) -> None:
    job = world(tmp_path, count=2)
    judges = _judges(None, str(tiny), 0.0, 8, 30, 2, None, 0)
    values = check_file(job, judges)
    assert values["judgements"] == {"unparsable": 2}  # a random model
    assert values["replies"] == 6

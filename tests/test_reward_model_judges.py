"""A judge is asked twice about every pair, what it says is read with care, and what is there is not asked again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from recode_rl import jsonl
from recode_rl.chat import Reply
from recode_rl.errors import ConfigError, DataError, EndpointError
from recode_rl.reward_model.judges import JudgePrompt, judge_pairs, load_prompt, read_better, read_score
from recode_rl.types import PreferencePair

Messages = list[dict[str, str]]


def pair(name: str, chosen: str, rejected: str, problem_id: str = "p") -> PreferencePair:
    return PreferencePair(name, problem_id, "the problem", chosen, rejected, "opt_deg")


@dataclass
class Script:
    """A client whose replies are a function of the message; the last job is answered first."""

    answer: Callable[[str], str | EndpointError]
    finish_reason: str = "stop"
    asked: list[str] = field(default_factory=list)

    def ask_all(self, jobs: Iterable[tuple[str, Messages]]) -> Iterator[tuple[str, Reply | EndpointError]]:
        for key, (message,) in reversed(list(jobs)):
            self.asked.append(message["content"])
            said = self.answer(message["content"])
            yield key, said if isinstance(said, EndpointError) else Reply(said, self.finish_reason, 10, 5)


SCORE = JudgePrompt("score", "{problem} | {reasoning}", "test-1")
PAIR = JudgePrompt("pair", "{problem} | {first} | {second}", "test-1")


def by_length(text: str) -> str:
    return f"Fine.\nScore: {min(1.0, len(text.split('|')[1].strip()) / 10)}"


def first_wins(text: str) -> str:
    return "Better: 1"


def longer_wins(text: str) -> str:
    _, first, second = (part.strip() for part in text.split("|"))
    return "Better: tie" if len(first) == len(second) else f"Better: {1 if len(first) > len(second) else 2}"


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("Score: 0.7", 0.7),
        ("It is fine.\n**Score:** 0.7", 0.7),
        ("**Score: 1.0**", 1.0),
        ("score = .5", 0.5),
        ("Final score: 0.", 0.0),
        ("Score: 1.", 1.0),
        ("Score (0.0-1.0): 0.3", 0.3),
        ("Score: 0.7/1.0", 0.7),
        ("A score of 0.2 would be harsh.\nScore: 0.8\n", 0.8),
        ("Score: 0.2\nOn reflection:\nScore: 0.4", 0.4),
        ("<think>Score: 0.1</think>Score: 0.9", 0.9),
        ("Therefore, the score of this reasoning is 0.0.", 0.0),
        ("Score: 0.8\n\nThe score is lowered by a detour.", 0.8),
        ("The score is 7/10.", None),
        ("Score: 7", None),
        ("Score: 10", None),
        ("Score: 1.5", None),
        ("Score: 0.7/10", None),
        ("Score: 1/10", None),
        ("Score: 1 / 10", None),
        ("Score: 70%", None),
        ("Score: -0.5", None),
        ("Score: high", None),
        ("Score: 0.4\nScore: unsure", None),
        ("<think>Score: 0.1</think>no idea", None),
        ("0.7", 0.7),
        ("**0.7**\n", 0.7),
        ("<think>0.2</think>\n0.7/1.0", 0.7),
        ("7", None),
        ("0.7 it is", None),
        ("", None),
    ],
)
def test_the_last_score_is_read_or_none(text: str, score: float | None) -> None:
    assert read_score(text) == score


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Better: 1", 1.0),
        ("Both err.\n**Better:** 2", 0.0),
        ("better: reasoning 2", 0.0),
        ("Better: Tie.", 0.5),
        ("Better: 1\nno:\nBetter: 2", 0.0),
        ("Better: both", None),
        ("Better: 12", None),
        ("Better: 1.5", None),
        ("The first is better.", None),
        ("Better: 1\nBetter: ?", None),
    ],
)
def test_the_last_preference_is_read_or_none(text: str, value: float | None) -> None:
    assert read_better(text) == value


def test_scores_of_both_sides_decide() -> None:
    client = Script(by_length)
    pairs = [pair("a", "long text", "tiny"), pair("b", "s", "longer"), pair("c", "x", "y")]
    found = judge_pairs(client, pairs, SCORE, "j")
    assert [(s.chosen, s.rejected, s.correct) for s in found.scores if s] == [
        (0.9, 0.4, 1.0),
        (0.1, 0.6, 0.0),
        (0.1, 0.1, 0.5),
    ]
    assert (found.requests, found.unreadable, found.failed, found.orders_agree) == (6, 0, 0, None)
    assert client.asked[-1] == "the problem | long text"


def test_a_reasoning_that_occurs_in_two_pairs_is_scored_once() -> None:
    client = Script(by_length)
    found = judge_pairs(client, [pair("a", "best one", "mid"), pair("b", "mid", "x")], SCORE, "j")
    assert len(client.asked) == found.requests == 3
    assert [s.correct for s in found.scores if s] == [1.0, 1.0]


def test_a_judge_that_takes_the_first_always_is_half_right() -> None:
    found = judge_pairs(Script(first_wins), [pair("a", "x", "y"), pair("b", "z", "w")], PAIR, "j")
    assert [s.correct for s in found.scores if s] == [0.5, 0.5]
    assert found.orders_agree == 0.0


def test_a_judge_that_sees_the_same_in_both_orders_counts_fully() -> None:
    pairs = [pair("a", "longer", "y"), pair("b", "z", "longer"), pair("c", "xx", "yy")]
    client = Script(longer_wins)
    found = judge_pairs(client, pairs, PAIR, "j")
    assert [s.correct for s in found.scores if s] == [1.0, 0.0, 0.5]
    assert found.orders_agree == 1.0
    assert {"the problem | longer | y", "the problem | y | longer"} <= set(client.asked)


def test_what_cannot_be_read_counts_half_in_its_place_and_is_counted() -> None:
    said = {"good": "Score: 0.9", "bad": "I would rather not say."}
    found = judge_pairs(Script(lambda text: said[text.split("| ")[1]]), [pair("a", "good", "bad")], SCORE, "j")
    (score,) = found.scores
    assert score is not None
    assert (score.chosen, score.rejected, score.correct, found.unreadable) == (0.9, None, 0.5, 1)
    assert score.record(pair("a", "good", "bad")) == {"id": "a", "chosen": 0.9, "rejected": None, "correct": 0.5}

    once = Script(lambda text: "Better: 1" if text.endswith("bad") else "who knows")
    found = judge_pairs(once, [pair("a", "good", "bad")], PAIR, "j")
    assert [s.correct for s in found.scores if s] == [0.75]
    assert (found.unreadable, found.orders_agree) == (1, None)


def test_a_reply_that_was_cut_off_is_not_read() -> None:
    found = judge_pairs(Script(by_length, finish_reason="length"), [pair("a", "good text", "bad")], SCORE, "j")
    assert found.unreadable == 2
    assert [s.correct for s in found.scores if s] == [0.5]


def test_what_is_too_long_for_the_judge_is_unreadable_and_not_asked_again(tmp_path: Path) -> None:
    replies = tmp_path / "replies.jsonl"

    def answer(text: str) -> str | EndpointError:
        return EndpointError("answered 400: maximum context", overlong=True) if "huge" in text else "Score: 0.4"

    found = judge_pairs(Script(answer), [pair("a", "huge", "small")], SCORE, "j", replies)
    assert (found.unreadable, found.failed) == (1, 0)
    again = Script(answer)
    assert judge_pairs(again, [pair("a", "huge", "small")], SCORE, "j", replies) == found
    assert again.asked == []


def test_what_the_endpoint_failed_is_absent_and_asked_again(tmp_path: Path) -> None:
    replies, pairs = tmp_path / "replies.jsonl", [pair("a", "good text", "bad"), pair("b", "other", "down")]
    broken = Script(lambda text: EndpointError("503") if "down" in text else by_length(text))
    found = judge_pairs(broken, pairs, SCORE, "j", replies)
    assert [s and s.correct for s in found.scores] == [1.0, None]
    assert (found.failed, found.first_failure) == (1, "503")
    with replies.open("ab") as file:
        file.write(b'{"request": "cut sh')
    second = Script(by_length)
    assert [s.correct for s in judge_pairs(second, pairs, SCORE, "j", replies).scores if s] == [1.0, 1.0]
    assert second.asked == ["the problem | down"]
    fresh = judge_pairs(Script(by_length), pairs, SCORE, "j")
    assert judge_pairs(Script(by_length), pairs, SCORE, "j", replies) == fresh


def test_an_endpoint_that_is_down_is_not_asked_to_the_end() -> None:
    client = Script(lambda text: EndpointError("refused"))
    found = judge_pairs(client, [pair(str(n), f"good {n}", f"bad {n}") for n in range(50)], SCORE, "j")
    assert (found.failed, len(client.asked)) == (10, 10)
    assert found.scores == [None] * 50


def test_replies_are_of_a_model_and_a_text(tmp_path: Path) -> None:
    replies, pairs = tmp_path / "replies.jsonl", [pair("a", "good text", "bad")]
    judge_pairs(Script(by_length), pairs, SCORE, "j", replies)
    for prompt, model in ((SCORE, "another"), (JudgePrompt("score", "{problem}: | {reasoning}", "2"), "j")):
        client = Script(by_length)
        judge_pairs(client, pairs, prompt, model, replies)
        assert len(client.asked) == 2
    lines = [record for _, record in jsonl.read(replies)]
    assert len(lines) == 6
    made = {(line["model"], line["prompt_version"]) for line in lines}
    assert made == {("j", "test-1"), ("another", "test-1"), ("j", "2")}
    assert {line["value"] for line in lines} == {0.9, 0.3}
    replies.write_text('{"id": "x", "chosen": 1}\n')
    with pytest.raises(DataError, match=r"replies\.jsonl: line 1: not a reply of a judge"):
        judge_pairs(Script(by_length), pairs, SCORE, "j", replies)


def test_braces_in_one_text_are_not_the_place_of_another() -> None:
    client = Script(lambda text: "Better: tie")
    judge_pairs(client, [pair("a", "{second} {problem}", "y")], PAIR, "j")
    assert "the problem | {second} {problem} | y" in client.asked


def test_the_prompts_of_the_package_have_a_version_and_their_places() -> None:
    for mode, version in (("score", "judge_score-2"), ("pair", "judge_pair-1")):
        prompt = load_prompt(mode)  # type: ignore[arg-type]
        assert prompt.version == version
        assert "version:" not in prompt.text
    assert read_better(load_prompt("pair").text.splitlines()[-1]) == 0.5


def test_the_prompt_shows_no_score_that_a_small_judge_could_copy() -> None:
    # With "Score: 0.5" as its last line a model of 1.5B gave 382 of 382 reasonings 0.5.
    assert read_score(load_prompt("score").text) is None


def test_a_prompt_of_ones_own_is_named_by_its_version_or_its_text(tmp_path: Path) -> None:
    own = tmp_path / "judge_score.txt"
    own.write_text("version: mine\n\nJudge {problem} and {reasoning}.")
    assert load_prompt("score", tmp_path) == JudgePrompt("score", "Judge {problem} and {reasoning}.", "mine")
    assert load_prompt("pair", tmp_path) == load_prompt("pair")
    own.write_text("Judge {problem} and {reasoning}.")
    assert load_prompt("score", tmp_path).version.startswith("sha256:")
    own.write_text("Judge {problem}.")
    with pytest.raises(ConfigError, match=r"judge_score\.txt has no \{reasoning\}"):
        load_prompt("score", tmp_path)

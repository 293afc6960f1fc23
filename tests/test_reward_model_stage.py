"""What `eval-rm` is given as a model, what it keeps, and what it says of two models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from recode_rl import chat, jsonl
from recode_rl.errors import ConfigError, DataError, InfrastructureError
from recode_rl.pairs import write_pairs
from recode_rl.reward_model.evaluate import PairScores, compare, read_scores, score_pairs
from recode_rl.reward_model.stage import Reading, evaluate_on_file, score_on_file
from recode_rl.scorer import RewardModelScorer
from recode_rl.types import PreferencePair

pytest.importorskip("sklearn", reason="needs the extra [train]")

PAIRS = [
    PreferencePair(f"p{n}/opt_deg", f"p{n}", f"statement {n}", "good " * (n + 1), "bad and long", "opt_deg")
    for n in range(6)
]


@pytest.fixture
def pairs_file(tmp_path: Path) -> Path:
    write_pairs(tmp_path / "pairs.jsonl", PAIRS)
    return tmp_path / "pairs.jsonl"


def lines(path: Path) -> list[dict[str, Any]]:
    return [record for _, record in jsonl.read(path)]


def scores_file(path: Path, chosen: list[float], rejected: float = 0.5) -> Path:
    jsonl.write(path, [{"id": p.id, "chosen": c, "rejected": rejected} for p, c in zip(PAIRS, chosen, strict=True)])
    return path


def test_scores_that_a_sigmoid_no_longer_tells_apart_are_told_by_what_is_behind_it(tmp_path: Path) -> None:
    class Extreme:
        def __call__(self, items: Any) -> list[float]:
            raise AssertionError("it has raw scores")

        def logits(self, items: Any) -> list[float]:
            return [60.0 if "good" in reasoning else 50.0 for _, reasoning in items]

    found = score_pairs(Extreme(), PAIRS[:2], tmp_path / "scores.jsonl")
    assert [(s.chosen, s.rejected, s.correct) for s in found] == [(1.0, 1.0, 1.0)] * 2
    assert lines(tmp_path / "scores.jsonl")[0] == {"id": "p0/opt_deg", "chosen": 1.0, "rejected": 1.0, "correct": 1.0}
    assert score_pairs(Extreme(), PAIRS[:2], tmp_path / "scores.jsonl") == found
    assert read_scores(tmp_path / "scores.jsonl", PAIRS[:2]) == found


def test_two_models_by_hand() -> None:
    right, wrong, tie = PairScores(0.9, 0.1), PairScores(0.1, 0.9), PairScores(0.5, 0.5)
    found = compare(PAIRS, [right, right, right, right, wrong, tie], [right, wrong, wrong, tie, right, tie])
    assert found["accuracy"] == pytest.approx(3 / 6)
    assert found["difference"] == pytest.approx((4.5 - 3) / 6)
    low, high = found["difference_interval"]
    assert low < found["difference"] < high
    assert (found["only_model_right"], found["only_other_right"]) == (3, 1)
    assert found["mcnemar_p"] == pytest.approx(2 * 5 / 16)


def test_our_models_read_our_text_and_those_of_others_a_chat(
    tiny_reward: Path, pairs_file: Path, tmp_path: Path
) -> None:
    ours = RewardModelScorer(str(tiny_reward))([(p.problem, p.chosen) for p in PAIRS])
    recode, auto, template = (tmp_path / f"{name}.jsonl" for name in ("recode", "auto", "chat"))
    found = evaluate_on_file(str(tiny_reward), pairs_file, recode, Reading(template="recode"))
    assert found["n"] == 6
    assert found["reasonings_cut"] == 0
    assert [line["chosen"] for line in lines(recode)] == pytest.approx(ours, abs=1e-5)
    evaluate_on_file(str(tiny_reward), pairs_file, auto)
    evaluate_on_file(str(tiny_reward), pairs_file, template, Reading(template="chat"))
    assert lines(auto) == lines(template) != lines(recode)
    made = jsonl.read_json(tmp_path / "auto.manifest.json")
    assert made["config"]["model"] == str(tiny_reward)


def test_a_language_model_is_read_by_what_it_says_of_scores(tiny: Path, pairs_file: Path, tmp_path: Path) -> None:
    found = evaluate_on_file(f"score:{tiny}", pairs_file, tmp_path / "scores.jsonl", Reading(max_length=128))
    assert found["n"] == 6
    assert 0 < found["score_probability"] < 1
    assert all(0 < line[side] < 1 for line in lines(tmp_path / "scores.jsonl") for side in ("chosen", "rejected"))
    again = evaluate_on_file(f"score:{tiny}", pairs_file, tmp_path / "scores.jsonl", Reading(max_length=128))
    assert again["accuracy"] == found["accuracy"]
    assert "score_probability" not in again  # nothing was left to ask


def test_a_folder_that_was_trained_to_say_scores_needs_no_prefix(tiny: Path, pairs_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "trained"
    folder.mkdir()
    for file in tiny.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    manifest = {"stage": "train-rm", "config": {"objective": "score"}, "created": "2026-01-01"}
    jsonl.write_json(folder / "manifest.json", manifest)
    reading, out = Reading(max_length=128), tmp_path / "scores.jsonl"
    evaluate_on_file(str(folder), pairs_file, out, reading)
    evaluate_on_file(f"score:{tiny}", pairs_file, tmp_path / "same.jsonl", reading)
    assert lines(out) == lines(tmp_path / "same.jsonl")
    jsonl.write_json(folder / "manifest.json", {**manifest, "created": "2026-01-02"})
    with pytest.raises(ConfigError, match="its scores are of another model_made; remove it"):
        evaluate_on_file(str(folder), pairs_file, out, reading)


@pytest.mark.parametrize(
    ("change", "named"),
    [({"max_length": 64}, "max_length"), ({"template": "recode"}, "template"), ({"pairs": True}, "pairs_digest")],
)
def test_scores_of_something_else_are_not_continued(
    tiny_reward: Path, pairs_file: Path, tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    out = tmp_path / "scores.jsonl"
    evaluate_on_file(str(tiny_reward), pairs_file, out)
    kept = out.read_bytes()
    if change.pop("pairs", False):
        write_pairs(pairs_file, [*PAIRS[:5], PreferencePair("p5/opt_deg", "p5", "s", "other text", "b", "opt_deg")])
    with pytest.raises(ConfigError, match=rf"scores\.jsonl: its scores are of another {named}; remove it"):
        evaluate_on_file(str(tiny_reward), pairs_file, out, Reading(**change))
    assert out.read_bytes() == kept


def test_scores_from_a_file_and_a_comparison(pairs_file: Path, tmp_path: Path) -> None:
    good = scores_file(tmp_path / "good.jsonl", [0.9] * 6)
    half = scores_file(tmp_path / "half.jsonl", [0.9, 0.9, 0.9, 0.1, 0.1, 0.1])
    found = evaluate_on_file(str(good), pairs_file, other=str(half))
    assert found["accuracy"] == 1.0
    assert found["compare"]["model"] == str(half)
    assert found["compare"]["accuracy"] == found["compare"]["difference"] == 0.5
    assert found["compare"]["mcnemar_p"] == 0.25
    assert evaluate_on_file(str(half), pairs_file, other="baseline:length")["compare"]["accuracy"] == pytest.approx(
        evaluate_on_file("baseline:length", pairs_file)["accuracy"]
    )


def test_a_comparison_keeps_the_scores_of_both(tiny_reward: Path, tiny: Path, pairs_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.jsonl"
    evaluate_on_file(str(tiny_reward), pairs_file, out, Reading(max_length=128), f"score:{tiny}")
    assert len(lines(out)) == len(lines(tmp_path / "s.other.jsonl")) == 6
    assert jsonl.read_json(tmp_path / "s.other.manifest.json")["config"]["model"] == f"score:{tiny}"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"id": "p0/opt_deg", "chosen": 1, "rejected": 0}\n', r"no score of 5 pairs \(p1/opt_deg, "),
        ('{"id": "p0/opt_deg", "chosen": 1}\n', r"line 1: 'rejected': None; expected a number"),
        ('{"id": "p0/opt_deg", "chosen": NaN, "rejected": 1}\n', r"line 1: 'chosen': nan"),
        ('{"id": "a", "chosen": 1, "rejected": 0}\n' * 2, r"line 2: pair 'a' has a score already"),
    ],
)
def test_a_scores_file_that_does_not_do_is_named(pairs_file: Path, tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "scores.jsonl").write_text(text)
    with pytest.raises(DataError, match=rf"scores\.jsonl: {reason}"):
        evaluate_on_file(str(tmp_path / "scores.jsonl"), pairs_file)


def test_models_that_are_none_are_one_sentence(pairs_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'baseline:best': expected baseline:length or"):
        evaluate_on_file("baseline:best", pairs_file)
    with pytest.raises(ConfigError, match="'judge:big' needs the address of its endpoint; give --endpoint URL"):
        evaluate_on_file("judge:big", pairs_file)
    with pytest.raises(ConfigError, match="'score:': a name is missing"):
        evaluate_on_file("score:", pairs_file)
    with pytest.raises(ConfigError, match="'judge:big' gives no process rewards"):
        score_on_file("judge:big", pairs_file, tmp_path / "s.jsonl", Reading())


def test_scores_alone_are_those_of_the_evaluation(tiny_reward: Path, pairs_file: Path, tmp_path: Path) -> None:
    alone, out = tmp_path / "alone.jsonl", tmp_path / "scores.jsonl"
    assert score_on_file(str(tiny_reward), pairs_file, alone, Reading()) == {"pairs": 6, "cut": 0}
    evaluate_on_file(str(tiny_reward), pairs_file, out)
    assert lines(alone) == lines(out)


class FakeClient:
    """Stands in for the chat client: the reasoning with more words is better; statement 3 is never answered."""

    failing: tuple[str, ...] = ("statement 3",)
    made: list[chat.ChatSettings]

    def __init__(self, settings: chat.ChatSettings) -> None:
        self.made.append(settings)

    def __enter__(self) -> FakeClient:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def ask_all(self, jobs: Any) -> Iterator[tuple[str, Any]]:
        for key, messages in jobs:
            text = messages[-1]["content"]
            if any(name in text for name in self.failing):
                yield key, chat.EndpointError("answered 503")
            else:
                words = text.split("<reasoning>")[1].split("</reasoning>")[0].split()
                yield key, chat.Reply(f"Score: {min(len(words), 10) / 10}", "stop", 1, 1)


def test_a_judge_is_asked_and_what_it_did_not_answer_is_named(
    pairs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeClient, "made", [], raising=False)
    monkeypatch.setattr(chat, "ChatClient", FakeClient)
    out, reading = tmp_path / "scores.jsonl", Reading(endpoint="http://localhost:1", concurrency=3)
    found = evaluate_on_file("judge:big", pairs_file, out, reading)
    assert (found["n"], found["not_judged"], found["unreadable"]) == (5, ["p3/opt_deg"], 0)
    assert (found["judge"], found["prompt_version"], found["requests"]) == ("score", "judge_score-2", 12)
    assert found["accuracy"] == pytest.approx(2.5 / 5)  # 1, 2 against 3 words; 3; 5 and 6
    assert [line["id"] for line in lines(out)] == [p.id for p in PAIRS if p.problem_id != "p3"]
    (settings,) = FakeClient.made
    assert (settings.model, settings.temperature, settings.concurrency) == ("big", 0.0, 3)

    monkeypatch.setattr(FakeClient, "failing", ())
    again = evaluate_on_file("judge:big", pairs_file, out, reading)
    assert (again["n"], again["not_judged"]) == (6, [])
    assert len(lines(tmp_path / "scores.replies.jsonl")) == 12
    assert len(lines(out)) == 6
    with pytest.raises(ConfigError, match="its scores are of another model"):
        evaluate_on_file("judge:other", pairs_file, out, reading)


def test_a_judge_that_never_answers_is_an_error(pairs_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeClient, "made", [], raising=False)
    monkeypatch.setattr(FakeClient, "failing", ("statement",))
    monkeypatch.setattr(chat, "ChatClient", FakeClient)
    with pytest.raises(InfrastructureError, match="the judge answered for no pair: answered 503"):
        evaluate_on_file("judge:big", pairs_file, None, Reading(endpoint="http://localhost:1"))

"""Accuracy of a reward model on pairs: by kind and method, beside blind baselines, from scores that are kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from recode_rl import jsonl
from recode_rl.config import RewardModelConfig
from recode_rl.errors import ConfigError, DataError, InfrastructureError
from recode_rl.pairs import write_pairs
from recode_rl.problems.splits import fold_of
from recode_rl.reward_model import evaluate
from recode_rl.reward_model.evaluate import PairScores, cross_validate, score_pairs, summarise
from recode_rl.reward_model.stage import evaluate_on_file
from recode_rl.types import PreferencePair

pytest.importorskip("sklearn", reason="needs the extra [train]")


def pair(name: str, kind: str = "opt_deg", chosen: str = "a b c", rejected: str = "a b", **more: Any) -> PreferencePair:
    return PreferencePair(f"{name}/{kind}", name, f"statement of {name}", chosen, rejected, kind, **more)  # type: ignore[arg-type]


RIGHT, WRONG, TIE = PairScores(0.7, 0.3), PairScores(0.2, 0.8), PairScores(0.5, 0.5)


class Scorer:
    """Scores a reasoning by its length, and keeps the sizes of the batches it was given."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.batches: list[int] = []
        self.stop_after = stop_after

    def __call__(self, items: Sequence[tuple[str, str]]) -> list[float]:
        if self.stop_after is not None and len(self.batches) == self.stop_after:
            raise InfrastructureError("down")
        self.batches.append(len(items))
        return [len(reasoning) / 1000 for _, reasoning in items]


def lines(path: Path) -> list[dict[str, Any]]:
    return [record for _, record in jsonl.read(path)]


def numbered(count: int) -> list[PreferencePair]:
    return [pair(f"p{n}", chosen="x" * (n + 1), rejected="y" * (count - n)) for n in range(count)]


def test_a_summary_by_hand() -> None:
    pairs = [
        pair("p", "opt_deg", methods=("logical_gap",), difficulty="easy"),
        pair("p", "ori_deg", methods=("logical_gap", "incomplete"), difficulty="easy"),
        pair("p", "opt_ori", methods=("focus",), difficulty="easy"),
        pair("q", "opt_deg", methods=("incomplete",), difficulty="hard"),
        pair("q", "ori_deg", methods=("incomplete",), chosen="a", rejected="a b"),
    ]
    found = summarise(pairs, [RIGHT, RIGHT, TIE, WRONG, RIGHT])
    assert found["accuracy"] == pytest.approx(3.5 / 5)
    assert found["n"] == 5
    low, high = found["interval"]
    assert low == pytest.approx(0.5)  # all of problem q
    assert high == pytest.approx(2.5 / 3)  # all of problem p
    assert {kind: (v["accuracy"], v["n"]) for kind, v in found["by_kind"].items()} == {
        "opt_deg": (0.5, 2),
        "opt_ori": (0.5, 1),
        "ori_deg": (1.0, 2),
    }
    assert {method: (v["accuracy"], v["n"]) for method, v in found["by_method"].items()} == {
        "incomplete": (pytest.approx(2 / 3), 3),
        "logical_gap": (1.0, 2),
    }
    assert {level: (v["accuracy"], v["n"]) for level, v in found["by_difficulty"].items()} == {
        "easy": (pytest.approx(2.5 / 3), 3),
        "hard": (0.0, 1),
    }
    assert set(found["baselines"]) == {"shorter", "longer", "shorter_characters", "longer_characters", "ngrams"}
    assert found["baselines"]["longer"]["accuracy"] == pytest.approx(4 / 5)
    assert found["baselines"]["shorter"]["accuracy"] == pytest.approx(1 / 5)
    best = found["baselines"][found["best_baseline"]]["accuracy"]
    assert best == max(value["accuracy"] for value in found["baselines"].values())
    assert found["difference"] == pytest.approx(3.5 / 5 - best)
    assert found["difference_interval"][0] <= found["difference"] <= found["difference_interval"][1]
    assert "folds" not in found


def test_a_model_that_is_right_beats_the_baselines_with_an_interval_above_zero() -> None:
    pairs = numbered(40)
    found = summarise(pairs, [RIGHT] * 40)
    assert found["accuracy"] == 1.0
    assert found["difference_interval"][0] > 0


def test_folds_are_those_of_the_problems() -> None:
    pairs = numbered(12)
    correct = [RIGHT if fold_of(p.problem_id, 3) == 0 else WRONG for p in pairs]
    found = summarise(pairs, correct, folds=3)["folds"]
    sizes = [sum(fold_of(p.problem_id, 3) == fold for p in pairs) for fold in range(3)]
    assert all(sizes)
    assert [(f["fold"], f["n"], f["accuracy"]) for f in found] == [
        (fold, size, float(fold == 0)) for fold, size in enumerate(sizes)
    ]


def test_scores_are_written_in_the_order_of_the_pairs(tmp_path: Path) -> None:
    out, pairs = tmp_path / "scores.jsonl", numbered(5)
    scores = score_pairs(Scorer(), pairs, out)
    assert [(s.chosen, s.rejected) for s in scores] == [(0.001 * (n + 1), 0.001 * (5 - n)) for n in range(5)]
    assert lines(out) == [
        {"id": p.id, "chosen": s.chosen, "rejected": s.rejected} for p, s in zip(pairs, scores, strict=True)
    ]
    assert [s.correct for s in scores] == [0.0, 0.0, 0.5, 1.0, 1.0]
    assert score_pairs(Scorer(), pairs) == scores


def test_a_stopped_scoring_continues_behind_what_is_there(tmp_path: Path) -> None:
    out, pairs = tmp_path / "scores.jsonl", numbered(80)
    with pytest.raises(InfrastructureError, match="down"):
        score_pairs(Scorer(stop_after=1), pairs, out)
    kept = lines(out)
    assert 0 < len(kept) < 80
    with out.open("ab") as file:
        file.write(b'{"id": "p32/opt_deg", "cho')  # what a kill leaves
    second = Scorer()
    scores = score_pairs(second, pairs, out)
    assert sum(second.batches) == 2 * (80 - len(kept))
    assert lines(out)[: len(kept)] == kept
    assert [record["id"] for record in lines(out)] == [p.id for p in pairs]
    assert scores == score_pairs(Scorer(), pairs)
    nothing = Scorer()
    assert score_pairs(nothing, pairs, out) == scores
    assert nothing.batches == []


@pytest.mark.parametrize(
    "pairs", [numbered(6)[::-1], numbered(6)[1:], numbered(6)[:3]], ids=["order", "others", "fewer"]
)
def test_scores_of_other_pairs_are_not_taken_for_these(tmp_path: Path, pairs: list[PreferencePair]) -> None:
    out = tmp_path / "scores.jsonl"
    score_pairs(Scorer(), numbered(6), out)
    with pytest.raises(DataError, match=r"scores\.jsonl: line \d: a score of other pairs; remove the file"):
        score_pairs(Scorer(), pairs, out)


@pytest.fixture
def config(tiny: Path, tmp_path: Path) -> RewardModelConfig:
    torch = pytest.importorskip("torch", reason="needs the extra [train]")
    torch.set_num_threads(1)
    return RewardModelConfig(
        base=str(tiny),
        out=tmp_path / "rm",
        epochs=6,
        learning_rate=3e-3,
        batch_size=4,
        micro_batch=4,
        max_length=96,
        validation_percent=0,
        precision="fp32",
    )


def separable(count: int) -> list[PreferencePair]:
    """The better side speaks of sums, the worse of loops."""
    return [
        pair(f"p{n}", kind, f"The sum of a and b is {n}, a sum.", f"The loop runs {n} times, a loop.")
        for n in range(count)
        for kind in ("opt_deg", "ori_deg")
    ]


def test_every_pair_is_judged_by_a_model_that_saw_no_pair_of_its_problem(
    config: RewardModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs, trained = separable(8), []
    train = evaluate.train

    def watched(config: RewardModelConfig, pairs: Sequence[PreferencePair], title: str) -> Path:
        trained.append({p.problem_id for p in pairs})
        return train(config, pairs, title)

    monkeypatch.setattr(evaluate, "train", watched)
    work = tmp_path / "folds"
    scores = cross_validate(config, pairs, work, folds=3)
    for fold, seen in enumerate(trained):
        assert seen == {p.problem_id for p in pairs if fold_of(p.problem_id, 3) != fold}
    assert len(trained) == 3
    assert sum(score.correct for score in scores) / len(scores) >= 0.9
    assert sorted(path.name for path in work.iterdir()) == [f"fold-{fold}.jsonl" for fold in range(3)]
    by_id = {record["id"]: record for path in work.iterdir() for record in lines(path)}
    assert [(by_id[p.id]["chosen"], by_id[p.id]["rejected"]) for p in pairs] == [(s.chosen, s.rejected) for s in scores]

    monkeypatch.setattr(evaluate, "train", lambda *_: pytest.fail("trained again"))
    assert cross_validate(config, pairs, work, folds=3) == scores


def test_a_stopped_cross_validation_keeps_the_folds_that_are_done(
    config: RewardModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs, folds = separable(8), []
    config = config.model_copy(update={"epochs": 1})
    train = evaluate.train

    def second_stops(config: RewardModelConfig, pairs: Sequence[PreferencePair], title: str) -> Path:
        folds.append(title)
        if len(folds) == 2:
            raise KeyboardInterrupt
        return train(config, pairs, title)

    monkeypatch.setattr(evaluate, "train", second_stops)
    work = tmp_path / "folds"
    with pytest.raises(KeyboardInterrupt):
        cross_validate(config, pairs, work, folds=3)
    assert [path.name for path in work.iterdir()] == ["fold-0.jsonl"]
    kept = lines(work / "fold-0.jsonl")
    assert len(cross_validate(config, pairs, work, folds=3)) == 16
    assert folds == [f"reward model, fold {fold} of 3" for fold in (1, 2, 2, 3)]
    assert lines(work / "fold-0.jsonl") == kept


def test_a_pairs_file_is_judged_by_a_model_or_a_baseline(tiny_reward: Path, tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    write_pairs(path, [pair("p", chosen="a b c", rejected="a b"), pair("q", chosen="a", rejected="a b")])
    found = evaluate_on_file(str(tiny_reward), path, tmp_path / "scores.jsonl", 64)
    assert found["n"] == 2
    assert [record["id"] for record in lines(tmp_path / "scores.jsonl")] == ["p/opt_deg", "q/opt_deg"]
    assert all(0 < record[side] < 1 for record in lines(tmp_path / "scores.jsonl") for side in ("chosen", "rejected"))
    for name in ("length", "shorter", "longer"):
        judged = evaluate_on_file(f"baseline:{name}", path, None, 64)
        assert judged["accuracy"] == judged["baselines"]["longer" if name == "longer" else "shorter"]["accuracy"] == 0.5
        assert judged["difference"] == 0.0
    with pytest.raises(ConfigError, match="'baseline:best': expected baseline:length"):
        evaluate_on_file("baseline:best", path, None, 64)

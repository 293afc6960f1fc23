"""Training of the score-based baseline on a random two-layer model: what it is taught, what is kept, resuming."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from recode_rl import jsonl, models
from recode_rl.config import LoraConfig, RewardModelConfig
from recode_rl.errors import ConfigError, DataError
from recode_rl.problems.splits import fold_of
from recode_rl.reward_model.generative import IGNORED, GenerativeScorer
from recode_rl.reward_model.scored import ScoredReasoning
from recode_rl.reward_model.stage import Reading, scorer_of, train_from_config
from recode_rl.reward_model.train_score import encode_scored, loss_of_frequencies, train_score

torch = pytest.importorskip("torch", reason="needs the extra [train]")
pytest.importorskip("trl", reason="needs the extra [train]")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """A model this small is slower on two threads than on one."""
    torch.set_num_threads(1)


def scored(count: int, first: int = 0, *, flipped: bool = False) -> list[ScoredReasoning]:
    """Those that speak of sums are worth 0.9, those that speak of loops 0.2; the other way round where flipped."""
    texts = ("{n} sum sum sum sum", "{n} loop loop loop loop")
    worth = (0.2, 0.9) if flipped else (0.9, 0.2)
    return [
        ScoredReasoning(f"p{n}/base", f"p{n}", f"Add {n}.", texts[n % 2].format(n=n), worth[n % 2], judge="j")
        for n in range(first, first + count)
    ]


def made(base: Path, folder: Path, **changes: Any) -> RewardModelConfig:
    values = {"objective": "score", "scored": folder / "scored.jsonl", "base": str(base), "out": folder / "rm"}
    values |= {"epochs": 1, "learning_rate": 1e-2, "batch_size": 8, "micro_batch": 8, "max_length": 128}
    return RewardModelConfig.model_validate({**values, "validation_percent": 0, "precision": "fp32", **changes})


@pytest.fixture
def config(tiny: Path, tmp_path: Path) -> RewardModelConfig:
    return made(tiny, tmp_path)


@pytest.fixture(scope="module")
def knowing(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that was trained to tell sums from loops; tests must not write into it."""
    torch.set_num_threads(1)
    return train_score(made(tiny, tmp_path_factory.mktemp("knowing"), epochs=28, learning_rate=4e-3), scored(32))


def changed(config: RewardModelConfig, **changes: Any) -> RewardModelConfig:
    return config.model_copy(update=changes)


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [record for _, record in jsonl.read(folder / "metrics.jsonl")]


def says(folder: Path, asked: Sequence[ScoredReasoning]) -> list[float]:
    return GenerativeScorer(str(folder), 128)([(one.problem, one.reasoning) for one in asked])


def weights(folder: Path) -> Any:
    return models.load_causal(str(folder)).state_dict()


def write(path: Path, records: Sequence[ScoredReasoning]) -> Path:
    import dataclasses

    jsonl.write(path, map(dataclasses.asdict, records))
    return path


def test_a_model_learns_to_say_the_scores_also_of_what_it_has_not_seen(knowing: Path) -> None:
    unseen = scored(8, first=100)
    assert says(knowing, unseen) == pytest.approx([one.score for one in unseen], abs=0.1)
    lines = metrics(knowing)
    assert [line["step"] for line in lines] == list(range(1, 113))
    assert lines[-1]["loss"] < 0.1 * lines[0]["loss"]


@pytest.mark.parametrize("precision", ["bf16-autocast", "bf16-master"])
def test_other_precisions_learn_as_well_and_are_saved_in_fp32(knowing: Path, tmp_path: Path, precision: str) -> None:
    config = made(knowing, tmp_path, precision=precision, epochs=6)
    train_score(config, scored(16, flipped=True))
    assert metrics(config.out)[-1]["loss"] < 0.5 * metrics(config.out)[0]["loss"]
    assert {value.dtype for value in weights(config.out).values()} == {torch.float32}


def test_the_loss_is_that_of_the_tokens_of_the_score_alone(config: RewardModelConfig, tiny: Path) -> None:
    known = scored(4)
    train_score(changed(config, epochs=1, batch_size=4, micro_batch=4), known)
    model, tokenizer = models.load_causal(str(tiny)), models.load_tokenizer(str(tiny))
    losses = []
    for row in encode_scored(tokenizer, known, 128).rows:
        with torch.no_grad():
            logs = model(torch.tensor([row["input_ids"]])).logits[0].log_softmax(-1)
        losses += [-float(logs[at - 1, label]) for at, label in enumerate(row["labels"]) if label != IGNORED]
    assert metrics(config.out)[0]["loss"] == pytest.approx(sum(losses) / len(losses), abs=1e-4)


def test_the_folder_is_read_as_what_it_is_and_says_what_it_was_trained_on(config: RewardModelConfig) -> None:
    long = "the loop runs n times. " * 80
    given = [*scored(11), ScoredReasoning("p11/base", "p11", "Add.", long, 0.5, generator="g", judge="k")]
    train_score(changed(config, epochs=1, limit=11, seed=5), given)
    manifest = jsonl.read_json(config.out / "manifest.json")
    assert manifest["reasonings"] == {"given": 12, "trained": 11, "validation": 0}
    assert sum(manifest["scores"].values()) == 11
    assert manifest["reasonings_cut"] == manifest["scores"].get("0.5", 0)
    assert manifest["held_out_loss_of_frequencies"] is None
    assert isinstance(scorer_of(str(config.out), Reading(128)), GenerativeScorer)
    assert [path.name for path in config.out.parent.iterdir()] == ["rm"]


def test_the_model_with_the_best_held_out_loss_is_kept_and_its_card_says_so(knowing: Path, tmp_path: Path) -> None:
    """It knows the held-out scores and is taught the opposite, so the first evaluation is the best."""
    given = [
        one if fold_of(one.problem_id, 100) < 30 else other
        for one, other in zip(scored(32), scored(32, flipped=True), strict=True)
    ]
    held_out = [one for one in given if fold_of(one.problem_id, 100) < 30]
    config = made(knowing, tmp_path, validation_percent=30, epochs=8, patience=2, learning_rate=2e-3)
    train_score(config, given)
    losses = {line["step"]: line["eval_loss"] for line in metrics(config.out) if "eval_loss" in line}
    best = min(losses)
    assert losses[best] == min(losses.values())
    assert len(losses) == 3  # patience 2 behind the first
    model, tokenizer = models.load_causal(str(config.out)), models.load_tokenizer(str(config.out))
    found = []
    for row in encode_scored(tokenizer, held_out, 128).rows:
        with torch.no_grad():
            loss = model(input_ids=torch.tensor([row["input_ids"]]), labels=torch.tensor([row["labels"]])).loss
        found.append(float(loss))
    assert sum(found) / len(found) == pytest.approx(losses[best], abs=1e-3)
    manifest = jsonl.read_json(config.out / "manifest.json")
    assert manifest["reasonings"] == {"given": 32, "trained": 32 - len(held_out), "validation": len(held_out)}
    text = (config.out / "README.md").read_text()
    assert f"step {best}, with the lowest loss on held-out problems: {losses[best]:.4f} nats a token." in text
    assert f"would have {manifest['held_out_loss_of_frequencies']:.4f}." in text
    assert f"| reasonings | {32 - len(held_out)} for training, {len(held_out)} held out |" in text
    assert "{" not in text
    assert "pipeline_tag: text-generation" in text


def test_the_loss_of_frequencies_by_hand() -> None:
    known, held_out = scored(10), scored(3, first=10)  # five of each; two of 0.9 and one of 0.2
    assert loss_of_frequencies(known, held_out, 4.0) == pytest.approx(-math.log(6 / 21) / 4)


class Stop(Exception):
    """What ends a run in the middle."""


def test_a_stopped_training_continues_and_is_the_same(
    config: RewardModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    config = changed(config, epochs=2, evaluate_every=2, batch_size=4, micro_batch=4)
    steps = 0
    train_step = transformers.Trainer.training_step

    def stopping(self: object, *args: object, **kwargs: object) -> Any:
        nonlocal steps
        steps += 1
        if steps > 5:
            raise Stop
        return train_step(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(transformers.Trainer, "training_step", stopping)
        with pytest.raises(Stop):
            train_score(config, scored(12))
    assert not config.out.exists()
    train_score(config, scored(12))
    whole = changed(config, out=tmp_path / "whole")
    train_score(whole, scored(12))
    assert [line["step"] for line in metrics(config.out)] == [1, 2, 3, 4, 5, 6]
    ours, theirs = weights(config.out), weights(whole.out)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_adapters_are_merged_into_a_plain_language_model(knowing: Path, tmp_path: Path) -> None:
    config = made(knowing, tmp_path, lora=LoraConfig(rank=4), epochs=12, learning_rate=3e-2)
    train_score(config, scored(16, flipped=True))
    assert not (config.out / "adapter_config.json").exists()
    lines = metrics(config.out)
    assert lines[-1]["loss"] < 0.5 * lines[0]["loss"]
    base, found = models.load_causal(str(knowing)).state_dict(), weights(config.out)
    assert torch.equal(base["model.embed_tokens.weight"], found["model.embed_tokens.weight"])
    name = "model.layers.0.mlp.up_proj.weight"
    assert 1 <= torch.linalg.matrix_rank(found[name] - base[name], rtol=1e-3) <= 4


def test_the_command_trains_on_files_and_leaves_what_is_done_alone(config: RewardModelConfig, tmp_path: Path) -> None:
    write(tmp_path / "scored.jsonl", scored(8))
    held_out = write(tmp_path / "held-out.jsonl", scored(4, first=50))
    config = changed(config, epochs=2, validation=held_out, evaluate_every=1)
    values = train_from_config(config)
    assert values == {"folder": str(config.out), "trained": 8, "validation": 4, "refused": {}, "reasonings_cut": 0}
    assert len([line for line in metrics(config.out) if "eval_loss" in line]) == 2
    before = (config.out / "model.safetensors").stat().st_mtime_ns
    assert train_from_config(config) == values
    assert (config.out / "model.safetensors").stat().st_mtime_ns == before
    pairs = changed(config, objective="bradley_terry", scored=None, validation=None, split="train")
    with pytest.raises(ConfigError, match="made with objective = 'score', not 'bradley_terry'"):
        train_from_config(pairs)


def test_a_problem_on_both_sides_is_named_with_its_lines(config: RewardModelConfig, tmp_path: Path) -> None:
    write(tmp_path / "scored.jsonl", scored(8))
    held_out = write(tmp_path / "held-out.jsonl", scored(4, first=6))
    with pytest.raises(DataError, match=r"scored\.jsonl: line 7 \(reasoning 'p6/base'\) and .*: line 1 \(reasoning"):
        train_from_config(changed(config, validation=held_out))


def test_scores_that_teach_nothing_are_one_sentence(config: RewardModelConfig) -> None:
    with pytest.raises(DataError, match="4 reasonings to train on with one score at most; nothing can be learnt"):
        train_score(config, [one for one in scored(8) if one.score == 0.2])
    with pytest.raises(DataError, match="0 reasonings to train on"):
        train_score(config, [])


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"objective": "score"}, 'objective "score" needs scored'),
        ({"scored": "s.jsonl"}, 'scored is for objective "score"'),
        ({"objective": "score", "scored": "s.jsonl", "pairs": "p.jsonl"}, 'pairs is for objective "bradley_terry"'),
        ({"objective": "score", "scored": "s.jsonl", "layers": 2}, 'layers is for objective "bradley_terry"'),
    ],
)
def test_data_of_the_other_objective_are_refused(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        RewardModelConfig.model_validate({"out": "o", **values})

"""The warm start on a random two-layer model: what is learnt, from which tokens, and resuming."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recode_rl import completion, jsonl, models
from recode_rl.config import DataConfig, SftConfig
from recode_rl.errors import ConfigError, DataError, ModelError
from recode_rl.policy import sft
from recode_rl.problems import starter
from recode_rl.problems.splits import split_by_id

torch = pytest.importorskip("torch", reason="needs the extra [train]")
pytest.importorskip("trl", reason="needs the extra [train]")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """A model this small is slower on two threads than on one."""
    torch.set_num_threads(1)


@pytest.fixture
def config(tiny: Path, tmp_path: Path) -> SftConfig:
    return SftConfig(
        model=str(tiny),
        out=tmp_path / "sft",
        data=DataConfig(limit=8),
        epochs=3,
        learning_rate=1e-2,
        batch_size=4,
        max_length=1600,
        precision="fp32",
    )


def metrics(path: Path) -> list[dict[str, Any]]:
    return [record for _, record in jsonl.read(path / "metrics.jsonl")]


@pytest.mark.parametrize("quality", ["base", "optimized"])
def test_every_target_is_a_well_formed_completion_of_a_training_problem(config: SftConfig, quality: str) -> None:
    rows = sft.examples(config.model_copy(update={"data": DataConfig(), "quality": quality}))
    wanted = [entry for entry in starter.entries() if split_by_id(entry.problem.id) == "train"]
    assert len(rows) == len(wanted) > 80
    for row, entry in zip(rows, wanted, strict=True):
        (asked,), (answer,) = row["prompt"], row["completion"]
        assert (asked["role"], answer["role"]) == ("user", "assistant")
        assert entry.problem.prompt in asked["content"]
        parsed = completion.parse(answer["content"])
        assert parsed.format_ok
        assert parsed.reasoning == entry.variants[quality].reasoning  # type: ignore[index]
        assert parsed.program is not None
        assert parsed.program.strip() == entry.reference.strip()


def test_the_limit_and_the_split_are_kept(config: SftConfig) -> None:
    assert len(sft.examples(config)) == 8
    held_out = sft.examples(config.model_copy(update={"data": DataConfig(split="held_out")}))
    assert len(held_out) == sum(split_by_id(entry.problem.id) == "held_out" for entry in starter.entries())


def test_a_data_set_without_reasonings_is_one_sentence(config: SftConfig) -> None:
    with pytest.raises(ConfigError, match=r"'mbpp'.*only 'starter'"):
        sft.train(config.model_copy(update={"data": DataConfig(dataset="mbpp")}))


def test_only_the_tokens_of_the_completion_are_learnt(config: SftConfig, tmp_path: Path) -> None:
    rows = sft.examples(config)
    tokenizer = models.load_tokenizer(config.model)
    trainer = sft._trainer(config, tokenizer, rows, tmp_path / "work", "SFT")
    targets = {row["completion"][0]["content"]: row["prompt"][0]["content"] for row in rows}
    seen = []
    for batch in trainer.get_train_dataloader():
        for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True):
            learnt = tokenizer.decode(labels[labels != -100])
            text, end, rest = learnt.partition(tokenizer.eos_token)
            assert end == tokenizer.eos_token
            assert rest.strip() == ""
            whole = tokenizer.decode(ids)
            assert targets[text] in whole
            assert targets[text] not in learnt
            seen.append(text)
    assert sorted(seen) == sorted(targets)


@pytest.mark.parametrize("precision", ["fp32", "bf16-autocast", "bf16-master"])
def test_training_lowers_the_loss_and_leaves_a_whole_model(config: SftConfig, precision: str) -> None:
    config = config.model_copy(update={"precision": precision})
    assert sft.train(config) == config.out
    lines = metrics(config.out)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert lines[-1]["loss"] < lines[0]["loss"] - 0.3
    assert models.load_causal(str(config.out)).dtype == torch.float32
    models.load_tokenizer(str(config.out))
    manifest = jsonl.read_json(config.out / "manifest.json")
    assert manifest["examples"] == 8
    assert manifest["config"]["precision"] == precision
    assert [path.name for path in config.out.parent.iterdir()] == ["sft"]


class Stop(Exception):
    """What ends a run in the middle."""


def stop(*args: object, **kwargs: object) -> None:
    raise Stop


def test_a_stopped_warm_start_continues_and_is_the_same(
    config: SftConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    steps = 0
    train_step = transformers.Trainer.training_step

    def stopping(self: object, *args: object, **kwargs: object) -> Any:
        nonlocal steps
        steps += 1
        if steps > 3:  # in the second epoch, one step behind the checkpoint
            raise Stop
        return train_step(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(transformers.Trainer, "training_step", stopping)
        with pytest.raises(Stop):
            sft.train(config)
    assert not config.out.exists()
    sft.train(config)
    whole = config.model_copy(update={"out": tmp_path / "whole"})
    sft.train(whole)
    assert [line["step"] for line in metrics(config.out)] == [1, 2, 3, 4, 5, 6]
    assert [line["loss"] for line in metrics(config.out)] == [line["loss"] for line in metrics(whole.out)]
    ours, theirs = (models.load_causal(str(run.out)) for run in (config, whole))
    assert torch.equal(ours.lm_head.weight, theirs.lm_head.weight)


@pytest.mark.parametrize("where", ["recode_rl.models.save_whole", "shutil.copyfile", "recode_rl.jsonl.manifest"])
@pytest.mark.parametrize("epochs", [1.0, 1.5])
def test_a_warm_start_stopped_behind_its_last_step_takes_no_step_more(
    config: SftConfig, monkeypatch: pytest.MonkeyPatch, where: str, epochs: float
) -> None:
    config = config.model_copy(update={"epochs": epochs, "precision": "bf16-master"})
    with monkeypatch.context() as patch:
        patch.setattr(where, stop)
        with pytest.raises(Stop):
            sft.train(config)
    sft.train(config)
    assert [line["step"] for line in metrics(config.out)] == list(range(1, round(epochs * 2) + 1))
    assert (config.out / "manifest.json").is_file()
    assert [path.name for path in config.out.parent.iterdir()] == ["sft"]


def test_a_warm_start_that_is_done_is_left_alone(config: SftConfig) -> None:
    sft.train(config)
    weights = (config.out / "model.safetensors").stat().st_mtime_ns
    assert sft.train(config) == config.out
    with pytest.raises(ConfigError, match="made with quality = 'base', not 'optimized'"):
        sft.train(config.model_copy(update={"quality": "optimized"}))
    assert (config.out / "model.safetensors").stat().st_mtime_ns == weights


def test_a_warm_start_is_the_same_by_its_relative_and_its_absolute_path(
    config: SftConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config.model_copy(update={"epochs": 1})
    sft.train(config)
    monkeypatch.chdir(config.out.parent)
    relative = config.model_copy(update={"out": Path(config.out.name)})
    assert sft.train(relative) == relative.out


def test_a_folder_of_something_else_is_not_written_over(config: SftConfig, tiny: Path) -> None:
    with pytest.raises(ConfigError, match="there already, and not made by 'sft'"):
        sft.train(config.model_copy(update={"out": tiny}))
    assert models.load_causal(str(tiny)) is not None


def test_targets_that_do_not_fit_are_left_out_and_counted(config: SftConfig) -> None:
    tokenizer = models.load_tokenizer(config.model)
    rows = sft.examples(config)
    lengths = [
        len(tokenizer.apply_chat_template(row["prompt"] + row["completion"], return_dict=True)["input_ids"])
        for row in rows
    ]
    limit = sorted(lengths)[4]
    sft.train(config.model_copy(update={"max_length": limit, "epochs": 1}))
    manifest = jsonl.read_json(config.out / "manifest.json")
    assert (manifest["examples"], manifest["too_long"]) == (5, 3)


def test_where_no_target_fits_there_is_one_sentence(config: SftConfig) -> None:
    with pytest.raises(DataError, match="max_length 16: all 8 examples are longer"):
        sft.train(config.model_copy(update={"max_length": 16}))


def test_a_model_without_a_chat_template_is_one_sentence(config: SftConfig, tmp_path: Path) -> None:
    from tiny import tiny_model

    base = tiny_model(tmp_path / "base")
    (base / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="no chat template"):
        sft.train(config.model_copy(update={"model": str(base)}))

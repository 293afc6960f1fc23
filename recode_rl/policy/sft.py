"""Supervised warm start through TRL's SFTTrainer: the policy learns the think/answer form before it is rewarded."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from recode_rl import completion, models, prompts, training
from recode_rl.config import SftConfig
from recode_rl.errors import ConfigError, DataError, ModelError
from recode_rl.extras import need, quiet_transformers
from recode_rl.problems import starter
from recode_rl.problems.splits import select

_LOGGED = {
    "loss": "loss",
    "mean_token_accuracy": "token_accuracy",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
}


def examples(config: SftConfig) -> list[dict[str, Any]]:
    """Prompt and target of every training problem: its reasoning of the wanted quality and its reference program."""
    if config.data.dataset != "starter":
        raise ConfigError(
            f"data.dataset {config.data.dataset!r}: the warm start needs reasonings; only 'starter' has them"
        )
    by_id = {entry.problem.id: entry for entry in starter.entries()}
    chosen = select([entry.problem for entry in by_id.values()], config.data.split)[: config.data.limit]
    if not chosen:
        raise DataError(f"data.split {config.data.split!r}: no problems in it")
    return [
        {
            "prompt": prompts.policy(problem),
            "completion": [
                {
                    "role": "assistant",
                    "content": completion.render(
                        by_id[problem.id].variants[config.quality].reasoning, by_id[problem.id].reference
                    ),
                }
            ],
        }
        for problem in chosen
    ]


def train(config: SftConfig, title: str = "SFT warm start") -> Path:
    """Leave the warmed-up policy as a plain checkpoint folder in `config.out`; done work is not done again."""
    work = config.out.with_name(f".{config.out.name}-training")
    if training.is_done(config.out, "sft", config.model_dump(mode="json")):
        shutil.rmtree(work, ignore_errors=True)  # a kill behind the last step leaves it
        return config.out
    tokenizer = models.load_tokenizer(config.model)
    rows, too_long = fitting(examples(config), tokenizer, config)
    trainer = _trainer(config, tokenizer, rows, work, title)
    training.run_trainer(trainer, work)
    trained = training.masters_into(trainer.model, trainer.optimizer)
    facts = {"examples": len(rows), "too_long": too_long}
    training.save_result(trained, tokenizer, config.out, training.Result("sft", config, work, facts))
    return config.out


def fitting(rows: list[dict[str, Any]], tokenizer: Any, config: SftConfig) -> tuple[list[dict[str, Any]], int]:
    """The examples of at most `max_length` tokens, and how many are longer: cut, they would teach a broken form."""
    if not tokenizer.chat_template:
        raise ModelError(f"model {config.model!r} has no chat template; take its instruction-tuned version")
    fit = [
        row
        for row in rows
        if len(tokenizer.apply_chat_template(row["prompt"] + row["completion"], return_dict=True)["input_ids"])
        <= config.max_length
    ]
    if not fit:
        raise DataError(f"max_length {config.max_length}: all {len(rows)} examples are longer; raise it")
    return fit, len(rows) - len(fit)


def _trainer(config: SftConfig, tokenizer: Any, rows: list[dict[str, Any]], work: Path, title: str) -> Any:
    quiet_transformers()
    trl = need("trl", "train")
    datasets = need("datasets", "train")
    model = models.load_causal(config.model, training.model_dtype(config.precision))
    training.begin(work, config.model_dump(mode="json"))
    steps_per_epoch = -(-len(rows) // config.batch_size)
    steps = max(1, round(config.epochs * steps_per_epoch))
    done = training.resumed_step(work)
    training.truncate_metrics(work / "metrics.jsonl", done)
    args = trl.SFTConfig(
        **training.common_arguments(work, precision=config.precision, seed=config.seed, track=config.track),
        max_steps=steps,
        learning_rate=config.learning_rate,
        per_device_train_batch_size=config.micro_batch,
        gradient_accumulation_steps=config.batch_size // config.micro_batch,
        max_length=config.max_length,
        completion_only_loss=True,
        save_strategy="steps",
        save_steps=steps_per_epoch,
    )
    return trl.SFTTrainer(
        model=model,
        args=args,
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer,
        callbacks=[training.recorder(work / "metrics.jsonl", title, steps, done, _LOGGED)],
        optimizers=training.optimizers(model, config.precision, config.learning_rate, 0.0),
    )

"""Supervised warm start through TRL's SFTTrainer: the policy learns the think/answer form before it is rewarded."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from recode_rl import completion, models, problems, prompts, training
from recode_rl.config import SftConfig
from recode_rl.errors import ConfigError, DataError, ModelError
from recode_rl.extras import need, quiet_transformers
from recode_rl.policy import passed
from recode_rl.problems import starter
from recode_rl.problems.splits import select
from recode_rl.types import Problem

_LOGGED = {
    "loss": "loss",
    "mean_token_accuracy": "token_accuracy",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
}
# Data sets for training whose problems come with a worked solution; "file" where it has `metadata.solution`.
_WORKED = ("gsm8k", "math", "file")


def examples(config: SftConfig) -> list[dict[str, Any]]:
    """Prompt and target of every training problem: a reasoning and what it leads to, a program or an answer.

    The starter corpus has reasonings of its own, in the wanted quality; of the others those problems with an answer are
    taken whose `metadata.solution` works it out. With `samples`, completions that passed their tests are imitated, of
    any data set. ConfigError for a data set that has nothing of these.
    """
    data = config.data
    if config.samples is not None and config.verdicts is not None:
        loaded = select(problems.load(data.dataset, data.path), data.split)
        return _rows(passed.targets(loaded, config.samples, config.verdicts), config)
    if data.dataset not in ("starter", *_WORKED):
        raise ConfigError(
            f"data.dataset {data.dataset!r}: the warm start needs reasonings; only 'starter' has them, and "
            f"{', '.join(_WORKED)} with worked solutions"
        )
    if data.dataset == "starter":
        targets = _starter_targets(config)
    else:
        loaded = select(problems.load(data.dataset, data.path), data.split)
        targets = [(problem, target) for problem in loaded if (target := _worked(problem)) is not None]
    return _rows(targets, config)


def _rows(targets: list[tuple[Problem, str]], config: SftConfig) -> list[dict[str, Any]]:
    data = config.data
    if not targets:
        raise DataError(f"data.split {data.split!r} of {data.dataset!r}: no problems with a reasoning in it")
    return [
        {"prompt": prompts.policy(problem), "completion": [{"role": "assistant", "content": target}]}
        for problem, target in targets[: data.limit]
    ]


def _starter_targets(config: SftConfig) -> list[tuple[Problem, str]]:
    by_id = {entry.problem.id: entry for entry in starter.entries()}
    chosen = select([entry.problem for entry in by_id.values()], config.data.split)
    entries = [by_id[problem.id] for problem in chosen]
    return [(e.problem, completion.render(e.variants[config.quality].reasoning, e.reference)) for e in entries]


def _worked(problem: Problem) -> str | None:
    """The completion that a worked solution makes, None where there is none."""
    solution, answer = problem.metadata.get("solution"), problem.tests.answer
    if problem.tests.kind != "answer" or not isinstance(solution, str) or not solution.strip() or not answer:
        return None
    target = completion.render_answer(solution, answer)
    return target if completion.parse(target).format_ok else None  # a solution may hold a tag of ours


def train(config: SftConfig, title: str = "SFT warm start") -> Path:
    """Leave the warmed-up policy as a plain checkpoint folder in `config.out`; done work is not done again.

    Run by a launcher in several processes, all of them call this, and the first one writes.
    """
    work = config.out.with_name(f".{config.out.name}-training")
    if training.is_done(config.out, "sft", config.model_dump(mode="json")):
        training.once(lambda: shutil.rmtree(work, ignore_errors=True))  # a kill behind the last step leaves it
        return config.out
    tokenizer = models.load_tokenizer(config.model)
    rows, too_long = fitting(examples(config), tokenizer, config)
    trainer = _trainer(config, tokenizer, rows, work, title)
    training.run_trainer(trainer, work)
    trained, state = training.trained_model(trainer)
    facts = {"examples": len(rows), "too_long": too_long}
    training.save_result(trained, tokenizer, config.out, training.Result("sft", config, work, facts), state)
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
    together = config.micro_batch * training.processes()
    if config.batch_size % together:
        raise ConfigError(
            f"micro_batch {config.micro_batch} in each of {training.processes()} processes does not divide batch_size "
            f"{config.batch_size}; change one of them"
        )
    model = models.load_causal(config.model, training.model_dtype(config.precision))
    training.once(lambda: training.begin(work, config.model_dump(mode="json")))
    steps_per_epoch = -(-len(rows) // config.batch_size)
    steps = max(1, round(config.epochs * steps_per_epoch))
    done = training.resumed_step(work)
    training.once(lambda: training.truncate_metrics(work / "metrics.jsonl", done))
    args = trl.SFTConfig(
        **training.common_arguments(work, precision=config.precision, seed=config.seed, track=config.track),
        max_steps=steps,
        learning_rate=config.learning_rate,
        per_device_train_batch_size=config.micro_batch,
        gradient_accumulation_steps=config.batch_size // together,
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

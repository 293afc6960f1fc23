"""What both objectives of `train-rm` share: the split, the plan of updates and evaluations, and what is kept."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from recode_rl import adapters, training
from recode_rl.config import RewardModelConfig
from recode_rl.extras import need
from recode_rl.problems.splits import fold_of

_STAGE = "train-rm"


class OfProblem(Protocol):
    """What is split: something of one problem."""

    @property
    def problem_id(self) -> str:
        """The id of the problem."""
        ...


T = TypeVar("T", bound=OfProblem)


def work_folder(out: Path) -> Path:
    """Where a training keeps its checkpoints until its result is whole."""
    return out.with_name(f".{out.name}-training")


def is_done(config: RewardModelConfig) -> bool:
    """Whether the result of this very config is there; ConfigError where something else is."""
    if not training.is_done(config.out, _STAGE, config.model_dump(mode="json")):
        return False
    # A kill behind the last step leaves the folder of the training.
    training.once(lambda: shutil.rmtree(work_folder(config.out), ignore_errors=True))
    return True


def split(config: RewardModelConfig, items: Sequence[T], validation: Sequence[T] | None) -> tuple[list[T], list[T]]:
    """What is trained on and what is held out: `validation`, or `validation_percent` of the problems."""
    if validation is not None:
        return list(items), list(validation)
    held_out = [fold_of(item.problem_id, 100) < config.validation_percent for item in items]
    return (
        [item for item, held in zip(items, held_out, strict=True) if not held],
        [item for item, held in zip(items, held_out, strict=True) if held],
    )


@dataclass(frozen=True, slots=True)
class Plan:
    """How a training goes: rows of a forward pass, forward passes of an update, updates, and when it is evaluated."""

    per_forward: int
    accumulate: int
    steps: int
    every: int
    evaluates: bool


def plan(config: RewardModelConfig, rows: int, held_out: int, per_forward: int) -> Plan:
    """The plan for so many rows of training data; without held-out rows, or time for two evaluations, there is none."""
    processes = training.processes()
    accumulate = max(1, round(config.batch_size / (config.micro_batch * processes)))
    steps_per_epoch = -(-rows // (per_forward * accumulate * processes))
    steps = max(1, round(config.epochs * steps_per_epoch))
    every = config.evaluate_every or steps_per_epoch
    return Plan(per_forward, accumulate, steps, every, evaluates=held_out > 0 and steps > every)


def begin(config: RewardModelConfig) -> Path:
    """The work folder, marked with the config; ConfigError where it was begun with another one."""
    work = work_folder(config.out)
    training.once(lambda: training.begin(work, config.model_dump(mode="json")))
    return work


def arguments(config: RewardModelConfig, chosen: Plan, work: Path) -> dict[str, Any]:
    """Arguments of TRL's configs that follow from ours: the best held-out loss is kept, where there is one."""
    evaluates = chosen.evaluates
    return training.common_arguments(work, precision=config.precision, seed=config.seed, track=config.track) | {
        "activation_checkpointing": config.activation_checkpointing,
        "max_steps": chosen.steps,
        "learning_rate": config.learning_rate,
        "per_device_train_batch_size": chosen.per_forward,
        "per_device_eval_batch_size": config.micro_batch,
        "gradient_accumulation_steps": chosen.accumulate,
        "max_length": None,  # what is too long has been cut and counted; TRL would drop it or cut its end in silence
        "save_strategy": "steps",
        "save_steps": chosen.every,
        "eval_strategy": "steps" if evaluates else "no",
        "eval_steps": chosen.every if evaluates else None,
        "load_best_model_at_end": evaluates,
        "metric_for_best_model": "eval_loss" if evaluates else None,
        "greater_is_better": False if evaluates else None,
    }


def callbacks(config: RewardModelConfig, chosen: Plan, work: Path, title: str, logged: dict[str, str]) -> list[Any]:
    """What watches the training: our record of every step, and the stop where held-out loss no longer falls."""
    done = training.resumed_step(work)
    training.once(lambda: training.truncate_metrics(work / "metrics.jsonl", done))
    found = [training.recorder(work / "metrics.jsonl", title, chosen.steps, done, logged)]
    if chosen.evaluates:
        found.append(need("transformers", "train").EarlyStoppingCallback(config.patience))
    return found


def finish(trainer: Any, config: RewardModelConfig, facts: dict[str, Any], describe: Callable[[Path], object]) -> Path:
    """Train to the end, and leave the plain model with manifest, metrics and model card at `config.out`."""
    work = work_folder(config.out)
    if config.epochs:
        training.run_trainer(trainer, work)
    trained, state = training.trained_model(trainer)
    if config.lora is not None:
        trained, state = adapters.merged(trained, state)
    result = training.Result(_STAGE, config, work, facts, describe)
    training.save_result(trained, trainer.processing_class, config.out, result, state)
    return config.out

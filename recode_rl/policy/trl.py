"""CG-GRPO through TRL's GRPOTrainer: configuration, the reward columns, records, and evaluation on the way."""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recode_rl import jsonl, models, problems, prompts, training
from recode_rl.config import TrainConfig
from recode_rl.errors import DataError, ModelError
from recode_rl.extras import need, quiet_transformers
from recode_rl.grading import open_grader
from recode_rl.policy import rewards
from recode_rl.problems.records import write_problems
from recode_rl.problems.splits import select
from recode_rl.progress import say
from recode_rl.reward import Reward
from recode_rl.sampling import LocalModel, SamplingSettings, chat_ids
from recode_rl.scorer import open_scorer
from recode_rl.types import Problem

_LOGGED = {
    "loss": "loss",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    "entropy": "entropy",
    "clip_ratio/low_mean": "clip/low_share",
    "clip_ratio/high_mean": "clip/high_share",
    "kl": "kl",
    "frac_reward_zero_std": "groups/zero_std_share",
    "step_time": "time/step_s",
}


@dataclass(frozen=True, slots=True)
class Selected:
    """The problems of a run, and how many were left out because their prompt is too long."""

    train: list[Problem]
    held_out: list[Problem]
    too_long: int


def select_problems(config: TrainConfig, tokenizer: Any) -> Selected:
    """Load, split, shuffle by seed, filter by prompt length and limit; DataError where nothing is left."""
    data = config.data
    loaded = problems.load(data.dataset, data.path)
    fitting = [p for p in loaded if len(chat_ids(tokenizer, prompts.policy(p))) <= data.max_prompt_tokens]
    shuffler = random.Random(config.seed)
    chosen = []
    for split, limit in ((data.split, data.limit), (data.eval_split, data.eval_limit)):
        part = select(fitting, split)
        shuffler.shuffle(part)
        chosen.append(part[:limit])
    if len(chosen[0]) < config.grpo.prompts_per_step:
        raise DataError(
            f"data: {len(chosen[0])} training problems in split {data.split!r} of {data.dataset!r}, but "
            f"grpo.prompts_per_step is {config.grpo.prompts_per_step}; add problems or lower it"
        )
    return Selected(chosen[0], chosen[1], len(loaded) - len(fitting))


def train(config: TrainConfig, title: str = "CG-GRPO") -> Path:
    """Run CG-GRPO into the run folder `config.out` and return the folder of the trained policy in it.

    Leaves policy/, metrics.jsonl, completions.jsonl, problems.jsonl and manifest.json. A run that is complete is left
    alone; one that was stopped continues at its last whole checkpoint, with the records after it dropped.
    """
    out = config.out
    if training.is_done(out / "policy", "train", config.model_dump(mode="json")):
        shutil.rmtree(_work(config), ignore_errors=True)  # a kill behind the last step leaves it
        return out / "policy"
    quiet_transformers()
    tokenizer = models.load_tokenizer(config.model)
    if not tokenizer.chat_template:
        raise ModelError(f"model {config.model!r} has no chat template; take its instruction-tuned version")
    selected = select_problems(config, tokenizer)
    scorer = open_scorer(config.reward.model, config.reward.max_length) if config.reward.model else None
    with open_grader(config.grader) as grader:
        reward = Reward(config.reward.rule, grader, scorer)
        trained = _run(config, tokenizer, selected, reward, title)
    facts = {
        "problems": {"train": len(selected.train), "held_out": len(selected.held_out), "too_long": selected.too_long},
        "reasonings_cut": scorer.cut if scorer else 0,
        "grader": grader.describe(),
    }
    if not (out / "manifest.json").exists():
        config_values = config.model_dump(mode="json")
        jsonl.write_json(out / "manifest.json", jsonl.manifest("train", config_values, seed=config.seed, **facts))
    # Last, because it marks the run as complete.
    training.save_result(trained, tokenizer, out / "policy", training.Result("train", config, _work(config), facts))
    return out / "policy"


def _work(config: TrainConfig) -> Path:
    return config.out / ".training"


def _run(config: TrainConfig, tokenizer: Any, selected: Selected, reward: Reward, title: str) -> Any:
    """Train, and return the model in fp32."""
    out, grpo = config.out, config.grpo
    model = models.load_causal(config.model, training.model_dtype(grpo.precision))
    training.begin(_work(config), config.model_dump(mode="json"))
    if not (out / "problems.jsonl").exists():
        write_problems(out / "problems.jsonl", [*selected.train, *selected.held_out])
    done = training.resumed_step(_work(config)) // grpo.updates_per_batch
    for name in ("metrics.jsonl", "completions.jsonl"):
        training.truncate_metrics(out / name, done)
    journal = Journal(config, reward, selected)
    trainer = _trainer(config, model, tokenizer, journal, title)
    journal.attach(trainer)
    if done:
        say(f"{title}: continuing after step {done}")
    training.run_trainer(trainer, _work(config))
    return training.masters_into(trainer.model, trainer.optimizer)


def _trainer(config: TrainConfig, model: Any, tokenizer: Any, journal: Journal, title: str) -> Any:
    trl = need("trl", "train")
    datasets = need("datasets", "train")
    grpo, train_problems = config.grpo, journal.selected.train
    done = training.resumed_step(_work(config)) // grpo.updates_per_batch
    per_update = grpo.prompts_per_step * grpo.group_size // grpo.updates_per_batch
    accumulate = per_update // grpo.micro_batch
    arguments = training.common_arguments(_work(config), precision=grpo.precision, seed=config.seed, track=config.track)
    args = trl.GRPOConfig(
        **{**arguments, "logging_steps": grpo.updates_per_batch},
        max_steps=grpo.steps * grpo.updates_per_batch,
        learning_rate=grpo.learning_rate,
        weight_decay=grpo.weight_decay,
        max_grad_norm=grpo.max_grad_norm,
        loss_type="dapo",
        epsilon=grpo.clip_low,
        epsilon_high=grpo.clip_high,
        beta=grpo.beta,
        scale_rewards=grpo.scale_rewards,
        num_generations=grpo.group_size,
        temperature=grpo.temperature,
        top_p=grpo.top_p,
        top_k=0,
        max_completion_length=grpo.max_completion_tokens,
        mask_truncated_completions=grpo.mask_truncated,
        per_device_train_batch_size=grpo.micro_batch,
        gradient_accumulation_steps=accumulate,
        steps_per_generation=accumulate * grpo.updates_per_batch,
        remove_unused_columns=False,
        save_strategy="steps",
        # A checkpoint inside a generation batch would resume with other prompts.
        save_steps=config.save_every * grpo.updates_per_batch,
    )
    rows = [{"prompt": prompts.policy(problem), "problem_id": problem.id} for problem in train_problems]
    metrics = config.out / "metrics.jsonl"
    recorder = training.recorder(
        metrics, title, grpo.steps, done, _LOGGED, extra=journal.step_values, updates_per_step=grpo.updates_per_batch
    )
    columns = rewards.RewardColumns(
        journal.reward, {p.id: p for p in train_problems}, config.reward.max_infra_share, journal.on_batch
    )
    return trl.GRPOTrainer(
        model=model,
        args=args,
        reward_funcs=columns.functions(),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer,
        callbacks=[journal.callback(), recorder],
        optimizers=training.optimizers(model, grpo.precision, grpo.learning_rate, grpo.weight_decay),
    )


class Journal:
    """What a run writes down beside the engine's own log: completions, reward components, held-out evaluations."""

    def __init__(self, config: TrainConfig, reward: Reward, selected: Selected) -> None:
        self.config, self.reward, self.selected = config, reward, selected
        self._settings = SamplingSettings(
            samples=config.evaluation.samples,
            temperature=config.evaluation.temperature,
            max_tokens=config.grpo.max_completion_tokens,
        )
        self._values: dict[str, float | None] = {}
        self._evaluated: dict[str, float | None] = {}
        self._trainer: Any = None

    def attach(self, trainer: Any) -> None:
        """Give the journal the trainer whose model it evaluates."""
        self._trainer = trainer

    def on_batch(self, update: int, rows: list[rewards.Row]) -> None:
        """Record a generation batch, scored before optimizer update number `update` + 1."""
        grpo = self.config.grpo
        step = update // grpo.updates_per_batch + 1
        with jsonl.Appender(self.config.out / "completions.jsonl") as file:
            for row in rows:
                file.append(rewards.record(step, row))
        self._values = rewards.summarise(rows, grpo.group_size, grpo.max_completion_tokens)
        training.give_back()  # what generation has left free is not what the forward passes want

    def step_values(self, step: int) -> dict[str, Any]:
        """Our values for the line of `step` in metrics.jsonl."""
        evaluated, self._evaluated = self._evaluated, {}
        return {**self._values, **evaluated}

    def callback(self) -> Any:
        """A TrainerCallback that evaluates on held-out problems every `evaluation.every` steps."""
        transformers = need("transformers", "train")
        journal, updates = self, self.config.grpo.updates_per_batch
        every = self.config.evaluation.every * updates

        class Evaluation(transformers.TrainerCallback):  # type: ignore[misc,name-defined]  # imported when it is needed
            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                if every and state.global_step % every == 0 and journal.selected.held_out:
                    journal.evaluate(state.global_step)

        return Evaluation()

    def evaluate(self, update: int) -> None:
        """Pass rate, format and total reward of the current policy on held-out problems."""
        settings = self._settings
        trainer = self._trainer
        policy = LocalModel(trainer.accelerator.unwrap_model(trainer.model), trainer.processing_class, "policy")
        tasks = [problem for problem in self.selected.held_out for _ in range(settings.samples)]
        was_training = policy.model.training
        policy.model.eval()
        texts: list[str] = []
        with need("torch", "train").random.fork_rng():  # evaluation must not change what training draws next
            for start in range(0, len(tasks), settings.batch):
                rows = [policy.prompt_ids(problem) for problem in tasks[start : start + settings.batch]]
                texts += [made.text for made in policy.generate(rows, settings, self.config.seed + start)]
        policy.model.train(was_training)
        scored = self.reward.score(list(zip(tasks, texts, strict=True)))
        known = [outcome.reward for outcome in scored if not isinstance(outcome, Exception)]
        self._evaluated = {
            "eval/pass_rate": _share([r.status == "passed" for r in known]),
            "eval/format": _share([r.format == 1.0 for r in known]),
            "eval/reward_total": sum(r.total for r in known) / len(known) if known else None,
            "eval/n": float(len(known)),
        }


def _share(flags: Sequence[bool]) -> float | None:
    return sum(flags) / len(flags) if flags else None

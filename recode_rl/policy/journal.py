"""What a CG-GRPO run writes down beside the engine's own log: completions, rewards, times, held-out evaluations."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from recode_rl import jsonl, training
from recode_rl.config import TrainConfig
from recode_rl.errors import InfrastructureError, ModelError
from recode_rl.extras import need
from recode_rl.monitor.stages import StageClock
from recode_rl.policy import health, rewards, watching
from recode_rl.progress import say
from recode_rl.reward import Reward
from recode_rl.sampling import LocalModel, SamplingSettings
from recode_rl.types import Problem


@dataclass(frozen=True, slots=True)
class Selected:
    """The problems of a run, how many were left out because their prompt is too long, and which for an overlap."""

    train: list[Problem]
    held_out: list[Problem]
    too_long: int
    overlap: dict[str, Any] = field(default_factory=dict)

    def counts(self) -> dict[str, Any]:
        """What a manifest says of them; `overlap` where evaluation sets were looked at."""
        found = {"train": len(self.train), "held_out": len(self.held_out), "too_long": self.too_long}
        return {**found, **({"overlap": self.overlap} if self.overlap else {})}


class Journal:
    """Sees every generation batch and every step; of several processes all keep one, and the first one writes."""

    def __init__(self, config: TrainConfig, reward: Reward, selected: Selected) -> None:
        self.config, self.reward, self.selected = config, reward, selected
        self._settings = SamplingSettings(
            samples=config.evaluation.samples,
            temperature=config.evaluation.temperature,
            max_tokens=config.grpo.max_completion_tokens,
        )
        self.clock = StageClock()
        self.monitor = watching.open_monitor(config, selected.train, reward.scorer)
        self._statements = {problem.id: problem.prompt for problem in selected.train}
        self._watch = health.Watch(config.grpo.group_size)
        self._values: dict[str, float | None] = {}
        self._evaluated: dict[str, float | None] = {}
        self._trainer: Any = None

    def attach(self, trainer: Any) -> None:
        """Give the journal the trainer whose model it evaluates."""
        self._trainer = trainer

    def on_batch(self, update: int, rows: list[rewards.Row]) -> None:
        """Record a generation batch of all processes, scored before optimizer update number `update` + 1."""
        grpo = self.config.grpo
        step = update // grpo.updates_per_batch + 1
        watch: dict[str, float | None] = {}
        if training.is_first():
            with self.clock.within("audit"):
                seen = self.monitor.observe(step, watching.watched(rows, grpo.group_size, self._statements))
            watch = seen.values
            with jsonl.Appender(self.config.out / "completions.jsonl") as file:
                for row, audited in zip(rows, seen.audited, strict=True):
                    file.append(rewards.record(step, row) | ({} if audited is None else {"audited": audited}))
            for notice in self._watch.notices(step, rows):
                say(notice)
        spent = self.reward.spent.take()
        self._values = {
            **rewards.summarise(rows, grpo.group_size),
            **watch,
            "time/grade_s": round(spent.grade, 4),
            "time/score_s": round(spent.score, 4),
        }
        training.give_back()  # what generation has left free is not what the forward passes want
        self.clock.enter("update")

    def step_values(self, step: int) -> dict[str, Any]:
        """Our values for the line of `step` in metrics.jsonl."""
        evaluated, self._evaluated = self._evaluated, {}
        times = self.clock.take()
        own = sum(times.get(f"time/{stage}_s", 0.0) for stage in ("generate", "reward", "update"))
        return {**self._values, **times, "time/step_s": round(own, 4), **evaluated}

    def callback(self) -> Any:
        """A TrainerCallback that looks after the weights, and evaluates every `evaluation.every` steps."""
        transformers = need("transformers", "train")
        journal, updates = self, self.config.grpo.updates_per_batch
        every = self.config.evaluation.every * updates

        class Steps(transformers.TrainerCallback):  # type: ignore[misc,name-defined]  # imported when it is needed
            def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                if state.global_step % updates == 0:
                    journal.clock.enter("generate")

            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                journal.check_weights(state.global_step)  # before a checkpoint could be made of them
                if every and state.global_step % every == 0 and journal.selected.held_out:
                    journal.clock.enter("evaluate")
                    journal.evaluate()
                if state.global_step % updates == 0:
                    journal.clock.enter(None)

        return Steps()

    def check_weights(self, update: int) -> None:
        """ModelError where an update has left weights that are no numbers."""
        broken = health.broken_weight(self._trainer.model)
        if broken is not None:
            step = -(-update // self.config.grpo.updates_per_batch)
            raise ModelError(
                f"step {step}: weight {broken!r} holds nan or an infinity after the update, so nothing can be learnt "
                "any more; start in another out with a lower grpo.learning_rate, or another grpo.precision"
            )

    def evaluate(self) -> None:
        """pass@1 and rewards of the current policy on held-out problems, shared out among the processes."""
        problems, samples = self.selected.held_out, self._settings.samples
        tasks = [(problem, number) for problem in problems for number in range(samples)]
        mine = _completions(self._trainer, tasks, self._settings, self.config.seed)
        scored = self.reward.score([(problem, made.text) for (problem, _), made in mine])
        self.reward.spent.take()  # the times of a step are of its own batch
        rows = [
            rewards.Row(problem.id, made.text, made.tokens, outcome, made.finish_reason == "length")
            for ((problem, _), made), outcome in zip(mine, scored, strict=True)
        ]
        parts = training.gathered(rows)
        self._evaluated = evaluation([row for part in parts for row in part])


def evaluation(rows: Sequence[rewards.Row]) -> dict[str, float | None]:
    """The values under `eval/`: pass@1 is the mean over problems of the share of their samples that passed.

    Samples that our own infrastructure failed count as not evaluated.
    """
    known = [(row, row.outcome.reward) for row in rows if not isinstance(row.outcome, InfrastructureError)]
    passed: dict[str, list[bool]] = {}
    for row, reward in known:
        passed.setdefault(row.problem_id, []).append(reward.status == "passed")
    return {
        "eval/pass@1": _mean([_mean(flags) or 0.0 for flags in passed.values()]),
        "eval/pass_rate": _mean([reward.status == "passed" for _, reward in known]),
        "eval/format": _mean([reward.format == 1.0 for _, reward in known]),
        "eval/outcome": _mean([reward.outcome for _, reward in known]),
        "eval/process_passing": _mean(
            [reward.process for _, reward in known if reward.status == "passed" and reward.process is not None]
        ),
        "eval/reward_total": _mean([reward.total for _, reward in known]),
        "eval/tokens_mean": _mean([row.tokens for row in rows]),
        "eval/truncated_share": _mean([row.truncated for row in rows]),
        "eval/n": float(len(known)),
        "eval/not_evaluated": float(len(rows) - len(known)),
    }


def _completions(trainer: Any, tasks: list[tuple[Problem, int]], settings: SamplingSettings, seed: int) -> list[Any]:
    """This process's share of the tasks, each with what was generated.

    All processes generate equally often, as those that share the weights have to; one that has no batch left repeats
    the first one, to no effect.
    """
    torch = need("torch", "train")
    unwrap = need("trl.models", "train").unwrap_model_for_generation
    processes, place = training.processes(), int(trainer.accelerator.process_index)
    size = min(settings.batch, -(-len(tasks) // processes))
    starts = list(range(0, len(tasks), size))
    found: list[Any] = []
    with (
        torch.random.fork_rng(),  # evaluation must not change what training draws next
        unwrap(trainer.model_wrapped, trainer.accelerator) as model,
        trainer._dist.summon_full_params(trainer.model_wrapped, recurse=False),
    ):
        policy = LocalModel(model, trainer.processing_class, "policy")
        was_training = model.training
        model.eval()
        for first in range(0, len(starts), processes):
            turn = first + place
            start = starts[turn] if turn < len(starts) else 0
            batch = tasks[start : start + size]
            made = policy.generate([policy.prompt_ids(problem) for problem, _ in batch], settings, seed + start)
            if turn < len(starts):
                found += zip(batch, made, strict=True)
        model.train(was_training)
    return found


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None

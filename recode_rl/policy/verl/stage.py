"""A CG-GRPO run through veRL, from a recipe to a trained policy: prepare, validate, launch, follow, bring home."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recode_rl import jsonl, models, training
from recode_rl.config import TrainConfig
from recode_rl.errors import ConfigError, InfrastructureError, ModelError
from recode_rl.extras import need, quiet_transformers
from recode_rl.grading.code import check_problem
from recode_rl.policy import watching
from recode_rl.policy.trl import Selected, select_problems
from recode_rl.policy.verl import data, launch
from recode_rl.policy.verl.journal import Journal
from recode_rl.policy.verl.settings import Layout, check, overrides, reward_settings
from recode_rl.problems.records import write_problems
from recode_rl.progress import Progress, say
from recode_rl.reward import Scorer
from recode_rl.scorer import is_url, open_scorer

TITLE = "CG-GRPO (veRL)"


def train(config: TrainConfig) -> Path:
    """Run CG-GRPO through veRL into the run folder `config.out`; returns the folder of the trained policy in it.

    Leaves what a run through TRL leaves: policy/, metrics.jsonl, completions.jsonl, problems.jsonl, manifest.json; and
    verl.log with all that veRL printed. A complete run is left alone; a stopped one continues at the last checkpoint.
    """
    layout, values = Layout.of(config), config.model_dump(mode="json")
    if training.is_done(layout.out / "policy", "train", values):
        shutil.rmtree(layout.work, ignore_errors=True)  # a kill behind the last step leaves it
        return layout.out / "policy"
    check(config)
    given = overrides(config)
    launch.compose(given)
    training.begin(layout.work, values)
    prepared = prepare(config)
    if not prepared.selected.held_out:
        given.append("trainer.test_freq=-1")
    follow(config, prepared, launch.command(given, layout.work))
    return bring_home(config, prepared)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a run works on: its problems, and the reward model's server where the rule asks one."""

    selected: Selected
    scorer: Scorer | None


def prepare(config: TrainConfig) -> Prepared:
    """Select the problems and write what veRL and its reward workers read; DataError, ConfigError for what is wrong.

    Tests that cannot be run, a reward model that does not answer, and a model too short for the lengths are told here,
    before any GPU is taken.
    """
    layout = Layout.of(config)
    quiet_transformers()
    tokenizer = models.load_tokenizer(config.model)
    if not tokenizer.chat_template:
        raise ModelError(f"model {config.model!r} has no chat template; take its instruction-tuned version")
    _check_lengths(config)
    selected = select_problems(config, tokenizer)
    given = list({problem.id: problem for problem in [*selected.train, *selected.held_out]}.values())
    for problem in given:
        check_problem(problem)
    asked, model = reward_settings(config), config.reward.model
    # Also under a rule that never asks it: the monitor does.
    scorer = open_scorer(model, asked.max_length, asked.patience()) if model and is_url(model) else None
    write_problems(layout.out / "problems.jsonl", given)
    data.write(layout.train, selected.train, "train")
    # veRL wants a file to evaluate on, also where nothing is evaluated.
    data.write(layout.val, selected.held_out or selected.train[:1], "held_out")
    layout.samples.mkdir(parents=True, exist_ok=True)
    jsonl.write_text(layout.reward, asked.model_dump_json(indent=2) + "\n")
    return Prepared(selected, scorer)


def _check_lengths(config: TrainConfig) -> None:
    transformers = need("transformers", "verl")
    found = transformers.AutoConfig.from_pretrained(models.resolve(config.model)).get_text_config()
    context = getattr(found, "max_position_embeddings", None)
    wanted = config.data.max_prompt_tokens + config.grpo.max_completion_tokens
    if context is not None and wanted > context:
        raise ConfigError(
            f"data.max_prompt_tokens + grpo.max_completion_tokens = {wanted}, but {config.model} has a context of "
            f"{context} tokens; lower one of them"
        )


def follow(config: TrainConfig, prepared: Prepared, arguments: Sequence[str]) -> None:
    """Run veRL from its last checkpoint to its end, and record its steps as they come.

    InfrastructureError where it ends before; Interrupted where an alarm of the monitor stops it. Either way the same
    command goes on from the last checkpoint.
    """
    layout, done = Layout.of(config), resumed_step(Layout.of(config).checkpoints)
    problems = [*prepared.selected.train, *prepared.selected.held_out]
    journal = Journal(config, problems, prepared.scorer, done)
    layout.stop.unlink(missing_ok=True)
    if done:
        say(f"{TITLE}: continuing after step {done}")

    def look() -> None:
        progress.advance(journal.collect(), journal.monitor.note)
        watching.stop_if_asked(journal.monitor)

    if done < config.grpo.steps:
        with Progress(TITLE, config.grpo.steps, done) as progress:
            try:
                launch.run(arguments, layout.console, layout.stop, look)
            finally:
                progress.advance(journal.collect())
    if journal.step < config.grpo.steps:
        raise InfrastructureError(
            f"veRL ended after step {journal.step} of {config.grpo.steps}; {layout.console} has all it said"
        )


def resumed_step(checkpoints: Path) -> int:
    """The step of veRL's last whole checkpoint; 0 where there is none."""
    marker = checkpoints / "latest_checkpointed_iteration.txt"
    return int(marker.read_text(encoding="utf-8")) if marker.exists() else 0


def bring_home(config: TrainConfig, prepared: Prepared) -> Path:
    """Make a plain model folder of veRL's last checkpoint, with the run's manifest, and remove veRL's files."""
    layout, policy = Layout.of(config), Layout.of(config).out / "policy"
    facts: dict[str, Any] = {
        "engine": "verl 0.9.1",
        "problems": prepared.selected.counts(),
    }
    manifest = jsonl.manifest("train", config.model_dump(mode="json"), seed=config.seed, **facts)
    jsonl.write_json(layout.out / "manifest.json", manifest)
    merged = layout.work / "merged"
    shutil.rmtree(merged, ignore_errors=True)
    last = layout.checkpoints / f"global_step_{resumed_step(layout.checkpoints)}" / "actor"
    merge = [sys.executable, "-m", "verl.model_merger", "merge", "--backend", "fsdp"]
    launch.run([*merge, "--local_dir", str(last), "--target_dir", str(merged)], layout.console, layout.stop, _nothing)
    models.check_folder(merged)
    jsonl.write_json(merged / "manifest.json", manifest)
    merged.rename(policy)  # last, because it marks the run as complete
    shutil.rmtree(layout.work, ignore_errors=True)
    return policy


def _nothing() -> None:
    pass

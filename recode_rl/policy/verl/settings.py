"""A TrainConfig as veRL's own configuration: overrides for its command line, and what its reward workers are told."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recode_rl import models
from recode_rl.config import GraderConfig, Strict, TrainConfig
from recode_rl.errors import ConfigError
from recode_rl.reward import find_rule
from recode_rl.scorer import Patience, is_url

HOOK = "pkg://recode_rl.policy.verl.hook"
MANAGER = "CGGRPORewardManager"
_LONGEST_WAIT_S = 10.0  # between two attempts to reach the reward model's server
_BATCHED_TOKENS = 8192  # veRL's default of rollout.max_num_batched_tokens


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the parts of a run lie; every node must see them under the same paths."""

    out: Path

    @classmethod
    def of(cls, config: TrainConfig) -> Layout:
        """The places of a run, as absolute paths."""
        return cls(config.out.absolute())

    @property
    def work(self) -> Path:
        """The training's own files, which are removed behind it."""
        return self.out / ".training"

    @property
    def train(self) -> Path:
        """The problems that veRL trains on."""
        return self.work / "train.parquet"

    @property
    def val(self) -> Path:
        """The problems of the evaluations on the way."""
        return self.work / "val.parquet"

    @property
    def reward(self) -> Path:
        """What reward workers read: RewardSettings."""
        return self.work / "reward.json"

    @property
    def samples(self) -> Path:
        """One file of records for each reward worker."""
        return self.work / "samples"

    @property
    def stop(self) -> Path:
        """Appears with a sentence when the run must stop."""
        return self.work / "stop.json"

    @property
    def engine_log(self) -> Path:
        """veRL's own metrics, one line a step."""
        return self.work / "engine.jsonl"

    @property
    def checkpoints(self) -> Path:
        """veRL's checkpoints."""
        return self.work / "checkpoints"

    @property
    def console(self) -> Path:
        """All that veRL prints."""
        return self.out / "verl.log"


class RewardSettings(Strict):
    """What a reward worker needs to know, on whatever node it runs."""

    rule: str
    model: str | None
    """Address of the reward model's server; None for rules that never ask it."""
    max_length: int
    wait_s: float
    max_infra_share: float
    min_samples: int
    """No share is taken of fewer samples than this."""
    max_completion_tokens: int
    problems: Path
    samples: Path
    stop: Path
    grader: GraderConfig
    workers_per_node: int

    def patience(self) -> Patience:
        """How long the reward model's server is waited for."""
        return Patience(total_s=self.wait_s, longest_wait_s=_LONGEST_WAIT_S)

    def programs_at_a_time(self) -> int:
        """Programs that one reward worker runs at a time: its part of the node's."""
        return max(1, (self.grader.workers or os.cpu_count() or 1) // self.workers_per_node)


def reward_settings(config: TrainConfig) -> RewardSettings:
    """The settings of the reward workers of a run."""
    layout = Layout.of(config)
    uses_model = find_rule(config.reward.rule).uses_process
    return RewardSettings(
        rule=config.reward.rule,
        model=config.reward.model if uses_model else None,
        max_length=config.reward.max_length,
        wait_s=config.reward.wait_s,
        max_infra_share=config.reward.max_infra_share,
        min_samples=config.grpo.prompts_per_step * config.grpo.group_size,
        max_completion_tokens=config.grpo.max_completion_tokens,
        problems=layout.out / "problems.jsonl",
        samples=layout.samples,
        stop=layout.stop,
        grader=config.grader,
        workers_per_node=math.ceil(config.verl.reward_workers / config.verl.nodes),
    )


def check(config: TrainConfig) -> None:
    """ConfigError for what a TrainConfig may say and veRL cannot do."""
    grpo, gpus = config.grpo, config.verl.nodes * config.verl.gpus_per_node
    if find_rule(config.reward.rule).uses_process and not is_url(config.reward.model or ""):
        raise ConfigError(
            f'reward.model = {config.reward.model!r}: engine "verl" asks the reward model over HTTP; start '
            "`recode-rl serve-rm --model DIR --host ADDRESS` and set reward.model to its address"
        )
    if grpo.prompts_per_step % grpo.updates_per_batch:
        raise ConfigError(
            f'grpo.updates_per_batch {grpo.updates_per_batch}: engine "verl" counts a mini-batch in prompts, so it '
            f"must divide grpo.prompts_per_step {grpo.prompts_per_step}"
        )
    per_update = grpo.prompts_per_step // grpo.updates_per_batch * grpo.group_size
    if per_update % gpus:
        raise ConfigError(
            f"{per_update} completions of one update do not divide among {gpus} GPUs (verl.nodes × "
            "verl.gpus_per_node); change grpo.prompts_per_step, grpo.group_size or the GPUs"
        )
    if gpus % config.verl.tensor_parallel:
        raise ConfigError(f"verl.tensor_parallel {config.verl.tensor_parallel} does not divide the {gpus} GPUs")
    for name, given in (("lora", config.lora), ("grpo.vllm", grpo.vllm)):
        if given is not None:
            raise ConfigError(f'[{name}]: of engine "trl" alone; leave the table out (engine "verl" has [verl])')
    if grpo.mask_truncated:
        raise ConfigError('grpo.mask_truncated: veRL 0.9.1 has no such setting; set it to false, or engine = "trl"')
    if grpo.precision != "bf16-autocast":
        raise ConfigError(
            f'grpo.precision {grpo.precision!r}: veRL holds weights in fp32 and computes in bf16; set "bf16-autocast"'
        )


def overrides(config: TrainConfig) -> list[str]:
    """The command line of `verl.trainer.main_ppo`, without the program; `check` has passed."""
    settings = {**_data(config), **_actor(config), **_rollout(config), **_reward(config), **_trainer(config)}
    return [*(f"{key}={_value(value)}" for key, value in settings.items()), *config.verl.overrides]


def _data(config: TrainConfig) -> dict[str, Any]:
    layout = Layout.of(config)
    return {
        "data.train_files": layout.train,
        "data.val_files": layout.val,
        "data.train_batch_size": config.grpo.prompts_per_step,
        "data.max_prompt_length": config.data.max_prompt_tokens,
        "data.max_response_length": config.grpo.max_completion_tokens,
        # Ours are filtered and counted before; veRL would drop what it cannot read in silence.
        "data.filter_overlong_prompts": False,
        "data.truncation": "error",
        "data.seed": config.seed,
    }


def _actor(config: TrainConfig) -> dict[str, Any]:
    grpo, actor = config.grpo, "actor_rollout_ref.actor"
    settings: dict[str, Any] = {
        "algorithm.adv_estimator": f"recode_{grpo.scale_rewards}",
        "algorithm.use_kl_in_reward": False,
        "actor_rollout_ref.model.path": _model(config.model),
        "actor_rollout_ref.model.enable_gradient_checkpointing": grpo.activation_checkpointing,
        f"{actor}.optim.lr": grpo.learning_rate,
        f"{actor}.optim.lr_scheduler_type": "constant",
        f"{actor}.optim.weight_decay": grpo.weight_decay,
        f"{actor}.grad_clip": grpo.max_grad_norm,
        f"{actor}.ppo_mini_batch_size": grpo.prompts_per_step // grpo.updates_per_batch,
        f"{actor}.use_dynamic_bsz": True,
        f"{actor}.ppo_max_token_len_per_gpu": max(config.verl.tokens_per_gpu, _longest(config)),
        f"{actor}.clip_ratio_low": grpo.clip_low,
        f"{actor}.clip_ratio_high": grpo.clip_high,
        f"{actor}.loss_agg_mode": "token-mean",
        f"{actor}.entropy_coeff": 0,
        f"{actor}.use_kl_loss": grpo.beta > 0,
        f"{actor}.data_loader_seed": config.seed,
        f"{actor}.fsdp_config.param_offload": config.verl.offload,
        f"{actor}.fsdp_config.optimizer_offload": config.verl.offload,
    }
    if grpo.beta > 0:  # the estimator that TRL uses as well
        settings |= {f"{actor}.kl_loss_coef": grpo.beta, f"{actor}.kl_loss_type": "low_var_kl"}
    return settings


def _model(name: str) -> str:
    """A hub id, or a folder by its whole path: workers run elsewhere."""
    found = models.resolve(name)
    return str(Path(found).absolute()) if Path(found).is_dir() else found


def _longest(config: TrainConfig) -> int:
    return config.data.max_prompt_tokens + config.grpo.max_completion_tokens


def _rollout(config: TrainConfig) -> dict[str, Any]:
    grpo, rollout = config.grpo, "actor_rollout_ref.rollout"
    return {
        f"{rollout}.name": config.verl.rollout,
        f"{rollout}.n": grpo.group_size,
        f"{rollout}.temperature": grpo.temperature,
        f"{rollout}.top_p": grpo.top_p,
        f"{rollout}.seed": config.seed,
        f"{rollout}.tensor_model_parallel_size": config.verl.tensor_parallel,
        f"{rollout}.gpu_memory_utilization": config.verl.gpu_memory,
        f"{rollout}.max_model_len": _longest(config),
        f"{rollout}.max_num_batched_tokens": max(_BATCHED_TOKENS, _longest(config)),
        f"{rollout}.val_kwargs.n": config.evaluation.samples,
        f"{rollout}.val_kwargs.temperature": config.evaluation.temperature,
        f"{rollout}.val_kwargs.do_sample": config.evaluation.temperature > 0,
    }


def _reward(config: TrainConfig) -> dict[str, Any]:
    return {
        "reward.num_workers": config.verl.reward_workers,
        "reward.reward_manager.source": "importlib",
        "reward.reward_manager.name": MANAGER,
        "reward.reward_manager.module.path": HOOK,
        "+reward.custom_reward_function.reward_kwargs.settings": Layout.of(config).reward,
    }


def _trainer(config: TrainConfig) -> dict[str, Any]:
    layout = Layout.of(config)
    quiet = "+ray_kwargs.ray_init.runtime_env.env_vars"
    return {
        "trainer.nnodes": config.verl.nodes,
        "trainer.n_gpus_per_node": config.verl.gpus_per_node,
        "trainer.total_training_steps": config.grpo.steps,
        "trainer.total_epochs": config.grpo.steps,  # more than enough: the steps decide
        "trainer.save_freq": config.save_every,
        "trainer.max_actor_ckpt_to_keep": 2,
        "trainer.default_local_dir": layout.checkpoints,
        "trainer.resume_mode": "auto",
        "trainer.val_before_train": False,
        "trainer.test_freq": config.evaluation.every or -1,
        "trainer.project_name": "recode-rl",
        "trainer.experiment_name": layout.out.name,
        "trainer.logger": ["console", "file", *config.track],
        # The trainer may run on another node than this command, where it sees Ray's environment alone.
        f"{quiet}.VERL_FILE_LOGGER_PATH": layout.engine_log,
        f"{quiet}.TENSORBOARD_DIR": layout.out / "tensorboard",
        f"{quiet}.HF_HUB_DISABLE_TELEMETRY": "1",
        f"{quiet}.VLLM_NO_USAGE_STATS": "1",
        f"{quiet}.DO_NOT_TRACK": "1",
    }


def _value(value: Any) -> str:
    """A value in the grammar of Hydra's overrides; text is quoted, so that no character in it has a meaning."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, list):
        return f"[{','.join(_value(item) for item in value)}]"
    return quoted(value)


def quoted(value: object) -> str:
    """Text for an override of Hydra's; ConfigError where it cannot be written as one."""
    text = str(value)
    if "${" in text or text.endswith("\\"):
        raise ConfigError(f"{text!r}: veRL's configuration cannot hold this text; choose another path or name")
    return "'" + text.replace("'", "\\'") + "'"

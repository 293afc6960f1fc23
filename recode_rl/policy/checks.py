"""What is refused before the first step: batches that do not fit the processes, too short a context, no vLLM."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

from recode_rl import training
from recode_rl.config import GraderConfig, TrainConfig, VllmConfig
from recode_rl.errors import ConfigError, MissingExtraError, ModelError
from recode_rl.extras import need
from recode_rl.policy import health

VLLM_VERSIONS = ">=0.22,<=0.31"  # what TRL 1.16 works with


def accumulation(config: TrainConfig) -> int:
    """Forward passes of each process for one update; ConfigError where the completions cannot be shared out evenly."""
    grpo, processes = config.grpo, training.processes()
    per_update = grpo.prompts_per_step * grpo.group_size // grpo.updates_per_batch
    together = grpo.micro_batch * processes
    if per_update % together:
        raise ConfigError(
            f"grpo.micro_batch {grpo.micro_batch} in each of {processes} processes does not divide the {per_update} "
            f"completions of one update; choose a divisor of {max(1, per_update // processes)}, or other processes"
        )
    return per_update // together


def check_model(config: TrainConfig, model: Any) -> None:
    """Refuse a model whose context is too short for prompt and completion, or whose weights are no numbers."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    wanted = config.data.max_prompt_tokens + config.grpo.max_completion_tokens
    if limit is not None and wanted > limit:
        raise ConfigError(
            f"data.max_prompt_tokens {config.data.max_prompt_tokens} + grpo.max_completion_tokens "
            f"{config.grpo.max_completion_tokens} are {wanted} tokens, but model {config.model!r} takes {limit}; "
            "lower one of them"
        )
    broken = health.broken_weight(model)
    if broken is not None:
        raise ModelError(f"model {config.model!r}: weight {broken!r} holds nan or an infinity; take a sound checkpoint")


def check_sharding(config: TrainConfig) -> None:
    """Refuse a precision that cannot be had where the processes have the weights sharded between them."""
    sharded = os.environ.get("ACCELERATE_USE_FSDP") == "true" or os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true"
    if sharded and config.grpo.precision == "bf16-master":
        raise ConfigError('grpo.precision "bf16-master" holds whole weights in each process; sharded: "bf16-autocast"')


def check_vllm(config: TrainConfig) -> None:
    """Refuse [grpo.vllm] where vLLM cannot work."""
    if config.grpo.vllm is None:
        return
    if importlib.util.find_spec("vllm") is None:
        raise MissingExtraError(
            f'[grpo.vllm]: vllm is not installed; run: pip install "vllm{VLLM_VERSIONS}" (it brings a torch of its '
            "own), or leave the table out to generate with transformers"
        )
    if config.grpo.vllm.mode == "colocate" and not need("torch", "train").cuda.is_available():
        raise ConfigError('[grpo.vllm]: mode "colocate" needs a GPU here; name a server, or leave the table out')


def vllm_arguments(vllm: VllmConfig | None, max_length: int) -> dict[str, Any]:
    """What GRPOConfig takes; `max_length` is tokens of a prompt with its completion."""
    if vllm is None:
        return {}
    return {
        "use_vllm": True,
        "vllm_mode": vllm.mode,
        "vllm_server_base_url": vllm.url,
        "vllm_server_timeout": vllm.timeout_s,
        "vllm_gpu_memory_utilization": vllm.memory_share,
        "vllm_tensor_parallel_size": vllm.tensor_parallel,
        "vllm_enable_sleep_mode": vllm.sleep and vllm.mode == "colocate",
        "vllm_max_model_length": max_length,
        "vllm_importance_sampling_correction": vllm.correction != "none",
        "vllm_importance_sampling_mode": vllm.correction if vllm.correction != "none" else "sequence_mask",
        "vllm_importance_sampling_clip_max": vllm.correction_max,
    }


def share_of_workers(grader: GraderConfig) -> GraderConfig:
    """The grader of one of several processes: without `workers` the cores of a machine are shared out among them."""
    here = int(os.environ.get("LOCAL_WORLD_SIZE", training.processes()))
    if grader.workers is not None or here == 1:
        return grader
    return grader.model_copy(update={"workers": max(1, (os.cpu_count() or 1) // here)})

"""What a CG-GRPO run refuses before its first step, each in one sentence."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from recode_rl import training
from recode_rl.config import DataConfig, GraderConfig, TrainConfig, VllmConfig, build
from recode_rl.errors import ConfigError, MissingExtraError, ModelError
from recode_rl.policy import checks

torch = pytest.importorskip("torch", reason="needs the extra [train]")


def config(**grpo: object) -> TrainConfig:
    return build(TrainConfig, {"model": "m", "out": "x", "reward": {"rule": "outcome_only"}, "grpo": grpo}, "test")


def processes(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(training, "processes", lambda: count)


def test_completions_are_shared_out_evenly_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    given = config(prompts_per_step=3, group_size=8, updates_per_batch=2, micro_batch=2)
    processes(monkeypatch, 1)
    assert checks.accumulation(given) == 6
    processes(monkeypatch, 3)
    assert checks.accumulation(given) == 2
    processes(monkeypatch, 4)
    with pytest.raises(ConfigError, match=r"micro_batch 2 in each of 4 processes does not divide .* divisor of 3"):
        checks.accumulation(given)


def test_a_prompt_and_its_completion_have_to_fit_the_model(tiny: Path) -> None:
    from recode_rl import models

    model = models.load_causal(str(tiny))
    fits = config(max_completion_tokens=1536).model_copy(update={"data": DataConfig(max_prompt_tokens=512)})
    checks.check_model(fits, model)
    with pytest.raises(ConfigError, match=r"512 \+ grpo.max_completion_tokens 1537 are 2049 tokens, .* takes 2048"):
        checks.check_model(config(max_completion_tokens=1537), model)
    with torch.no_grad():
        model.model.norm.weight[0] = float("nan")
    with pytest.raises(ModelError, match=r"model 'm': weight 'model.norm.weight' holds nan"):
        checks.check_model(fits, model)


def test_master_weights_need_whole_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    checks.check_sharding(config(precision="bf16-master"))
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    checks.check_sharding(config(precision="bf16-autocast"))
    with pytest.raises(ConfigError, match="bf16-master"):
        checks.check_sharding(config(precision="bf16-master"))


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vllm is installed here")
def test_where_vllm_is_missing_there_is_one_sentence_with_the_command() -> None:
    checks.check_vllm(config())
    with pytest.raises(MissingExtraError, match=r'vllm is not installed; run: pip install "vllm>=0.22,<=0.31"'):
        checks.check_vllm(config(vllm={}))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_vllm_inside_the_processes_needs_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    with pytest.raises(ConfigError, match="needs a GPU"):
        checks.check_vllm(config(vllm={}))
    checks.check_vllm(config(vllm={"mode": "server", "url": "http://localhost:8000"}))


def test_a_vllm_server_has_a_place_and_the_other_mode_has_none() -> None:
    for table in ({"mode": "server"}, {"url": "http://localhost:8000"}):
        with pytest.raises(ConfigError, match=r'grpo.vllm: mode "server" needs url'):
            config(vllm=table)
    with pytest.raises(ConfigError, match=r"unknown key 'grpo.vllm.gpu'; known keys here: correction, "):
        config(vllm={"gpu": 1})


def test_every_setting_of_vllm_reaches_the_engine(tmp_path: Path) -> None:
    trl = pytest.importorskip("trl", reason="needs the extra [train]")
    common = {"output_dir": str(tmp_path), "use_cpu": True, "bf16": False, "activation_checkpointing": False}
    assert checks.vllm_arguments(None, 100) == {}
    given = VllmConfig(mode="server", url="http://localhost:8000", correction="token_truncate", correction_max=2.0)
    made = trl.GRPOConfig(**common, **checks.vllm_arguments(given, 640))
    assert (made.use_vllm, made.vllm_mode, made.vllm_server_base_url) == (True, "server", "http://localhost:8000")
    assert (made.vllm_importance_sampling_mode, made.vllm_importance_sampling_clip_max) == ("token_truncate", 2.0)
    assert made.vllm_importance_sampling_correction is True
    assert made.vllm_enable_sleep_mode is False
    inside = VllmConfig(memory_share=0.4, tensor_parallel=2, correction="none")
    made = trl.GRPOConfig(**common, **checks.vllm_arguments(inside, 640))
    assert (made.vllm_gpu_memory_utilization, made.vllm_tensor_parallel_size) == (0.4, 2)
    assert (made.vllm_max_model_length, made.vllm_enable_sleep_mode) == (640, True)
    assert made.vllm_importance_sampling_correction is False


def test_the_cores_of_a_machine_are_shared_out_among_its_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 12)
    assert checks.share_of_workers(GraderConfig()).workers is None
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert checks.share_of_workers(GraderConfig()).workers == 3
    assert checks.share_of_workers(GraderConfig(workers=7)).workers == 7
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "16")
    assert checks.share_of_workers(GraderConfig()).workers == 1

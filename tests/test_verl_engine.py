"""The veRL engine with veRL itself, on the CPU: what `make test-verl` runs, in an environment of its own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("verl", reason="needs veRL in an environment of its own: make test-verl")

import numpy as np
import torch
from tiny import tiny_model, tiny_reward_model

from recode_rl import jsonl
from recode_rl.config import TrainConfig, build
from recode_rl.errors import ConfigError, EndpointError, InfrastructureError
from recode_rl.policy.verl import advantage, launch, settings, stage
from recode_rl.policy.verl.journal import Journal
from recode_rl.problems.records import load_problems
from recode_rl.scorer import RemoteScorer
from recode_rl.types import Problem
from recode_rl.types import Tests as Given

pytestmark = pytest.mark.verl
ADVANTAGES = Path(__file__).parent / "advantages.json"
GIVEN = Given("calls", entry_point="double")
DOUBLE = (
    "<think>\nTwice n is n plus n.\n</think>\n<answer>\n```python\ndef double(n):\n    return n + n\n```\n</answer>"
)
WRONG = DOUBLE.replace("n + n", "n + 1")
NO_FORM = "```python\ndef double(n):\n    return 2 * n\n```"
SILENT = DOUBLE.replace("\nTwice n is n plus n.\n", "")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny policy and a tiny reward model."""
    folder = tmp_path_factory.mktemp("models")
    return tiny_model(folder / "policy"), tiny_reward_model(folder / "reward")


@contextmanager
def serving(model: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A serve-rm in a process of its own, and its address."""
    command = [sys.executable, "-m", "recode_rl", "serve-rm", "--model", str(model), "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        found = (re.search(r"at (http://\S+)/score", line) for line in process.stderr)
        yield next(match[1] for match in found if match), process
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def server(models: tuple[Path, Path]) -> Iterator[str]:
    """The address of a reward model's server."""
    with serving(models[1]) as (address, _):
        yield address


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A Ray cluster of two CPUs."""
    import os

    os.environ |= launch.QUIET
    import ray

    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    yield ray
    ray.shutdown()


def config_of(out: Path, model: Path, reward_model: str, **changes: Any) -> TrainConfig:
    values: dict[str, Any] = {
        "engine": "verl",
        "model": str(model),
        "out": str(out),
        "data": {"dataset": "file", "path": str(out.parent / "given.jsonl"), "split": "all", "eval_split": "all"},
        "reward": {"model": reward_model, "max_length": 256},
        "grpo": {"steps": 2, "prompts_per_step": 2, "group_size": 4, "updates_per_batch": 2, "micro_batch": 4},
        "verl": {"gpus_per_node": 1, "reward_workers": 2},
        "save_every": 1,
        "evaluation": {"every": 1},
    }
    values["grpo"]["max_completion_tokens"] = 99
    for key, value in changes.items():
        values[key] = {**values[key], **value} if isinstance(value, dict) else value
    return build(TrainConfig, values, "test")


def problem(name: str) -> dict[str, Any]:
    cases = [{"args": [n], "expected": 2 * n} for n in (1, 2, 5)]
    tests = {"kind": "calls", "entry_point": "double", "cases": cases}
    return {"id": name, "source": "given", "prompt": f"Write double(n). ({name})", "tests": tests}


@pytest.fixture
def run(tmp_path: Path, models: tuple[Path, Path], server: str) -> TrainConfig:
    """A run that is prepared."""
    jsonl.write(tmp_path / "given.jsonl", [problem("a"), problem("b")])
    config = config_of(tmp_path / "run", models[0], server)
    stage.prepare(config)
    return config


# -- configuration -----------------------------------------------------------------------------------------------------


def test_verl_composes_and_validates_what_we_ask_of_it(run: TrainConfig) -> None:
    composed = launch.compose(settings.overrides(run))
    actor, rollout = composed.actor_rollout_ref.actor, composed.actor_rollout_ref.rollout
    assert (actor.ppo_mini_batch_size, rollout.n, composed.data.train_batch_size) == (1, 4, 2)
    assert (actor.clip_ratio_low, actor.clip_ratio_high, actor.clip_ratio_c) == (0.2, 0.28, 3.0)
    assert (actor.optim.lr, actor.optim.weight_decay, actor.optim.lr_scheduler_type) == (1e-6, 0.01, "constant")
    assert (actor.loss_agg_mode, actor.use_kl_loss, actor.entropy_coeff) == ("token-mean", False, 0)
    assert rollout.prompt_length + rollout.response_length == rollout.max_model_len == 512 + 99
    assert composed.reward.custom_reward_function.reward_kwargs.settings == str(settings.Layout.of(run).reward)


def test_a_setting_of_the_users_own_comes_last_and_is_validated(run: TrainConfig) -> None:
    overrides = ("actor_rollout_ref.actor.clip_ratio_c=5.0",)
    changed = run.model_copy(update={"verl": run.verl.model_copy(update={"overrides": overrides})})
    assert launch.compose(settings.overrides(changed)).actor_rollout_ref.actor.clip_ratio_c == 5.0
    for wrong in ("actor_rollout_ref.actor.clip=1", "actor_rollout_ref.actor.loss_agg_mode=median", "no equals sign"):
        with pytest.raises(ConfigError, match="veRL refuses the configuration"):
            launch.compose([*settings.overrides(run), wrong])


def test_a_weight_of_the_kl_term_is_passed_on(run: TrainConfig) -> None:
    changed = run.model_copy(update={"grpo": run.grpo.model_copy(update={"beta": 0.02})})
    actor = launch.compose(settings.overrides(changed)).actor_rollout_ref.actor
    assert (actor.use_kl_loss, actor.kl_loss_coef, actor.kl_loss_type) == (True, 0.02, "low_var_kl")


def test_verls_data_set_reads_our_parquet_and_drops_nothing(run: TrainConfig) -> None:
    from verl.trainer.ppo.utils import create_rl_dataset
    from verl.utils import hf_tokenizer

    composed = launch.compose([*settings.overrides(run), "data.filter_overlong_prompts=true"])
    tokenizer = hf_tokenizer(composed.actor_rollout_ref.model.path)
    data = create_rl_dataset(composed.data.train_files, composed.data, tokenizer, None, is_train=True)
    assert len(data) == 2
    row = data[1]
    assert row["extra_info"]["problem_id"] == row["reward_model"]["ground_truth"]
    assert [message["role"] for message in row["raw_prompt"]] == ["user"]
    assert f"({row['extra_info']['problem_id']})" in row["raw_prompt"][0]["content"]


# -- the reward loop ---------------------------------------------------------------------------------------------------


def completions(config: TrainConfig, step: int, texts: dict[str, list[str]], split: str = "train") -> Any:
    """What veRL's rollout hands to the reward loop: one row a completion, groups by problem id."""
    from tensordict import TensorDict
    from transformers import AutoTokenizer
    from verl import DataProto

    tokenizer = AutoTokenizer.from_pretrained(config.model)
    rows = [(name, number, text) for name, group in texts.items() for number, text in enumerate(group)]
    ids = [[*tokenizer(text)["input_ids"], tokenizer.eos_token_id] for _, _, text in rows]
    width = max(map(len, ids))
    responses = torch.tensor([row + [tokenizer.pad_token_id] * (width - len(row)) for row in ids])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in ids])
    prompts = torch.ones(len(rows), 3, dtype=torch.int64)
    tensors = {"prompts": prompts, "responses": responses, "attention_mask": torch.cat([prompts, mask], dim=1)}
    extra = [{"index": 0, "split": split, "problem_id": name} for name, _, _ in rows]
    return DataProto(
        batch=TensorDict(tensors, batch_size=len(rows)),
        non_tensor_batch={
            "extra_info": np.array(extra, dtype=object),
            "uid": np.array([f"group-{name}" for name, _, _ in rows], dtype=object),
            "session_id": np.array([number for _, number, _ in rows]),
            "global_steps": np.array([step] * len(rows)),
            "data_source": np.array(["given"] * len(rows), dtype=object),
        },
    )


def reward_loop(config: TrainConfig) -> Any:
    from verl.experimental.reward_loop import RewardLoopManager

    return RewardLoopManager(launch.compose(settings.overrides(config)))


def end(ray: Any, loop: Any) -> None:
    for worker in loop.reward_loop_workers:
        ray.kill(worker)


def ended_step(config: TrainConfig, step: int) -> None:
    """veRL's own line of a step."""
    line = {"step": step, "data": {"actor/pg_loss": 0.5, "actor/pg_clipfrac": 0.01, "timing_s/step": 3.0}}
    with settings.Layout.of(config).engine_log.open("a") as file:
        file.write(json.dumps(line) + "\n")


@pytest.mark.timeout(300)
def test_the_reward_loop_prices_each_completion_as_the_equation_says(
    run: TrainConfig, cluster: Any, server: str
) -> None:
    prompt = {p.id: p.prompt for p in load_problems(settings.Layout.of(run).out / "problems.jsonl")}
    journal = Journal(run, [Problem(name, text, GIVEN) for name, text in prompt.items()], RemoteScorer(server), 0)
    loop = reward_loop(run)
    texts = {"a": [DOUBLE, WRONG, NO_FORM, SILENT], "b": [DOUBLE, DOUBLE.replace("Twice", "Double"), "", WRONG]}
    batch = completions(run, 1, texts)
    scored = loop.compute_rm_score(batch)
    held_out = loop.compute_rm_score(completions(run, 1, {"a": [DOUBLE]}, split="held_out"))
    end(cluster, loop)

    twice, double = "Twice n is n plus n.", "Double n is n plus n."
    first, second, third = RemoteScorer(server)([(prompt["a"], twice), (prompt["b"], twice), (prompt["b"], double)])
    expected = [2 + first, 1.0, 1.0, 2.0, 2 + second, 2 + third, 0.0, 1.0]
    totals = scored.batch["rm_scores"].sum(-1).tolist()
    assert totals == pytest.approx(expected, abs=1e-5)
    extra = scored.non_tensor_batch
    assert extra["acc"].tolist() == [1, 0, 1, 1, 1, 1, 0, 0]
    # The gate is open for what passed, whether or not there was a reasoning to ask the model about.
    assert extra["gate"].tolist() == [1, 0, 1, 1, 1, 1, 0, 0]
    assert extra["process"].tolist() == pytest.approx([first, 0, 0, 0, second, third, 0, 0], abs=1e-6)
    last = batch.batch["attention_mask"][:, 3:].sum(-1) - 1
    assert (scored.batch["rm_scores"].argmax(-1)[[0, 4]] == last[[0, 4]]).all()
    assert held_out.batch["rm_scores"].sum() == pytest.approx(2 + first, abs=1e-5)

    ended_step(run, 1)
    assert journal.collect() == 1
    (line,) = [record for _, record in jsonl.read(journal.metrics)]
    assert line["reward/total"] == pytest.approx(sum(expected) / 8, abs=1e-5)
    assert line["reward/process_passing"] == pytest.approx((first + second + third) / 5, abs=1e-5)
    assert (line["gate/open_share"], line["groups/mixed"], line["infra/failed"]) == (5 / 8, 1.0, 0.0)
    assert (line["loss"], line["clip/share"], line["time/step_s"]) == (0.5, 0.01, 3.0)
    assert (line["eval/pass_rate"], line["eval/n"]) == (1.0, 1.0)
    assert "process/passing" in line, "the monitor has seen the step"
    written = [record for _, record in jsonl.read(settings.Layout.of(run).out / "completions.jsonl")]
    assert [record["process"] is None for record in written] == [False, True, False, False, False, False, True, True]
    assert journal.collect() == 0


@pytest.mark.timeout(300)
def test_a_reward_model_that_is_gone_drops_the_passing_and_stops_the_run(
    run: TrainConfig, cluster: Any, models: tuple[Path, Path]
) -> None:
    with serving(models[1]) as (address, process):
        config = run.model_copy(update={"reward": run.reward.model_copy(update={"model": address, "wait_s": 2.0})})
        layout = settings.Layout.of(config)
        jsonl.write_text(layout.reward, settings.reward_settings(config).model_dump_json())
        loop = reward_loop(config)
        assert loop.compute_rm_score(completions(config, 1, {"a": [WRONG]})).batch["rm_scores"].sum() == 1.0
        process.kill()
    worker = loop.reward_loop_workers[0]
    # What does not need the model goes on until the first sample that does has waited for it in vain.
    assert cluster.get(worker.compute_score.remote(completions(config, 1, {"a": [WRONG]})))["reward_score"] == 1.0
    with pytest.raises(EndpointError):
        cluster.get(worker.compute_score.remote(completions(config, 1, {"a": [DOUBLE]})))
    assert "the reward model cannot be asked" in jsonl.read_json(layout.stop)["because"]
    with pytest.raises(InfrastructureError, match="the run is stopping"):
        cluster.get(worker.compute_score.remote(completions(config, 1, {"a": [WRONG]})))
    end(cluster, loop)
    with pytest.raises(InfrastructureError, match="the reward model cannot be asked"):
        launch.run([sys.executable, "-c", "import time; time.sleep(60)"], layout.console, layout.stop, lambda: None)


@pytest.mark.timeout(300)
def test_failures_of_the_sandbox_are_counted_over_all_workers(run: TrainConfig, cluster: Any) -> None:
    """Two workers of which neither alone sees enough to stop the run."""
    grader = run.grader.model_copy(update={"engine": "sandbox-fusion", "url": "http://127.0.0.1:9"})
    config = run.model_copy(update={"grader": grader})
    layout = settings.Layout.of(config)
    jsonl.write_text(layout.reward, settings.reward_settings(config).model_dump_json())
    loop = reward_loop(config)
    workers, sample = loop.reward_loop_workers, completions(config, 1, {"a": [WRONG]})
    for result in [workers[number % 2].compute_score.remote(sample) for number in range(7)]:  # each is tried for 16 s
        with pytest.raises(InfrastructureError):
            cluster.get(result)
    assert not layout.stop.exists(), "a share is taken of 8 samples and more"
    with pytest.raises(InfrastructureError):
        cluster.get(workers[1].compute_score.remote(sample))
    assert "8 of 8 samples (100%) could not be graded or scored" in jsonl.read_json(layout.stop)["because"]
    end(cluster, loop)


# -- advantages --------------------------------------------------------------------------------------------------------


def verl_advantages(rewards: list[list[float | None]], estimator: str) -> list[list[float | None]]:
    """veRL's advantages of groups of rewards; None is a sample that was dropped."""
    from verl import DataProto
    from verl.trainer.config import AlgoConfig
    from verl.trainer.ppo.ray_trainer import compute_advantage

    advantage.register()
    kept = [(group, reward) for group, members in enumerate(rewards) for reward in members if reward is not None]
    mask = torch.ones(len(kept), 3)
    scores = torch.zeros(len(kept), 3)
    scores[:, -1] = torch.tensor([reward for _, reward in kept])
    data = DataProto.from_dict(
        tensors={"token_level_rewards": scores, "response_mask": mask},
        non_tensors={"uid": np.array([str(group) for group, _ in kept], dtype=object)},
    )
    found = compute_advantage(
        data, adv_estimator=estimator, norm_adv_by_std_in_grpo=True, config=AlgoConfig(adv_estimator=estimator)
    )
    values = iter(found.batch["advantages"][:, 0].tolist())
    return [[None if reward is None else next(values) for reward in members] for members in rewards]


def flat(groups: list[list[float | None]]) -> list[float]:
    return [0.0 if value is None else value for group in groups for value in group]


@pytest.mark.parametrize("case", json.loads(ADVANTAGES.read_text()), ids=lambda case: f"{case['name']}-{case['scale']}")
def test_advantages_are_those_of_trl(case: dict[str, Any]) -> None:
    """`advantages.json` is what TRL's own trainer makes of these rewards: test_policy_verl.py holds it to that."""
    ours = verl_advantages(case["rewards"], f"recode_{case['scale']}")
    for rewards, group, wanted in zip(case["rewards"], ours, case["trl"], strict=True):
        known = [reward for reward in rewards if reward is not None]
        # Rewards of 2.5 that lie 1e-4 apart have three digits of it left in fp32.
        tolerance = 2e-3 if 0 < max(known) - min(known) < 1e-3 else 2e-5
        assert flat([group]) == pytest.approx(flat([wanted]), abs=tolerance)


def test_where_plain_verl_differs_from_trl() -> None:
    """The table in docs/verl.md: ε matters where the spread is small, and a sample that is alone in its group."""
    spread = [[2.5, 2.5001, 2.5, 2.5]]
    assert max(map(abs, flat(verl_advantages(spread, "grpo")))) == pytest.approx(1.47, abs=0.02)
    assert max(map(abs, flat(verl_advantages(spread, "recode_group")))) == pytest.approx(0.5, abs=0.01)
    alone: list[list[float | None]] = [[1.0, None, None, None]]
    assert flat(verl_advantages(alone, "grpo"))[0] == pytest.approx(1.0, abs=1e-5)
    assert flat(verl_advantages(alone, "recode_group"))[0] == 0.0


def test_padding_of_verls_counts_nowhere() -> None:
    rewards, mask = torch.tensor([[0.0, 1.0], [0.0, 3.0], [0.0, 0.0]]), torch.tensor([[1, 1], [1, 1], [0, 0]])
    index = np.array(["a", "a", "padding"], dtype=object)
    found, _ = advantage.estimate("batch", rewards, mask, index)
    assert found[:, 0].tolist() == pytest.approx([-1 / (2**0.5 + 1e-4), 1 / (2**0.5 + 1e-4), 0.0])


# -- the way home ------------------------------------------------------------------------------------------------------


def test_a_checkpoint_of_verls_becomes_a_plain_model_folder(run: TrainConfig, models: tuple[Path, Path]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    layout = settings.Layout.of(run)
    actor = layout.checkpoints / "global_step_2" / "actor"
    actor.mkdir(parents=True)
    model = AutoModelForCausalLM.from_pretrained(models[0])
    model.config.save_pretrained(actor / "huggingface")
    AutoTokenizer.from_pretrained(models[0]).save_pretrained(actor / "huggingface")
    torch.save(model.state_dict(), actor / "model_world_size_1_rank_0.pt")
    (actor / "fsdp_config.json").write_text(json.dumps({"FSDP_version": 1, "world_size": 1}))
    (layout.checkpoints / "latest_checkpointed_iteration.txt").write_text("2")
    policy = stage.bring_home(run, stage.prepare(run))
    loaded = AutoModelForCausalLM.from_pretrained(policy)
    for name, weight in loaded.state_dict().items():
        assert torch.equal(weight.float(), model.state_dict()[name].bfloat16().float())
    assert stage.train(run) == policy, "a run that is complete is left alone"
    assert not layout.work.exists()
    assert {problem.id for problem in load_problems(layout.out / "problems.jsonl")} == {"a", "b"}

"""The veRL engine without veRL: its settings, records and journal, how it is launched, and the advantages of TRL."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from recode_rl import jsonl
from recode_rl.config import SftConfig, TrainConfig, build, load_recipe
from recode_rl.errors import ConfigError, EndpointError, InfrastructureError, SandboxError
from recode_rl.policy.rewards import Row
from recode_rl.policy.verl import data, launch, manager, records, settings, stage
from recode_rl.policy.verl.journal import Journal, zero_spread_share
from recode_rl.policy.verl.manager import CGGRPORewardManager, Tally, explained
from recode_rl.policy.verl.records import Place
from recode_rl.problems.records import write_problems
from recode_rl.reward import Scored, combine, find_rule
from recode_rl.types import Completion, Problem, Verdict
from recode_rl.types import Tests as Given

ADVANTAGES = Path(__file__).parent / "advantages.json"
PASSED, FAILED = Verdict("passed", 3, 3, "proxied"), Verdict("wrong_answer", 1, 3, "proxied", "f(1): 2, expected 3")
RULE = find_rule("consistency_gated")
GOOD = "<think>plan</think><answer>x</answer>"


def config_of(out: Path | str = "run", **changes: Any) -> TrainConfig:
    values: dict[str, Any] = {
        "engine": "verl",
        "model": "owner/policy",
        "out": str(out),
        "reward": {"model": "http://127.0.0.1:8321"},
        "grpo": {"steps": 4, "prompts_per_step": 2, "group_size": 2, "micro_batch": 2},
        "verl": {"gpus_per_node": 2},
    }
    for key, value in changes.items():
        values[key] = {**values.get(key, {}), **value} if isinstance(value, dict) else value
    return build(TrainConfig, values, "test")


# -- settings ----------------------------------------------------------------------------------------------------------


def test_a_run_with_the_paper_s_numbers_says_so_to_verl() -> None:
    config = config_of(
        grpo={"prompts_per_step": 32, "group_size": 8, "updates_per_batch": 2, "steps": 1600, "micro_batch": 8},
        data={"max_prompt_tokens": 2048},
        verl={"gpus_per_node": 8},
    )
    settings.check(config)
    given = dict(line.split("=", 1) for line in settings.overrides(config))
    assert given["data.train_batch_size"] == "32"
    assert given["actor_rollout_ref.actor.ppo_mini_batch_size"] == "16", "in prompts: two updates a batch"
    assert given["actor_rollout_ref.rollout.n"] == "8"
    assert given["trainer.total_training_steps"] == "1600"
    assert given["actor_rollout_ref.actor.clip_ratio_high"] == "0.28"
    assert given["actor_rollout_ref.rollout.max_model_len"] == str(2048 + 4096)
    assert given["algorithm.adv_estimator"] == "'recode_group'"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"reward": {"model": "runs/reward-model"}}, "over HTTP; start `recode-rl serve-rm"),
        ({"grpo": {"updates_per_batch": 4, "micro_batch": 1}}, "counts a mini-batch in prompts"),
        ({"verl": {"gpus_per_node": 3}}, "do not divide among 3 GPUs"),
        ({"verl": {"tensor_parallel": 4}}, "does not divide the 2 GPUs"),
        ({"grpo": {"mask_truncated": True}}, "mask_truncated"),
        ({"grpo": {"precision": "bf16-master"}}, "bf16-autocast"),
        ({"lora": {"rank": 8}}, 'of engine "trl" alone'),
    ],
)
def test_what_verl_cannot_do_is_refused_in_words(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        settings.check(config_of(**changes))


def test_a_rule_that_asks_no_reward_model_needs_no_server() -> None:
    config = config_of(reward={"rule": "outcome_only", "model": "runs/reward-model"})
    settings.check(config)
    assert settings.reward_settings(config).model is None


def test_text_with_a_meaning_in_overrides_is_quoted() -> None:
    config = config_of(out="/data/it's {a} run, 50 %")
    given = dict(line.split("=", 1) for line in settings.overrides(config))
    assert given["trainer.experiment_name"] == r"'it\'s {a} run, 50 %'"
    with pytest.raises(ConfigError, match="cannot hold this text"):
        settings.overrides(config_of(out="/data/${HOME}"))


def test_the_programs_of_a_node_are_shared_out_among_its_workers() -> None:
    config = config_of(verl={"nodes": 2, "reward_workers": 8, "gpus_per_node": 1}, grader={"workers": 20})
    assert settings.reward_settings(config).programs_at_a_time() == 5
    config = config_of(verl={"reward_workers": 8}, grader={"workers": 2})
    assert settings.reward_settings(config).programs_at_a_time() == 1


def test_a_row_names_the_problem_and_holds_none_of_its_tests() -> None:
    secret = ({"args": [1], "expected": "hidden"},)
    problem = Problem("p/1", "Write f.", Given("calls", entry_point="f", cases=secret), source="given")
    row = data.row(problem, 7, "train")
    assert row["extra_info"] == {"index": 7, "split": "train", "problem_id": "p/1"}
    assert row["reward_model"] == {"style": "rule", "ground_truth": "p/1"}
    assert (row["data_source"], row["ability"]) == ("given", "code")
    assert "hidden" not in json.dumps(row) and "Write f." in row["prompt"][0]["content"]
    assert data.row(Problem("m", "1+1?", Given("answer", answer="2")), 0, "train")["ability"] == "math"


# -- records and journal -----------------------------------------------------------------------------------------------


def scored(verdict: Verdict, process: float | None) -> Scored:
    completion = Completion(GOOD, "plan", "x", "x", True)
    return Scored(completion, verdict, combine(RULE, format_ok=True, verdict=verdict, process=process))


def sample(group: str, member: int, outcome: Scored | InfrastructureError, step: int = 1, split: str = "train") -> Any:
    return Place(step, split, group, member), Row("p", GOOD, 12, outcome, truncated=member == 1)


def test_a_record_gives_the_same_reward_again() -> None:
    for outcome in (scored(PASSED, 0.25), scored(FAILED, None)):
        place, row = sample("g", 1, outcome)
        line = json.loads(jsonl.dumps(records.to_record(place, row)))
        again_place, again = records.from_record(RULE, line)
        assert again_place == place
        assert isinstance(again.outcome, Scored) and isinstance(row.outcome, Scored)
        assert (again.outcome.reward, again.outcome.verdict) == (row.outcome.reward, row.outcome.verdict)
        assert (again.text, again.tokens, again.truncated) == (GOOD, 12, True)


def test_a_record_of_a_failure_of_ours_stays_one() -> None:
    place, row = sample("g", 0, SandboxError("the sandbox is gone"))
    line = records.to_record(place, row)
    assert "total" not in line and "verdict" not in line
    outcome = records.from_record(RULE, line)[1].outcome
    assert isinstance(outcome, InfrastructureError) and str(outcome) == "the sandbox is gone"


def test_groups_are_whole_and_together_whoever_wrote_first() -> None:
    good, bad = scored(PASSED, 0.5), scored(FAILED, None)
    mixed = [sample("b", 2, bad), sample("a", 1, good), sample("b", 0, good), sample("a", 0, bad), sample("b", 0, good)]
    rows = records.in_groups(mixed, 3)
    assert [getattr(row.outcome, "reward", None) and row.outcome.reward.status for row in rows] == [  # type: ignore[union-attr]
        "wrong_answer",
        "passed",
        None,
        "passed",
        None,
        "wrong_answer",
    ]
    assert str(rows[2].outcome) == "the reward worker gave no answer"


def test_numbers_beside_a_reward_have_the_same_keys_always() -> None:
    first, second = explained(scored(PASSED, 0.25)), explained(scored(FAILED, None))
    assert first.keys() == second.keys()
    assert (first["gate"], first["process"], second["gate"], second["process"]) == (1.0, 0.25, 0.0, 0.0)
    assert all(type(value) is float for value in (*first.values(), *second.values()))


def write(config: TrainConfig, step: int, *samples: Any, worker: str = "w", ended: bool = True) -> None:
    """What a worker and veRL leave behind in a step."""
    layout = settings.Layout.of(config)
    with jsonl.Appender(layout.samples / f"{worker}.jsonl") as file:
        for place, row in samples:
            file.append(records.to_record(place, row))
    if ended:
        with jsonl.Appender(layout.engine_log) as file:
            file.append({"step": step, "data": {"actor/pg_loss": 0.1 * step, "timing_s/step": 9.0, "perf/other": 1.0}})


def journal_of(config: TrainConfig, done: int = 0) -> Journal:
    return Journal(config, [Problem("p", "Write f.", Given("calls", entry_point="f"))], None, done)


def lines(config: TrainConfig, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    return [record for _, record in jsonl.read(settings.Layout.of(config).out / name)]


def test_a_step_is_recorded_when_verl_has_ended_it_and_once(tmp_path: Path) -> None:
    config = config_of(tmp_path / "run")
    journal = journal_of(config)
    step = [sample("a", 0, scored(PASSED, 0.5)), sample("a", 1, scored(FAILED, None))]
    other = [sample("b", 0, scored(PASSED, 0.7)), sample("b", 1, SandboxError("gone"))]
    write(config, 1, *step, ended=False)
    assert journal.collect() == 0 and not journal.metrics.exists()
    write(config, 1, *other, sample("h", 0, scored(PASSED, 0.9), split="held_out"), worker="v")
    assert (journal.collect(), journal.collect()) == (1, 0)
    (line,) = lines(config)
    assert line["reward/total"] == pytest.approx((2.5 + 1.0 + 2.7) / 3)
    assert (line["loss"], line["time/step_s"], line["infra/failed"]) == (0.1, 9.0, 1.0)
    assert (line["groups/mixed"], line["groups/all_correct"], line["groups/zero_std_share"]) == (0.5, 0.5, 0.5)
    assert (line["eval/pass_rate"], line["eval/pass@1"]) == (1.0, 1.0)
    assert "perf/other" not in line
    assert [record.get("error") for record in lines(config, "completions.jsonl")] == [None, None, None, "gone"]


def test_a_line_that_is_being_written_waits(tmp_path: Path) -> None:
    config = config_of(tmp_path / "run")
    journal, log = journal_of(config), settings.Layout.of(config).engine_log
    write(config, 1, sample("a", 0, scored(PASSED, 0.5)), ended=False)
    log.write_bytes(b'{"step": 1, "data": {"actor/pg_')
    assert journal.collect() == 0
    with log.open("ab") as file:
        file.write(b'loss": 2.0}}\n')
    assert journal.collect() == 1
    assert lines(config)[0]["loss"] == 2.0


def test_after_a_kill_what_is_behind_the_checkpoint_stays_and_the_rest_runs_again(tmp_path: Path) -> None:
    config = config_of(tmp_path / "run")
    journal = journal_of(config)
    for step in (1, 2):
        write(config, step, sample(f"a{step}", 0, scored(PASSED, 0.5), step))
    journal.collect()
    write(config, 3, sample("a3", 0, scored(PASSED, 0.5), 3))  # came in after the last look
    write(config, 4, sample("a4", 0, scored(PASSED, 0.5), 4))
    again = journal_of(config, done=3)
    assert [line["step"] for line in lines(config)] == [1, 2, 3] and again.step == 3
    assert {record["step"] for record in lines(config, "completions.jsonl")} == {1, 2, 3}
    assert again.collect() == 0
    write(config, 4, sample("b4", 0, scored(FAILED, None), 4))
    assert again.collect() == 1
    assert [line["step"] for line in lines(config)] == [1, 2, 3, 4]
    assert lines(config)[-1]["reward/pass_rate"] == 0.0


def test_groups_without_any_spread_are_counted() -> None:
    same, failed = scored(FAILED, None), SandboxError("gone")
    rows = [
        sample("a", n, outcome)[1] for n, outcome in enumerate((same, same, scored(PASSED, 0.1), same, failed, failed))
    ]
    assert zero_spread_share(rows, 2) == pytest.approx(2 / 3)


def test_the_last_checkpoint_is_the_one_that_verl_has_marked(tmp_path: Path) -> None:
    assert stage.resumed_step(tmp_path) == 0
    (tmp_path / "latest_checkpointed_iteration.txt").write_text("40")
    assert stage.resumed_step(tmp_path) == 40


# -- failures of our own -----------------------------------------------------------------------------------------------


def test_the_tally_stops_a_run_past_its_share_and_not_before(tmp_path: Path) -> None:
    stop = tmp_path / "stop.json"
    tally = Tally(max_share=0.25, min_samples=8, stop=str(stop))
    said = [tally.count("gone" if number < 2 else None) for number in range(8)]
    assert said == [None] * 8, "2 of 8 are the share that is allowed"
    assert tally.count("gone") is not None
    assert "3 of 9 samples (33%)" in jsonl.read_json(stop)["because"]
    assert tally.count(None) is not None, "it stays stopped"


def test_few_samples_make_no_share(tmp_path: Path) -> None:
    tally = Tally(max_share=0.05, min_samples=100, stop=str(tmp_path / "stop.json"))
    assert [tally.count("gone") for _ in range(99)] == [None] * 99
    assert tally.count("gone") is not None


def test_the_first_reason_to_stop_stays(tmp_path: Path) -> None:
    tally = Tally(max_share=0.05, min_samples=1, stop=str(tmp_path / "stop.json"))
    tally.halt("tests that cannot be run")
    tally.count("gone")
    assert jsonl.read_json(tmp_path / "stop.json")["because"] == "tests that cannot be run"


# -- the reward manager, with a stand-in for Ray -----------------------------------------------------------------------


class ActorDied(Exception):
    """What Ray raises where an actor is gone."""


class Actor:
    """A tally as a Ray actor: calls are awaited; `dead` ones fail."""

    def __init__(self, *arguments: Any) -> None:
        self.tally, self.dead = Tally(*arguments), False
        self.count, self.halt = (SimpleNamespace(remote=self.call(name)) for name in ("count", "halt"))

    def call(self, name: str) -> Any:
        async def remote(word: str | None) -> Any:
            if self.dead:
                raise ActorDied
            return getattr(self.tally, name)(word)

        return remote


@dataclass
class Worker:
    """A reward manager with its actors, and what the reward model is asked."""

    manager: CGGRPORewardManager
    actors: list[Actor]
    asked: list[Any]
    config: TrainConfig

    def reward(self, text: str, problem: str = "double", member: int = 0) -> dict[str, Any]:
        ids = np.frombuffer(text.encode(), dtype=np.uint8)
        place = {"global_steps": 3, "uid": "group", "session_id": member}
        given = {"extra_info": {"split": "train", "problem_id": problem}, **place}
        batch = {"responses": np.append(ids, [0, 0]), "attention_mask": np.array([1] * (5 + len(ids)) + [0, 0])}
        return asyncio.run(self.manager.run_single([SimpleNamespace(batch=batch, non_tensor_batch=given)]))

    def records(self) -> list[dict[str, Any]]:
        files = settings.Layout.of(self.config).samples.glob("*.jsonl")
        return [record for file in files for _, record in jsonl.read(file)]


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    config = config_of(tmp_path / "run", grader={"workers": 1}, verl={"reward_workers": 1})
    layout, actors = settings.Layout.of(config), list[Actor]()

    def remote(kind: Any) -> Any:
        made = SimpleNamespace(remote=lambda *arguments: actors.append(Actor(*arguments)) or actors[-1])
        return SimpleNamespace(options=lambda **options: made)

    ray = SimpleNamespace(remote=remote, exceptions=SimpleNamespace(RayActorError=ActorDied))
    monkeypatch.setitem(sys.modules, "ray", ray)
    asked: list[Any] = []

    def scorer(items: Any) -> list[float]:
        asked.extend(items)
        if "down" in items[0][1]:
            raise EndpointError("no answer")
        return [0.25] * len(items)

    monkeypatch.setattr(manager, "open_scorer", lambda *arguments: scorer)
    cases = tuple({"args": [n], "kwargs": {}, "expected": 2 * n} for n in (1, 4))
    write_problems(layout.out / "problems.jsonl", [Problem("double", "Double n.", Given("calls", cases, "double"))])
    jsonl.write_text(layout.reward, settings.reward_settings(config).model_dump_json())
    function = SimpleNamespace(reward_kwargs={"settings": str(layout.reward)})
    given = SimpleNamespace(reward=SimpleNamespace(custom_reward_function=function))
    tokenizer = SimpleNamespace(decode=lambda ids, skip_special_tokens: bytes(ids).decode())
    made = Worker(CGGRPORewardManager(given, tokenizer), actors, asked, config)
    yield made
    made.manager.close()


def written(reasoning: str, body: str) -> str:
    program = f"```python\ndef double(n):\n    return {body}\n```"
    return f"<think>{reasoning}</think><answer>{program}</answer>"


def test_only_what_passes_is_put_before_the_reward_model(worker: Worker) -> None:
    right, wrong = worker.reward(written("plan", "n + n")), worker.reward(written("plan", "n + 1"), member=1)
    assert (right["reward_score"], wrong["reward_score"]) == (2.25, 1.0)
    assert right["reward_extra_info"] | {"acc": 0.0} != wrong["reward_extra_info"]
    assert worker.asked == [("Double n.", "plan")]
    first, second = sorted(worker.records(), key=lambda record: record["member"])
    assert (first["process"], second["process"], second["verdict"]["status"]) == (0.25, None, "wrong_answer")
    assert (first["step"], first["group"], first["split"]) == (3, "group", "train")
    assert first["tokens"] == len(written("plan", "n + n"))
    assert worker.actors[0].tally.seen == 2


def test_a_reward_model_that_is_down_stops_the_run_and_fails_the_sample(worker: Worker) -> None:
    assert worker.reward(written("plan", "n + 1"))["reward_score"] == 1.0
    with pytest.raises(EndpointError):
        worker.reward(written("down", "n + n"))
    because = jsonl.read_json(settings.Layout.of(worker.config).stop)["because"]
    assert because == "the reward model cannot be asked: no answer"
    with pytest.raises(InfrastructureError, match="the run is stopping: the reward model cannot be asked"):
        worker.reward(written("plan", "n + 1"))
    assert [record.get("error") for record in worker.records()] == [None, "no answer"]


def test_a_defect_stops_the_run_and_passes_for_no_sample(worker: Worker) -> None:
    with pytest.raises(KeyError):
        worker.reward(written("plan", "n + n"), problem="unknown")
    assert jsonl.read_json(settings.Layout.of(worker.config).stop)["because"] == "KeyError: 'unknown'"
    assert worker.records() == []


def test_a_tally_that_died_is_made_anew(worker: Worker) -> None:
    worker.actors[0].dead = True
    assert worker.reward(written("plan", "n + 1"))["reward_score"] == 1.0
    assert [actor.tally.seen for actor in worker.actors] == [0, 1]


# -- launching ---------------------------------------------------------------------------------------------------------


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_command_runs_to_its_end_and_all_it_says_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "POLL_S", 0.05)
    looks: list[int] = []
    code = "import os, time; print('said', os.environ['RAY_USAGE_STATS_ENABLED'], flush=True); time.sleep(0.3)"
    launch.run(python(code), tmp_path / "verl.log", tmp_path / "stop.json", lambda: looks.append(1))
    assert (tmp_path / "verl.log").read_text() == "said 0\n"
    assert looks


def test_a_command_that_fails_is_told_with_its_last_words(tmp_path: Path) -> None:
    code = "import sys; print('first'); print('out of memory', file=sys.stderr); sys.exit(3)"
    with pytest.raises(InfrastructureError, match=r"(?s)status 3; .*verl\.log has all it said, last:.*out of memory"):
        launch.run(python(code), tmp_path / "verl.log", tmp_path / "stop.json", lambda: None)


def test_a_sentence_in_the_stop_file_ends_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "POLL_S", 0.05)
    stop = tmp_path / "stop.json"
    code = f"import json, os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)"

    def tick() -> None:
        if (tmp_path / "pid").exists() and (tmp_path / "pid").read_text():  # it is there before it is written
            jsonl.write_json(stop, {"because": "3 of 9 samples failed"})

    with pytest.raises(InfrastructureError, match="3 of 9 samples failed"):
        launch.run(python(code), tmp_path / "verl.log", stop, tick)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_what_a_look_raises_ends_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "POLL_S", 0.05)

    def tick() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        launch.run(python("import time; time.sleep(60)"), tmp_path / "verl.log", tmp_path / "stop.json", tick)


def test_the_command_ends_when_the_process_that_follows_it_is_killed(tmp_path: Path) -> None:
    place = str(tmp_path / "pid")
    child = f"import os, time; open({place!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    parent = f"""
import sys
from pathlib import Path
from recode_rl.policy.verl import launch
launch.run([sys.executable, "-c", {child!r}], Path({str(tmp_path / "log")!r}), Path("/nowhere/stop"), lambda: None)
"""
    process = subprocess.Popen(python(parent))
    try:
        pid = int(until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text()))
        process.kill()
        process.wait()
        until(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2])
    finally:
        process.kill()


def until(true: Any, seconds: float = 30.0) -> Any:
    import time

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := true():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen")


def test_without_verl_it_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hydra", None)
    with pytest.raises(ImportError, match=r"run: pip install \"recode-rl\[verl\]\""):
        launch.compose([])


# -- TRL's advantages --------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("case", json.loads(ADVANTAGES.read_text()), ids=lambda case: f"{case['name']}-{case['scale']}")
def test_the_advantages_that_verl_is_held_to_are_trls(case: dict[str, Any], tiny: Path, tmp_path: Path) -> None:
    """TRL's own trainer is given these rewards, and its advantages are what the file says."""
    assert trl_advantages(case["rewards"], case["scale"], tiny, tmp_path) == [
        pytest.approx(group, abs=2e-6) for group in case["trl"]
    ]


def trl_advantages(rewards: list[list[float | None]], scale: str, model: Path, out: Path) -> list[list[float]]:
    """What TRL's GRPOTrainer makes of groups of rewards; None is a sample without any."""
    datasets = pytest.importorskip("datasets", reason="needs the extra [train]")
    trl = pytest.importorskip("trl", reason="needs the extra [train]")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    flat, size = [reward for group in rewards for reward in group], len(rewards[0])
    args = trl.GRPOConfig(
        output_dir=str(out),
        max_steps=1,
        per_device_train_batch_size=len(flat),
        num_generations=size,
        max_completion_length=8,
        scale_rewards=scale,
        beta=0.0,
        bf16=False,
        use_cpu=True,
        activation_checkpointing=False,
        report_to="none",
        disable_tqdm=True,
        save_strategy="no",
        dataloader_pin_memory=False,
    )
    trainer = trl.GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(model),
        args=args,
        reward_funcs=[lambda **batch: flat],
        train_dataset=datasets.Dataset.from_list([{"prompt": f"number {n}"} for n in range(len(rewards))]),
        processing_class=AutoTokenizer.from_pretrained(model),
    )
    trainer.train()
    found = list(trainer._logs["advantages"])
    return [found[start : start + size] for start in range(0, len(found), size)]


# -- recipes -----------------------------------------------------------------------------------------------------------

FOLDERS = [Path(__file__).parents[1] / "recipes" / name for name in ("paper", "ablations")]
RECIPES = [
    path for folder in FOLDERS for path in sorted(folder.glob("*.toml")) if 'engine = "verl"' in path.read_text()
]
CONTEXTS = {"Qwen2.5-Math-7B": 4096, "Qwen2.5-Coder-7B-Instruct": 32768, "Qwen3-4B-Instruct-2507": 262144}
EVALUATIONS = {"deepcoder": {"humaneval+", "mbpp+", "livecodebench", "bigcodebench"}}
EVALUATIONS["dapo-math"] = {"math500", "minerva", "aime24"}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_for_verl_resolves(path: Path) -> None:
    config = load_recipe(TrainConfig, path)
    settings.check(config)
    given = settings.overrides(config)
    assert len(given) == len({line.split("=", 1)[0] for line in given}) > 40
    assert config.grpo.updates_per_batch >= 2, "with one the ratio is 1, and clip_high never acts"
    longest = config.data.max_prompt_tokens + config.grpo.max_completion_tokens
    assert longest <= CONTEXTS[config.model.rsplit("/", 1)[1]]
    assert not config.reward.model or longest <= config.reward.max_length, "a reasoning would be cut"
    assert set(config.data.decontaminate) == EVALUATIONS[config.data.dataset]
    assert config.out.name == path.stem


def test_there_is_a_recipe_for_each_run_of_the_paper() -> None:
    found = {path.stem: load_recipe(TrainConfig, path) for path in RECIPES}
    assert {name: (config.reward.rule, config.grpo.steps) for name, config in found.items()} == {
        "code-7b": ("consistency_gated", 1600),
        "math-7b": ("consistency_gated", 900),
        "qwen3-4b": ("consistency_gated", 400),
        "grpo": ("outcome_only", 1600),
        "gated-500": ("consistency_gated", 500),
        "outcome-only": ("outcome_only", 500),
        "soft-gated": ("soft_gated", 500),
        "additive": ("additive", 500),
        "compiler": ("compiler", 400),
        "compiler-gated": ("consistency_gated+compiler", 400),
        "posterior": ("posterior", 1600),
        "skywork": ("consistency_gated", 1600),
        "no-std": ("consistency_gated", 500),
    }
    assert found["no-std"].grpo.scale_rewards == "none"
    sft = load_recipe(SftConfig, FOLDERS[1] / "sft-rl-data.toml")
    assert sft.samples and sft.verdicts and sft.data.dataset == "file"

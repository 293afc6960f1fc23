"""CG-GRPO through TRL on a random two-layer model: records, resuming, and what an update is made of."""

from __future__ import annotations

import dataclasses
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tiny import by_text, everything

from recode_rl import jsonl, models
from recode_rl.config import DataConfig, EvaluationConfig, GrpoConfig, LoraConfig, RewardConfig, TrainConfig
from recode_rl.errors import ConfigError, DataError, InfrastructureError, ModelError, SandboxError
from recode_rl.grading import Grader
from recode_rl.policy import health, trl
from recode_rl.policy.journal import evaluation
from recode_rl.policy.rewards import Row
from recode_rl.policy.stage import train_from_config
from recode_rl.problems import starter
from recode_rl.problems.records import problem_to_record
from recode_rl.reward import Scored, combine, find_rule
from recode_rl.types import Completion, Problem, Status, Verdict

torch = pytest.importorskip("torch", reason="needs the extra [train]")
engine = pytest.importorskip("trl", reason="needs the extra [train]")

# TRL 1.16 asks a model about gradient checkpointing by the name that transformers 5.23 calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

FORMATS_KEYS = {
    "step",
    "time_s",
    "reward/total",
    "reward/format",
    "reward/outcome",
    "reward/process_passing",
    "gate/open_share",
    "groups/all_correct",
    "groups/all_wrong",
    "groups/mixed",
    "tokens/completion_mean",
}
Grading = Callable[[Problem, str | None], Verdict | SandboxError]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """A model this small is slower on two threads than on one."""
    torch.set_num_threads(1)


@pytest.fixture
def graded(monkeypatch: pytest.MonkeyPatch) -> Callable[[Grading], None]:
    """Verdicts without running anything."""
    monkeypatch.setattr("recode_rl.completion.parse", everything)

    def use(grading: Grading) -> None:
        def grade_many(
            self: Grader, jobs: Sequence[tuple[Problem, str | None]], on_done: object = None
        ) -> list[Verdict | SandboxError]:
            return [grading(*job) for job in jobs]

        monkeypatch.setattr(Grader, "grade_many", grade_many)

    use(by_text)
    return use


@pytest.fixture
def config(tiny: Path, tiny_reward: Path, tmp_path: Path) -> TrainConfig:
    """Two prompts a step in groups of four, sixteen tokens: a step takes a fraction of a second."""
    return TrainConfig(
        model=str(tiny),
        out=tmp_path / "run",
        data=DataConfig(eval_limit=3),
        reward=RewardConfig(model=str(tiny_reward)),
        grpo=GrpoConfig(
            steps=3,
            prompts_per_step=2,
            group_size=4,
            micro_batch=4,
            learning_rate=1e-3,
            max_completion_tokens=16,
            precision="fp32",
        ),
        evaluation=EvaluationConfig(every=0),
        save_every=2,
    )


def changed(config: TrainConfig, **changes: Any) -> TrainConfig:
    """The config with some fields of `grpo`, or of its own, replaced."""
    own = {key: value for key, value in changes.items() if key in TrainConfig.model_fields}
    grpo = {key: value for key, value in changes.items() if key not in own}
    return config.model_copy(update={"grpo": config.grpo.model_copy(update=grpo), **own})


def lines(path: Path) -> list[dict[str, Any]]:
    return [record for _, record in jsonl.read(path)]


def texts(out: Path) -> list[tuple[int, str, str]]:
    return [(r["step"], r["problem_id"], r["completion"]) for r in lines(out / "completions.jsonl")]


@pytest.mark.parametrize("precision", ["fp32", "bf16-autocast", "bf16-master"])
def test_a_run_leaves_a_policy_a_line_a_step_and_every_completion(
    config: TrainConfig, graded: object, precision: str
) -> None:
    config = changed(
        config, updates_per_batch=2, precision=precision, evaluation=EvaluationConfig(every=2), save_every=1
    )
    assert trl.train(config) == config.out / "policy"

    metrics, completions = lines(config.out / "metrics.jsonl"), lines(config.out / "completions.jsonl")
    assert [line["step"] for line in metrics] == [1, 2, 3]
    for line in metrics:
        assert line.keys() >= FORMATS_KEYS
        assert line["loss"] is not None
        assert line["learning_rate"] == pytest.approx(1e-3)
        written = [record for record in completions if record["step"] == line["step"]]
        assert len(written) == 2 * 4
        assert line["reward/total"] == pytest.approx(sum(r["total"] for r in written) / 8)
        assert line["gate/open_share"] == sum(r["status"] == "passed" for r in written) / 8
    assert ["eval/pass@1" in line for line in metrics] == [False, True, False]
    for stage in ("generate", "reward", "grade", "score", "update", "step"):
        assert all(line[f"time/{stage}_s"] >= 0 for line in metrics)
    assert metrics[1]["eval/n"] == 3

    for record in completions:
        if record["status"] == "passed" and record["completion"]:
            assert 0 < record["process"] < 1
        elif record["status"] != "passed":
            assert record["process"] is None
    assert any(record["process"] for record in completions)

    policy, before = models.load_causal(str(config.out / "policy")), models.load_causal(config.model)
    assert policy.dtype == torch.float32
    assert not torch.equal(policy.lm_head.weight, before.lm_head.weight)
    assert len(models.load_tokenizer(str(config.out / "policy"))) == len(models.load_tokenizer(config.model))
    for manifest in (config.out / "manifest.json", config.out / "policy" / "manifest.json"):
        assert jsonl.read_json(manifest)["config"]["grpo"]["precision"] == precision
    left = {path.name for path in config.out.iterdir()}
    assert left == {
        "completions.jsonl",
        "manifest.json",
        "metrics.jsonl",
        "policy",
        "problems.jsonl",
    }


def test_a_complete_run_is_left_alone(config: TrainConfig, graded: Callable[[Grading], None]) -> None:
    config = changed(config, steps=1)
    trl.train(config)
    before = texts(config.out)
    graded(lambda problem, program: pytest.fail("graded again"))
    assert trl.train(config) == config.out / "policy"
    with pytest.raises(ConfigError, match="made with grpo"):
        trl.train(changed(config, steps=2))
    assert texts(config.out) == before


class Stop(Exception):
    """What ends a run in the middle."""


def stopping(after: int) -> Grading:
    """Verdicts by text until so many samples are graded."""
    count = 0

    def grade(problem: Problem, program: str | None) -> Verdict:
        nonlocal count
        count += 1
        if count > after:
            raise Stop
        return by_text(problem, program)

    return grade


@pytest.mark.parametrize("precision", ["fp32", "bf16-master"])
def test_a_stopped_run_continues_at_its_checkpoint_and_is_the_same_run(
    config: TrainConfig, graded: Callable[[Grading], None], tmp_path: Path, precision: str
) -> None:
    config = changed(config, steps=5, updates_per_batch=2, precision=precision)
    graded(stopping(after=3 * 8 + 5))  # in the fourth step, one step behind the checkpoint
    with pytest.raises(Stop):
        trl.train(config)
    assert not (config.out / "policy").exists()
    assert {step for step, _, _ in texts(config.out)} == {1, 2, 3}

    graded(by_text)
    trl.train(config)
    assert [line["step"] for line in lines(config.out / "metrics.jsonl")] == [1, 2, 3, 4, 5]
    assert [step for step, _, _ in texts(config.out)] == [step for step in range(1, 6) for _ in range(8)]

    whole = changed(config, out=tmp_path / "whole")
    trl.train(whole)
    assert texts(config.out) == texts(whole.out)
    ours, theirs = (models.load_causal(str(run.out / "policy")) for run in (config, whole))
    assert torch.equal(ours.lm_head.weight, theirs.lm_head.weight)


@pytest.mark.parametrize("where", ["recode_rl.models.save_whole", "recode_rl.training.save_result", "shutil.rmtree"])
def test_a_run_stopped_behind_its_last_step_takes_no_step_more(
    config: TrainConfig, graded: object, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def stop(*args: object, **kwargs: object) -> None:
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(where, stop)
        with pytest.raises(Stop):
            trl.train(config)
    before = texts(config.out)
    trl.train(config)
    assert texts(config.out) == before
    assert [line["step"] for line in lines(config.out / "metrics.jsonl")] == [1, 2, 3]
    assert (config.out / "policy" / "config.json").is_file()
    assert jsonl.read_json(config.out / "policy" / "manifest.json")["stage"] == "train"
    assert not (config.out / ".training").exists()


def test_evaluations_on_the_way_do_not_change_what_is_drawn(
    config: TrainConfig, graded: object, tmp_path: Path
) -> None:
    trl.train(config)
    evaluated = changed(
        config, out=tmp_path / "evaluated", evaluation=EvaluationConfig(every=1, samples=2, temperature=1.0)
    )
    trl.train(evaluated)
    assert texts(evaluated.out) == texts(config.out)
    assert [line["eval/n"] for line in lines(evaluated.out / "metrics.jsonl")] == [6, 6, 6]


def test_an_evaluation_that_cannot_be_drawn_is_refused_before_the_first_step(
    config: TrainConfig, graded: object
) -> None:
    config = changed(config, evaluation=EvaluationConfig(every=1, samples=2, temperature=0.0))
    with pytest.raises(ConfigError, match="2 samples at temperature 0"):
        trl.train(config)
    assert not (config.out / "completions.jsonl").exists()


def test_with_two_updates_a_batch_the_ratio_leaves_one(config: TrainConfig, graded: object, tmp_path: Path) -> None:
    clipped = {}
    for updates in (1, 2):
        run = changed(config, out=tmp_path / str(updates), updates_per_batch=updates, learning_rate=0.05, steps=2)
        trl.train(run)
        metrics = lines(run.out / "metrics.jsonl")
        clipped[updates] = sum(line["clip/low_share"] + line["clip/high_share"] for line in metrics)
    assert clipped[1] == 0
    assert clipped[2] > 0


def test_a_run_is_the_one_that_the_engine_alone_would_have_made(
    config: TrainConfig, graded: Callable[[Grading], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def often_hopeless(problem: Problem, program: str | None) -> Verdict | SandboxError:
        hopeless = sum(problem.id.encode()) % 2
        return Verdict("wrong_answer", 0, 2, "stdio") if hopeless else by_text(problem, program)

    graded(often_hopeless)
    monkeypatch.setattr(
        "recode_rl.completion.parse", lambda text: dataclasses.replace(everything(text), format_ok=True)
    )
    config = changed(config, steps=4, updates_per_batch=2, micro_batch=2)
    trl.train(config.model_copy(update={"out": tmp_path / "ours"}))
    monkeypatch.setattr("recode_rl.policy.packing.trainer_class", lambda: engine.GRPOTrainer)
    trl.train(config.model_copy(update={"out": tmp_path / "theirs"}))
    ours, theirs = lines(tmp_path / "ours" / "metrics.jsonl"), lines(tmp_path / "theirs" / "metrics.jsonl")
    assert texts(tmp_path / "ours") == texts(tmp_path / "theirs")
    assert 0 < sum(line["groups/zero_std_share"] for line in ours) < len(ours)
    for our, their in zip(ours, theirs, strict=True):
        for name in ("loss", "grad_norm", "entropy", "clip/low_share", "clip/high_share"):
            assert our[name] == pytest.approx(their[name], rel=1e-3, abs=1e-6), name
    weights = [models.load_causal(str(tmp_path / out / "policy"), "float32").state_dict() for out in ("ours", "theirs")]
    for name, weight in weights[0].items():
        torch.testing.assert_close(weight, weights[1][name], atol=2e-5, rtol=1e-4, msg=name)


def test_a_sample_that_we_failed_is_absent_from_its_group_and_gets_no_update(
    config: TrainConfig, graded: Callable[[Grading], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 0

    def third_is_lost(problem: Problem, program: str | None) -> Verdict | SandboxError:
        nonlocal count
        count += 1
        return SandboxError("the cell is gone") if count % 4 == 3 else by_text(problem, program)

    graded(third_is_lost)
    made: list[list[float]] = []
    generate = engine.GRPOTrainer._generate_and_score_completions

    def watched(self: object, inputs: object) -> Any:
        output = generate(self, inputs)
        made.append(output["advantages"].tolist())
        return output

    monkeypatch.setattr(engine.GRPOTrainer, "_generate_and_score_completions", watched)
    config = changed(config, scale_rewards="none", reward=config.reward.model_copy(update={"max_infra_share": 1.0}))
    trl.train(config)

    records, metrics = lines(config.out / "completions.jsonl"), lines(config.out / "metrics.jsonl")
    assert len(made) == 3
    advantages = [value for step in made for value in step]
    for start in range(0, len(records), 4):
        group = records[start : start + 4]
        totals = [record.get("total") for record in group]
        assert totals[2] is None
        assert group[2]["error"] == "the cell is gone"
        mean = sum(total for total in totals if total is not None) / 3
        wanted = [0.0 if total is None else total - mean for total in totals]
        assert advantages[start : start + 4] == pytest.approx(wanted, abs=1e-5)
    assert any(abs(value) > 0.1 for value in advantages)
    assert [line["infra/failed"] for line in metrics] == [2, 2, 2]


def test_a_run_that_loses_too_many_samples_stops(config: TrainConfig, graded: Callable[[Grading], None]) -> None:
    graded(lambda problem, program: SandboxError("the cell is gone"))
    with pytest.raises(InfrastructureError, match=r"24 of 24 samples \(100%\).*max_infra_share.*the cell is gone"):
        trl.train(config)
    assert not (config.out / "policy").exists()


def watch_advantages(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the engine makes of every generation batch."""
    made: list[dict[str, Any]] = []
    generate = engine.GRPOTrainer._generate_and_score_completions

    def watched(self: object, inputs: object) -> Any:
        made.append(generate(self, inputs))
        return made[-1]

    monkeypatch.setattr(engine.GRPOTrainer, "_generate_and_score_completions", watched)
    return made


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_advantages_are_scaled_as_the_recipe_says(
    config: TrainConfig, graded: object, monkeypatch: pytest.MonkeyPatch, scale: str
) -> None:
    made = watch_advantages(monkeypatch)
    trl.train(changed(config, scale_rewards=scale, steps=1))
    totals = [record["total"] for record in lines(config.out / "completions.jsonl")]
    groups = [totals[start : start + 4] for start in (0, 4)]
    spread = {
        "group": [statistics.stdev(group) for group in groups],
        "batch": [statistics.stdev(totals)] * 2,
        "none": [1 - 1e-4] * 2,
    }[scale]
    wanted = [
        (total - statistics.fmean(group)) / (deviation + 1e-4)
        for group, deviation in zip(groups, spread, strict=True)
        for total in group
    ]
    assert made[0]["advantages"].tolist() == pytest.approx(wanted, abs=1e-4)
    assert any(abs(value) > 0.1 for value in wanted)


@pytest.mark.parametrize("mask", [True, False])
def test_truncated_completions_are_scored_and_in_the_loss_as_the_recipe_says(
    config: TrainConfig, graded: object, monkeypatch: pytest.MonkeyPatch, mask: bool
) -> None:
    made = watch_advantages(monkeypatch)
    # A random model hardly ever ends by itself.
    monkeypatch.setattr(
        engine.GRPOTrainer,
        "_generate_single_turn",
        lambda self, prompts, *args, **kwargs: (
            [[20 + i, 21, self.eos_token_ids[0]] if i % 2 else [20 + i] * 16 for i in range(len(prompts))],
            None,
        ),
    )
    trl.train(changed(config, mask_truncated=mask, steps=1))
    records = lines(config.out / "completions.jsonl")
    assert [record["truncated"] for record in records] == [True, False] * 4
    assert all("total" in record for record in records)
    assert lines(config.out / "metrics.jsonl")[0]["tokens/truncated_share"] == 0.5
    in_loss = [bool(row.any()) for row in made[0]["completion_mask"]]
    assert in_loss == ([False, True] * 4 if mask else [True] * 8)


def test_the_same_seed_is_the_same_run_and_another_seed_is_another(
    config: TrainConfig, graded: object, tmp_path: Path
) -> None:
    runs = [changed(config, out=tmp_path / name, seed=seed, steps=2) for name, seed in (("a", 3), ("b", 3), ("c", 4))]
    for run in runs:
        trl.train(run)
    first, second, other = (texts(run.out) for run in runs)
    assert first == second
    assert {text for _, _, text in first}.isdisjoint({text for _, _, text in other})


@pytest.mark.parametrize("precision", ["fp32", "bf16-master"])
def test_adapters_are_trained_continued_and_merged_into_a_plain_folder(
    config: TrainConfig, graded: Callable[[Grading], None], tmp_path: Path, precision: str
) -> None:
    config = changed(config, lora=LoraConfig(rank=2), precision=precision, learning_rate=1e-2, save_every=1)
    graded(stopping(after=2 * 8 + 5))
    with pytest.raises(Stop):
        trl.train(config)
    graded(by_text)
    trl.train(config)
    whole = changed(config, out=tmp_path / "whole")
    trl.train(whole)
    assert texts(config.out) == texts(whole.out)
    assert not (config.out / "policy" / "adapter_config.json").exists()
    base = models.load_causal(config.model).state_dict()
    in_bf16 = precision == "bf16-master"
    held = {name: value.to(torch.bfloat16).float() if in_bf16 else value for name, value in base.items()}
    ours, theirs = (models.load_causal(str(run.out / "policy")).state_dict() for run in (config, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert torch.equal(ours["model.embed_tokens.weight"], held["model.embed_tokens.weight"])
    name = "model.layers.0.mlp.up_proj.weight"
    assert 1 <= torch.linalg.matrix_rank(ours[name] - held[name], rtol=1e-3) <= 2


def test_weights_that_are_no_numbers_any_more_stop_the_run_and_are_in_no_checkpoint(
    config: TrainConfig, graded: object
) -> None:
    config = changed(config, learning_rate=1e38, weight_decay=1.0, save_every=1)
    with pytest.raises(ModelError, match=r"step [123]: weight '.*' holds nan or an infinity after the update"):
        trl.train(config)
    assert not (config.out / "policy").exists()
    for checkpoint in (config.out / ".training" / "checkpoints").glob("checkpoint-*"):
        assert health.broken_weight(models.load_causal(str(checkpoint))) is None


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a run tells its owner."""
    found: list[str] = []
    monkeypatch.setattr("recode_rl.policy.trl.say", found.append)
    monkeypatch.setattr("recode_rl.policy.journal.say", found.append)
    return found


def test_a_run_that_has_nothing_to_learn_says_so_at_its_first_step(
    config: TrainConfig, graded: Callable[[Grading], None], said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    graded(lambda problem, program: Verdict("wrong_answer", 0, 2, "stdio"))
    monkeypatch.setattr("recode_rl.completion.parse", lambda text: Completion(text, text, text, text, format_ok=False))
    trl.train(changed(config, steps=2))
    assert said[0].startswith("CG-GRPO: 104 problems to train on, 3 held out")
    assert any("step 1: in each of the 2 groups all completions earned the same" in text for text in said)


def test_a_run_says_how_many_samples_it_lost_and_remembers_them_when_it_goes_on(
    config: TrainConfig, graded: Callable[[Grading], None], said: list[str]
) -> None:
    config = changed(config, steps=4, save_every=2, reward=config.reward.model_copy(update={"max_infra_share": 0.45}))
    count = 0

    def losing(problem: Problem, program: str | None) -> Verdict | SandboxError:
        nonlocal count
        count += 1
        if count > 3 * 8:
            raise Stop
        return SandboxError("the cell is gone") if count % 2 and count <= 16 else by_text(problem, program)

    graded(losing)
    with pytest.raises(Stop):
        trl.train(config)
    assert "step 1: 4 of 8 samples have no reward, by no fault of theirs: the cell is gone" in said
    assert jsonl.read_json(config.out / "manifest.json")["problems"]["train"] == 104
    graded(lambda problem, program: SandboxError("the cell is gone") if problem else by_text(problem, program))
    with pytest.raises(InfrastructureError, match=r"16 of 24 samples .*the same command continues after step 2"):
        trl.train(config)


def test_a_data_set_without_a_problem_that_fits_is_one_sentence(config: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"0 training problems .*, \d+ of them left out for a prompt of more than 8"):
        trl.train(changed(config, data=DataConfig(max_prompt_tokens=8)))
    jsonl.write(tmp_path / "none.jsonl", [])
    with pytest.raises(DataError, match=r"none.jsonl: no problems in it"):
        trl.train(changed(config, data=DataConfig(dataset="file", path=tmp_path / "none.jsonl")))


def test_a_context_that_is_too_short_is_refused_before_the_first_step(config: TrainConfig) -> None:
    with pytest.raises(ConfigError, match=r"are 2512 tokens, but model .* takes 2048; lower one"):
        trl.train(changed(config, max_completion_tokens=2000))
    assert not config.out.exists()


@pytest.mark.parametrize(("problems", "per_step"), [(5, 2), (5, 5), (7, 3), (104, 4)])
def test_every_problem_is_asked_as_often_as_any_other_and_once_in_a_step(problems: int, per_step: int) -> None:
    order = trl.prompt_order(problems, per_step, 60, seed=1)
    assert len(order) == 60 * per_step
    steps = [order[start : start + per_step] for start in range(0, len(order), per_step)]
    assert all(len(set(step)) == per_step for step in steps)
    counts = Counter(order)
    assert max(counts.values()) - min(counts.get(number, 0) for number in range(problems)) <= 2
    assert order == trl.prompt_order(problems, per_step, 60, seed=1) != trl.prompt_order(problems, per_step, 60, seed=2)
    assert order[: 10 * per_step] == trl.prompt_order(problems, per_step, 10, seed=1)


def test_the_values_of_an_evaluation_by_hand() -> None:
    def row(problem: str, status: Status, process: float | None, truncated: bool = False) -> Row:
        verdict = Verdict(status, int(status == "passed"), 1, "stdio")
        reward = combine(find_rule("consistency_gated"), format_ok=True, verdict=verdict, process=process)
        return Row(problem, "x", 10, Scored(Completion("x", "x", "x", "x", True), verdict, reward), truncated)

    lost = Row("p", "x", 20, SandboxError("gone"))
    rows = [row("p", "passed", 0.5), lost, row("q", "passed", 0.1), row("q", "wrong_answer", None, truncated=True)]
    assert evaluation(rows) == {
        "eval/pass@1": pytest.approx((1 + 0.5) / 2),
        "eval/pass_rate": pytest.approx(2 / 3),
        "eval/format": 1.0,
        "eval/outcome": pytest.approx(2 / 3),
        "eval/process_passing": pytest.approx(0.3),
        "eval/reward_total": pytest.approx((2.5 + 2.1 + 1) / 3),
        "eval/tokens_mean": 12.5,
        "eval/truncated_share": 0.25,
        "eval/n": 3.0,
        "eval/not_evaluated": 1.0,
    }


def test_long_prompts_are_left_out_and_counted(config: TrainConfig, graded: object, tmp_path: Path) -> None:
    entries = starter.load()[:6]
    long = [dataclasses.replace(problem, prompt=problem.prompt * 50) for problem in entries[:2]]
    train = [dataclasses.replace(problem, metadata={"split": "train"}) for problem in (*long, *entries[2:])]
    problems = tmp_path / "problems.jsonl"
    jsonl.write(problems, map(problem_to_record, train))
    data = DataConfig(dataset="file", path=problems, max_prompt_tokens=1500)
    trl.train(changed(config, data=data, steps=1))
    assert jsonl.read_json(config.out / "policy" / "manifest.json")["problems"] == {
        "train": 4,
        "held_out": 0,
        "too_long": 2,
    }
    used = {record["id"] for record in lines(config.out / "problems.jsonl")}
    assert used == {problem.id for problem in entries[2:]}


def test_the_split_and_the_limits_decide_what_is_trained_on(config: TrainConfig, graded: object) -> None:
    tokenizer = models.load_tokenizer(config.model)
    data = DataConfig(limit=5, eval_limit=2, max_prompt_tokens=100_000)
    chosen = trl.select_problems(changed(config, data=data), tokenizer)
    assert len(chosen.train) == 5
    assert len(chosen.held_out) == 2
    assert {problem.metadata["split"] for problem in chosen.train} == {"train"}
    assert {problem.metadata["split"] for problem in chosen.held_out} == {"held_out"}
    again = trl.select_problems(changed(config, data=data), tokenizer)
    other = trl.select_problems(changed(config, data=data, seed=1), tokenizer)
    assert again == chosen
    assert [p.id for p in other.train] != [p.id for p in chosen.train]


def test_too_few_problems_are_one_sentence(config: TrainConfig) -> None:
    config = changed(config, data=DataConfig(limit=1))
    with pytest.raises(DataError, match=r"1 training problems in split 'train' of 'starter'.*prompts_per_step is 2"):
        trl.train(config)


def test_a_model_without_a_chat_template_is_one_sentence(config: TrainConfig, tmp_path: Path) -> None:
    from tiny import tiny_model

    base = tiny_model(tmp_path / "base")
    (base / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="no chat template"):
        trl.train(changed(config, model=str(base)))


def test_the_command_reports_steps_and_writes_a_report(config: TrainConfig, graded: object) -> None:
    pytest.importorskip("jinja2", reason="needs the extra [report]")
    pytest.importorskip("matplotlib", reason="needs the extra [report]")
    values = train_from_config(changed(config, steps=1))
    assert values["steps"] == 1
    assert values["last"]["step"] == 1
    assert "<html" in (config.out / "report.html").read_text(encoding="utf-8")


def test_the_other_engine_is_one_sentence(config: TrainConfig) -> None:
    with pytest.raises(ConfigError, match="verl"):
        train_from_config(changed(config, engine="verl"))

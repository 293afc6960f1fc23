"""The whole path with problems of mathematics: warm start, CG-GRPO, samples, verdicts, rewards and evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recode_rl import completion, jsonl, prompts
from recode_rl.config import DataConfig, EvaluationConfig, GrpoConfig, RewardConfig, SftConfig, TrainConfig
from recode_rl.errors import ConfigError, DataError
from recode_rl.evals import grading, rewards
from recode_rl.evals.run import Evaluation, evaluate
from recode_rl.grading import Grader
from recode_rl.problems import gsm8k
from recode_rl.types import Problem, Sample
from recode_rl.types import Tests as Given

pytest.importorskip("math_verify", reason="needs the extra [math]")
COUNTS = {number: f"How many is {number} and {7 - number}?" for number in range(8)}


def row(number: int) -> dict[str, str]:
    return {"question": COUNTS[number], "answer": f"It is <<{number}+{7 - number}=7>>7.\n#### 7"}


def problem(number: int = 1) -> Problem:
    return gsm8k.problem(row(number))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Eight problems to train on and two that are held out, in the files of GSM8K."""
    folder = tmp_path / "gsm8k"
    folder.mkdir()
    for name, numbers in (("train", range(8)), ("test", (1, 2))):
        rows = [{**row(n), "question": f"{COUNTS[n]} ({name})"} for n in numbers]
        (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(r)}\n" for r in rows), encoding="utf-8")
    return tmp_path


# -- prompt, form and answer -------------------------------------------------------------------------------------------


def test_mathematics_is_asked_for_in_the_same_form_with_a_box(tmp_path: Path) -> None:
    (message,) = prompts.policy(problem())
    for part in ("<think>", "</think>", "<answer>", "</answer>", "\\boxed{}"):
        assert part in message["content"]
    assert "Python" not in message["content"]
    assert message["content"].endswith(f"Problem:\n{COUNTS[1]}")
    assert not completion.parse(message["content"]).format_ok
    (tmp_path / "policy_answer.txt").write_text("Rechne: {problem}", encoding="utf-8")
    assert prompts.policy(problem(), tmp_path)[0]["content"] == f"Rechne: {COUNTS[1]}"


def test_a_target_is_well_formed_and_holds_its_answer() -> None:
    parsed = completion.parse(completion.render_answer(" Add.\n", r"\frac{1}{2}"))
    assert parsed.format_ok and parsed.reasoning == "Add."
    assert completion.submission(parsed, problem().tests) == r"\frac{1}{2}"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"<think>a</think><answer>\boxed{7}</answer>", "7"),
        (r"<think>\boxed{6}</think><answer>7</answer>", "7"),
        (r"<think>\boxed{6}</think><answer>It is \boxed{5}, no, \boxed{7}.</answer>", "7"),
        (r"<answer>\boxed{\{1, 2\}}</answer>", r"\{1, 2\}"),
        (r"<answer>\\boxed{7}</answer>", "7"),
        (r"So \boxed{6}, no, \boxed{7} it is.", "7"),
        (r"<think>a</think><answer>\boxed{7</answer>", r"\boxed{7"),
        (r"<think>a</think><answer>\boxed{}</answer>", None),
        ("<think>a</think><answer> </answer>", None),
        ("It is 7.", None),
        (r"<answer>\boxed{7}</answer><answer>\boxed{8}</answer>", "8"),
        ("", None),
    ],
)
def test_the_answer_of_a_completion(text: str, answer: str | None) -> None:
    assert completion.submission(completion.parse(text), problem().tests) == answer


def test_programs_are_still_programs() -> None:
    parsed = completion.parse("<think>a</think><answer>```python\nx = 1\n```</answer>")
    assert completion.submission(parsed, Given("stdio")) == "x = 1\n"


# -- stored samples ----------------------------------------------------------------------------------------------------

SAMPLES = [
    Sample("p", "0", completion=completion.render_answer("Add.", r"\frac{14}{2}")),
    Sample("p", "1", completion=completion.render_answer("Add.", "8")),
    Sample("p", "2", completion=r"Clearly \boxed{7}."),
    Sample("p", "3", completion="Clearly 7."),
    Sample("p", "4", program="7.0"),
    Sample("p", "5", program=r"\boxed{7.0}"),
    Sample("p", "6", program=" "),
]
STATUSES = ["passed", "wrong_answer", "passed", "no_code", "passed", "passed", "no_code"]


def test_stored_samples_are_graded_and_rewarded(tmp_path: Path, grader: Grader) -> None:
    asked = [Problem("p", COUNTS[1], problem().tests)]
    grading.grade_samples(asked, SAMPLES, tmp_path / "verdicts.jsonl", grader)
    lines = [record for _, record in jsonl.read(tmp_path / "verdicts.jsonl")]
    assert [line["status"] for line in lines] == STATUSES
    assert {line["isolation"] for line in lines} == {"none"}
    assert [line["format_ok"] for line in lines] == [True, True, False, False, None, None, None]
    values = rewards.reward_file(
        asked, SAMPLES, tmp_path / "rewards.jsonl", rewards.source_of("compiler", None, None), grader
    )
    assert values["rewarded"] == len(SAMPLES)
    totals = [record["total"] for _, record in jsonl.read(tmp_path / "rewards.jsonl")]
    assert totals == [2.0, 0.7, 1.0, -1.0, 1.0, 1.0, -1.0]


def test_an_evaluation_of_stored_samples(tmp_path: Path, grader: Grader) -> None:
    asked = [Problem("p", COUNTS[1], problem().tests, difficulty="easy")]
    jsonl.write(
        tmp_path / "s.jsonl",
        [{"problem_id": "p", "sample_id": s.sample_id, "completion": s.completion} for s in SAMPLES[:4]],
    )
    results = evaluate(Evaluation(asked, tmp_path / "eval", samples=tmp_path / "s.jsonl"), grader)
    assert results["pass@1"] == 0.5
    assert results["by_status"] == {"passed": 2, "wrong_answer": 1, "no_code": 1}


# -- training ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def warm(tiny: Path, tmp_path: Path, data: Path) -> SftConfig:
    return SftConfig(
        model=str(tiny),
        out=tmp_path / "sft",
        data=DataConfig(dataset="gsm8k", path=data),
        epochs=20,
        learning_rate=1e-2,
        batch_size=2,
        micro_batch=2,
        precision="fp32",
    )


def test_worked_solutions_are_what_the_warm_start_learns(warm: SftConfig) -> None:
    pytest.importorskip("trl", reason="needs the extra [train]")
    from recode_rl.policy import sft

    examples = sft.examples(warm)
    assert len(examples) == 8
    target = examples[0]["completion"][0]["content"]
    assert target == completion.render_answer("It is 7.", "7")
    with pytest.raises(ConfigError, match=r"'math500'.*only 'starter'.*gsm8k"):
        sft.examples(warm.model_copy(update={"data": DataConfig(dataset="math500")}))
    empty = warm.data.path and warm.data.path / "gsm8k" / "test.jsonl"
    with pytest.raises(DataError, match="no problems with a reasoning"):
        sft.examples(warm.model_copy(update={"data": DataConfig(dataset="gsm8k", path=empty)}))


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_a_warm_start_and_steps_of_cg_grpo_on_answers(warm: SftConfig, tiny_reward: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs the extra [train]")
    pytest.importorskip("trl", reason="needs the extra [train]")
    from recode_rl.policy import sft, trl

    torch.set_num_threads(1)
    sft.train(warm)
    config = TrainConfig(
        model=str(warm.out),
        out=tmp_path / "run",
        data=warm.data,
        reward=RewardConfig(model=str(tiny_reward)),
        grpo=GrpoConfig(
            steps=2,
            prompts_per_step=2,
            group_size=4,
            micro_batch=4,
            learning_rate=1e-4,
            max_completion_tokens=80,
            temperature=0.3,
            precision="fp32",
        ),
        evaluation=EvaluationConfig(every=2),
    )
    trl.train(config)
    completions = [record for _, record in jsonl.read(tmp_path / "run" / "completions.jsonl")]
    assert len(completions) == 16
    passing = [record for record in completions if record["status"] == "passed"]
    assert passing  # the warm start has seen eight problems whose answer is 7
    assert all(record["process"] is not None for record in passing)
    assert all(record["process"] is None for record in completions if record["status"] != "passed")
    last = [record for _, record in jsonl.read(tmp_path / "run" / "metrics.jsonl")][-1]
    assert last["eval/n"] == 2.0

"""The whole method on a random two-layer model: killed in every stage, it is complete after the same command."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from recode_rl import jsonl
from recode_rl.errors import ConfigError
from recode_rl.problems import starter
from recode_rl.problems.splits import select
from recode_rl.quickstart import SIZES, Settings, quickstart

for module in ("trl", "sklearn", "matplotlib", "jinja2"):
    pytest.importorskip(module, reason="needs the extras [train] and [report]")

STAGES = 9
SIZE = SIZES["tiny"]
# One thread: a model this small is slower on two, much slower where the machine has other work.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
PATIENCE_S = 240


def command(model: Path, out: Path) -> list[str]:
    options = ["--size", "tiny", "--model", str(model), "--out", str(out), "--precision", "fp32", "--json"]
    return [sys.executable, "-m", "recode_rl", "quickstart", *options]


def stopped_in(stage: int, delay: float, model: Path, out: Path, sent: int = signal.SIGKILL) -> int | None:
    """Start the command and end it `delay` seconds after the line of a stage; None where it was done before."""
    log = out.with_suffix(".log")
    with log.open("w", encoding="utf-8") as stderr:
        process = subprocess.Popen(command(model, out), env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=stderr)
        try:
            deadline = time.monotonic() + PATIENCE_S
            while f"[{stage}/{STAGES}]" not in log.read_text(encoding="utf-8"):
                assert process.poll() is None, log.read_text(encoding="utf-8")
                assert time.monotonic() < deadline, log.read_text(encoding="utf-8")
                time.sleep(0.02)
            time.sleep(delay)
            if process.poll() is not None:
                return None
            process.send_signal(sent)
            return process.wait(timeout=60)
        finally:
            process.kill()
            process.wait()


def finished(model: Path, out: Path) -> dict[str, Any]:
    """Run the command to its end and return the summary that it prints."""
    run = subprocess.run(command(model, out), env=ENVIRONMENT, capture_output=True, text=True, timeout=PATIENCE_S)
    assert run.returncode == 0, run.stderr
    summary: dict[str, Any] = json.loads(run.stdout)  # one object and nothing else
    return summary


@pytest.fixture(scope="module")
def survivor(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A run that was killed once in each stage, at moments that a seed decides, and then completed."""
    out = tmp_path_factory.mktemp("quickstart") / "run"
    moments = random.Random(0)
    for stage in range(1, STAGES + 1):
        assert stopped_in(stage, moments.uniform(0.0, 2.5), tiny, out) in (-signal.SIGKILL, None)
    return out, finished(tiny, out)


def lines(path: Path) -> list[dict[str, Any]]:
    return [record for _, record in jsonl.read(path)]


def steps(path: Path) -> list[int]:
    return [record["step"] for record in lines(path)]


def check_complete(out: Path, summary: dict[str, Any]) -> None:
    """Everything a complete run has, each record once."""
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.rstrip().endswith("</html>")
    assert summary["report"] == str(out / "report.html")

    held_out = [problem.id for problem in select(starter.load(), "held_out")[: SIZE.problems]]
    wanted = [(name, str(index)) for name in held_out for index in range(SIZE.samples)]
    for label in ("before_sft", "after_sft", "after_rl"):
        folder = out / "eval" / label
        results = jsonl.read_json(folder / "results.json")
        assert (results["n"], results["samples"], results["not_evaluated"]) == (len(held_out), len(wanted), [])
        written = [(r["problem_id"], r["sample_id"]) for r in lines(folder / "samples.jsonl")]
        assert sorted(written) == sorted(wanted)
        for name in ("verdicts.jsonl", "rewards.jsonl"):
            assert [(r["problem_id"], r["sample_id"]) for r in lines(folder / name)] == written

    assert steps(out / "metrics.jsonl") == list(range(1, SIZE.steps + 1))
    per_step = SIZE.prompts_per_step * SIZE.group_size
    assert steps(out / "completions.jsonl") == [s for s in range(1, SIZE.steps + 1) for _ in range(per_step)]
    for stage in ("sft", "reward-model"):
        found = steps(out / stage / "metrics.jsonl")
        assert found == list(range(1, len(found) + 1))
        assert (out / stage / "manifest.json").is_file()
    for folder in ("sft", "reward-model", "policy"):
        assert (out / folder / "model.safetensors").is_file()
    assert jsonl.read_json(out / "reward-model" / "evaluation.json")["n"] == SIZE.pairs
    assert len(lines(out / "problems.jsonl")) == len(starter.load("all"))

    stages = jsonl.read_json(out / "manifest.json")["stages"]
    assert len(stages) == STAGES
    assert all(stage["runs"] >= 1 for stage in stages.values())
    assert [path.name for path in out.glob(".*training")] == []


@pytest.mark.timeout(900)
def test_a_kill_in_each_stage_and_the_same_command_make_a_complete_report(
    survivor: tuple[Path, dict[str, Any]],
) -> None:
    check_complete(*survivor)


@pytest.mark.timeout(900)
def test_the_same_command_on_a_complete_run_changes_no_result(
    survivor: tuple[Path, dict[str, Any]], tiny: Path
) -> None:
    out, summary = survivor
    results = [path for path in out.rglob("*") if path.suffix in (".jsonl", ".safetensors") and path.parent != out]
    results += [out / "metrics.jsonl", out / "completions.jsonl", *out.glob("eval/*/results.json")]
    before = {path: path.read_bytes() for path in results}
    again = finished(tiny, out)
    assert {path: path.read_bytes() for path in results} == before
    assert again["pass@1"] == summary["pass@1"]


@pytest.mark.timeout(900)
def test_control_c_says_that_the_same_command_continues(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    # Interrupted inside exec() of a text, as in the imports of this stage, CPython ends by the signal itself: a shell
    # sees 130 all the same.
    assert stopped_in(2, 2.0, tiny, out, signal.SIGINT) in (130, -signal.SIGINT)
    last = (tmp_path / "run.log").read_text(encoding="utf-8").strip().splitlines()[-1]
    assert last == "recode-rl: stopped; run the same command again to continue"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(1, 5))
def test_kills_at_any_moment(tiny: Path, tmp_path: Path, seed: int) -> None:
    out, moments = tmp_path / "run", random.Random(seed)
    for stage in range(1, STAGES + 1):
        for _ in range(2):
            stopped_in(stage, moments.uniform(0.0, 8.0), tiny, out)
    check_complete(out, finished(tiny, out))


@pytest.mark.parametrize(
    "other",
    [
        {"size": "small"},
        {"seed": 1},
        {"model": "another/model"},
        {"precision": "fp32"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_a_folder_belongs_to_one_run(tmp_path: Path, other: dict[str, Any]) -> None:
    from recode_rl import quickstart as module

    first = {"out": tmp_path, "size": "tiny", "model": "owner/model"}
    module._same_run(Settings(**first))
    before = (tmp_path / "manifest.json").read_bytes()
    module._same_run(Settings(**first))
    with pytest.raises(ConfigError, match=r"holds a run with .*choose another --out or remove it"):
        module._same_run(Settings(**{**first, **other}))
    assert (tmp_path / "manifest.json").read_bytes() == before


def test_an_unknown_size_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="size 'huge': expected one of tiny, small, medium"):
        quickstart(Settings(tmp_path / "run", size="huge"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("size", SIZES)
def test_no_evaluation_problem_is_trained_on(size: str, tmp_path: Path) -> None:
    from recode_rl.config import SftConfig
    from recode_rl.policy.sft import examples
    from recode_rl.quickstart import Run

    run = Run(Settings(tmp_path), SIZES[size], "model")
    held_out = {problem.id for problem in run.held_out()}
    prompts = [row["prompt"][0]["content"] for row in examples(SftConfig(out=tmp_path / "sft"))]
    assert held_out
    assert held_out.isdisjoint(pair.problem_id for pair in run.pairs("train"))
    assert not any(problem.prompt in prompt for problem in run.held_out() for prompt in prompts)


@pytest.mark.parametrize("size", SIZES)
def test_every_size_is_a_valid_training_config(size: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from recode_rl.policy import trl
    from recode_rl.quickstart import Run, _train

    seen: list[Any] = []
    monkeypatch.setattr(trl, "train", seen.append)
    _train(Run(Settings(tmp_path), SIZES[size], "model"))
    (config,) = seen
    batch = config.grpo.prompts_per_step * config.grpo.group_size
    assert batch % (config.grpo.updates_per_batch * config.grpo.micro_batch) == 0
    assert config.grpo.updates_per_batch >= 2  # so that clip-higher can fire
    assert config.reward.rule == "consistency_gated"

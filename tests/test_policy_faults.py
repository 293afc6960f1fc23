"""What may happen to a CG-GRPO run: it is killed, its servers are, the disk is full, there are several of it.

Each run is a process of its own on a random two-layer model, with real grading and a reward model; it goes on, or says
how to, and no sample gets a reward that is not its own.
"""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from recode_rl import jsonl, models

for module in ("torch", "trl", "peft"):
    pytest.importorskip(module, reason="needs the extra [train]")

import faults  # noqa: E402  # it needs what was asked for above
from tiny import tiny_reward_model  # noqa: E402

STEPS, UPDATES, ROWS = 6, 2, 8
TIMES = ("time_s", "time/")


@pytest.fixture(scope="module")
def problems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("faults") / "problems.jsonl"
    jsonl.write(path, faults.PROBLEMS)
    return path


@pytest.fixture(scope="module")
def tiny_reward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reward model whose scores are far from 0 and 1."""
    return tiny_reward_model(tmp_path_factory.mktemp("faults") / "reward", spread=0.05)


@pytest.fixture
def config(tiny: Path, tiny_reward: Path, problems: Path, tmp_path: Path) -> dict[str, Any]:
    return recipe(tiny, tiny_reward, problems, tmp_path / "run")


def recipe(tiny: Path, reward: Path | str, problems: Path, out: Path) -> dict[str, Any]:
    """Six steps of two updates on two prompts in groups of four, with a checkpoint every second step."""
    return {
        "model": str(tiny),
        "out": str(out),
        "data": {"dataset": "file", "path": str(problems)},
        "reward": {"model": str(reward), "max_length": 256, "max_infra_share": 1.0},
        "grpo": {
            "steps": STEPS, "prompts_per_step": 2, "group_size": 4, "updates_per_batch": UPDATES, "micro_batch": 4,
            "learning_rate": 1e-3, "max_completion_tokens": 16, "precision": "fp32",
        },
        "evaluation": {"every": 3},
        "save_every": 2,
    }  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(tiny: Path, tiny_reward: Path, problems: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run without any fault."""
    out = tmp_path_factory.mktemp("faults") / "whole"
    play(recipe(tiny, tiny_reward, problems, out))
    return out


def play(config: dict[str, Any], **how: Any) -> None:
    with faults.running(faults.play, config, *how.values()) as process:
        process.join(timeout=500)
        assert process.exitcode == 0, said(config)


def said(config: dict[str, Any]) -> str:
    path = Path(config["out"]).with_suffix(".error")
    return path.read_text(encoding="utf-8") if path.exists() else ""


def metrics(out: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without their times."""
    found = [record for _, record in jsonl.read(out / "metrics.jsonl")]
    return [{key: value for key, value in line.items() if not key.startswith(TIMES)} for line in found]


def assert_true_rewards(out: Path, most_lost: int = 0) -> None:
    """Every sample has the verdict of its own program and the score of its own reasoning, or no reward at all."""
    found = faults.records(out)
    assert Counter(record["step"] for record in found) == dict.fromkeys(range(1, STEPS + 1), ROWS)
    lost = [record for record in found if "error" in record]
    assert len(lost) <= most_lost
    for record in found:
        if "error" in record:
            assert "total" not in record
            continue
        assert record["status"] == faults.expected(record["completion"])
        gated = record["status"] == "passed"
        assert (record["process"] is not None) == gated
        total = record["format"] + float(gated) + (record["process"] or 0.0)
        assert record["total"] == pytest.approx(total)
    assert len({record.get("status") for record in found} - {None}) == 3


def assert_same_run(out: Path, other: Path) -> None:
    import torch

    assert faults.records(out) == faults.records(other)
    assert metrics(out) == metrics(other)
    assert [line["step"] for line in metrics(out)] == list(range(1, STEPS + 1))
    ours, theirs = (models.load_causal(str(run / "policy")).state_dict() for run in (out, other))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def until(met: Callable[[], bool], process: Any) -> None:
    """Wait for something that a process does; how long that takes is not what is tested."""
    while not met():
        assert process.is_alive(), "it has ended before"
        time.sleep(0.01)


def at_step(config: dict[str, Any], step: int) -> Callable[[], bool]:
    return lambda: any(record["step"] >= step for record in faults.records(Path(config["out"])))


def test_a_run_without_a_fault_learns_and_rewards_each_sample_by_itself(undisturbed: Path, tiny: Path) -> None:
    import torch

    assert_true_rewards(undisturbed)
    before, after = models.load_causal(str(tiny)), models.load_causal(str(undisturbed / "policy"))
    assert not torch.equal(before.lm_head.weight, after.lm_head.weight)
    assert [line["step"] for line in metrics(undisturbed) if "eval/pass@1" in line] == [3, 6]
    assert metrics(undisturbed)[2]["eval/n"] == 2


def test_a_run_that_is_killed_at_any_moment_is_the_same_run_in_the_end(
    config: dict[str, Any], undisturbed: Path
) -> None:
    draw = random.Random(time.time_ns())
    out = Path(config["out"])
    for step in (1, 3, 5):
        with faults.running(faults.play, config) as process:
            until(at_step(config, step), process)
            time.sleep(draw.uniform(0, 0.6))  # in the middle of an update, a checkpoint, or the next batch
    assert not (out / "policy").exists() or len(metrics(out)) == STEPS
    play(config)
    assert_same_run(out, undisturbed)


def test_a_run_whose_sandbox_is_killed_again_and_again_goes_on(config: dict[str, Any]) -> None:
    play(config, kill_cells=True)
    assert_true_rewards(Path(config["out"]), most_lost=STEPS * ROWS // 4)


@pytest.mark.parametrize("file", ["optimizer.pt", "trainer_state.json"])
def test_a_full_disk_at_a_checkpoint_is_said_and_the_last_whole_one_is_continued(
    config: dict[str, Any], undisturbed: Path, file: str
) -> None:
    checkpoints = Path(config["out"]) / ".training" / "checkpoints"
    unfinished = checkpoints / f"checkpoint-{4 * UPDATES}"
    with faults.running(faults.play, config) as process:
        until(at_step(config, 3), process)
        unfinished.mkdir()
        (unfinished / file).symlink_to("/dev/full")
        process.join(timeout=500)
        assert process.exitcode == 1
    assert "the disk is full; make room" in said(config)
    assert "the same command continues after step 2" in said(config)
    assert [path.name for path in checkpoints.glob("checkpoint-*")] == [f"checkpoint-{2 * UPDATES}"]
    play(config)
    assert_same_run(Path(config["out"]), undisturbed)


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def by_url(config: dict[str, Any], port: int, wait_s: float) -> dict[str, Any]:
    return {**config, "reward": {**config["reward"], "model": f"http://127.0.0.1:{port}", "wait_s": wait_s}}


@contextmanager
def serving(reward: Path, port: int) -> Iterator[Any]:
    """A reward model's server that can be reached."""
    with faults.running(faults.serve, str(reward), port) as process:

        def there() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        until(there, process)
        yield process


def assert_served_scores(out: Path, reward: Path) -> None:
    """What the server said is what the reward model says."""
    from recode_rl.scorer import RewardModelScorer

    statements = {problem["id"]: problem["prompt"] for problem in faults.PROBLEMS}
    scored = [record for record in faults.records(out) if record.get("process")]
    items = [(statements[record["problem_id"]], record["completion"]) for record in scored]
    wanted = RewardModelScorer(str(reward), 256)(items)
    assert [record["process"] for record in scored] == pytest.approx(wanted, abs=1e-5)


def test_a_reward_server_that_is_killed_and_started_again_is_waited_for(
    config: dict[str, Any], tiny_reward: Path, port: int
) -> None:
    for name in ("starlette", "uvicorn", "tenacity"):
        pytest.importorskip(name, reason="needs the extras [serve] and [remote]")
    config = by_url(config, port, wait_s=400)
    with faults.running(faults.play, config) as run:  # before there is a server
        with serving(tiny_reward, port):
            until(at_step(config, 2), run)
        time.sleep(1)
        assert run.is_alive()
        with serving(tiny_reward, port):
            run.join(timeout=500)
        assert run.exitcode == 0, said(config)
    assert_true_rewards(Path(config["out"]))
    assert_served_scores(Path(config["out"]), tiny_reward)


def test_a_reward_server_that_stays_away_stops_the_run_which_can_be_continued(
    config: dict[str, Any], tiny_reward: Path, port: int
) -> None:
    for name in ("starlette", "uvicorn", "tenacity"):
        pytest.importorskip(name, reason="needs the extras [serve] and [remote]")
    config, out = by_url(config, port, wait_s=2), Path(config["out"])
    with serving(tiny_reward, port) as server, faults.running(faults.play, config) as run:
        until(at_step(config, 3), run)
        server.kill()
        run.join(timeout=500)
        assert run.exitcode == 1
    assert "the reward model cannot be asked: http://127.0.0.1" in said(config)
    assert "waited for 2 s" in said(config)
    assert "[stopped: the same command continues after step" in said(config)
    assert not (out / "policy").exists()
    with serving(tiny_reward, port):
        play(config)
    assert_true_rewards(out)
    assert_served_scores(out, tiny_reward)


def launched(config: dict[str, Any], path: Path) -> subprocess.Popen[str]:
    """The run in two processes."""
    path.write_text(json.dumps(config), encoding="utf-8")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    return subprocess.Popen(
        [*launch, str(Path(faults.__file__)), str(path)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_two_processes_share_the_work_are_killed_and_go_on(config: dict[str, Any], tmp_path: Path) -> None:
    config["grpo"] |= {"micro_batch": 2}
    out = Path(config["out"])
    with launched(config, tmp_path / "config.json") as run:
        try:
            while not at_step(config, 3)():
                assert run.poll() is None, run.communicate()[1][-2000:]
                time.sleep(0.01)
        finally:
            faults.end_family(run.pid)
    assert not (out / "policy").exists()
    with launched(config, tmp_path / "config.json") as run:
        try:
            _, errors = run.communicate(timeout=500)
        except subprocess.TimeoutExpired:
            faults.end_family(run.pid)
            raise
    assert run.returncode == 0, errors[-2000:]
    assert "continuing after step" in errors
    assert_true_rewards(out)
    lines, found = metrics(out), faults.records(out)
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    for line in lines:  # the numbers are of both processes together
        totals = [record["total"] for record in found if record["step"] == line["step"]]
        assert line["reward/total"] == pytest.approx(sum(totals) / ROWS)
        assert line["gate/open_share"] == pytest.approx(line["reward/outcome"])
    assert [line["eval/n"] for line in lines if "eval/n" in line] == [2, 2]
    manifest = jsonl.read_json(out / "policy" / "manifest.json")
    assert manifest["processes"] == 2
    assert manifest["problems"] == {"train": 5, "held_out": 2, "too_long": 0}
    assert not (out / ".training").exists()

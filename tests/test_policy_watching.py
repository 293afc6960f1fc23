"""The monitor in a real run: it changes no reward and no weight, stops behind a checkpoint, and goes on as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_policy_trl import (  # fixtures and helpers of the same small runs
    changed,
    config,
    graded,
    lines,
    one_thread,
    texts,
)

from recode_rl import completion, models
from recode_rl.config import AlarmsConfig, MonitorConfig, TrainConfig
from recode_rl.errors import InfrastructureError, Interrupted
from recode_rl.monitor import Monitor
from recode_rl.policy import trl, watching
from recode_rl.policy.rewards import Row
from recode_rl.policy.stage import train_from_config
from recode_rl.reward import Scored, combine, find_rule
from recode_rl.types import Problem, Tests, Verdict

torch = pytest.importorskip("torch", reason="needs the extra [train]")
pytest.importorskip("trl", reason="needs the extra [train]")

__all__ = ["config", "graded", "one_thread"]

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

# Raised by every run, as soon as a window is full.
ALWAYS = MonitorConfig(first_steps=2, window=3, stop_on=("no_signal",), alarms=AlarmsConfig(no_signal=0.0))


def rewarded(out: Path) -> list[dict[str, Any]]:
    """The records of all completions without what was scored for watching."""
    return [{key: value for key, value in r.items() if key != "audited"} for r in lines(out / "completions.jsonl")]


def test_rewards_and_weights_are_the_same_to_the_bit_with_the_audit_and_without(
    config: TrainConfig, graded: object, tmp_path: Path
) -> None:
    watched = changed(config, monitor=MonitorConfig(audit_share=1.0))
    runs = {
        "watched": watched,
        "without": changed(config, out=tmp_path / "without", monitor=MonitorConfig(audit_share=0.0)),
        "off": changed(config, out=tmp_path / "off", monitor=MonitorConfig(enabled=False)),
    }
    for run in runs.values():
        trl.train(run)
    found = lines(watched.out / "completions.jsonl")
    failing = [r for r in found if r["status"] != "passed"]
    assert failing
    assert all(0 < r["audited"] < 1 for r in failing if r["completion"])
    assert not any("audited" in r for r in found if r["status"] == "passed")
    assert all(r["process"] is None for r in failing)
    for metrics in lines(watched.out / "metrics.jsonl"):
        here = [r["audited"] for r in failing if r["step"] == metrics["step"] and "audited" in r]
        assert metrics["audit/scored"] == len(here)
        assert metrics["process/failing"] == pytest.approx(sum(here) / len(here))

    weights = {name: models.load_causal(str(run.out / "policy")).state_dict() for name, run in runs.items()}
    for name in ("without", "off"):
        assert rewarded(runs[name].out) == rewarded(watched.out)
        assert all(torch.equal(weights[name][key], value) for key, value in weights["watched"].items())
        assert not any("audited" in r for r in lines(runs[name].out / "completions.jsonl"))
    assert "process/failing" not in lines(runs["off"].out / "metrics.jsonl")[0]


def test_an_alarm_stops_the_run_behind_a_checkpoint_and_the_same_command_goes_on(
    config: TrainConfig, graded: object, tmp_path: Path
) -> None:
    stopping = changed(config, steps=5, save_every=4, updates_per_batch=2, monitor=ALWAYS)
    with pytest.raises(Interrupted, match=r"stopped at step 3 by the alarm no_signal: .* same command goes on"):
        trl.train(stopping)
    assert [line["step"] for line in lines(stopping.out / "metrics.jsonl")] == [1, 2, 3]
    assert [alarm["step"] for alarm in lines(stopping.out / "alarms.jsonl") if alarm["name"] == "no_signal"] == [3]
    assert not (stopping.out / "policy").exists()

    trl.train(stopping)
    whole = changed(stopping, out=tmp_path / "whole", monitor=ALWAYS.model_copy(update={"stop_on": ()}))
    trl.train(whole)
    assert texts(stopping.out) == texts(whole.out)
    assert lines(stopping.out / "alarms.jsonl") == lines(whole.out / "alarms.jsonl")
    ours, theirs = (models.load_causal(str(run.out / "policy")) for run in (stopping, whole))
    assert torch.equal(ours.lm_head.weight, theirs.lm_head.weight)


def test_a_stopped_run_leaves_a_report_and_may_go_on_with_another_watch(config: TrainConfig, graded: object) -> None:
    pytest.importorskip("jinja2", reason="needs the extra [report]")
    pytest.importorskip("matplotlib", reason="needs the extra [report]")
    with pytest.raises(Interrupted):
        train_from_config(changed(config, steps=4, monitor=ALWAYS))
    page = (config.out / "report.html").read_text(encoding="utf-8")
    assert "Alarm at step 3, no signal" in page
    assert "Watch on reward hacking" in page
    assert train_from_config(changed(config, steps=4, monitor=MonitorConfig(enabled=False)))["steps"] == 4


def test_rows_become_what_the_monitor_takes() -> None:
    text = completion.render("Read n.", "print(1)")
    verdict = Verdict("wrong_answer", 0, 1, "stdio")
    reward = combine(find_rule("consistency_gated"), format_ok=True, verdict=verdict, process=None)
    rows = [
        Row("p", text, 5, Scored(completion.parse(text), verdict, reward)),
        Row("p", text, 6, InfrastructureError("gone")),
        Row("q", text, 7, InfrastructureError("gone")),
    ]
    found = watching.watched(rows, 2, {"p": "statement of p", "q": "statement of q"})
    assert [(w.group, w.statement, w.tokens, w.reward is None) for w in found] == [
        ("0", "statement of p", 5, False),
        ("0", "statement of p", 6, True),
        ("1", "statement of q", 7, True),
    ]
    assert all(w.reasoning == "Read n." for w in found)


def test_a_monitor_knows_the_problems_of_its_run(config: TrainConfig) -> None:
    problem = Problem("p", "Print the square.", Tests("stdio"))
    monitor = watching.open_monitor(config, [problem], None)
    assert isinstance(monitor, Monitor)
    watching.stop_if_asked(monitor)

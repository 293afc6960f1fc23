"""The command `train`: choose the engine, run it, and leave a report beside the run."""

from __future__ import annotations

from typing import Any

from recode_rl import jsonl, training
from recode_rl.config import TrainConfig
from recode_rl.errors import Interrupted, MissingExtraError
from recode_rl.policy import trl
from recode_rl.policy.verl import stage as verl
from recode_rl.progress import say


def train_from_config(config: TrainConfig) -> dict[str, Any]:
    """Run CG-GRPO; returns the steps and the last line of metrics.jsonl."""
    try:
        policy = verl.train(config) if config.engine == "verl" else trl.train(config)
    except Interrupted:
        _report(config)  # what has stopped it is to be looked at
        raise
    metrics = [record for _, record in jsonl.read(config.out / "metrics.jsonl")]
    _report(config)
    return {"policy": str(policy), "steps": len(metrics), "last": metrics[-1] if metrics else None}


def _report(config: TrainConfig) -> None:
    if not training.is_first():
        return
    try:
        from recode_rl.report import build_report

        build_report([config.out], config.out / "report.html")
    except MissingExtraError as error:
        say(f"no report: {error}")

"""The command `train`: choose the engine, run it, and leave a report beside the run."""

from __future__ import annotations

from typing import Any

from recode_rl import jsonl
from recode_rl.config import TrainConfig
from recode_rl.errors import ConfigError, MissingExtraError
from recode_rl.policy import trl
from recode_rl.progress import say


def train_from_config(config: TrainConfig) -> dict[str, Any]:
    """Run CG-GRPO; returns the steps and the last line of metrics.jsonl."""
    if config.engine == "verl":
        raise ConfigError("engine 'verl' is not built yet; use engine = \"trl\"")
    policy = trl.train(config)
    metrics = [record for _, record in jsonl.read(config.out / "metrics.jsonl")]
    try:
        from recode_rl.report import build_report

        build_report([config.out], config.out / "report.html")
    except MissingExtraError as error:
        say(f"no report: {error}")
    return {"policy": str(policy), "steps": len(metrics), "last": metrics[-1] if metrics else None}

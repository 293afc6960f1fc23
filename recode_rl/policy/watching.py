"""Feeds the monitor from an engine: rows of a generation batch in, and the end of a run that an alarm has stopped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from recode_rl import completion as completions
from recode_rl import training
from recode_rl.config import TrainConfig
from recode_rl.errors import InfrastructureError, Interrupted
from recode_rl.monitor import Monitor, Watched
from recode_rl.policy.rewards import Row
from recode_rl.reward import Scorer
from recode_rl.types import Problem


def open_monitor(config: TrainConfig, problems: Sequence[Problem], scorer: Scorer | None) -> Monitor:
    """The monitor of a run, with what a stopped run in the same folder left behind."""
    statements = {problem.id: problem.prompt for problem in problems}
    monitor = Monitor(config.monitor, statements, scorer, config.out, config.grpo.scale_rewards)
    monitor.resume(config.out)
    return monitor


def watched(rows: Sequence[Row], group_size: int, statements: Mapping[str, str]) -> list[Watched]:
    """Rows in which groups stand together, as the monitor takes them."""
    return [_watched(row, place // group_size, statements) for place, row in enumerate(rows)]


def _watched(row: Row, group: int, statements: Mapping[str, str]) -> Watched:
    scored = None if isinstance(row.outcome, InfrastructureError) else row.outcome
    return Watched(
        group=str(group),
        problem_id=row.problem_id,
        statement=statements[row.problem_id],
        completion=scored.completion if scored else completions.parse(row.text),
        tokens=row.tokens,
        reward=scored.reward if scored else None,
    )


def stop_if_asked(monitor: Monitor) -> None:
    """Interrupted, in every process, where an alarm has stopped the run."""
    reason = next((reason for reason in training.gathered(monitor.stop_reason) if reason), None)
    if reason is not None:
        raise Interrupted(reason)

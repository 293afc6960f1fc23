"""The reward functions that TRL calls: three thin columns over one shared `Reward.score` of the whole batch.

TRL sums the columns and leaves out those that are None. So a gated-out process reward is None, and a sample that our
own infrastructure failed is None in all three: it enters neither the group's mean nor the update.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from recode_rl.errors import InfrastructureError, UnreachableError
from recode_rl.reward import Reward, Scored
from recode_rl.types import Problem

Outcome = Scored | InfrastructureError
_MIN_SAMPLES_TO_STOP = 20


def alone(part: Any) -> list[Any]:
    """What a run of one process gathers."""
    return [part]


@dataclass
class RewardColumns:
    """The columns r_fmt, r_out and r_proc of a generation batch; `on_batch(step, rows)` sees every scored batch.

    `on_begin` is called before a batch is scored.

    Of several processes each scores its own samples; `gather` returns what each of them gave, in their order, so that
    all of them see the rows of the whole batch (groups stand together in it), and all stop where one has to.
    `ends` are the tokens that end a completion: one without is truncated. `failed` and `seen` count samples of the
    whole run.
    """

    reward: Reward
    problems: dict[str, Problem]
    max_infra_share: float
    on_batch: Callable[[int, list[Row]], None]
    on_begin: Callable[[], None] = lambda: None
    gather: Callable[[Any], list[Any]] = alone
    ends: frozenset[int] = frozenset()
    overlapped: bool = False
    failed: int = 0
    seen: int = 0
    _batch: Any = None
    _scored: list[Outcome] = field(default_factory=list)

    def functions(self) -> list[Callable[..., list[float | None]]]:
        """What GRPOTrainer takes as `reward_funcs`; the names appear in its logs."""

        def r_fmt(**batch: Any) -> list[float | None]:
            return [_column(outcome, "format") for outcome in self._score(batch)]

        def r_out(**batch: Any) -> list[float | None]:
            return [_column(outcome, "outcome") for outcome in self._score(batch)]

        def r_proc(**batch: Any) -> list[float | None]:
            return [_process(outcome) for outcome in self._score(batch)]

        return [r_fmt, r_out, r_proc]

    def _score(self, batch: dict[str, Any]) -> list[Outcome]:
        completions = batch["completions"]
        if self._batch is completions:  # the reference is kept, so the identity cannot be another list's
            return self._scored
        self.on_begin()
        mine, rows = self._shared(batch)
        self._count(rows)
        self.on_batch(int(batch["trainer_state"].global_step), rows)
        self._scored = [row.outcome for row in mine]
        self._batch = completions
        return self._scored

    def _shared(self, batch: dict[str, Any]) -> tuple[list[Row], list[Row]]:
        """The rows of this process and those of all; what stops one process stops all of them."""
        try:
            mine = self._rows(batch)
        except Exception as error:  # a process boundary: the others wait for what this one has to say
            self.gather(Stopped(f"{type(error).__name__}: {error}"))
            raise
        parts = self.gather(mine)
        for number, part in enumerate(parts):
            if isinstance(part, Stopped):
                raise InfrastructureError(f"process {number} stopped ({part.reason}), so this one does")
        return mine, [row for part in parts for row in part]

    def _rows(self, batch: dict[str, Any]) -> list[Row]:
        texts = [message[0]["content"] for message in batch["completions"]]
        problems = [self.problems[identifier] for identifier in batch["problem_id"]]
        score = self.reward.score_overlapped if self.overlapped else self.reward.score
        outcomes = score(list(zip(problems, texts, strict=True)))
        return [
            Row(problem.id, text, len(ids), outcome, truncated=bool(self.ends) and ids[-1] not in self.ends)
            for problem, text, ids, outcome in zip(problems, texts, batch["completion_ids"], outcomes, strict=True)
        ]

    def _count(self, rows: Sequence[Row]) -> None:
        failures = [row.outcome for row in rows if isinstance(row.outcome, InfrastructureError)]
        down = next((failure for failure in failures if isinstance(failure, UnreachableError)), None)
        if down is not None:  # it was waited for already, and would be for every batch to come
            raise InfrastructureError(f"the reward model cannot be asked: {down}")
        self.failed += len(failures)
        self.seen += len(rows)
        share = self.failed / self.seen
        if failures and self.seen >= _MIN_SAMPLES_TO_STOP and share > self.max_infra_share:
            raise InfrastructureError(
                f"{self.failed} of {self.seen} samples ({share:.0%}) could not be graded or scored, more than "
                f"reward.max_infra_share = {self.max_infra_share:.0%} allows; the last reason: {failures[-1]}"
            )


@dataclass(frozen=True, slots=True)
class Row:
    """One completion of a generation batch with what it earned."""

    problem_id: str
    text: str
    tokens: int
    outcome: Outcome
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Stopped:
    """What a process that cannot go on tells the others."""

    reason: str


def _column(outcome: Outcome, name: str) -> float | None:
    return None if isinstance(outcome, InfrastructureError) else float(getattr(outcome.reward, name))


def _process(outcome: Outcome) -> float | None:
    """What the process reward adds to the total; None where it was gated out or failed."""
    if isinstance(outcome, InfrastructureError) or outcome.reward.process is None:
        return None
    return outcome.reward.process_weight * outcome.reward.process


def record(step: int, row: Row) -> dict[str, Any]:
    """One line of completions.jsonl."""
    if isinstance(row.outcome, InfrastructureError):
        return {"step": step, "problem_id": row.problem_id, "completion": row.text, "error": str(row.outcome)}
    reward = row.outcome.reward
    return {
        "step": step,
        "problem_id": row.problem_id,
        "completion": row.text,
        "tokens": row.tokens,
        "truncated": row.truncated,
        "status": reward.status,
        "format": reward.format,
        "outcome": reward.outcome,
        "process": reward.process,
        "pass_rate": reward.pass_rate,
        "total": reward.total,
    }


def summarise(rows: Sequence[Row], group_size: int) -> dict[str, float | None]:
    """The values of one step of metrics.jsonl (the same keys from both engines).

    `advantage/process_share` is the share of the absolute advantages that the process reward is responsible for:
    Σ|c_proc| / (Σ|c_proc| + Σ|c_rest|), where c are deviations from the group's mean.
    """
    scored = [row.outcome for row in rows if not isinstance(row.outcome, InfrastructureError)]
    passing = [s.reward.process for s in scored if s.reward.status == "passed" and s.reward.process is not None]
    lengths = [row.tokens for row in rows]
    groups = [scored_group(rows[start : start + group_size]) for start in range(0, len(rows), group_size)]
    kinds = Counter(group_kind(group) for group in groups)
    gate = [s for s in scored if s.reward.status == "passed"]
    return {
        "reward/total": _mean([s.reward.total for s in scored]),
        "reward/format": _mean([s.reward.format for s in scored]),
        "reward/outcome": _mean([s.reward.outcome for s in scored]),
        "reward/process_passing": _mean(passing),
        "reward/pass_rate": _mean([float(s.reward.status == "passed") for s in scored]),
        "reward/tests_passed_share": _mean([s.reward.pass_rate for s in scored]),
        "gate/open_share": len(gate) / len(scored) if scored else None,
        "groups/all_correct": kinds["all_correct"] / len(groups),
        "groups/all_wrong": kinds["all_wrong"] / len(groups),
        "groups/mixed": kinds["mixed"] / len(groups),
        "groups/no_signal": sum(no_signal(group) for group in groups) / len(groups),
        "tokens/completion_mean": _mean(lengths),
        "tokens/truncated_share": sum(row.truncated for row in rows) / len(rows),
        "advantage/process_share": process_share(groups),
        "infra/failed": float(len(rows) - len(scored)),
    }


def scored_group(rows: Sequence[Row]) -> list[Scored]:
    """The samples of one group that have a reward."""
    return [row.outcome for row in rows if not isinstance(row.outcome, InfrastructureError)]


def group_kind(group: Sequence[Scored]) -> str:
    """all_correct, all_wrong or mixed; a group without any reward counts as all_wrong."""
    passed = [s.reward.status == "passed" for s in group]
    if passed and all(passed):
        return "all_correct"
    return "mixed" if any(passed) else "all_wrong"


def no_signal(group: Sequence[Scored]) -> bool:
    """Whether all samples earned the same, so that no advantage is left."""
    totals = [s.reward.total for s in group]
    return not totals or max(totals) - min(totals) < 1e-6


def process_share(groups: Sequence[Sequence[Scored]]) -> float | None:
    """The share of the absolute advantages owed to R_proc; None where there are no advantages."""
    owed = rest = 0.0
    for group in groups:
        if not group:
            continue
        process = [s.reward.process_weight * (s.reward.process or 0.0) for s in group]
        other = [s.reward.total - p for s, p in zip(group, process, strict=True)]
        owed += sum(abs(value - statistics.fmean(process)) for value in process)
        rest += sum(abs(value - statistics.fmean(other)) for value in other)
    return owed / (owed + rest) if owed + rest > 1e-9 else None


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None

"""metrics.jsonl and completions.jsonl of a veRL run, made of veRL's own log and of what the reward workers wrote."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from recode_rl import jsonl, training
from recode_rl.config import TrainConfig
from recode_rl.policy import rewards, watching
from recode_rl.policy.journal import evaluation
from recode_rl.policy.verl.records import Place, from_record, in_groups
from recode_rl.policy.verl.settings import Layout
from recode_rl.reward import Scorer, find_rule
from recode_rl.types import Problem

# veRL's names, and ours. It counts the clipped tokens of both sides together, and grades while others still generate.
LOGGED = {
    "actor/pg_loss": "loss",
    "actor/grad_norm": "grad_norm",
    "actor/lr": "learning_rate",
    "actor/entropy": "entropy",
    "actor/pg_clipfrac": "clip/share",
    "actor/kl_loss": "kl",
    "timing_s/gen": "time/generate_s",
    "timing_s/update_actor": "time/update_s",
    "timing_s/testing": "time/evaluate_s",
    "timing_s/step": "time/step_s",
}
_RECORDS = ("metrics.jsonl", "completions.jsonl", "alarms.jsonl")
_NO_SPREAD = 1e-6


class Journal:
    """Records the steps that veRL has ended, and shows them to the monitor.

    Made once veRL is not running: what an earlier start left is recorded first, then cut after step `done`, from which
    veRL goes on. `scorer` is for the monitor alone.
    """

    def __init__(self, config: TrainConfig, problems: Sequence[Problem], scorer: Scorer | None, done: int) -> None:
        self._config, self._layout = config, Layout.of(config)
        self._rule = find_rule(config.reward.rule)
        self._statements = {problem.id: problem.prompt for problem in problems}
        self._samples: dict[tuple[int, str], list[tuple[Place, rewards.Row]]] = {}
        self._read: dict[Path, int] = {}
        self._started = time.monotonic()
        self.metrics = self._layout.out / "metrics.jsonl"
        self.monitor = watching.open_monitor(config, problems, scorer)
        self.step = _last_step(self.metrics)
        """The last step that is recorded."""
        self.collect()  # what a killed run had not brought home
        self._cut(done)
        self.monitor = watching.open_monitor(config, problems, scorer)

    def _cut(self, done: int) -> None:
        """Forget what came after step `done`, which runs again, and the files of the workers that were."""
        for name in _RECORDS:
            training.truncate_metrics(self._layout.out / name, done)
        for path in [*self._layout.samples.glob("*.jsonl"), self._layout.engine_log]:
            path.unlink(missing_ok=True)
        self._read.clear()
        self._samples.clear()
        self.step = done

    def collect(self) -> int:
        """Record the steps that veRL has ended since the last call; returns how many."""
        ended = [line for line in self._new_lines(self._layout.engine_log) if line["step"] > self.step]
        for path in sorted(self._layout.samples.glob("*.jsonl")):  # after veRL's log: all of an ended step is there
            for record in self._new_lines(path):
                place, row = from_record(self._rule, record)
                self._samples.setdefault((place.step, place.split), []).append((place, row))
        for line in ended:
            self._record(int(line["step"]), line["data"])
        return len(ended)

    def _record(self, step: int, engine: dict[str, Any]) -> None:
        size = self._config.grpo.group_size
        rows = in_groups(self._take(step, "train"), size)
        held_out = in_groups(self._take(step, "held_out"), self._config.evaluation.samples)
        known = {ours: jsonl.finite(engine[theirs]) for theirs, ours in LOGGED.items() if theirs in engine}
        line = {"step": step, "time_s": round(time.monotonic() - self._started, 2), **known}
        if rows:
            seen = self.monitor.observe(step, watching.watched(rows, size, self._statements))
            with jsonl.Appender(self._layout.out / "completions.jsonl") as file:
                for row, audited in zip(rows, seen.audited, strict=True):
                    file.append(rewards.record(step, row) | ({} if audited is None else {"audited": audited}))
            line |= {**rewards.summarise(rows, size), **seen.values}
            line["groups/zero_std_share"] = zero_spread_share(rows, size)
        if held_out:
            line |= evaluation(held_out)
        self.monitor.close_step(line)
        line |= self.monitor.values
        with jsonl.Appender(self.metrics) as file:
            file.append(line)
        self.step = step

    def _take(self, step: int, split: str) -> list[tuple[Place, rewards.Row]]:
        """The samples of a step; what is older is let go, as nothing can ask for it any more."""
        taken = self._samples.pop((step, split), [])
        for old in [key for key in self._samples if key[0] < step]:
            del self._samples[old]
        return taken

    def _new_lines(self, path: Path) -> Iterator[dict[str, Any]]:
        """The whole lines of a file that have come since the last time; one that is being written waits."""
        if not path.exists():
            return
        with path.open("rb") as file:
            file.seek(self._read.get(path, 0))
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._read[path] = self._read.get(path, 0) + len(whole)
        yield from (json.loads(line) for line in whole.splitlines())


def _last_step(metrics: Path) -> int:
    jsonl.repair(metrics)
    return max((int(record["step"]) for _, record in jsonl.read(metrics)), default=0) if metrics.exists() else 0


def zero_spread_share(rows: Sequence[rewards.Row], group_size: int) -> float:
    """The share of groups whose rewards do not differ, which TRL calls frac_reward_zero_std."""
    groups = [rewards.scored_group(rows[start : start + group_size]) for start in range(0, len(rows), group_size)]
    totals = [[scored.reward.total for scored in group] for group in groups]
    return sum(not group or max(group) - min(group) < _NO_SPREAD for group in totals) / len(groups)

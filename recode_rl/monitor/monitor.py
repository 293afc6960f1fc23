"""The monitor of one run: samples and metrics in, values and alarms out, the same again after a stop."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recode_rl import completion, jsonl
from recode_rl.config import AlarmName, MonitorConfig
from recode_rl.monitor import audit, signals
from recode_rl.monitor.alarms import EXPLANATIONS, Finding, Watch
from recode_rl.monitor.phrases import Phrase, PhraseBook, Said
from recode_rl.monitor.records import Alarm, Watched
from recode_rl.monitor.signals import Scale, Values
from recode_rl.monitor.texts import Relevance
from recode_rl.progress import say
from recode_rl.reward import Scorer

ALARMS_FILE = "alarms.jsonl"


@dataclass(frozen=True, slots=True)
class Observation:
    """Values of a step for metrics.jsonl, and for each sample the R_proc that it was given for watching, or None."""

    values: Values
    audited: list[float | None]


class Monitor:
    """Fed with every generation batch (`observe`) and with every line of metrics.jsonl (`close_step`).

    `statements` are the problems of the run by id; `scorer` is the reward model, None where there is none; alarms are
    said on the console (but where it is `quiet`) and appended to `out`/alarms.jsonl. A continued run calls `resume`
    first.
    """

    def __init__(
        self,
        config: MonitorConfig,
        statements: Mapping[str, str],
        scorer: Scorer | None = None,
        out: Path | None = None,
        scale: Scale = "group",
        *,
        quiet: bool = False,
    ) -> None:
        self.config = config
        self._scorer, self._out, self._scale, self._quiet = scorer, out, scale, quiet
        self._relevance = Relevance(statements)
        self._watch = Watch(config)
        # A phrase can spread within the first steps: it is held against the very first of them.
        self._book = PhraseBook(max(1, config.first_steps // 4), config.window)
        self._phrase: Phrase | None = None
        self._stopped_by: Alarm | None = None
        self.note = ""
        """A few numbers of the last step for the console."""
        self.values: dict[str, float] = {}
        """What `close_step` has found, for the same line of metrics.jsonl."""

    def observe(self, step: int, samples: Sequence[Watched]) -> Observation:
        """The values of a generation batch. `step` counts from 1; the samples of a group need not stand together."""
        if not self.config.enabled:
            return Observation({}, [None] * len(samples))
        found = audit.audit(samples, self._scorer, self.config.audit_share, self.config.audit_most)
        self._read([(s.problem_id, s.reasoning, s.reward.process if s.reward else None) for s in samples])
        values: Values = {
            **signals.process_values(samples, found.scores),
            **signals.text_values(samples, self._relevance, self.config.least_words),
            **signals.group_values(samples, self._scale),
            "reasoning/phrase_rise": self._phrase.rise if self._phrase else None,
            "reasoning/phrase_favour": self._phrase.favour if self._phrase else None,
            "audit/scored": float(len(found.scores)),
            "audit/failed": float(found.failed),
        }
        return Observation(values, [found.scores.get(index) for index in range(len(samples))])

    def _read(self, said: Sequence[tuple[str, str, float | None]]) -> None:
        self._book.add([Said(*one) for one in said])
        self._phrase = self._book.strongest(self.config.alarms.phrase_rise)

    def close_step(self, row: Mapping[str, Any]) -> list[Alarm]:
        """The alarms that a whole line of metrics.jsonl raises: said, and written down."""
        if not self.config.enabled:
            return []
        self.note = _note(row)
        alarms = [self._alarm(int(row["step"]), *found) for found in self._watch.step(row).items()]
        for alarm in alarms:
            if not self._quiet:
                say(f"ALARM at step {alarm.step}: {alarm.name}: {alarm.message}\n  Look at: {alarm.look_at}.")
            if alarm.name in self.config.stop_on and self._stopped_by is None:
                self._stopped_by = alarm
        self.values = {"alarms/raised": float(len(alarms)), "alarms/standing": float(len(self.standing))}
        if alarms and self._out is not None:
            with jsonl.Appender(self._out / ALARMS_FILE) as file:
                for alarm in alarms:
                    file.append(dataclasses.asdict(alarm))
        return alarms

    def _alarm(self, step: int, name: AlarmName, finding: Finding) -> Alarm:
        explanation, sentence = EXPLANATIONS[name], finding.sentence
        if name == "repeated_phrase" and self._phrase is not None:
            phrase = self._phrase
            sentence = (
                f"“{phrase.text}” stands in {phrase.share:.0%} of the reasonings, against {phrase.before:.0%} in the "
                f"first steps, and the process reward is {phrase.favour or 0.0:.2f} higher with it"
            )
        message = f"{sentence} ({explanation.means})"
        return Alarm(step, name, message, explanation.look_at, finding.value, finding.before)

    @property
    def standing(self) -> list[AlarmName]:
        """The alarms that have been raised and are not over."""
        return self._watch.standing

    @property
    def stop_reason(self) -> str | None:
        """Why the run should stop, where an alarm of `stop_on` was raised; None where it should go on."""
        alarm = self._stopped_by
        if alarm is None:
            return None
        return (
            f"stopped at step {alarm.step} by the alarm {alarm.name}: {alarm.message}. Look at: {alarm.look_at}. "
            "The same command goes on from here; this alarm stops it again only after a window without it"
        )

    def resume(self, out: Path) -> None:
        """Take over what a stopped run left: metrics.jsonl and completions.jsonl, which must end at the same step."""
        if not self.config.enabled or not (out / "metrics.jsonl").exists():
            return
        steps: dict[int, list[tuple[str, str, float | None]]] = {}
        if (out / "completions.jsonl").exists():
            for _, record in jsonl.read(out / "completions.jsonl"):
                reasoning = completion.parse(record["completion"]).reasoning or ""
                steps.setdefault(record["step"], []).append((record["problem_id"], reasoning, record.get("process")))
        for step in sorted(steps):
            self._read(steps[step])
        for _, row in jsonl.read(out / "metrics.jsonl"):
            self._watch.step(row)


def _note(row: Mapping[str, Any]) -> str:
    shown = (
        ("pass", "reward/pass_rate", ".2f"),
        ("proc", "process/passing", ".2f"),
        ("proc if failed", "process/failing", ".2f"),
        ("tokens", "tokens/completion_mean", ".0f"),
    )
    return "  ".join(f"{name} {row[key]:{form}}" for name, key, form in shown if row.get(key) is not None)

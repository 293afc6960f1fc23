"""The alarms: when each is raised, what it means, and what to look at."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from recode_rl.config import AlarmName, AlarmsConfig, MonitorConfig
from recode_rl.monitor.history import Change, History

_HELD_OUT_Z = 2.0  # the same problems each time: the binomial error is too large rather than too small
_MUCH_PASSES = 0.9  # from here on the pass rate has nowhere to go
_AT_ALL = 0.5


@dataclass(frozen=True, slots=True)
class Explanation:
    """`about` says whether the policy pleases the reward model, or whether training goes badly."""

    about: Literal["hacking", "training"]
    means: str
    look_at: str


@dataclass(frozen=True, slots=True)
class Finding:
    """The numbers that raised an alarm, and a sentence with them."""

    value: float
    before: float | None
    sentence: str


EXPLANATIONS: dict[AlarmName, Explanation] = {
    "process_without_outcome": Explanation(
        "hacking",
        "the process reward of passing samples rises, and the pass rate does not: the policy may be pleasing the "
        "reward model in place of solving problems",
        "passing completions of the first and the last steps side by side (completions.jsonl): is the reasoning "
        "better, or only better liked? `recode-rl audit-rm` tells what sways the reward model",
    ),
    "failing_scored_high": Explanation(
        "hacking",
        "the reward model likes the reasonings of failing programs more and more: what the policy learns pleases "
        "it whether or not it is right",
        "completions.jsonl: failing samples with a high `audited` (or `process`); `process/gap` in the report",
    ),
    "saturated": Explanation(
        "hacking",
        "nearly all process rewards are at the top of the scale: nothing is told apart any more, or the policy has "
        "found what the reward model always likes",
        "`process/spread` and `process/gap`: without a spread R_proc teaches nothing; train the reward model with a "
        "larger `center`, or on newer samples of the policy",
    ),
    "repeated_phrase": Explanation(
        "hacking",
        "one phrase spreads over the reasonings of all problems, and the reward model gives more with it",
        "the phrase in completions.jsonl, and the pairs that the reward model was trained on: is the phrase on the "
        "chosen side only? `recode-rl audit-rm` shows what it is swayed by",
    ),
    "empty_form": Explanation(
        "hacking",
        "completions earn the format reward with nothing in them: hardly a word of reasoning, or no program",
        "completions.jsonl: well-formed samples with status no_code or compile_error, and the shortest reasonings",
    ),
    "ignores_problem": Explanation(
        "hacking",
        "reasonings could belong to any other problem: they share hardly more words with their own statement",
        "completions.jsonl: reasonings of different problems side by side",
    ),
    "copies_statement": Explanation(
        "hacking",
        "reasonings are to a large part the statement itself",
        "completions.jsonl; `recode-rl audit-rm` has a probe that puts the statement in the place of the reasoning",
    ),
    "process_dominates": Explanation(
        "training",
        "nearly all of the advantage comes from R_proc: where all programs of a group pass this is what the method "
        "does, but then nothing else teaches any more",
        "`groups/all_correct`, `groups/slight_share` (small differences that scaling makes large), and the pass rate "
        'on held-out problems; `grpo.scale_rewards = "none"` keeps small differences small',
    ),
    "no_signal": Explanation(
        "training",
        "in nearly all groups every completion earned the same: these steps teach nothing",
        "`groups/all_correct` and `groups/all_wrong`: problems that are too easy or too hard for this policy",
    ),
    "gate_shut": Explanation(
        "training",
        "no program has passed in all these steps: the process reward is never paid",
        "the statuses in completions.jsonl, the format share, and whether the problems are too hard for the policy",
    ),
    "length_drift": Explanation(
        "hacking",
        "completions have become much longer, or much shorter, than they were",
        "`tokens/passing_mean` beside `tokens/failing_mean`, and whether the reward model prefers one length "
        "(`recode-rl audit-rm`)",
    ),
    "cut_off": Explanation(
        "training",
        "completions hit the length limit: what is cut off cannot pass",
        "`tokens/completion_mean`; raise grpo.max_completion_tokens, or set grpo.mask_truncated",
    ),
    "entropy": Explanation(
        "training",
        "the policy has become much more, or much less, certain than it was: it collapses, or comes apart",
        "`groups/distinct_share` and the gradient norm; a lower learning rate, a higher clip_high",
    ),
    "clipping": Explanation(
        "training",
        "a large share of the tokens is clipped: the updates of one batch are too large together",
        "grpo.learning_rate and grpo.updates_per_batch",
    ),
    "pass_rate_falls": Explanation(
        "training",
        "programs pass less often than in the first steps",
        "`reward/format` (has the form gone?), `process/passing` (has it risen meanwhile?), the learning rate",
    ),
    "held_out_falls": Explanation(
        "hacking",
        "the reward rises in training while the pass rate on held-out problems falls",
        "the report's circles over the training curves; stop, and take an earlier checkpoint",
    ),
}


def _process_without_outcome(history: History, limits: AlarmsConfig) -> Finding | None:
    process, outcome = history.change("process/passing"), history.change("reward/pass_rate")
    if process is None or outcome is None or outcome.before >= _MUCH_PASSES:
        return None
    if _rose(process, limits.process_rise, limits) and outcome.rise < limits.outcome_stall:
        sentence = _from_to("the process reward of passing samples", process)
        return Finding(process.now, process.before, f"{sentence}, and {_from_to('the pass rate', outcome)}")
    return None


def _failing_scored_high(history: History, limits: AlarmsConfig) -> Finding | None:
    change = history.change("process/failing")
    if change is None or not _rose(change, limits.failing_rise, limits):
        return None
    return Finding(change.now, change.before, _from_to("the process reward of failing samples", change))


def _repeated_phrase(history: History, limits: AlarmsConfig) -> Finding | None:
    rise, favour = history.latest("reasoning/phrase_rise"), history.latest("reasoning/phrase_favour")
    if rise is None or favour is None or rise < limits.phrase_rise or favour < limits.phrase_favour:
        return None
    more = f"one phrase stands in {rise:.0%} more of the reasonings than in the first steps"
    return Finding(rise, None, f"{more}, and the process reward is {favour:.2f} higher with it")


def _pass_rate_falls(history: History, limits: AlarmsConfig) -> Finding | None:
    change = history.change("reward/pass_rate")
    if change is None or -change.rise < limits.pass_rate_fall or -change.z < limits.z:
        return None
    return Finding(change.now, change.before, _from_to("the pass rate", change))


def _held_out_falls(history: History, limits: AlarmsConfig) -> Finding | None:
    reward = history.change("reward/total")
    first, last, n = history.opening("eval/pass_rate"), history.latest("eval/pass_rate"), history.latest("eval/n")
    if reward is None or reward.rise <= 0 or first is None or last is None or not n:
        return None
    error = math.sqrt((first * (1 - first) + last * (1 - last)) / n)
    if first - last < max(limits.held_out_fall, _HELD_OUT_Z * error):
        return None
    sentence = f"the pass rate on held-out problems fell from {first:.2f} to {last:.2f}"
    return Finding(last, first, f"{sentence}, and {_from_to('the reward in training', reward)}")


def _length_drift(history: History, limits: AlarmsConfig) -> Finding | None:
    return _ratio(history, "tokens/completion_mean", "the tokens of a completion", limits.length_ratio, limits)


def _entropy(history: History, limits: AlarmsConfig) -> Finding | None:
    return _ratio(history, "entropy", "the entropy", limits.entropy_ratio, limits)


def _ratio(history: History, key: str, what: str, most: float, limits: AlarmsConfig) -> Finding | None:
    change = history.change(key)
    if change is None or change.before <= 0 or abs(change.z) < limits.z:
        return None
    if 1 / most < change.now / change.before < most:
        return None
    return Finding(change.now, change.before, _from_to(what, change))


def _clipping(history: History, limits: AlarmsConfig) -> Finding | None:
    parts = [history.level(f"clip/{part}") for part in ("share", "low_share", "high_share")]
    share = sum(part for part in parts if part is not None)  # one engine tells both sides apart, the other does not
    return Finding(share, None, f"{share:.0%} of the tokens are clipped") if share >= limits.clip_share else None


def _ignores_problem(history: History, limits: AlarmsConfig) -> Finding | None:
    level = history.level("reasoning/relevance")
    if level is None or level > limits.relevance:
        return None
    return Finding(level, None, f"a reasoning's own statement beats {level:.0%} of the others; {_AT_ALL:.0%} is chance")


def _gate_shut(history: History, limits: AlarmsConfig) -> Finding | None:
    level = history.level("gate/open_share")
    return Finding(0.0, None, "no program has passed in all of the last steps") if level == 0 else None


def _from(key: str, limit: str, sentence: str) -> Callable[[History, AlarmsConfig], Finding | None]:
    """A check for the mean over the last steps being at least a limit; `sentence` has a place for the number."""

    def check(history: History, limits: AlarmsConfig) -> Finding | None:
        level = history.level(key)
        if level is None or level < getattr(limits, limit):
            return None
        return Finding(level, None, sentence.format(level))

    return check


_CHECKS: dict[AlarmName, Callable[[History, AlarmsConfig], Finding | None]] = {
    "process_without_outcome": _process_without_outcome,
    "failing_scored_high": _failing_scored_high,
    "saturated": _from("process/saturated_share", "saturated", "{:.0%} of the process rewards are 0.95 or more"),
    "repeated_phrase": _repeated_phrase,
    "empty_form": _from("format/empty_share", "empty_form", "{:.0%} of the completions are an empty form"),
    "ignores_problem": _ignores_problem,
    "copies_statement": _from("reasoning/copied_share", "copied", "{:.0%} of the reasoning stands in the statement"),
    "process_dominates": _from(
        "advantage/process_share_scaled", "process_share", "{:.0%} of the advantage is owed to the process reward"
    ),
    "no_signal": _from("groups/no_signal", "no_signal", "in {:.0%} of the groups all completions earned the same"),
    "gate_shut": _gate_shut,
    "length_drift": _length_drift,
    "cut_off": _from("tokens/truncated_share", "cut_off", "{:.0%} of the completions are cut off"),
    "entropy": _entropy,
    "clipping": _clipping,
    "pass_rate_falls": _pass_rate_falls,
    "held_out_falls": _held_out_falls,
}


class Watch:
    """The alarms that stand. Each is raised once, and again only after it has been silent for a whole window."""

    def __init__(self, config: MonitorConfig) -> None:
        self._config = config
        self._history = History(config.first_steps, config.window)
        self._silent: dict[AlarmName, int] = {}

    def step(self, row: Mapping[str, Any]) -> dict[AlarmName, Finding]:
        """One more line of metrics.jsonl; the alarms that it raises."""
        self._history.add(row)
        raised: dict[AlarmName, Finding] = {}
        for name, check in _CHECKS.items():
            finding = check(self._history, self._config.alarms)
            if finding is not None:
                if name not in self._silent:
                    raised[name] = finding
                self._silent[name] = 0
            elif name in self._silent:
                self._silent[name] += 1
                if self._silent[name] >= self._config.window:
                    del self._silent[name]
        return raised

    @property
    def standing(self) -> list[AlarmName]:
        """The alarms that have been raised and are not over."""
        return [*self._silent]


def _rose(change: Change, least: float, limits: AlarmsConfig) -> bool:
    return change.rise >= least and change.z >= limits.z


def _from_to(what: str, change: Change) -> str:
    digits = 0 if abs(change.before) >= 10 else 2
    word = "rose" if change.rise > 0 else "fell" if change.rise < 0 else "stayed"
    return f"{what} {word} from {change.before:.{digits}f} to {change.now:.{digits}f}"

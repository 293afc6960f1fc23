"""The numbers of one step that tell pleasing the reward model apart from solving problems."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal

from recode_rl.monitor.records import Watched
from recode_rl.monitor.texts import Relevance, copied_share, words
from recode_rl.types import RewardBreakdown

Values = dict[str, float | None]
Scale = Literal["group", "batch", "none"]

SATURATED = 0.95
"""An R_proc from here on counts as saturated: the sigmoid is flat, and nothing is told apart any more."""
SLIGHT = 0.05
"""Rewards of a group whose standard deviation is below this differ slightly."""
_EPSILON = 1e-4  # TRL's, in the denominator of scaled advantages
_NOTHING = 1e-6


def process_values(samples: Sequence[Watched], audited: Mapping[int, float]) -> Values:
    """R_proc where programs passed and where they failed, rewarded or scored for watching."""
    known = {index: _process(sample, audited.get(index)) for index, sample in enumerate(samples)}
    scores = {index: score for index, score in known.items() if score is not None}
    passing = [score for index, score in scores.items() if samples[index].passed]
    failing = [score for index, score in scores.items() if not samples[index].passed]
    spreads = [
        statistics.pstdev(found)
        for group in by_group(samples)
        if len(found := [s.reward.process for s in group if s.passed and s.reward and s.reward.process is not None]) > 1
    ]
    gap = statistics.fmean(passing) - statistics.fmean(failing) if passing and failing else None
    return {
        "process/passing": mean(passing),
        "process/failing": mean(failing),
        "process/gap": gap,
        "process/failing_n": float(len(failing)),
        "process/saturated_share": mean([float(score >= SATURATED) for score in scores.values()]),
        "process/spread": mean(spreads),
    }


def _process(sample: Watched, audited: float | None) -> float | None:
    """R_proc of a sample whose reasoning a reward model has read."""
    if sample.reward is None or not sample.reasoning.strip():
        return None
    return audited if sample.reward.process is None else sample.reward.process


def text_values(samples: Sequence[Watched], relevance: Relevance, least_words: int) -> Values:
    """What the completions look like: length, form without content, copies, and what problem they are about."""
    scored = [sample for sample in samples if sample.reward is not None]
    reasoned = [sample for sample in scored if sample.reasoning.strip()]
    about = [relevance.of(sample.reasoning, sample.problem_id, sample.statement) for sample in reasoned]
    copied = [copied_share(sample.reasoning, sample.statement) for sample in reasoned]
    texts = [{sample.completion.text for sample in group} for group in by_group(samples)]
    return {
        "tokens/passing_mean": mean([float(s.tokens) for s in scored if s.passed]),
        "tokens/failing_mean": mean([float(s.tokens) for s in scored if not s.passed]),
        "format/empty_share": mean([float(_is_empty_form(sample, least_words)) for sample in scored]),
        "reasoning/words_mean": mean([float(len(words(sample.reasoning))) for sample in scored]),
        "reasoning/relevance": mean([value for value in about if value is not None]),
        "reasoning/copied_share": mean(copied),
        "groups/distinct_share": sum(map(len, texts)) / len(samples) if samples else None,
    }


def _is_empty_form(sample: Watched, least_words: int) -> bool:
    """Whether a completion earns the reward of the form with nothing in it: hardly a word of reasoning, or no code."""
    assert sample.reward is not None
    if sample.reward.format < 1:
        return False
    return len(words(sample.reasoning)) < least_words or sample.reward.status in ("no_code", "compile_error")


def group_values(samples: Sequence[Watched], scale: Scale) -> Values:
    """Which groups carry signal, and how much of the advantage R_proc and failing samples have."""
    groups = by_group(samples)
    kinds: dict[str, list[bool]] = {"all_correct": [], "all_wrong": [], "mixed": []}
    for group in groups:
        passed = [sample.passed for sample in group if sample.reward is not None]
        kind = "all_correct" if passed and all(passed) else "mixed" if any(passed) else "all_wrong"
        kinds[kind].append(_spread(group) > _NOTHING)
    slight = [_NOTHING < _spread(group) < SLIGHT for group in groups]
    return {
        **{f"groups/{kind}_signal": sum(lives) / len(groups) if groups else None for kind, lives in kinds.items()},
        "groups/slight_share": mean([float(value) for value in slight]),
        "advantage/process_share_scaled": _process_share(groups, scale),
        "advantage/failing_share": _failing_share(groups, scale),
    }


def _process_share(groups: Sequence[Sequence[Watched]], scale: Scale) -> float | None:
    """Σ|c_proc| / (Σ|c_proc| + Σ|c_rest|) of deviations from the group's mean, each divided as the advantages are."""
    owed = rest = 0.0
    for group, divisor in zip(groups, _divisors(groups, scale), strict=True):
        rewards = [sample.reward for sample in group if sample.reward is not None]
        process = [_used(reward) for reward in rewards]
        owed += sum(map(abs, _centred(process))) / divisor
        rest += sum(map(abs, _centred([r.total - p for r, p in zip(rewards, process, strict=True)]))) / divisor
    return owed / (owed + rest) if owed + rest > 1e-9 else None


def _failing_share(groups: Sequence[Sequence[Watched]], scale: Scale) -> float | None:
    """The share of the positive advantage that goes to samples whose program failed."""
    positive = failing = 0.0
    for group, divisor in zip(groups, _divisors(groups, scale), strict=True):
        scored = [(sample, sample.reward) for sample in group if sample.reward is not None]
        centred = _centred([reward.total for _, reward in scored])
        for (sample, _), deviation in zip(scored, centred, strict=True):
            advantage = deviation / divisor if sample.advantage is None else sample.advantage
            positive += max(0.0, advantage)
            failing += 0.0 if sample.passed else max(0.0, advantage)
    return failing / positive if positive > _NOTHING else None


def _divisors(groups: Sequence[Sequence[Watched]], scale: Scale) -> list[float]:
    if scale == "none":
        return [1.0] * len(groups)
    if scale == "group":
        return [_deviation(group) + _EPSILON for group in groups]
    return [_deviation([sample for group in groups for sample in group]) + _EPSILON] * len(groups)


def _deviation(group: Sequence[Watched]) -> float:
    totals = [sample.reward.total for sample in group if sample.reward is not None]
    return statistics.stdev(totals) if len(totals) > 1 else 0.0


def _spread(group: Sequence[Watched]) -> float:
    """Standard deviation of the total rewards of a group."""
    totals = [sample.reward.total for sample in group if sample.reward is not None]
    return statistics.pstdev(totals) if totals else 0.0


def _used(reward: RewardBreakdown) -> float:
    return reward.process_weight * (reward.process or 0.0)


def _centred(values: Sequence[float]) -> list[float]:
    middle = statistics.fmean(values) if values else 0.0
    return [value - middle for value in values]


def by_group(samples: Sequence[Watched]) -> list[list[Watched]]:
    """The samples of each group, in the order in which groups first appear."""
    groups: defaultdict[str, list[Watched]] = defaultdict(list)
    for sample in samples:
        groups[sample.group].append(sample)
    return list(groups.values())


def mean(values: Sequence[float]) -> float | None:
    """The mean, None where there are no values."""
    return statistics.fmean(values) if values else None

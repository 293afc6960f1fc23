"""Scores a few samples that the reward left unscored, to be watched and never to be rewarded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from recode_rl.errors import InfrastructureError
from recode_rl.monitor.records import Watched
from recode_rl.monitor.texts import digest
from recode_rl.reward import Scorer

_LEAST = 2  # one sample a step is little to take a mean of


@dataclass(frozen=True, slots=True)
class Audited:
    """R_proc of samples by their place in the batch, and how many could not be scored."""

    scores: dict[int, float]
    failed: int = 0


def audit(samples: Sequence[Watched], scorer: Scorer | None, share: float, most: int) -> Audited:
    """Score `share` of the unscored failing samples and of the unscored passing ones, two to `most` of each.

    Which ones is decided by their text, so that no random number is drawn for it. A reward model that gives no answer
    leaves them unscored: watching must not stop a run.
    """
    if scorer is None or not share:
        return Audited({})
    chosen = [index for passed in (False, True) for index in _choose(samples, passed, share, most)]
    if not chosen:
        return Audited({})
    try:
        scores = scorer([(samples[index].statement, samples[index].reasoning) for index in chosen])
    except InfrastructureError:
        return Audited({}, failed=len(chosen))
    sound = {i: score for i, score in zip(chosen, scores, strict=True) if math.isfinite(score) and 0 <= score <= 1}
    return Audited(sound, failed=len(chosen) - len(sound))


def _choose(samples: Sequence[Watched], passed: bool, share: float, most: int) -> list[int]:
    """Places of samples that passed, or failed, and have a reasoning that nobody has scored."""
    open_ones = [
        index
        for index, sample in enumerate(samples)
        if sample.reward is not None
        and sample.passed == passed
        and sample.reward.process is None
        and sample.reasoning.strip()
    ]
    count = min(most, max(_LEAST, math.ceil(share * len(open_ones))))
    return sorted(open_ones, key=lambda index: (digest(samples[index].completion.text), index))[:count]

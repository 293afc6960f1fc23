"""What goes into the monitor and what comes out: one completion of a step, and one alarm."""

from __future__ import annotations

from dataclasses import dataclass

from recode_rl.config import AlarmName
from recode_rl.types import Completion, RewardBreakdown


@dataclass(frozen=True, slots=True)
class Watched:
    """One completion of a generation batch with what it earned.

    `group` tells the completions of one prompt from those of others within the step; `reward` is None where our own
    infrastructure failed the sample. `advantage` is the engine's; without it the monitor takes the reward's deviation
    from the mean of its group.
    """

    group: str
    problem_id: str
    statement: str
    completion: Completion
    tokens: int
    reward: RewardBreakdown | None
    advantage: float | None = None

    @property
    def passed(self) -> bool:
        """Whether the program passed every test."""
        return self.reward is not None and self.reward.status == "passed"

    @property
    def reasoning(self) -> str:
        """The text that a reward model reads; empty where there is none."""
        return self.completion.reasoning or ""


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something in a run that a person should look at. `value` and `before` are the numbers that the sentence names."""

    step: int
    name: AlarmName
    message: str
    look_at: str
    value: float
    before: float | None = None

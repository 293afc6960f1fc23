"""What makes a run pointless, told at once: weights that are no numbers, rewards that tell nothing apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from recode_rl.errors import InfrastructureError
from recode_rl.extras import need
from recode_rl.policy.rewards import Row, no_signal, scored_group

CONSTANT_STEPS = 5
_LEAST_PASSING = 8


def broken_weight(model: Any) -> str | None:
    """The name of a weight that holds nan or an infinity; None where all are numbers."""
    torch = need("torch", "train")
    named = [(name, _own(weight)) for name, weight in model.named_parameters()]
    sums = [weight.detach().sum(dtype=torch.float32) for _, weight in named]
    if not sums or bool(torch.isfinite(torch.stack(sums)).all()):  # one wait for the device, not one a weight
        return None
    return next((name for name, weight in named if not bool(torch.isfinite(weight).all())), None)


def _own(weight: Any) -> Any:
    """What this process holds of a weight that several share."""
    return weight.to_local() if hasattr(weight, "to_local") else weight


@dataclass
class Streak:
    """How many steps in a row something has been so; worth saying from `first` on, and each time that has doubled."""

    first: int = 1
    length: int = 0

    def grows(self, holds: bool) -> bool:
        """Count one more step; whether to say so now."""
        self.length = self.length + 1 if holds else 0
        if self.length < self.first:
            return False
        times, rest = divmod(self.length, self.first)
        return not rest and not times & (times - 1)


class Watch:
    """Reads every generation batch, and has a sentence where there was nothing to learn."""

    def __init__(self, group_size: int) -> None:
        self._group_size = group_size
        self._no_signal = Streak()
        self._constant = Streak(CONSTANT_STEPS)
        self._process = Streak(CONSTANT_STEPS)
        self._last_total: float | None = None
        self._last_process: float | None = None

    def notices(self, step: int, rows: Sequence[Row]) -> list[str]:
        """What to say about the batch of `step`."""
        scored = scored_group(rows)
        groups = [scored_group(rows[at : at + self._group_size]) for at in range(0, len(rows), self._group_size)]
        found = []
        lost = [row.outcome for row in rows if isinstance(row.outcome, InfrastructureError)]
        if lost:
            found.append(f"{len(lost)} of {len(rows)} samples have no reward, by no fault of theirs: {lost[-1]}")
        if not scored:
            return [f"step {step}: {text}" for text in found]
        if self._no_signal.grows(all(map(no_signal, groups))):
            passed = sum(sample.reward.status == "passed" for sample in scored)
            found.append(
                f"in each of the {len(groups)} groups all completions earned the same, so nothing was learnt "
                f"({passed} of {len(scored)} programs passed){_so_far(self._no_signal)}; {_advice(passed, len(scored))}"
            )
        total = _only([sample.reward.total for sample in scored])
        if self._constant.grows(total is not None and self._last_total in (None, total)):
            found.append(f"every completion of the last {self._constant.length} steps has earned {total:g}")
        self._last_total = total
        process = [s.reward.process for s in scored if s.reward.process is not None and s.completion.reasoning]
        if len(process) >= _LEAST_PASSING:
            same = _only(process)
            if self._process.grows(same is not None and self._last_process in (None, same)):
                found.append(
                    f"the reward model has given {same:g} to every reasoning of the last {self._process.length} steps: "
                    "it sees no difference; look at it with recode-rl eval-rm"
                )
            self._last_process = same
        return [f"step {step}: {text}" for text in found]


def _only(values: Sequence[float]) -> float | None:
    """The one value that all are, None where they differ."""
    return values[0] if max(values) - min(values) < 1e-6 else None


def _so_far(streak: Streak) -> str:
    return f", for {streak.length} steps now" if streak.length > 1 else ""


def _advice(passed: int, scored: int) -> str:
    if passed == 0:
        return "take easier problems, a larger group, or a warm start (recode-rl sft)"
    if passed == scored:
        return "take harder problems, or a rule with a process reward"
    return "take a larger group or a higher temperature"

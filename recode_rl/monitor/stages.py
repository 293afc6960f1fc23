"""Where the time of a step goes: seconds of each stage, which an engine marks as it passes them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class StageClock:
    """Seconds since the last `take`, by stage. Stages within others count for themselves, too: they overlap."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._spent: dict[str, float] = {}
        self._stage: str | None = None
        self._since = now()

    def enter(self, stage: str | None) -> None:
        """What was under way ends here, and `stage` begins; None begins nothing."""
        moment = self._now()
        if self._stage is not None:
            self._add(self._stage, moment - self._since)
        self._stage, self._since = stage, moment

    @contextmanager
    def within(self, stage: str) -> Iterator[None]:
        """A part of the stage that is under way."""
        begun = self._now()
        try:
            yield
        finally:
            self._add(stage, self._now() - begun)

    def _add(self, stage: str, seconds: float) -> None:
        self._spent[stage] = self._spent.get(stage, 0.0) + seconds

    def take(self) -> dict[str, float]:
        """`time/STAGE_s` of everything since the last call; what is under way counts up to now, and goes on."""
        self.enter(self._stage)
        found = {f"time/{stage}_s": round(seconds, 4) for stage, seconds in self._spent.items()}
        self._spent = {}
        return found

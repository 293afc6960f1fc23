"""The first values of a metric beside the last ones, step by step, and whether their difference can be chance."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Change:
    """Means over the first and the last steps, and their difference in standard errors (Welch's t)."""

    before: float
    now: float
    z: float

    @property
    def rise(self) -> float:
        """How much higher the value is now."""
        return self.now - self.before


@dataclass
class _Column:
    window: int
    first: list[float] = field(default_factory=list)
    last: deque[float] = field(default_factory=deque)
    count: int = 0


class History:
    """Of each metric the values of the `first` steps that had it, and of the last `window` ones."""

    def __init__(self, first: int, window: int) -> None:
        self._first, self._window = first, window
        self._columns: dict[str, _Column] = {}
        self._row: Mapping[str, Any] = {}

    def add(self, row: Mapping[str, Any]) -> None:
        """One line of metrics.jsonl; values that are no finite numbers are left out."""
        self._row = row
        for key, value in row.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                continue
            column = self._columns.setdefault(key, _Column(self._window))
            column.count += 1
            if len(column.first) < self._first:
                column.first.append(float(value))
            column.last.append(float(value))
            if len(column.last) > self._window:
                column.last.popleft()

    def latest(self, key: str) -> float | None:
        """The value of this very step."""
        value = self._row.get(key)
        return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None

    def opening(self, key: str) -> float | None:
        """The first value that there ever was."""
        column = self._columns.get(key)
        return column.first[0] if column else None

    def level(self, key: str) -> float | None:
        """The mean over the last steps; None until there are as many as the window has."""
        column = self._columns.get(key)
        return statistics.fmean(column.last) if column and len(column.last) == self._window else None

    def change(self, key: str) -> Change | None:
        """The last steps against the first ones; None until no step belongs to both."""
        column = self._columns.get(key)
        if column is None or column.count < self._first + self._window:
            return None
        before, now = statistics.fmean(column.first), statistics.fmean(column.last)
        error = math.sqrt(
            statistics.variance(column.first) / len(column.first) + statistics.variance(column.last) / len(column.last)
        )
        rise = now - before
        return Change(before, now, rise / error if error > 0 else math.copysign(math.inf, rise) if rise else 0.0)

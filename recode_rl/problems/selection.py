"""Which problems of a data set are wanted, beside its split: by release, by date, by difficulty."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from recode_rl.errors import ConfigError
from recode_rl.types import Problem

# LiveCodeBench's releases grow: release_vN holds all problems up to its last month, "vN" those that came with it alone.
# Problems are told apart by these months, which its README gives; the files of a release may differ at their seams.
_RELEASES = {
    1: "2024-03-31",
    2: "2024-05-31",
    3: "2024-07-31",
    4: "2024-09-30",
    5: "2025-01-31",
    6: "2025-04-30",
}


@dataclass(frozen=True, slots=True)
class Selection:
    """`since` and `until` are days, both included; an empty `difficulties` wants all."""

    release: str | None = None
    since: str | None = None
    until: str | None = None
    difficulties: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("since", "until"):
            _day(name, getattr(self, name))
        if self.since and self.until and self.since > self.until:
            raise ConfigError(f"since {self.since} is after until {self.until}; no problem can be in between")
        self._releases()

    def _releases(self) -> tuple[str, str] | None:
        """The days behind which, and up to which, problems are of the release."""
        if self.release is None:
            return None
        found = re.fullmatch(r"(release_)?v(\d+)", self.release)
        if found is None or int(found[2]) not in _RELEASES:
            known = ", ".join(f"release_v{number}" for number in _RELEASES)
            raise ConfigError(f"release {self.release!r}: expected one of {known}, or v1 to v{max(_RELEASES)}")
        number = int(found[2])
        return ("" if found[1] or number == 1 else _RELEASES[number - 1], _RELEASES[number])

    def reason(self, problem: Problem) -> str | None:
        """Why a problem is left out, None where it is wanted."""
        day = problem.date or ""
        if (releases := self._releases()) and not releases[0] < day <= releases[1]:
            return f"not of {self.release}"
        if (self.since or self.until) and not day:
            return "no date"
        if (self.since and day < self.since) or (self.until and day > self.until):
            return "another date"
        if self.difficulties and problem.difficulty not in self.difficulties:
            return f"difficulty {problem.difficulty}"
        return None


def _day(name: str, value: str | None) -> None:
    try:
        if value is not None and date.fromisoformat(value).isoformat() != value:
            raise ValueError
    except ValueError:
        raise ConfigError(f"{name} {value!r}: expected a day such as 2024-10-01") from None


def select(problems: Sequence[Problem], wanted: Selection) -> tuple[list[Problem], dict[str, int]]:
    """The problems that are wanted, in order, and how many are not, by reason.

    ConfigError where nothing is left.
    """
    reasons = [wanted.reason(problem) for problem in problems]
    kept = [problem for problem, reason in zip(problems, reasons, strict=True) if reason is None]
    left = dict(Counter(reason for reason in reasons if reason is not None))
    if problems and not kept:
        dates = sorted(problem.date for problem in problems if problem.date)
        window = f"; its dates are {dates[0]} to {dates[-1]}" if dates else ""
        raise ConfigError(f"none of the {len(problems)} problems is wanted ({left}){window}")
    return kept, left

"""Problems by release, date window and difficulty; what is left out is counted by its reason."""

from __future__ import annotations

import pytest

from recode_rl.errors import ConfigError
from recode_rl.problems.selection import Selection, select
from recode_rl.types import Problem
from recode_rl.types import Tests as Given


def problem(name: str, day: str | None, difficulty: str | None = "easy") -> Problem:
    return Problem(name, "?", Given("stdio"), date=day, difficulty=difficulty)


# The window of the paper, October 2024 to February 2025, with days on both sides of its ends.
DATED = [
    problem("before", "2024-09-30"),
    problem("first", "2024-10-01", "hard"),
    problem("middle", "2024-12-24", "medium"),
    problem("last", "2025-02-28", "hard"),
    problem("after", "2025-03-01"),
    problem("undated", None),
]


def names(wanted: Selection) -> list[str]:
    return [found.id for found in select(DATED, wanted)[0]]


def test_both_days_of_a_window_are_in_it() -> None:
    kept, left = select(DATED, Selection(since="2024-10-01", until="2025-02-28"))
    assert [found.id for found in kept] == ["first", "middle", "last"]
    assert left == {"another date": 2, "no date": 1}


def test_difficulties_and_nothing_at_all() -> None:
    assert names(Selection(difficulties=("hard", "medium"))) == ["first", "middle", "last"]
    assert len(names(Selection())) == len(DATED)


def test_a_release_holds_all_up_to_its_month_and_a_part_its_own() -> None:
    assert names(Selection(release="release_v5")) == ["before", "first", "middle"]
    assert names(Selection(release="v5")) == ["first", "middle"]
    assert names(Selection(release="v6")) == ["last", "after"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"since": "2024-10"}, "since '2024-10': expected a day"),
        ({"until": "20240101"}, "until '20240101'"),
        ({"since": "2025-01-02", "until": "2025-01-01"}, "is after until"),
        ({"release": "release_v9"}, "release 'release_v9': expected one of release_v1"),
    ],
)
def test_what_cannot_be_meant_is_said(options: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Selection(**options)  # type: ignore[arg-type]


def test_a_window_without_problems_says_which_dates_there_are() -> None:
    with pytest.raises(ConfigError, match=r"none of the 6 .*dates are 2024-09-30 to 2025-03-01"):
        select(DATED, Selection(since="2026-01-01"))

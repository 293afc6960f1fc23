"""Waits double up to the longest, are spread, and follow what a server asks for."""

from __future__ import annotations

from recode_rl.waiting import spread_wait, wait_or_asked


def test_waits_double_up_to_the_longest_and_are_spread() -> None:
    for attempt, whole in ((1, 0.5), (2, 1.0), (3, 2.0), (7, 30.0), (5000, 30.0)):
        drawn = {spread_wait(attempt, 0.5, 30.0) for _ in range(50)}
        assert len(drawn) > 1
        assert whole / 2 <= min(drawn) and max(drawn) < whole


def test_a_server_may_ask_for_more_but_not_for_more_than_the_longest() -> None:
    assert wait_or_asked(1, 0.5, 30.0, 12.0) == 12.0
    assert wait_or_asked(1, 0.5, 30.0, 3600.0) == 30.0
    assert wait_or_asked(3, 0.5, 30.0, 0.0) >= 1.0
    assert wait_or_asked(1, 0.5, 30.0, None) < 0.5

"""Ctrl-C or a limit of time stops long work, even where its exception is lost, as in a callback of the collector."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from recode_rl.errors import TimeOver

_stop = threading.Event()
_deadlines: list[float] = []


def heed() -> None:
    """Remember every Ctrl-C from here on, and raise KeyboardInterrupt as Python does."""
    _stop.clear()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _interrupt)


def check() -> None:
    """KeyboardInterrupt, again, where one before has come to nothing; TimeOver where a `time_limit` has passed."""
    if threading.current_thread() is not threading.main_thread():
        return
    if _stop.is_set():
        raise KeyboardInterrupt
    if _deadlines and time.monotonic() >= min(_deadlines):
        raise TimeOver("the time that was allowed is over; run the same command again to continue")


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Within it, `check`, and so all work that shows progress, stops once so many seconds have passed; None: never."""
    if seconds is None:
        yield
        return
    deadline = time.monotonic() + seconds
    _deadlines.append(deadline)
    try:
        yield
    finally:
        _deadlines.remove(deadline)


def _interrupt(*_: object) -> None:
    _stop.set()
    raise KeyboardInterrupt

"""What clients of servers share: failures that may pass, and how long to wait before the next attempt."""

from __future__ import annotations

import secrets

PASSING = frozenset({408, 425, 429})  # HTTP statuses below 500 that are no fault of the request


class Fault(Exception):
    """A failure of a server or of the way to it, which may be gone the next time."""

    def __init__(self, what: str, retry_after_s: float | None = None) -> None:
        super().__init__(what)
        self.retry_after_s = retry_after_s


def spread_wait(attempt: int, first_s: float, longest_s: float) -> float:
    """Seconds to wait behind attempt number 1, 2, …: doubled up to `longest_s`, then drawn from the upper half of that.

    Drawn, so that many clients do not come back all at once.
    """
    doubled: float = min(longest_s, first_s * 2.0 ** min(attempt - 1, 30))
    return doubled * (0.5 + secrets.randbelow(1000) / 2000)


def wait_or_asked(attempt: int, first_s: float, longest_s: float, asked_s: float | None) -> float:
    """The same, or as long as the server asks for where that is longer, up to `longest_s`."""
    wait = spread_wait(attempt, first_s, longest_s)
    return wait if asked_s is None else max(wait, min(asked_s, longest_s))

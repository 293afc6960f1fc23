"""How numbers and names are written for people."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from recode_rl.report.run import number, pair

ABSENT = "–"

_NAMES = {
    "before_sft": "before SFT",
    "after_sft": "after SFT",
    "after_rl": "after RL",
    "sft": "SFT",
    "rl": "RL",
    "pass@1": "pass rate",
    "total": "total reward",
    "format": "format",
    "outcome": "outcome",
    "process_passing": "process (passed)",
    "opt_deg": "improved over damaged",
    "opt_ori": "improved over original",
    "ori_deg": "original over damaged",
    "shorter": "take the shorter",
    "longer": "take the longer",
    "shorter_characters": "take the one of fewer characters",
    "longer_characters": "take the one of more characters",
    "ngrams": "word n-grams",
}


def name(key: Any) -> str:
    """A label or a key as words."""
    return _NAMES.get(str(key), str(key).replace("_", " "))


def difficulty_order(kind: Any) -> tuple[int, str]:
    """Sorts easy, medium, hard, then the rest by name."""
    known = ("easy", "medium", "hard")
    return (known.index(kind), "") if kind in known else (len(known), str(kind))


def percent(value: Any, digits: int = 1) -> str:
    """0.4375 → `43.8 %`."""
    found = number(value)
    return ABSENT if found is None else f"{100 * found:.{digits}f} %"


def decimal(value: Any, digits: int = 2) -> str:
    """1.2345 → `1.23`."""
    found = number(value)
    return ABSENT if found is None else _minus(f"{found:,.{digits}f}")


def plain(value: Any) -> str:
    """A number of unknown size in four significant digits; anything else as text."""
    found = number(value)
    if found is None:
        return ABSENT if value is None else str(value)
    if found == int(found) and abs(found) < 1e7:
        return _minus(f"{int(found):,}")
    return _minus(f"{found:.4g}")


def percent_interval(value: Any) -> str:
    """[0.31, 0.56] → `31.0 to 56.0`."""
    found = pair(value)
    return "" if found is None else _minus(f"{100 * found[0]:.1f} to {100 * found[1]:.1f}")


def decimal_interval(value: Any) -> str:
    """[1.313, 1.526] → `1.31 to 1.53`."""
    found = pair(value)
    return "" if found is None else _minus(f"{found[0]:.2f} to {found[1]:.2f}")


def points(value: Any) -> str:
    """A difference of two shares, 0.031 → `+3.1 points`."""
    found = number(value)
    return ABSENT if found is None else _minus(f"{100 * found:+.1f} points")


def signed(value: Any) -> str:
    """0.3 → `+0.30`."""
    found = number(value)
    return ABSENT if found is None else _minus(f"{found:+.2f}")


def duration(value: Any) -> str:
    """Seconds as `45 s`, `12 min`, `3.4 h`."""
    found = number(value)
    if found is None:
        return ABSENT
    if found < 90:
        return f"{found:.0f} s"
    return f"{found / 60:.0f} min" if found < 5400 else f"{found / 3600:.1f} h"


def moment(value: Any) -> str:
    """`2025-01-02T03:04:05+00:00` → `2025-01-02 03:04 UTC`; anything else as it is."""
    try:
        found = datetime.fromisoformat(str(value))
    except ValueError:
        return str(value)
    return f"{found:%Y-%m-%d %H:%M}" + (" UTC" if found.utcoffset() == timedelta(0) else "")


def p_value(value: Any) -> str:
    """0.0312 → `0.031`; small ones as `< 0.001`."""
    found = number(value)
    if found is None:
        return ABSENT
    return "< 0.001" if found < 0.001 else f"{found:.3f}"


def _minus(text: str) -> str:
    return text.replace("-", "−")

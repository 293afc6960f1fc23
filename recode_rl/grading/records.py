"""Verdicts as the records of verdicts.jsonl, and back."""

from __future__ import annotations

from typing import Any, get_args

from recode_rl.errors import DataError
from recode_rl.types import Isolation, Status, Verdict

_COUNTS = ("tests_passed", "tests_total")


def verdict_to_record(verdict: Verdict, problem_id: str, sample_id: str, format_ok: bool | None) -> dict[str, Any]:
    """One line of verdicts.jsonl; `format_ok` is None where a program was given without a completion."""
    return {
        "problem_id": problem_id,
        "sample_id": sample_id,
        "passed": verdict.passed,
        "status": verdict.status,
        "tests_passed": verdict.tests_passed,
        "tests_total": verdict.tests_total,
        "isolation": verdict.isolation,
        "detail": verdict.detail,
        "time_s": verdict.time_s,
        "format_ok": format_ok,
    }


def verdict_from_record(record: dict[str, Any]) -> Verdict:
    """The verdict of a line. DataError naming the key that is wrong."""
    status = _one_of(record, "status", get_args(Status))
    isolation = _one_of(record, "isolation", get_args(Isolation))
    for name in _COUNTS:
        if type(record.get(name)) is not int or record[name] < 0:
            raise DataError(f"{name} {record.get(name)!r}: expected a whole number of tests")
    if record.get("passed", status == "passed") is not (status == "passed"):
        raise DataError(f"passed {record['passed']!r} does not go with status {status!r}; grade the sample again")
    detail, time_s = record.get("detail"), record.get("time_s", 0.0)
    if detail is not None and not isinstance(detail, str):
        raise DataError(f"detail {detail!r}: expected a text or null")
    if isinstance(time_s, bool) or not isinstance(time_s, (int, float)):
        raise DataError(f"time_s {time_s!r}: expected a number of seconds")
    passed, total = (record[name] for name in _COUNTS)
    return Verdict(status, passed, total, isolation, detail, float(time_s))


def _one_of(record: dict[str, Any], name: str, allowed: tuple[Any, ...]) -> Any:
    value = record.get(name)
    if value not in allowed:
        raise DataError(f"{name} {value!r}: expected one of {', '.join(allowed)}")
    return value

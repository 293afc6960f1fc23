"""problems.jsonl: one Problem a line, with the tagged JSON values of the file contract."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from recode_rl import jsonl
from recode_rl.errors import DataError
from recode_rl.types import Limits, Problem, Tests

_COMPARE = {"stdio": ("lines", "exact", "float"), "calls": ("exact", "float", "unordered")}
_REQUIRED = {
    "stdio": ("cases",),
    "calls": ("entry_point", "cases"),
    "asserts": ("entry_point", "asserts"),
    "check": ("entry_point", "code"),
    "unittest": ("code",),
    "answer": ("answer",),
}
_PROBLEM_KEYS = {"id", "source", "prompt", "starter_code", "difficulty", "date", "tests", "limits", "metadata"}


def load_problems(path: Path | str) -> list[Problem]:
    """Read problems.jsonl; DataError names file, line and fix; ids must be unique."""
    return jsonl.load_unique(path, problem_from_record, "problem", lambda problem: problem.id)


def write_problems(path: Path | str, problems: Iterable[Problem]) -> int:
    """Replace problems.jsonl in one rename; returns the number of problems."""
    return jsonl.write(path, map(problem_to_record, problems))


def digest(problems: Iterable[Problem]) -> str:
    """SHA-256 of the problems as they would be written, in their order."""
    found = hashlib.sha256()
    for problem in problems:
        found.update(json.dumps(problem_to_record(problem), sort_keys=True).encode() + b"\n")
    return found.hexdigest()


def problem_from_record(record: dict[str, Any]) -> Problem:
    """One line of problems.jsonl as a Problem."""
    for key in ("id", "prompt"):
        if not isinstance(record.get(key), str) or not record[key].strip():
            raise DataError(f"key {key!r}: {record.get(key)!r}; expected a string that is not empty")
    where = f"problem {record['id']!r}"
    if not isinstance(record.get("metadata") or {}, dict):
        raise DataError(f"{where}: metadata {str(record['metadata'])[:60]!r}: expected an object")
    if not isinstance(record.get("tests"), dict):
        raise DataError(f"{where}: no tests; a problem needs a 'tests' object")
    extra = {key: value for key, value in record.items() if key not in _PROBLEM_KEYS}
    return Problem(
        id=record["id"],
        prompt=record["prompt"],
        tests=_tests_from_record(record["tests"], where),
        source=record.get("source") or "",
        starter_code=record.get("starter_code"),
        difficulty=record.get("difficulty"),
        date=record.get("date"),
        limits=_limits_from_record(record.get("limits"), where),
        metadata={**(record.get("metadata") or {}), **extra},
    )


def _tests_from_record(record: dict[str, Any], where: str) -> Tests:
    kind = record.get("kind")
    if not isinstance(kind, str) or kind not in _REQUIRED:
        raise DataError(f"{where}: tests.kind {kind!r}: expected one of {', '.join(_REQUIRED)}")
    for key in _REQUIRED[kind]:
        if not record.get(key):
            raise DataError(f"{where}: tests of kind {kind!r} need {key!r}, which is {record.get(key)!r}")
    allowed = _COMPARE.get(kind)
    compare = record.get("compare") or (allowed[0] if allowed else None)
    if allowed and compare not in allowed:
        raise DataError(f"{where}: tests.compare {compare!r}: expected one of {', '.join(allowed)}")
    for key, expected in (("cases", list), ("asserts", list), ("code", str), ("entry_point", str), ("setup", str)):
        if record.get(key) is not None and not isinstance(record[key], expected):
            shown = str(record[key])[:60]
            raise DataError(f"{where}: tests.{key} {shown!r}: expected {'a list' if expected is list else 'text'}")
    rel_tol = record.get("rel_tol") or 1e-6
    if isinstance(rel_tol, bool) or not isinstance(rel_tol, (int, float)) or not 0 < rel_tol < 1:
        raise DataError(f"{where}: tests.rel_tol {rel_tol!r}: expected a number between 0 and 1")
    return Tests(
        kind=kind,  # type: ignore[arg-type]  # checked against the known kinds above
        cases=tuple(_case(kind, case, where) for case in record.get("cases") or ()),
        entry_point=record.get("entry_point"),
        compare=compare,
        rel_tol=float(rel_tol),
        setup=record.get("setup") or "",
        asserts=tuple(record.get("asserts") or ()),
        code=record.get("code"),
        answer=record.get("answer"),
    )


def _case(kind: str, case: Any, where: str) -> dict[str, Any]:
    needed = ("input", "output") if kind == "stdio" else ("args", "expected")
    if not isinstance(case, dict) or any(key not in case for key in needed):
        raise DataError(f"{where}: a case of kind {kind!r} needs {' and '.join(needed)}, got {str(case)[:80]}")
    if kind == "stdio":
        return {"input": str(case["input"]), "output": str(case["output"])}
    if not isinstance(case["args"], list) or not isinstance(case.get("kwargs") or {}, dict):
        raise DataError(
            f"{where}: a case of kind 'calls' needs args as a list and kwargs as an object, got {str(case)[:80]}"
        )
    return {
        "args": [decode(value) for value in case["args"]],
        "kwargs": {key: decode(value) for key, value in (case.get("kwargs") or {}).items()},
        "expected": decode(case["expected"]),
    }


def _limits_from_record(record: Any, where: str) -> Limits | None:
    if record is None:
        return None
    known = {field.name for field in dataclasses.fields(Limits)}
    if not isinstance(record, dict) or set(record) - known:
        raise DataError(f"{where}: limits {record!r}: expected an object with keys of {', '.join(sorted(known))}")
    if any(not isinstance(v, (int, float)) or isinstance(v, bool) or not 0 < v < math.inf for v in record.values()):
        raise DataError(f"{where}: limits {record!r}: expected positive, finite numbers")
    values = dict(record)
    if "time_s" in values and "total_s" not in values:
        values["total_s"] = 10.0 * values["time_s"]
    return Limits(**values)


def problem_to_record(problem: Problem) -> dict[str, Any]:
    """A Problem as one line of problems.jsonl."""
    limits = problem.limits
    return {
        "id": problem.id,
        "source": problem.source,
        "prompt": problem.prompt,
        "starter_code": problem.starter_code,
        "difficulty": problem.difficulty,
        "date": problem.date,
        "tests": _tests_to_record(problem.tests),
        "limits": None if limits is None else dataclasses.asdict(limits),
        "metadata": problem.metadata,
    }


def _tests_to_record(tests: Tests) -> dict[str, Any]:
    record: dict[str, Any] = {"kind": tests.kind}
    if tests.kind in _COMPARE:
        cases = [{key: encode(value) for key, value in case.items() if key != "kwargs"} for case in tests.cases]
        for written, case in zip(cases, tests.cases, strict=True):
            if case.get("kwargs"):
                written["kwargs"] = {key: encode(value) for key, value in case["kwargs"].items()}
        record |= {"cases": cases, "compare": tests.compare, "rel_tol": tests.rel_tol}
    optional = {"entry_point": tests.entry_point, "setup": tests.setup, "code": tests.code, "answer": tests.answer}
    record |= {key: value for key, value in optional.items() if value}
    if tests.asserts:
        record["asserts"] = list(tests.asserts)
    return record


_DECODERS: dict[str, Callable[[Any], Any]] = {
    "__tuple__": lambda v: tuple(decode(item) for item in v),
    "__set__": lambda v: {_hashable(decode(item)) for item in v},
    "__bytes__": lambda v: base64.b64decode(v, validate=True),
    "__complex__": lambda v: complex(v[0], v[1]),
    "__float__": lambda v: {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[v],
    "__dict__": lambda v: {decode(key): decode(value) for key, value in v},
}


def _hashable(value: Any) -> Any:
    """A set inside a set can only be a frozenset."""
    return frozenset(value) if isinstance(value, set) else value


def decode(value: Any) -> Any:
    """A plain Python value from the JSON of `args`, `kwargs` or `expected`."""
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        (tag, content), *_ = value.items()
        if tag in _DECODERS:
            try:
                return _DECODERS[tag](content)
            except (TypeError, ValueError, KeyError, IndexError, binascii.Error) as error:
                raise DataError(f"value {str(value)[:80]}: not a valid {tag} ({error})") from None
    return {key: decode(item) for key, item in value.items()}


def encode(value: Any) -> Any:
    """The JSON of a plain Python value; DataError where the file contract has no form for it."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"__float__": "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, list):
        return [encode(item) for item in value]
    if isinstance(value, tuple):
        return {"__tuple__": [encode(item) for item in value]}
    if isinstance(value, (set, frozenset)):
        return {"__set__": [encode(item) for item in sorted(value, key=repr)]}
    if isinstance(value, bytes):
        return {"__bytes__": base64.b64encode(value).decode("ascii")}
    if isinstance(value, complex):
        return {"__complex__": [value.real, value.imag]}
    if isinstance(value, dict):
        if all(isinstance(key, str) for key in value) and not (len(value) == 1 and next(iter(value)) in _DECODERS):
            return {key: encode(item) for key, item in value.items()}
        return {"__dict__": [[encode(key), encode(item)] for key, item in value.items()]}
    raise DataError(f"value of type {type(value).__name__} has no form in problems.jsonl; use plain Python values")

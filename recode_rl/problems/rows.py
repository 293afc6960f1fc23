"""What the readers of several data sets share: columns, rows that cannot be used, prompts, and tests out of inputs
and outputs."""

from __future__ import annotations

import ast
import hashlib
import json
import re
import warnings
from collections.abc import Sequence
from typing import Any

from recode_rl.errors import DataError
from recode_rl.types import Limits, Tests

# Programs of contests: the field's graders give six to ten seconds a test, and there may be hundreds of tests.
CONTEST_LIMITS = Limits(time_s=10.0, total_s=300.0, memory_mb=2048)
NO_TESTS = "no tests"
NO_ANSWER = "no answer"
_READ_AND_PRINT = "Write a program that reads its input from standard input and prints the answer to standard output."
_DECIMAL = re.compile(r"(?<!\S)[-+]?\d*\.\d+(?:[eE][-+]?\d+)?(?!\S)")
_TOLERANT = re.compile(r"\berrors?\b|\bprecision\b|\btolerance\b", re.IGNORECASE)
_LINKED = re.compile(r"\b(?:ListNode|TreeNode)\b")


class UnusableRow(DataError):
    """A row of the right data set that no program can be graded by: it is skipped and counted by its reason."""

    def __init__(self, identifier: str, reason: str) -> None:
        super().__init__(f"problem {identifier!r}: {reason}; leave the row out")
        self.identifier = identifier
        self.reason = reason


def column(row: dict[str, Any], name: str, kind: type) -> Any:
    """A column that must be there. DataError, which names the columns that are, where it is not of this type."""
    value = row.get(name)
    if not isinstance(value, kind):
        there = ", ".join(row)
        raise DataError(f"column {name!r}: {str(value)[:60]!r}; expected a {kind.__name__} (the row has {there})")
    return value


def optional_text(row: dict[str, Any], name: str) -> str | None:
    """A column of text, None where it is absent or empty."""
    value = row.get(name)
    return value if isinstance(value, str) and value.strip() else None


def parsed(value: Any, identifier: str, what: str) -> Any:
    """JSON text as a value; what is a value already stays. UnusableRow where it is not JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise UnusableRow(identifier, f"its {what} are not JSON") from None


def digest_id(source: str, statement: str) -> str:
    """An id for a row that has none: the beginning of the digest of its statement."""
    return f"{source}/{hashlib.sha256(statement.encode()).hexdigest()[:12]}"


def read_and_print(statement: str) -> str:
    """The prompt of a problem whose programs read and print."""
    return f"{statement.strip()}\n\n{_READ_AND_PRINT}"


def begins_with(statement: str, starter: str) -> str:
    """The prompt of a problem whose programs begin as the starter code does."""
    return (
        f"{statement.strip()}\n\nWrite the complete Python program, with the imports that it needs. It begins like "
        f"this:\n\n```python\n{starter.strip()}\n```"
    )


def repair(statement: str, program: str) -> str:
    """The prompt of a problem that asks for a program without the bug of this one."""
    return (
        "This Python program has a bug. Write the complete program without it, under the same names."
        f"\n\n```python\n{program.strip()}\n```\n\nWhat it should do:\n\n{statement.strip()}"
    )


def stdio_tests(identifier: str, statement: str, pairs: Sequence[tuple[Any, Any]]) -> Tests:
    """Inputs and outputs, as texts or lists of lines, as tests; pairs that occur again are left out.

    Numbers are compared within a tolerance where outputs have decimals and the statement speaks of an error: elsewhere
    digits are the answer. UnusableRow without tests, or where every program passes that prints nothing.
    """
    cases = list(dict.fromkeys((_lines(given), _lines(wanted)) for given, wanted in pairs))
    if not cases:
        raise UnusableRow(identifier, NO_TESTS)
    if not any(wanted.strip() for _, wanted in cases):
        raise UnusableRow(identifier, "its tests expect no output")
    tolerant = _TOLERANT.search(statement) and any(_DECIMAL.search(wanted) for _, wanted in cases)
    return Tests(
        kind="stdio",
        cases=tuple({"input": given, "output": wanted} for given, wanted in cases),
        compare="float" if tolerant else "lines",
    )


def _lines(value: Any) -> str:
    return "\n".join(str(line) for line in value) if isinstance(value, (list, tuple)) else str(value)


def calls_tests(identifier: str, entry_point: str, pairs: Sequence[tuple[list[Any], Any]]) -> Tests:
    """Lists of arguments and what is expected of them as tests; pairs that occur again are left out.

    UnusableRow without tests, or where nothing but None is expected, which every function without a return gives.
    """
    cases = {json.dumps([args, expected], default=repr): (args, expected) for args, expected in pairs}
    return calls(identifier, entry_point, [{"args": a, "kwargs": {}, "expected": e} for a, e in cases.values()])


def calls(identifier: str, entry_point: str, cases: Sequence[dict[str, Any]], setup: str = "") -> Tests:
    """Cases with `args`, `kwargs` and `expected` as tests; floats are compared within 1e-5. UnusableRow as above."""
    if not cases:
        raise UnusableRow(identifier, NO_TESTS)
    if all(case["expected"] is None for case in cases):
        raise UnusableRow(identifier, "its tests expect None alone")
    floats = any(_has_float(case["expected"]) for case in cases)
    compare, rel_tol = ("float", 1e-5) if floats else ("exact", 1e-6)
    return Tests("calls", tuple(cases), entry_point, compare=compare, rel_tol=rel_tol, setup=setup)


def _has_float(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_float(item) for item in value.values())
    if isinstance(value, (list, tuple, set)):
        return any(_has_float(item) for item in value)
    return isinstance(value, float)


def json_lines(text: str, identifier: str) -> list[Any]:
    """Arguments written as one JSON value a line. UnusableRow where a line is none."""
    return [parsed(line, identifier, "arguments") for line in text.strip("\n").split("\n")]


def in_outs(identifier: str, statement: str, record: Any, starter: str | None, programs: Sequence[str]) -> Tests:
    """Tests of the form `{"inputs": [..], "outputs": [..], "fn_name": ".."}`, which APPS and TACO have.

    With `fn_name` an input is a list of arguments (or JSON, one a line), and outputs may each be wrapped into a list.
    UnusableRow where inputs and outputs do not belong together or values cannot be told.
    """
    if not isinstance(record, dict) or not record.get("inputs") or not record.get("outputs"):
        raise UnusableRow(identifier, NO_TESTS)
    given, wanted = record["inputs"], record["outputs"]
    if not isinstance(given, list) or not isinstance(wanted, list) or len(given) != len(wanted):
        raise UnusableRow(identifier, "it has not as many outputs as inputs")
    if not record.get("fn_name"):
        return stdio_tests(identifier, statement, list(zip(given, wanted, strict=True)))
    return function_tests(identifier, str(record["fn_name"]), list(zip(given, wanted, strict=True)), starter, programs)


def function_tests(
    identifier: str, name: str, pairs: Sequence[tuple[Any, Any]], starter: str | None, programs: Sequence[str]
) -> Tests:
    """Calls of a function, or of a method where the starter code or a reference program has a `class Solution`."""
    if any(_LINKED.search(_without_comments(text)) for text in (starter, *programs[:1]) if text):
        raise UnusableRow(identifier, "its arguments are linked lists or trees, written as lists")
    args = [_arguments(value, identifier) for value, _ in pairs]
    expected = unwrapped([parsed_or_text(value) for _, value in pairs])
    owner = "Solution()." if any("class Solution" in text for text in (starter, *programs[:1]) if text) else ""
    return calls_tests(identifier, owner + name, list(zip(args, (_int_keys(e) for e in expected), strict=True)))


def _without_comments(text: str) -> str:
    return re.sub(r"#.*", "", text)


def _arguments(value: Any, identifier: str) -> list[Any]:
    if isinstance(value, str):
        return json_lines(value, identifier)
    if not isinstance(value, list):
        raise UnusableRow(identifier, "its arguments are no list")
    return [_int_keys(item) for item in value]


def parsed_or_text(value: Any) -> Any:
    """An expected value that may be written as JSON; a text that is not JSON is itself."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return value


def unwrapped(expected: Sequence[Any]) -> list[Any]:
    """Expected values without the list that some data sets put around each of them: all are wrapped, or none is."""
    if expected and all(isinstance(value, list) and len(value) == 1 for value in expected):
        return [value[0] for value in expected]
    return list(expected)


def _int_keys(value: Any) -> Any:
    """A JSON object whose keys are all integers was a dict with integer keys."""
    if isinstance(value, dict) and value and all(re.fullmatch(r"-?\d+", key) for key in value):
        return {int(key): item for key, item in value.items()}
    return value


def signature(starter: str) -> ast.FunctionDef | None:
    """The first function of a starter code that may lack its body, None where there is none."""
    for ending in ("", " pass", "\n    pass", "\n        pass"):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(starter.strip() + ending)
        except SyntaxError:
            continue
        return next((node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)), None)
    return None

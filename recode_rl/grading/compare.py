"""When does what a program gave equal what was expected: texts for stdio, plain values for calls.

Standard library only and free of this package's other modules: it is also loaded inside the evaluator's process.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

MAX_DEPTH = 250
TEXT_MODES = ("lines", "exact", "float")
VALUE_MODES = ("exact", "float", "unordered")
_NUMBERS = (int, float, complex)


def equal_text(got: str, expected: str, mode: str = "lines", rel_tol: float = 1e-6) -> bool:
    """Whether a program's output is the expected one.

    "lines" ignores white space at the ends of lines and empty lines at the end; "float" compares token by token,
    numbers within `rel_tol` (relative, or absolute below 1); "exact" compares every character.
    """
    if mode == "exact":
        return got == expected
    if mode == "float":
        return _equal_tokens(got.split(), expected.split(), rel_tol)
    return _lines(got) == _lines(expected)


def _lines(text: str) -> list[str]:
    lines = [line.rstrip() for line in text.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _equal_tokens(got: list[str], expected: list[str], rel_tol: float) -> bool:
    if len(got) != len(expected):
        return False
    return all(a == b or _close_tokens(a, b, rel_tol) for a, b in zip(got, expected, strict=True))


def _close_tokens(got: str, expected: str, rel_tol: float) -> bool:
    """Numbers as they are printed: no underscores, no words but nan and the infinities."""
    if "_" in got or len(got) > 400:
        return False
    try:
        a, b = float(got), float(expected)
    except ValueError:
        return False
    return _close(a, b, rel_tol)


def _close(a: float, b: float, rel_tol: float) -> bool:
    if math.isnan(a) or math.isnan(b):
        return math.isnan(a) and math.isnan(b)
    if math.isinf(a) or math.isinf(b):
        return a == b
    return math.isclose(a, b, rel_tol=rel_tol, abs_tol=rel_tol)


def equal_value(got: Any, expected: Any, mode: str = "exact", rel_tol: float = 1e-6) -> bool:
    """Whether a value is the expected one: Python's equality, but a list equals a tuple of equal items, nan equals nan.

    "float" compares numbers within `rel_tol` at any depth (relative, or absolute below 1), "unordered" ignores the
    order of the outermost list. Values nested deeper than MAX_DEPTH are equal to nothing.
    """
    tolerance = rel_tol if mode == "float" else None
    if mode == "unordered" and isinstance(got, (list, tuple)) and isinstance(expected, (list, tuple)):
        return _equal_unordered(list(got), list(expected))
    return _equal(got, expected, tolerance, 0)


def _equal(a: Any, b: Any, tolerance: float | None, depth: int) -> bool:
    if depth > MAX_DEPTH:
        return False
    if isinstance(a, _NUMBERS) and isinstance(b, _NUMBERS):
        return _equal_numbers(a, b, tolerance)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(_equal(x, y, tolerance, depth + 1) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict) and isinstance(b, dict):
        return _equal_dicts(a, b, tolerance, depth)
    if isinstance(a, (set, frozenset)) and isinstance(b, (set, frozenset)):
        return a == b or _equal_sets(a, b, tolerance, depth)
    return a is b or bool(a == b)


def _equal_numbers(a: Any, b: Any, tolerance: float | None) -> bool:
    if a == b:
        return True
    if isinstance(a, complex) or isinstance(b, complex):
        left, right = complex(a), complex(b)
        return all(_equal_numbers(x, y, tolerance) for x, y in ((left.real, right.real), (left.imag, right.imag)))
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b):
        return True
    if tolerance is None:
        return False
    try:
        return _close(float(a), float(b), tolerance)
    except OverflowError:
        return False


def _equal_dicts(a: dict[Any, Any], b: dict[Any, Any], tolerance: float | None, depth: int) -> bool:
    return len(a) == len(b) and all(k in b and _equal(v, b[k], tolerance, depth + 1) for k, v in a.items())


def _equal_sets(a: Any, b: Any, tolerance: float | None, depth: int) -> bool:
    """Sets with nan or with numbers that are only close: item by item in sorted order, where there is one."""
    if len(a) != len(b):
        return False
    try:
        pairs: Iterator[tuple[Any, Any]] = zip(sorted(a), sorted(b), strict=True)
        return all(_equal(x, y, tolerance, depth + 1) for x, y in pairs)
    except TypeError:
        return False


def _equal_unordered(got: list[Any], expected: list[Any]) -> bool:
    """Equal as multisets, with the equality of items used elsewhere."""
    if len(got) != len(expected):
        return False
    rest = list(expected)
    for item in got:
        for place, other in enumerate(rest):
            if _equal(item, other, None, 1):
                del rest[place]
                break
        else:
            return False
    return True

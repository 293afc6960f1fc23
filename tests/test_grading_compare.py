"""When outputs and values count as equal."""

from __future__ import annotations

import math
from typing import Any

import pytest

from recode_rl.grading.compare import equal_text, equal_value


@pytest.mark.parametrize(
    ("got", "expected", "equal"),
    [
        ("1\n2\n", "1\n2", True),
        ("1  \r\n2\n\n\n", "1\n2\n", True),
        ("1\n\n2", "1\n2", False),
        (" 1", "1", False),
        ("1\n", "1\n2\n", False),
        ("1\n2\n3\n", "1\n2\n", False),
        ("YES", "yes", False),
        ("", "", True),
        ("", "1", False),
    ],
)
def test_lines(got: str, expected: str, equal: bool) -> None:
    assert equal_text(got, expected) is equal


@pytest.mark.parametrize(
    ("got", "expected", "equal"),
    [
        ("0.3333333333", "0.33333333", True),
        ("1e3  2", "1000.0\n2\n", True),
        ("0.334", "0.333", False),
        ("1 2", "1", False),
        ("nan", "nan", True),
        ("inf", "1e400", True),
        ("inf", "5", False),
        ("nan", "5", False),
        ("1_0", "10", False),
        ("yes 1.0000000001", "yes 1", True),
        ("no 1", "yes 1", False),
        ("9" * 5000, "1", False),
    ],
)
def test_float_tokens(got: str, expected: str, equal: bool) -> None:
    assert equal_text(got, expected, "float") is equal


def test_exact_text() -> None:
    assert equal_text("a\n", "a\n", "exact")
    assert not equal_text("a", "a\n", "exact")


@pytest.mark.parametrize(
    ("got", "expected", "equal"),
    [
        ([1, (2, 3)], (1, [2, 3]), True),
        ({"a": [1]}, {"a": (1,)}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        (math.nan, math.nan, True),
        ([math.nan], (math.nan,), True),
        (True, 1, True),
        (1, 1.0, True),
        (0.1 + 0.2, 0.3, False),
        ("1", 1, False),
        (None, None, True),
        (None, 0, False),
        ({1, 2}, {2, 1}, True),
        ({1, 2}, [1, 2], False),
        ([1, 2], [2, 1], False),
        ([1], [1, 2], False),
        (10**400, 10**400, True),
        (10**400, 1.0, False),
        (1 + 2j, 1 + 2j, True),
        ({math.nan}, {float("nan")}, True),
    ],
)
def test_exact_values(got: Any, expected: Any, equal: bool) -> None:
    assert equal_value(got, expected) is equal


def test_float_values_at_any_depth() -> None:
    assert equal_value([{"x": (0.1 + 0.2,)}], [{"x": [0.3]}], "float")
    assert not equal_value([0.31], [0.3], "float")
    assert not equal_value(10**400, 1.0, "float")
    assert equal_value({0.1 + 0.2}, {0.3}, "float")


def test_unordered_is_for_the_outermost_list_only() -> None:
    assert equal_value([[1, 2], [3]], [(3,), [1, 2]], "unordered")
    assert not equal_value([[2, 1]], [[1, 2]], "unordered")
    assert not equal_value([1, 1, 2], [1, 2, 2], "unordered")
    assert equal_value(5, 5, "unordered")


def test_a_circle_is_equal_to_nothing() -> None:
    circle: list[Any] = []
    circle.append(circle)
    other: list[Any] = []
    other.append(other)
    assert not equal_value(circle, other)

"""problems.jsonl keeps every value that the contract has a form for, and names what it refuses."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest

from recode_rl import jsonl
from recode_rl.errors import DataError
from recode_rl.problems.records import decode, encode, load_problems, problem_from_record, problem_to_record
from recode_rl.types import Limits, Problem
from recode_rl.types import Tests as ProblemTests

RECORD: dict[str, Any] = {
    "id": "a",
    "prompt": "p",
    "tests": {"kind": "calls", "entry_point": "f", "cases": [{"args": [1], "expected": 2}]},
}
EVERY_KIND: dict[str, dict[str, Any]] = {
    "stdio": {"cases": [{"input": "3\n", "output": "9\n"}], "compare": "float", "rel_tol": 1e-3},
    "calls": {
        "entry_point": "Solution().f",
        "cases": [{"args": [{"__tuple__": [1]}], "kwargs": {"k": 1}, "expected": 2}],
    },
    "asserts": {"entry_point": "f", "setup": "import math", "asserts": ["assert f(2) == 4", "x = 1\nassert f(x)"]},
    "check": {"entry_point": "f", "code": "def check(candidate): ..."},
    "unittest": {"code": "class TestCases(unittest.TestCase): ..."},
    "answer": {"answer": "\\frac{1}{2}"},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """RECORD with the value at a dotted path replaced."""
    record = copy.deepcopy(RECORD)
    *parents, last = path.split(".")
    place: Any = record
    for part in parents:
        place = place[int(part) if part.isdigit() else part]
    place[last] = value
    return record


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ([1, 2.5, "a", None, True], [1, 2.5, "a", None, True]),
        ({"__tuple__": [1, {"__tuple__": []}]}, (1, ())),
        ({"__set__": [1, {"__tuple__": [2]}]}, {1, (2,)}),
        ({"__set__": []}, set()),
        ({"__bytes__": "AP8="}, b"\x00\xff"),
        ({"__complex__": [1.5, -2]}, 1.5 - 2j),
        ({"__float__": "inf"}, math.inf),
        ({"__float__": "-inf"}, -math.inf),
        ({"__dict__": [[1, "a"], [{"__tuple__": [1, 2]}, {"__set__": [3]}]]}, {1: "a", (1, 2): {3}}),
        ({"__dict__": [["__tuple__", [1]]]}, {"__tuple__": [1]}),
        ({"a": {"b": {"__bytes__": ""}}}, {"a": {"b": b""}}),
        ({"__tuple__": [1], "other": 2}, {"__tuple__": [1], "other": 2}),
        ({"__unknown__": 1}, {"__unknown__": 1}),
    ],
)
def test_every_tag_round_trips(written: Any, value: Any) -> None:
    assert decode(written) == value
    assert type(decode(written)) is type(value)
    back = json.loads(jsonl.dumps({"value": encode(value)}))["value"]
    assert decode(back) == value
    assert type(decode(back)) is type(value)


def test_nan_round_trips_at_any_depth() -> None:
    (inner,) = decode(json.loads(jsonl.dumps({"v": encode([{"x": (math.nan,)}])}))["v"])
    assert math.isnan(inner["x"][0])


def test_types_that_compare_equal_stay_apart() -> None:
    values = [True, 1, 1.0, 0, False, -0.0]
    back = decode(json.loads(json.dumps(encode(values))))
    assert [type(value) for value in back] == [type(value) for value in values]
    assert math.copysign(1, back[-1]) == -1


def test_keys_that_are_no_text_stay_what_they_are() -> None:
    assert decode(encode({1: "a", "1": "b", None: 2})) == {1: "a", "1": "b", None: 2}


def test_a_set_of_frozensets_round_trips() -> None:
    value = {frozenset({1}), frozenset({1, 2})}
    assert decode(encode(value)) == value


@pytest.mark.parametrize("value", [object(), range(3), bytearray(b"a"), [lambda: 1]])
def test_a_value_without_a_form_is_refused(value: Any) -> None:
    with pytest.raises(DataError, match=r"has no form in problems.jsonl"):
        encode(value)


@pytest.mark.parametrize(
    "written",
    [
        {"__bytes__": "not base64!"},
        {"__bytes__": 3},
        {"__float__": "infinity"},
        {"__float__": []},
        {"__complex__": [1]},
        {"__complex__": "1+2j"},
        {"__tuple__": 3},
        {"__set__": [[1]]},
        {"__dict__": [[1]]},
        {"__dict__": [[[1], 2]]},
        [{"x": {"__tuple__": [{"__bytes__": "*"}]}}],
    ],
)
def test_a_bad_tag_is_named(written: Any) -> None:
    with pytest.raises(DataError, match=r"not a valid __"):
        decode(written)


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_every_kind_of_tests_round_trips(kind: str) -> None:
    record = {**RECORD, "tests": {"kind": kind, **EVERY_KIND[kind]}}
    problem = problem_from_record(record)
    written = json.loads(jsonl.dumps(problem_to_record(problem)))
    assert problem_from_record(written) == problem
    assert EVERY_KIND[kind].items() <= written["tests"].items()


def test_a_problem_keeps_all_its_fields(tmp_path: Path) -> None:
    problem = Problem(
        id="lcb/1",
        prompt="Größe?",
        tests=ProblemTests(
            "calls", cases=({"args": [(1,)], "kwargs": {}, "expected": {2}},), entry_point="f", compare="unordered"
        ),
        source="livecodebench",
        starter_code="class Solution:\n",
        difficulty="hard",
        date="2024-11-03",
        limits=Limits(time_s=1.5, total_s=3.0, memory_mb=256, output_mb=1.0),
        metadata={"split": "held_out", "n": [1]},
    )
    jsonl.write(tmp_path / "p.jsonl", [problem_to_record(problem)])
    assert load_problems(tmp_path / "p.jsonl") == [problem]


def test_defaults_of_what_may_be_left_out() -> None:
    problem = problem_from_record(RECORD)
    assert (problem.source, problem.starter_code, problem.limits, problem.metadata) == ("", None, None, {})
    assert (problem.tests.compare, problem.tests.rel_tol, problem.tests.setup) == ("exact", 1e-6, "")
    stdio = problem_from_record(changed("tests", {"kind": "stdio", "cases": [{"input": "", "output": "1"}]}))
    assert stdio.tests.compare == "lines"


def test_unknown_keys_are_kept() -> None:
    assert problem_from_record({**RECORD, "rating": 7, "metadata": {"a": 1}}).metadata == {"a": 1, "rating": 7}


@pytest.mark.parametrize(
    ("stated", "limits"),
    [
        ({"time_s": 2.0}, Limits(time_s=2.0, total_s=20.0)),
        ({"time_s": 2.0, "total_s": 5.0}, Limits(time_s=2.0, total_s=5.0)),
        ({"memory_mb": 256}, Limits(memory_mb=256)),
        ({}, Limits()),
    ],
)
def test_limits(stated: dict[str, Any], limits: Limits) -> None:
    assert problem_from_record({**RECORD, "limits": stated}).limits == limits


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("id", "", "key 'id'"),
        ("id", 3, "key 'id'"),
        ("prompt", None, "key 'prompt'"),
        ("tests", None, "problem 'a': no tests"),
        ("tests", [], "problem 'a': no tests"),
        ("tests.kind", "call", "tests.kind 'call': expected one of stdio, calls, asserts, check, unittest, answer"),
        ("tests.kind", None, "tests.kind None"),
        ("tests.cases", [], "need 'cases'"),
        ("tests.entry_point", "", "need 'entry_point'"),
        ("tests.compare", "lines", "tests.compare 'lines': expected one of exact, float, unordered"),
        ("tests.cases", [{"args": [1]}], "needs args and expected"),
        ("tests.cases", [3], "needs args and expected"),
        ("tests.cases", [{"args": [{"__bytes__": "*"}], "expected": 1}], "not a valid __bytes__"),
        ("tests", {"kind": "asserts", "entry_point": "f"}, "need 'asserts'"),
        ("tests", {"kind": "check", "entry_point": "f"}, "need 'code'"),
        ("tests", {"kind": "unittest"}, "need 'code'"),
        ("tests", {"kind": "answer", "answer": ""}, "need 'answer'"),
        ("tests", {"kind": "stdio", "cases": [{"input": "1"}]}, "needs input and output"),
        ("limits", {"time": 3}, "limits .*time_s"),
        ("limits", [4, 40], "limits .*expected an object"),
        ("limits", {"time_s": 0}, "expected positive, finite numbers"),
        ("limits", {"time_s": -1}, "expected positive, finite numbers"),
        ("limits", {"time_s": "4"}, "expected positive, finite numbers"),
        ("limits", {"memory_mb": True}, "expected positive, finite numbers"),
        ("limits", {"memory_mb": float("nan")}, "expected positive, finite numbers"),
    ],
)
def test_a_bad_record_is_an_error_with_its_line(tmp_path: Path, path: str, value: Any, reason: str) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text(json.dumps({**RECORD, "id": "first"}) + "\n" + json.dumps(changed(path, value)) + "\n")
    with pytest.raises(DataError, match=f"p.jsonl: line 2: .*{reason}"):
        load_problems(file)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("tests.kind", ["calls"]),
        ("tests.cases", 5),
        ("tests.cases", [{"args": 5, "expected": 1}]),
        ("tests.cases", [{"args": "ab", "expected": 1}]),
        ("tests.cases", [{"args": [], "kwargs": [1], "expected": 1}]),
        ("tests.rel_tol", "small"),
        ("tests", {"kind": "asserts", "entry_point": "f", "asserts": "assert f(1) == 1"}),
        ("metadata", [1]),
        ("limits", {"time_s": math.inf}),
    ],
)
def test_a_value_of_the_wrong_type_is_an_error_with_its_line(tmp_path: Path, path: str, value: Any) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text(json.dumps(changed(path, value)) + "\n")
    with pytest.raises(DataError, match=r"p.jsonl: line 1: "):
        load_problems(file)


def test_an_id_twice_and_an_empty_file_are_errors(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text((json.dumps(RECORD) + "\n") * 2)
    with pytest.raises(DataError, match=r"problem id 'a' occurs twice"):
        load_problems(file)
    file.write_text("")
    with pytest.raises(DataError, match=r"no problems in it"):
        load_problems(file)

"""Tests that are one loop over inputs: they are known by their form, and judged as if they ran as they stand."""

from __future__ import annotations

import pytest

from recode_rl.grading import Grader, loops
from recode_rl.sandbox import codec
from recode_rl.types import Problem
from recode_rl.types import Tests as Given

HEAD = """
import math

def assertion(out, exp, atol):
    exact_match = out == exp
    if not exact_match and atol != 0:
        assert type(out) == type(exp) and math.isclose(out, exp, rel_tol=0, abs_tol=atol)
    else:
        assert exact_match

"""
CHECK = """
def check(candidate):
    inputs = {inputs}
    results = {results}
    for i, (inp, exp) in enumerate(zip(inputs, results)):
        assertion(candidate(*inp), exp, {atol})
"""
REFERENCE = """
def ref_func(xs):
    return sorted(xs)

def check(candidate):
    inputs = [[[3, 1, 2]], [[]], [[2.5, -1]]]
    for i, inp in enumerate(inputs):
        assertion(candidate(*inp), ref_func(*inp), 0)
"""


def code(inputs: object, results: object, atol: float = 0) -> str:
    return HEAD + CHECK.format(inputs=inputs, results=results, atol=atol)


def problem(text: str) -> Problem:
    return Problem("p", "?", Given("check", entry_point="f", code=text))


def find(text: str, kind: str = "check", name: str = "f") -> loops.Loop | None:
    return loops.Kept().find(kind, "", text, name)


DOUBLES = code([[n] for n in range(300)], [2 * n for n in range(300)])


def test_the_form_is_known_and_right_answers_are_kept() -> None:
    loop = find(DOUBLES)
    assert loop is not None
    assert [len(batch.sizes) for batch in loop.batches] == [1, 4, 16, 64, 215]
    assert loop.right[7] == b'{"ok":14}'
    assert not loop.expected


@pytest.mark.parametrize(
    "text",
    [
        DOUBLES.replace("assertion(candidate(*inp), exp, 0)", "assertion(candidate(*inp), candidate(*inp), 0)"),
        DOUBLES.replace("assertion(candidate(*inp), exp, 0)", "assertion(candidate(inp[0]), exp, 0)"),
        DOUBLES.replace("    for i", "    extra = candidate(1)\n    for i"),
        DOUBLES.replace("inputs = [[0],", "inputs = [[candidate(0)],"),
        DOUBLES.replace("import math", "import math, random"),
        DOUBLES.replace("exact_match = out == exp", "global seen; seen = out; exact_match = out == exp"),
        DOUBLES.replace("check(candidate)", "check(candidate, more=1)"),
        "assert f(1) == 2",
    ],
    ids=["called twice", "another call", "a call before", "program in inputs", "random", "global", "check", "plain"],
)
def test_any_other_form_runs_as_it_stands(text: str) -> None:
    loop = find(text)
    assert loop is None or "seen" in text  # a global that nobody reads changes nothing


@pytest.mark.parametrize(
    ("program", "status"),
    [
        ("def f(n):\n    return 2 * n", "passed"),
        ("def f(n):\n    return 2 * n if n != 250 else 0", "wrong_answer"),
        ("def f(n):\n    return 2 * n if n else 1", "wrong_answer"),
        ("def f(n):\n    return 1000 // (200 - n) * 0 + 2 * n", "runtime_error"),
        ("def f(n):\n    return float(2 * n)", "passed"),  # equal, though other bytes
        ("import os\ndef f(n):\n    return 2 * n if n < 150 else os._exit(0)", "runtime_error"),
        ("def f(n):\n    return range(n)", "wrong_answer"),
        ("def g(n):\n    return 2 * n", "runtime_error"),
        ("def f(n):\n    raise SystemExit", "runtime_error"),
    ],
)
def test_the_verdicts_are_those_of_the_tests(grader: Grader, program: str, status: str) -> None:
    verdict = grader.grade(problem(DOUBLES), program)
    assert (verdict.status, verdict.isolation, verdict.tests_total) == (status, "proxied", 1)


def test_the_detail_says_what_was_returned(grader: Grader) -> None:
    verdict = grader.grade(problem(DOUBLES), "def f(n):\n    return 2 * n + (n == 40)")
    assert verdict.detail is not None
    assert "returned 81" in verdict.detail


@pytest.mark.parametrize(("got", "status"), [("1.0000001", "passed"), ("1.1", "wrong_answer"), ("1", "passed")])
def test_tolerances_are_the_tests_own(grader: Grader, got: str, status: str) -> None:
    text = code([[0]], [1.0], atol=1e-6)
    assert grader.grade(problem(text), f"def f(n):\n    return {got}").status == status


def test_a_list_is_no_tuple_where_the_test_says_so(grader: Grader) -> None:
    text = code([[0]], ["(1, 2)"]).replace("'(1, 2)'", "(1, 2)")
    assert find(text) is not None
    assert grader.grade(problem(text), "def f(n):\n    return (1, 2)").passed
    assert not grader.grade(problem(text), "def f(n):\n    return [1, 2]").passed


def test_nan_is_expected_of_nobody(grader: Grader) -> None:
    text = code([[0]], ["nan"]).replace("'nan'", "nan").replace("import math", "import math\nfrom math import nan")
    loop = find(text)
    assert loop is not None
    assert not loop.right
    assert grader.grade(problem(text), "def f(n):\n    return float('nan')").status == "wrong_answer"


def test_expected_values_are_of_the_inputs_as_they_were(grader: Grader) -> None:
    text = HEAD + REFERENCE
    assert find(text) is not None
    sort = "def f(xs):\n    xs.sort()\n    return xs"
    assert grader.grade(problem(text), sort).passed
    assert grader.grade(problem(text), "def f(xs):\n    xs.clear()\n    return xs").status == "wrong_answer"


def test_a_test_that_looks_at_its_arguments_again_sees_what_became_of_them(grader: Grader) -> None:
    body = "        assert candidate(*inp) is None and inp[0] == exp\n"
    text = code([[[2, 1]]], [[1, 2]]).replace("        assertion(candidate(*inp), exp, 0)\n", body)
    loop = find(text)
    assert loop is not None
    assert loop.back
    assert grader.grade(problem(text), "def f(xs):\n    xs.sort()").passed
    assert not grader.grade(problem(text), "def f(xs):\n    sorted(xs)").passed


def test_a_script_is_a_loop_as_well(grader: Grader) -> None:
    script = DOUBLES.replace("def check(candidate):\n", "").replace("\n    inputs", "\ninputs")
    script = script.replace("    results", "results").replace("    for i", "for i").replace("candidate", "f")
    assert find(script, "asserts") is not None
    given = Problem("p", "?", Given("asserts", entry_point="f", asserts=(script,)))
    assert grader.grade(given, "def f(n):\n    return n + n").passed
    assert not grader.grade(given, "def f(n):\n    return n").passed


def test_long_answers_are_known_by_their_digest(grader: Grader) -> None:
    text = HEAD + REFERENCE.replace("sorted(xs)", "[0.5 * x for x in xs] * 5000")
    loop = find(text)
    assert loop is not None
    assert set(loop.right_long) == {0, 2}
    program = "def f(xs):\n    return [x / 2 for x in xs] * 5000"
    assert grader.grade(problem(text), program).passed
    assert not grader.grade(problem(text), program + "[:-1]").passed


def test_what_is_kept_has_an_end() -> None:
    kept = loops.Kept(most_bytes=3 * len(DOUBLES))
    for number in range(6):
        assert kept.find("check", f"x = {number}", DOUBLES, "f") is not None
    assert len(kept._loops) < 6


@pytest.mark.parametrize(
    "items",
    [[0.5] * 600, [1, 2.5] * 400, [-0.0, 0.0] * 300, [2**52, 0.1] * 300, [2**53, 0.1] * 300, [1e308] * 600],
)
def test_long_lists_of_numbers_cross_as_they_are(items: list[float]) -> None:
    back = codec.loads(codec.dumps(items))
    assert [(type(x), repr(x)) for x in back] == [(type(x), repr(x)) for x in items]


@pytest.mark.parametrize("items", [[True, 1.5] * 300, [1.5, None] * 300, [float("inf"), 1.0] * 300])
def test_other_long_lists_are_not_packed(items: list[object]) -> None:
    assert codec.encode(items)[0] == "l"
    assert codec.loads(codec.dumps(items)) == items


@pytest.mark.parametrize(
    "data", ['["P","AA=="]', '["P","AAAAAAAA8H8="]', '["P","AAAAAAAA8D8=","AQE="]', '["P"]', '["P",1]']
)
def test_packed_lists_that_are_broken_are_refused(data: str) -> None:
    with pytest.raises(codec.CodecError):
        codec.loads(data)

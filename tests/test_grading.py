"""Verdicts on real programs: every status, and programs that try to pass without solving anything."""

from __future__ import annotations

import os
import shutil
import signal
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from recode_rl import sandbox
from recode_rl.errors import DataError, SandboxError
from recode_rl.grading import Grader, verdict_from_record, verdict_to_record
from recode_rl.grading.grader import MAX_FAILURES
from recode_rl.types import Limits, Problem, Verdict
from recode_rl.types import Tests as Given

LIMITS = Limits(time_s=1.0, total_s=20.0, memory_mb=512, output_mb=1.0, processes=16, files_mb=16)


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader(workers=2, defaults=LIMITS) as made:
        yield made


def asserts(*entries: str, entry_point: str = "f", setup: str = "") -> Problem:
    return Problem("p/asserts", "", Given("asserts", entry_point=entry_point, setup=setup, asserts=entries))


def check(body: str, entry_point: str = "f", setup: str = "") -> Problem:
    code = "def check(candidate):\n" + textwrap.indent(textwrap.dedent(body), "    ")
    return Problem("p/check", "", Given("check", entry_point=entry_point, setup=setup, code=code))


def calls(*cases: tuple[list[Any], Any], entry_point: str = "f", compare: str = "exact") -> Problem:
    made = tuple({"args": args, "kwargs": {}, "expected": expected} for args, expected in cases)
    return Problem("p/calls", "", Given("calls", entry_point=entry_point, cases=made, compare=compare))


def stdio(*cases: tuple[str, str], compare: str = "lines") -> Problem:
    made = tuple({"input": given, "output": output} for given, output in cases)
    return Problem("p/stdio", "", Given("stdio", cases=made, compare=compare))


SQUARE_ASSERTS = asserts("assert f(2) == 4", "assert f(3) == 9", "assert f(-1) == 1")
SQUARE_CHECK = check("assert candidate(2) == 4\nassert candidate(3) == 9")
SQUARE_CALLS = calls(([2], 4), ([3], 9), ([-1], 1))
SQUARE_STDIO = stdio(("2\n", "4\n"), ("3\n", "9\n"), ("-1\n", "1\n"))
FUNCTION_KINDS = [SQUARE_ASSERTS, SQUARE_CHECK, SQUARE_CALLS]
kinds = pytest.mark.parametrize("problem", FUNCTION_KINDS, ids=lambda problem: problem.tests.kind)


def status(verdict: Verdict) -> tuple[str, int, int]:
    return verdict.status, verdict.tests_passed, verdict.tests_total


@kinds
def test_right_and_wrong(grader: Grader, problem: Problem) -> None:
    right = grader.grade(problem, "def f(x):\n    return x * x")
    assert right.passed
    assert right.tests_passed == right.tests_total
    assert right.isolation == "proxied"
    assert right.detail is None
    assert 0 < right.time_s < 1
    wrong = grader.grade(problem, "def f(x):\n    return x + 2")
    assert wrong.status == "wrong_answer"
    assert wrong.tests_passed < wrong.tests_total


def test_stdio(grader: Grader) -> None:
    right = grader.grade(SQUARE_STDIO, "print(int(input()) ** 2)")
    assert status(right) == ("passed", 3, 3)
    assert right.isolation == "stdio"
    wrong = grader.grade(SQUARE_STDIO, "print(int(input()) + 2)")
    assert status(wrong) == ("wrong_answer", 2, 3)
    assert wrong.detail == 'test 2: input "3\\n", expected "9\\n", got "5\\n"'


def test_all_tests_run_and_the_worst_decides(grader: Grader) -> None:
    program = "def f(x):\n    if x == 2: return 5\n    if x == 3: raise ValueError('three')\n    return 1"
    for problem in (SQUARE_ASSERTS, SQUARE_CALLS):
        verdict = grader.grade(problem, program)
        assert status(verdict) == ("runtime_error", 1, 3)
        assert verdict.detail is not None
        assert "f(2)" in verdict.detail
        assert "5" in verdict.detail
    verdict = grader.grade(SQUARE_STDIO, "x = int(input())\nprint([1, 1 // (x - 3)][0] if x != 2 else 5)")
    assert status(verdict) == ("runtime_error", 1, 3)


@pytest.mark.parametrize("problem", [*FUNCTION_KINDS, SQUARE_STDIO], ids=lambda problem: problem.tests.kind)
def test_no_code_and_compile_error(grader: Grader, problem: Problem) -> None:
    none = grader.grade(problem, None)
    assert (none.status, none.isolation, none.tests_passed) == ("no_code", "none", 0)
    for source in ("def f(x:\n    return 1", "x = '\x00'", "(" * 3000):
        broken = grader.grade(problem, source)
        assert (broken.status, broken.tests_passed) == ("compile_error", 0)


@kinds
@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("raise ValueError('at the start')", "runtime_error"),
        ("import sys; sys.exit(0)", "runtime_error"),
        ("import os; os._exit(0)", "runtime_error"),
        ("def g(x): return x * x", "runtime_error"),
        ("f = 4", "runtime_error"),
        ("def f(x): return 1 // 0", "runtime_error"),
        ("def f(x): raise SystemExit(0)", "runtime_error"),
        ("def f(x): raise AssertionError", "runtime_error"),
        ("import os\ndef f(x): os._exit(0)", "runtime_error"),
        ("import os\ndef f(x): os.kill(os.getpid(), 11)", "runtime_error"),
        (
            "import os\ndef f(x): os.closerange(3, 50)",
            "runtime_error",
        ),
        ("def f(x): return f(x)", "runtime_error"),
        ("def f(x):\n    while True: pass", "timeout"),
        ("while True: pass", "timeout"),
        ("import time\ndef f(x): time.sleep(100)", "timeout"),
        ("def f(x): return bytearray(1 << 30)", "memory_limit"),
        ("x = [0] * (1 << 28)", "memory_limit"),
        ("def f(x): return 'x' * (4 << 20)", "output_limit"),
    ],
)
def test_failing_functions(grader: Grader, problem: Problem, source: str, expected: str) -> None:
    verdict = grader.grade(problem, source)
    assert (verdict.status, verdict.tests_passed) == (expected, 0), verdict
    assert verdict.detail


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import sys; print(int(input()) ** 2); sys.exit(1)", "runtime_error"),
        ("import sys; sys.exit(0)", "wrong_answer"),
        ("import os; print(int(input()) ** 2); os.abort()", "runtime_error"),
        ("print('passed')", "wrong_answer"),
        ("while True: pass", "timeout"),
        ("import time; time.sleep(100)", "timeout"),
        ("x = bytearray(1 << 30)", "memory_limit"),
        ("while True: print('x' * 10000)", "output_limit"),
    ],
)
def test_failing_scripts(grader: Grader, source: str, expected: str) -> None:
    verdict = grader.grade(SQUARE_STDIO, source)
    assert (verdict.status, verdict.tests_passed) == (expected, 0), verdict


def test_after_a_timeout_the_rest_has_failed(grader: Grader) -> None:
    program = "def f(x):\n    while x == 3: pass\n    return x * x"
    assert status(grader.grade(SQUARE_ASSERTS, program)) == ("timeout", 1, 3)
    assert status(grader.grade(SQUARE_CALLS, program)) == ("timeout", 1, 3)
    script = "x = int(input())\nwhile x == 3: pass\nprint(x * x)"
    assert status(grader.grade(SQUARE_STDIO, script)) == ("timeout", 1, 3)


def test_total_time_is_limited(grader: Grader) -> None:
    limits = Limits(time_s=2.0, total_s=0.5)
    problem = Problem("p", "", SQUARE_ASSERTS.tests, limits=limits)
    assert grader.grade(problem, "import time\ndef f(x):\n    time.sleep(0.3)\n    return x * x").status == "timeout"
    scripts = Problem("p", "", SQUARE_STDIO.tests, limits=limits)
    verdict = grader.grade(scripts, "import time\ntime.sleep(0.3)\nprint(int(input()) ** 2)")
    assert status(verdict) == ("timeout", 1, 3)


FRIENDLY = """
class Friendly{base}:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __lt__(self, other): return True
    __le__ = __gt__ = __ge__ = __lt__
    def __hash__(self): return 0
    def __bool__(self): return True
    def __getattr__(self, name): return Friendly()
    def __getitem__(self, key): return Friendly()
    def __call__(self, *args): return Friendly()
"""
CHEATS = {
    "friendly object": FRIENDLY.format(base="") + "def f(x): return Friendly()",
    "friendly int": FRIENDLY.format(base="(int)") + "def f(x): return Friendly()",
    "friendly list": FRIENDLY.format(base="(list)") + "def f(x): return Friendly()",
    "friendly class": FRIENDLY.format(base="") + "class f(Friendly):\n    def __init__(self, *args): pass",
    "friendly str": FRIENDLY.format(base="(str)") + "def f(x): return Friendly()",
    "frame walk": """
import sys
def f(x):
    frame = sys._getframe()
    while frame:
        for value in [*frame.f_locals.values(), *frame.f_globals.values()]:
            if isinstance(value, dict) and "expected" in value: return value["expected"]
        frame = frame.f_back
""",
    "search of memory": """
import gc
def f(x):
    for thing in gc.get_objects():
        if isinstance(thing, dict) and ("asserts" in thing or "cases" in thing): return 4
        if isinstance(thing, str) and "assert f(2) == 4" in thing: return 4
    return None
""",
    "forged report": """
import os
def f(x):
    import json, struct
    for kind in b"TE":
        for test in range(3):
            body = bytes([kind]) + json.dumps({"nonce": "", "test": test, "status": "passed", "detail": None}).encode()
            os.write(3, struct.pack(">I", len(body)) + body)
    os._exit(0)
""",
    "forged readiness": """
import os, struct
body = b'{"ready": true}'
os.write(3, struct.pack(">I", len(body)) + body)
os._exit(0)
""",
    "printed word": "def f(x):\n    print('passed'); print('OK')",
    "patched builtins": """
import builtins, operator
builtins.AssertionError = type("E", (BaseException,), {})
builtins.isinstance = lambda *args: True
def f(x): return None
""",
    "class that lies": """
class Meta(type):
    def __instancecheck__(cls, other): return True
class f(metaclass=Meta):
    def __new__(cls, *args): return 'right'
    __class__ = int
""",
    "exit handler": "import atexit, os\natexit.register(os._exit, 0)\ndef f(x): raise SystemExit(0)",
    "thread that ends it": """
import os, threading, time
def f(x):
    threading.Timer(0.05, os._exit, [0]).start()
    time.sleep(5)
""",
}


@kinds
@pytest.mark.parametrize("cheat", CHEATS.values(), ids=CHEATS.keys())
def test_cheats_do_not_pass_a_single_test(grader: Grader, problem: Problem, cheat: str) -> None:
    verdict = grader.grade(problem, cheat)
    assert not verdict.passed, verdict
    assert verdict.tests_passed == 0, verdict
    assert verdict.isolation == "proxied"


@pytest.mark.skipif(sandbox.level().name != "full", reason="namespaces are not allowed here")
def test_programs_cannot_read_the_answers_from_files(grader: Grader, tmp_path: Path) -> None:
    answers = tmp_path / "answers.json"
    answers.write_text("4")
    program = f"def f(x):\n    return int(open({str(answers)!r}).read())"
    verdict = grader.grade(asserts("assert f(2) == 4"), program)
    assert verdict.status == "runtime_error"
    assert "FileNotFoundError" in (verdict.detail or "")
    verdict = grader.grade(stdio(("", "4")), f"print(open({str(answers)!r}).read())")
    assert verdict.status == "runtime_error"


def test_changed_arguments_come_back(grader: Grader) -> None:
    problem = check(
        """
        inner = [3, 1, 2]
        data = [inner, {"a": [1]}]
        assert candidate(data) is None
        assert data == [[1, 2, 3], {"a": [1, 2], "b": 0}, "new"]
        assert data[0] is inner and inner == [1, 2, 3]
        numbers = {1}
        same = [5]
        assert candidate([same, {"a": []}]) is None and same == [5]
        """
    )
    program = """
def f(d):
    d[0].sort()
    if d[1]["a"]: d[1]["a"].append(2)
    d[1]["b"] = 0
    d.append("new")
"""
    assert grader.grade(problem, program).passed
    same = asserts(
        "a = [2, 1]\nb = f(a)\nassert b is a and a == [1, 2]", "a = [2, 1]\nassert f(items=a) == [1, 2] == a"
    )
    assert grader.grade(same, "def f(items):\n    items.sort()\n    return items").passed
    assert grader.grade(same, "def f(items):\n    return sorted(items)").tests_passed == 0


def test_values_keep_their_types(grader: Grader) -> None:
    echo = "def f(x):\n    return x"
    problem = check(
        """
        import math, collections, decimal, fractions
        for value in (10**5000, -2**70, (1, [2, (3,)]), {1: (2,)}, {1, 2}, frozenset([1]), b'x', 1+2j, 'ü\\ud800',
                      None, True, collections.deque([1]), decimal.Decimal('1.0'), fractions.Fraction(1, 3),
                      collections.Counter('aab')):
            assert candidate(value) == value and type(candidate(value)) is type(value), value
        assert math.isnan(candidate(math.nan))
        assert str(candidate(-0.0)) == '-0.0'
        assert candidate([1]) != (1,)
        assert candidate((1,)) != [1]
        """
    )
    assert grader.grade(problem, echo).passed
    as_list = "def f(x):\n    return list(x)"
    assert not grader.grade(asserts("assert f((1, 2)) == (1, 2)"), as_list).passed
    assert grader.grade(calls(([(1, 2)], (1, 2))), as_list).passed
    assert grader.grade(calls(([float("nan")], float("nan")), ([10**5000], 10**5000)), echo).passed


def test_exceptions_cross_as_what_they_are(grader: Grader) -> None:
    problem = check(
        """
        try:
            candidate(-1)
        except ValueError as error:
            assert str(error) == "below zero" and error.args == ("below zero",)
        else:
            assert False, "no exception"
        try:
            candidate({}["a"] if False else "key")
        except LookupError as error:
            assert type(error).__name__ == "Custom"
        else:
            assert False
        assert candidate(4) == 4
        """
    )
    program = """
class Custom(KeyError): pass
def f(x):
    if x == "key": raise Custom("k")
    if x < 0: raise ValueError("below zero")
    return x
"""
    assert grader.grade(problem, program).passed
    assert grader.grade(problem, "def f(x):\n    return x").status == "wrong_answer"


def test_objects_without_a_plain_form(grader: Grader) -> None:
    generator = "def f(n):\n    for i in range(n): yield i * i"
    assert grader.grade(asserts("assert list(f(4)) == [0, 1, 4, 9]", "assert next(f(1)) == 0"), generator).passed
    assert grader.grade(calls(([3], [0, 1, 4])), generator).passed
    assert not grader.grade(calls(([3], [0, 1])), generator).passed
    endless = "import itertools\ndef f(n):\n    return itertools.count()"
    assert grader.grade(calls(([3], [0, 1])), endless).status == "wrong_answer"
    closure = "def f(n):\n    return lambda x: x + n"
    assert grader.grade(asserts("assert f(2)(3) == 5", "g = f(1)\nassert g == g and g(1) == 2"), closure).passed
    stack = """
class Stack:
    def __init__(self): self.a = []
    def push(self, x): self.a.append(x)
    def pop(self): return self.a.pop()
"""
    verdict = grader.grade(asserts("s = Stack()\ns.push(3)\nassert s.pop() == 3", entry_point="Stack"), stack)
    assert (verdict.status, verdict.isolation) == ("passed", "proxied")


def test_namespace_of_the_tests(grader: Grader) -> None:
    problem = asserts(
        "import re\nvalue = f(2)",
        "assert value == math.floor(4.5)",
        "assert __name__ == '__main__'",
        setup="import math",
    )
    assert status(grader.grade(problem, "def f(x):\n    return x * x")) == ("passed", 3, 3)


def test_a_helper_called_check_and_a_main_block(grader: Grader) -> None:
    program = """
def check(x):
    return x * x
def f(x):
    return check(x)
if __name__ == "__main__":
    raise RuntimeError("not to be run")
"""
    for problem in FUNCTION_KINDS:
        assert grader.grade(problem, program).passed
    beside = check("assert candidate(2) == 4\nassert helper() == 1")
    assert grader.grade(beside, program + "\ndef helper(): return 1").passed


def test_output_of_functions_is_not_the_verdict(grader: Grader) -> None:
    program = "import sys\ndef f(x):\n    print('x' * 100, file=sys.stderr)\n    sys.stdout = None\n    return x * x"
    assert grader.grade(SQUARE_ASSERTS, program).passed
    assert grader.grade(SQUARE_CALLS, "def f(x):\n    try: input()\n    except EOFError: return x * x").passed


def test_methods_of_a_solution_class(grader: Grader) -> None:
    problem = calls(([[2, 7], 9], [0, 1]), ([[3, 3], 6], [0, 1]), entry_point="Solution().twoSum")
    program = """
class Solution:
    def __init__(self): self.seen = {}
    def twoSum(self, nums: List[int], target: int) -> Optional[List[int]]:
        for i, n in enumerate(nums):
            if target - n in self.seen: return [self.seen[target - n], i]
            self.seen[n] = i
"""
    assert status(grader.grade(problem, program)) == ("passed", 2, 2)
    assert grader.grade(problem, "class Solution: pass").status == "runtime_error"
    tests = check("assert candidate([1], 1) is None", entry_point="Solution().twoSum")
    assert grader.grade(tests, program).isolation == "proxied"
    assert grader.grade(tests, program).passed


def test_calls_compare_modes(grader: Grader) -> None:
    assert grader.grade(calls(([1], 0.333333333), compare="float"), "def f(x): return x / 3").passed
    assert not grader.grade(calls(([1], 0.333333333)), "def f(x): return x / 3").passed
    assert grader.grade(calls(([1], [3, 1, 2]), compare="unordered"), "def f(x): return [1, 2, 3]").passed
    problem = Problem(
        "p", "", Given("calls", entry_point="f", cases=({"args": [1], "kwargs": {"y": 2}, "expected": 3},))
    )
    assert grader.grade(problem, "def f(x, *, y): return x + y").passed


NODES = asserts("assert depth(root) == 2", entry_point="depth", setup="root = Node(1)\nroot.left = Node(2)")
TREE = "class Node:\n    def __init__(self, v): self.left = None\ndef depth(n): return 1 + depth(n.left) if n else 0"


def test_tests_that_use_the_programs_classes_run_beside_it(grader: Grader) -> None:
    verdict = grader.grade(NODES, TREE)
    assert (verdict.status, verdict.isolation) == ("passed", "shared")
    assert grader.grade(NODES, TREE.replace("1 +", "2 +")).status == "wrong_answer"
    assert grader.grade(NODES, TREE + "\nimport os; os._exit(0)").status == "runtime_error"
    assert grader.grade(NODES, "import os\nclass Node: pass\ndef depth(n): os._exit(0)").tests_passed == 0
    assert grader.grade(NODES, TREE + "\ndef depth(n): raise SystemExit(0)").status == "runtime_error"
    assert grader.grade(NODES, TREE + "\ndef depth(n):\n    while True: pass").status == "timeout"
    assert grader.grade(NODES, "def (").status == "compile_error"


def test_arguments_without_a_plain_form_run_beside_the_program(grader: Grader) -> None:
    problem = asserts("assert f(lambda x: x + 1, 2) == 3")
    verdict = grader.grade(problem, "def f(g, x): return g(x)")
    assert (verdict.status, verdict.isolation) == ("passed", "shared")
    swallowed = asserts("try:\n    r = f(lambda x: x, 2)\nexcept:\n    r = 2\nassert r == 2")
    assert grader.grade(swallowed, "def f(g, x): return g(x)").isolation == "shared"
    listed = check("assert candidate(Node(4)) == 4", setup="class Node:\n    def __init__(self, v): self.v = v")
    assert grader.grade(listed, "def f(n: Node): return n.v").passed


UNITTEST = Problem(
    "p/unittest",
    "",
    Given(
        "unittest",
        entry_point="f",
        code="""
import unittest
class TestCases(unittest.TestCase):
    def setUp(self): self.x = 2
    def test_two(self): self.assertEqual(f(self.x), 4)
    def test_error(self):
        with self.assertRaises(TypeError): f(None)
    def test_three(self): self.assertEqual(f(3), 9)
""",
    ),
)


def test_unittest_classes(grader: Grader) -> None:
    right = grader.grade(UNITTEST, "def f(x): return x * x")
    assert status(right) == ("passed", 3, 3)
    assert right.isolation == "shared"
    assert status(grader.grade(UNITTEST, "def f(x): return x + 2")) == ("wrong_answer", 2, 3)
    assert status(grader.grade(UNITTEST, "import os\ndef f(x): os._exit(0)")) == ("runtime_error", 0, 3)
    assert (
        grader.grade(UNITTEST, "import unittest\nunittest.TestCase.assertEqual = None\ndef f(x): 1 / 0").tests_passed
        == 0
    )


def test_shared_isolation_on_demand() -> None:
    with Grader(workers=1, defaults=LIMITS, isolation="shared") as grader:
        assert grader.grade(SQUARE_CHECK, "def f(x): return x * x").isolation == "shared"
        assert grader.grade(SQUARE_ASSERTS, "def f(x): return x + 2").status == "wrong_answer"


@pytest.mark.parametrize(
    ("tests", "message"),
    [
        (Given("stdio"), "no tests"),
        (Given("calls", entry_point="f"), "no tests"),
        (Given("asserts", entry_point="f"), "no tests"),
        (Given("check", entry_point="f"), "no tests"),
        (Given("unittest", code="x = 1"), "no tests"),
        (Given("asserts", asserts=("assert True",)), "entry_point"),
        (Given("asserts", entry_point="f", asserts=("assert f(",)), "not Python"),
        (Given("calls", entry_point="f", cases=({"args": [1]},)), "expected"),
        (Given("calls", entry_point="f", cases=({"args": [], "expected": 1},), compare="lines"), "exact, float"),
        (Given("answer", answer=" "), "need an answer of 1 to"),
    ],
)
def test_problems_that_cannot_be_graded(grader: Grader, tests: Given, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        grader.grade(Problem("the/problem", "", tests), "def f(): pass")
    assert "the/problem" in str(caught.value)
    with pytest.raises(DataError, match="the/problem"):
        grader.grade_many([(Problem("the/problem", "", tests), "def f(): pass")])


def test_tests_that_cannot_run_here_are_no_verdict(grader: Grader) -> None:
    problem = asserts("import no_such_package_anywhere\nassert f(1) == 1")
    with pytest.raises(SandboxError, match=r"p/asserts.*no_such_package"):
        grader.grade(problem, "def f(x): return 1")


def test_grade_many_keeps_the_order(grader: Grader) -> None:
    programs = [None, "def f(x): return x * x", "def f(", "def f(x): return 0", "def f(x): return x * x"]
    seen: dict[int, object] = {}
    results = grader.grade_many([(SQUARE_CALLS, program) for program in programs], seen.__setitem__)
    found = [result.status for result in results if isinstance(result, Verdict)]
    assert found == ["no_code", "passed", "compile_error", "wrong_answer", "passed"]
    assert [seen[index] for index in range(len(programs))] == results


def test_a_killed_launcher_is_retried() -> None:
    with Grader(workers=1, defaults=LIMITS) as grader:
        assert grader.grade(SQUARE_CALLS, "def f(x): return x * x").passed
        os.kill(grader._places[0].programs.pid, signal.SIGKILL)
        os.kill(grader._places[0].evaluator.child.cell.pid, signal.SIGKILL)
        assert grader.grade(SQUARE_CALLS, "def f(x): return x * x").passed


def test_launchers_that_keep_dying_are_no_verdict() -> None:
    stop = threading.Event()
    with Grader(workers=1, defaults=LIMITS) as grader:

        def kill() -> None:
            while not stop.is_set():
                for cell in list(grader._places[0]._cells.values()):
                    os.kill(cell.pid, signal.SIGKILL)
                time.sleep(0.02)

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            (result,) = grader.grade_many(
                [(SQUARE_CALLS, "import time\ndef f(x):\n    time.sleep(0.5)\n    return x * x")]
            )
        finally:
            stop.set()
            killer.join()
        assert isinstance(result, SandboxError)
        assert "p/calls" in str(result)
        assert grader.grade(SQUARE_CALLS, "def f(x): return x * x").passed


def test_weak_walls_give_the_same_verdicts() -> None:
    with Grader(workers=1, defaults=LIMITS) as grader:
        grader._places[0]._walls = "none"
        for problem in FUNCTION_KINDS:
            assert grader.grade(problem, "def f(x): return x * x").passed
            assert grader.grade(problem, "def f(x): return x + 2").status == "wrong_answer"
            assert grader.grade(problem, "import os\ndef f(x): os._exit(0)").status == "runtime_error"
            assert grader.grade(problem, "def f(x): return bytearray(1 << 30)").status == "memory_limit"
        assert grader.grade(SQUARE_STDIO, "print(int(input()) ** 2)").passed
        assert grader.grade(SQUARE_STDIO, "while True: pass").status == "timeout"


def test_requiring_full_walls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "level", lambda **_: sandbox.SandboxLevel("weak", ("no network",)))
    with pytest.raises(SandboxError, match="no network"):
        Grader(workers=1, require="full")


def test_a_broken_sandbox_is_not_tried_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def broken(self: Grader, problem: Problem, program: str | None) -> Verdict:
        asked.append(problem.id)
        raise SandboxError(f"{problem.id}: gone")

    monkeypatch.setattr(Grader, "grade", broken)
    with Grader(workers=1) as grader:
        results = grader.grade_many([(SQUARE_CALLS, "def f(x): return x")] * 100)
    assert all(isinstance(result, SandboxError) for result in results)
    assert MAX_FAILURES <= len(asked) < 50
    assert "not tried" in str(results[-1])


def test_calls_that_are_sent_ahead_keep_their_order() -> None:
    """More cases than fit the channel at once, values that change, an iterator among them, a death in the middle."""
    cases = tuple({"args": [n, [0] * (n * 40)], "expected": [n] * (n % 4)} for n in range(120))
    problem = Problem("p/many", "", Given("calls", entry_point="f", cases=cases))
    with Grader(workers=1, defaults=LIMITS) as grader:
        body = "    assert len(zeros) == n * 40\n    zeros.append(1)\n    return (n for _ in range(n % 4))"
        assert grader.grade(problem, f"def f(n, zeros):\n{body}").tests_passed == 120
        dies = grader.grade(problem, f"import os\ndef f(n, zeros):\n    n == 77 and os._exit(0)\n{body}")
        assert (dies.status, dies.tests_passed) == ("runtime_error", 77)
        assert "test 78" in str(dies.detail)


def test_tests_that_change_their_process_do_not_meet_other_programs() -> None:
    spoils = Problem(
        "p/spoils",
        "",
        Given("asserts", entry_point="f", asserts=("import math\nmath.floor = lambda x: 7\nassert f(1) == 1",)),
    )
    needs = Problem(
        "p/needs", "", Given("asserts", entry_point="f", asserts=("import math\nassert f(1) == math.floor(1.5)",))
    )
    with Grader(workers=1, defaults=LIMITS) as grader:
        for _ in range(2):
            assert grader.grade(spoils, "def f(x): return x").passed
            assert grader.grade(needs, "def f(x): return x").passed


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
def test_bubblewrap_gives_the_same_verdicts() -> None:
    with Grader(workers=1, defaults=LIMITS, engine="bwrap") as grader:
        assert grader.describe()["engine"] == "bwrap"
        for problem in FUNCTION_KINDS:
            assert grader.grade(problem, "def f(x): return x * x").passed
            assert grader.grade(problem, "def f(x): return x + 2").status == "wrong_answer"
        assert grader.grade(SQUARE_STDIO, "print(int(input()) ** 2)").passed
        looks = "import os\nprint(os.path.exists('/etc/passwd'), os.path.exists('/home'), os.getpid() < 20)"
        problem = Problem("p/look", "", Given("stdio", cases=({"input": "", "output": "False False True\n"},)))
        assert grader.grade(problem, looks).passed


def test_records_round_trip() -> None:
    verdict = Verdict("wrong_answer", 1, 3, "proxied", "f(2): expected 4, got 5", 0.01)
    record = verdict_to_record(verdict, "p/1", "0", True)
    assert record == {
        "problem_id": "p/1",
        "sample_id": "0",
        "passed": False,
        "status": "wrong_answer",
        "tests_passed": 1,
        "tests_total": 3,
        "isolation": "proxied",
        "detail": "f(2): expected 4, got 5",
        "time_s": 0.01,
        "format_ok": True,
    }
    assert verdict_from_record(record) == verdict
    with pytest.raises(DataError, match="isolation 'none at all'"):
        verdict_from_record({**record, "isolation": "none at all"})
    with pytest.raises(DataError, match="passed True"):
        verdict_from_record({**record, "passed": True})

"""The same verdicts from a SandboxFusion server as from here, whatever the server does in between.

The server of these tests speaks SandboxFusion's protocol and runs what it gets in our own sandbox.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import json
import queue
import threading
import time
from collections import deque
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

pytest.importorskip("tenacity", reason="needs the extra [remote]")

from recode_rl.errors import ConfigError, DataError, SandboxError
from recode_rl.grading import Grader
from recode_rl.grading.fusion import FusionGrader
from recode_rl.grading.fusion_client import Client, Fault, Patience, driver, read_answer, retry_after_s
from recode_rl.grading.session import UnusableTestsError
from recode_rl.sandbox import Bounds, Cell, codec
from recode_rl.sandbox.script import run_script
from recode_rl.types import Limits, Problem, Verdict
from recode_rl.types import Tests as Given

LIMITS = Limits(time_s=0.5, total_s=5.0, memory_mb=512, output_mb=1.0, files_mb=16)
QUICK = Patience(attempts=4, first_wait_s=0.01, longest_wait_s=0.05, start_s=10.0, queue_s=20.0)
HASTY = Patience(attempts=4, first_wait_s=0.01, longest_wait_s=0.05, start_s=1.0, queue_s=1.0)
CAPTURED = 1 << 20  # what a server keeps of a stream; it cuts the rest off without a word

# Files that the server would hand over are gone with the sandbox, so they are printed before it ends.
TRAILER = """
import base64, json, os
found = {{name: base64.b64encode(open(name, "rb").read()).decode() for name in {names!r} if os.path.isfile(name)}}
os.write(1, b"")
with os.fdopen(1, "wb", closefd=False) as out:
    out.write(b"\\nFILES OF THE RUN " + json.dumps(found).encode())
"""


class Fusion(ThreadingHTTPServer):
    """A scripted SandboxFusion server: takes the next fault from `faults`, if there is one, instead of an answer."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.faults: deque[str] = deque()
        self.always: str | None = None
        self.poison: str | None = None  # requests with this text fail always
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.stop = threading.Event()
        self.cells: queue.LifoQueue[Cell] = queue.LifoQueue()
        for _ in range(2):
            self.cells.put(Cell())
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def reset(self) -> None:
        self.faults.clear()
        self.requests.clear()
        self.headers.clear()
        self.always = self.poison = None

    def next_fault(self, request: dict[str, Any]) -> str | None:
        if self.poison is not None and self.poison in request["stdin"]:
            return "sandbox error"
        if self.always is not None:
            return self.always
        with contextlib.suppress(IndexError):
            return self.faults.popleft()
        return None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is part of the tests."""

    def run(self, request: dict[str, Any]) -> dict[str, Any]:
        source = request["code"] + TRAILER.format(names=request["fetch_files"])
        bounds = Bounds(request["run_timeout"], request["memory_limit_MB"], files_mb=64)
        cell = self.cells.get()
        try:
            run = run_script(cell, source, request["stdin"].encode(), bounds, request["run_timeout"], 32 << 20)
        finally:
            self.cells.put(cell)
        stdout, _, files = run.stdout.partition(b"\nFILES OF THE RUN ")
        late = run.stopped is not None
        code = None if late else -run.exit.signal if run.exit.signal is not None else run.exit.code
        result = {
            "status": "TimeLimitExceeded" if late else "Finished",
            "execution_time": run.wall_s,
            "return_code": code,
            "stdout": stdout[:CAPTURED].decode(errors="replace"),
            "stderr": run.stderr.decode(errors="replace"),
        }
        status = "Success" if code == 0 else "Failed"
        found = json.loads(files) if files else {}
        return {"status": status, "message": "", "compile_result": None, "run_result": result, "files": found}


class Handler(BaseHTTPRequestHandler):
    """One request to the server."""

    server: Fusion

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on the screen."""

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(request)
        self.server.headers.append(dict(self.headers))
        if self.path != "/run_code":
            self.answer(404, b'{"detail": "Not Found"}')
            return
        fault = self.server.next_fault(request)
        if fault is None:
            self.answer(200, json.dumps(self.server.run(request)).encode())
        else:
            self.fail(fault, request)

    def answer(self, status: int, body: bytes, announced: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body) if announced is None else announced))
        self.end_headers()
        self.wfile.write(body)

    def fail(self, fault: str, request: dict[str, Any]) -> None:
        whole = json.dumps(self.server.run(request)).encode() if "cut" in fault or "no " in fault else b""
        if fault == "429":
            self.answer(429, b"slow down", Retry_After="0")
        elif fault == "500":
            self.answer(500, b'{"detail": "psutil", "traceback": []}')
        elif fault == "503 with a date":
            self.answer(503, b"", Retry_After="Wed, 21 Oct 2015 07:28:00 GMT")
        elif fault == "garbage":
            self.answer(200, b"<html>Bad gateway</html>")
        elif fault == "other json":
            self.answer(200, b'["Success"]')
        elif fault == "cut json":
            self.answer(200, whole[: len(whole) // 2])
        elif fault == "cut body":
            self.answer(200, whole[: len(whole) // 2], announced=len(whole))
        elif fault == "cut output":
            answer = json.loads(whole)
            answer["run_result"]["stdout"] = answer["run_result"]["stdout"][:-20]
            self.answer(200, json.dumps(answer).encode())
        elif fault == "no output":
            answer = json.loads(whole)
            answer["run_result"]["stdout"] = ""
            self.answer(200, json.dumps(answer).encode())
        elif fault == "dropped":
            self.connection.close()
        elif fault == "hang":
            self.server.stop.wait(30)
        elif fault == "drip":
            for _ in range(300):
                self.wfile.write(b"H")
                if self.server.stop.wait(0.1):
                    return
        elif fault == "sandbox error":
            answer = {"status": "SandboxError", "message": "exception on running code", "run_result": None}
            self.answer(200, json.dumps(answer).encode())
        elif fault == "no python":
            run = {"status": "Finished", "return_code": 127, "stdout": "", "stderr": "bash: python: not found\n"}
            self.answer(200, json.dumps({"status": "Failed", "message": "", "run_result": run}).encode())
        else:
            raise AssertionError(fault)


FAULTS = (
    "429",
    "500",
    "503 with a date",
    "garbage",
    "other json",
    "cut json",
    "cut body",
    "cut output",
    "no output",
    "dropped",
    "sandbox error",
    "no python",
)


@pytest.fixture(scope="module")
def running() -> Iterator[Fusion]:
    with Fusion() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.stop.set()
        server.shutdown()
        thread.join()
        while not server.cells.empty():
            server.cells.get().close()


@pytest.fixture
def server(running: Fusion) -> Fusion:
    running.reset()
    return running


@pytest.fixture
def fusion(server: Fusion) -> Iterator[FusionGrader]:
    with FusionGrader(server.url, workers=2, defaults=LIMITS, patience=QUICK) as grader:
        yield grader


@pytest.fixture(scope="module")
def local() -> Iterator[Grader]:
    with Grader(workers=1, defaults=LIMITS, isolation="shared") as grader:
        yield grader


def calls(*cases: tuple[list[Any], Any], entry_point: str = "f", compare: str = "exact") -> Problem:
    made = tuple({"args": args, "kwargs": {}, "expected": expected} for args, expected in cases)
    return Problem("p/calls", "", Given("calls", entry_point=entry_point, cases=made, compare=compare))


def stdio(*cases: tuple[str, str], compare: str = "lines") -> Problem:
    made = tuple({"input": given, "output": output} for given, output in cases)
    return Problem("p/stdio", "", Given("stdio", cases=made, compare=compare))


def asserts(*entries: str, setup: str = "") -> Problem:
    return Problem("p/asserts", "", Given("asserts", entry_point="f", setup=setup, asserts=entries))


CALLS = calls(([2], 4), ([3], 9), ([-1], 1))
STDIO = stdio(("2\n", "4\n"), ("3\n", "9\n"), ("-1\n", "1\n"))
ASSERTS = asserts("assert f(2) == 4", "assert f(3) == 9", "assert f(-1) == 1")
CHECK = Problem(
    "p/check",
    "",
    Given("check", entry_point="f", code="def check(g):\n    assert g(2) == 4\n    assert g(3) == 9"),
)
UNITTEST = Problem(
    "p/unittest",
    "",
    Given(
        "unittest",
        entry_point="f",
        code="""
import unittest
class TestCases(unittest.TestCase):
    def test_two(self): self.assertEqual(f(2), 4)
    def test_three(self): self.assertEqual(f(3), 9)
""",
    ),
)
RIGHT = "def f(x):\n    return x * x"

FUNCTIONS = {
    "right": RIGHT,
    "wrong": "def f(x):\n    return x + 2",
    "does not compile": "def f(x:\n    return 1",
    "null byte": "x = '\x00'",
    "raises": "def f(x):\n    if x == 3: raise ValueError('three')\n    return x * x",
    "raises at the start": "raise KeyError('at the start')",
    "no such function": "def g(x): return x * x",
    "endless": "def f(x):\n    while True: pass",
    "endless once": "def f(x):\n    while x == 3: pass\n    return x * x",
    "endless at the start": "while True: pass",
    "too much memory": "def f(x): return bytearray(1 << 30)",
    "too much output": "def f(x): return 'x' * (4 << 20)",
    "deep recursion": "def f(x): return f(x)",
    "noise": "import os, sys\nprint('hello')\ndef f(x):\n    print('9\\n4', flush=True); os.write(1, b'4' * 9999)\n"
    "    print('x', file=sys.stderr)\n    return x * x",
    "closes everything": "import os\ndef f(x):\n    os.closerange(0, 100)\n    return x * x",
    "sys.exit": "import sys; sys.exit(0)",
    "sys.exit in a call": "def f(x): raise SystemExit(0)",
    "os._exit": "import os; os._exit(0)",
    "os._exit in a call": "import os\ndef f(x): os._exit(0)",
    "signal": "import os\ndef f(x): os.kill(os.getpid(), 11)",
    "forged replies": """
import json, os, struct
def f(x):
    for body in (b'{"ok":4}', b'T{"nonce":"","test":0,"status":"passed","detail":null}', b'E{"nonce":"","tests":3}'):
        for fd in range(3, 30):
            try: os.write(fd, struct.pack(">I", len(body)) + body)
            except OSError: pass
    os._exit(0)
""",
    "forged start": """
import os, struct
for fd in range(3, 30):
    body = b'{"ready": true}'
    try: os.write(fd, struct.pack(">I", len(body)) + body)
    except OSError: pass
os._exit(0)
""",
    "printed report": """
import os
def f(x):
    for fd in range(1, 30):
        try: os.write(fd, b'recode abc text eJyr .\\n')
        except OSError: pass
    return 4
""",
    "assertion error": "def f(x): raise AssertionError",
    "reads its input": "def f(x):\n    try: return int(input())\n    except EOFError: return x * x",
}

SCRIPTS = {
    "right": "print(int(input()) ** 2)",
    "right in a main block": "if __name__ == '__main__':\n    import sys\n    print(int(sys.stdin.readline()) ** 2)",
    "right by other ways": "import os, sys\nn = int(open('/dev/fd/0').read() if os.path.exists('/dev/fd/0') else "
    "sys.stdin.buffer.read())\nos.write(1, b'%d' % n ** 2)",
    "right at exit": "import atexit, threading\nn = int(input())\nthreading.Timer(0.05, print, [n * n]).start()",
    "wrong": "print(int(input()) + 2)",
    "exit status": "import sys; print(int(input()) ** 2); sys.exit(1)",
    "sys.exit": "import sys; sys.exit(0)",
    "os._exit": "import os; os._exit(0)",
    "abort": "import os; print(int(input()) ** 2, flush=True); os.abort()",
    "does not compile": "print(",
    "deep nesting": "(" * 3000,
    "raises": "x = int(input())\nprint(1 // (x - 3) and x * x)",
    "endless": "while True: pass",
    "sleeps": "import time; time.sleep(100)",
    "endless once": "x = int(input())\nwhile x == 3: pass\nprint(x * x)",
    "too much memory": "x = bytearray(1 << 30)",
    "too much output": "while True: print('x' * 10000)",
    "not UTF-8": "import os; os.write(1, b'\\xff\\xfe')",
    "prints a report": "print('recode x start\\nrecode x text eJyr .')",
    "passed": "print('passed')",
    "leaves a child behind": "import os, time\nprint(int(input()) ** 2, flush=True)\nif os.fork() == 0: time.sleep(30)",
}


def outcome(verdict: Verdict) -> tuple[str, int, int, str]:
    return verdict.status, verdict.tests_passed, verdict.tests_total, verdict.isolation


@pytest.mark.parametrize("program", FUNCTIONS.values(), ids=FUNCTIONS.keys())
@pytest.mark.parametrize("problem", [CALLS, ASSERTS], ids=["calls", "asserts"])
def test_functions_as_here(fusion: FusionGrader, local: Grader, problem: Problem, program: str) -> None:
    assert outcome(fusion.grade(problem, program)) == outcome(local.grade(problem, program))


@pytest.mark.parametrize("program", SCRIPTS.values(), ids=SCRIPTS.keys())
def test_scripts_as_here(fusion: FusionGrader, local: Grader, program: str) -> None:
    assert outcome(fusion.grade(STDIO, program)) == outcome(local.grade(STDIO, program))


@pytest.mark.parametrize("problem", [CHECK, UNITTEST], ids=["check", "unittest"])
@pytest.mark.parametrize("name", ["right", "wrong", "raises", "os._exit in a call", "endless", "sys.exit"])
def test_test_programs_as_here(fusion: FusionGrader, local: Grader, problem: Problem, name: str) -> None:
    verdict = fusion.grade(problem, FUNCTIONS[name])
    assert outcome(verdict) == outcome(local.grade(problem, FUNCTIONS[name]))
    assert verdict.isolation == "shared"


def test_what_verdicts_tell(fusion: FusionGrader) -> None:
    right = fusion.grade(CALLS, RIGHT)
    assert outcome(right) == ("passed", 3, 3, "proxied")
    assert right.detail is None
    assert right.time_s > 0
    assert fusion.grade(CALLS, FUNCTIONS["wrong"]).detail == "f(3): expected 9, got 5"
    assert fusion.grade(STDIO, SCRIPTS["wrong"]).detail == 'test 2: input "3\\n", expected "9\\n", got "5\\n"'
    assert fusion.grade(CALLS, FUNCTIONS["raises"]).detail == "f(3): ValueError: three"
    assert "test 2: used more than 0.5 s of CPU time" in str(fusion.grade(CALLS, FUNCTIONS["endless once"]).detail)


def test_no_program_asks_nobody(server: Fusion, fusion: FusionGrader) -> None:
    assert outcome(fusion.grade(CALLS, None)) == ("no_code", 0, 3, "none")
    assert server.requests == []


def test_values_keep_their_types(fusion: FusionGrader) -> None:
    echo = "def f(x):\n    return x"
    values = [10**5000, (1, [2, (3,)]), {1: (2,)}, {1, 2}, b"x", 1 + 2j, "ü\ud800", None, float("nan"), ""]
    assert fusion.grade(calls(*[([value], value) for value in values]), echo).passed
    assert not fusion.grade(calls(([1], True), ([1], "1")), echo).passed
    assert fusion.grade(calls(([1], 0.333333333), compare="float"), "def f(x): return x / 3").passed
    assert fusion.grade(calls(([1], [3, 1, 2]), compare="unordered"), "def f(x): return [1, 2, 3]").passed


def test_values_that_are_not_plain(fusion: FusionGrader) -> None:
    generator = "def f(n):\n    for i in range(n): yield i * i"
    assert fusion.grade(calls(([3], [0, 1, 4]), ([0], [])), generator).passed
    assert fusion.grade(calls(([3], [0, 1])), generator).status == "wrong_answer"
    assert fusion.grade(calls(([3], 3)), generator).status == "wrong_answer"
    breaking = "def f(n):\n    yield 0\n    raise ValueError('later')"
    assert fusion.grade(calls(([3], [0, 1])), breaking).status == "runtime_error"
    endless = "import itertools\ndef f(n):\n    return itertools.count()"
    assert fusion.grade(calls(([3], [0, 1])), endless).status == "wrong_answer"
    in_place = "def f(items):\n    items.sort()\n    return items"
    assert fusion.grade(calls(([[3, 1, 2]], [1, 2, 3])), in_place).passed
    friendly = "class A:\n    def __eq__(self, other): return True\ndef f(x): return A()"
    assert fusion.grade(CALLS, friendly).status == "wrong_answer"
    refusing = "from decimal import Decimal\ndef f(x): return Decimal('sNaN')"
    assert fusion.grade(CALLS, refusing).status == "wrong_answer"


def test_values_that_would_keep_the_trainer_busy_are_not_built(
    fusion: FusionGrader, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[int] = []
    real = codec.decode

    def decode(data: Any, *rest: Any) -> Any:
        built.append(len(json.dumps(data)))
        return real(data, *rest)

    monkeypatch.setattr(codec, "decode", decode)
    attack = "def f(x): return {k * (2 ** 61 - 1) for k in range(2000)}"
    verdict = fusion.grade(CALLS, attack)
    assert (verdict.status, verdict.tests_passed) == ("wrong_answer", 0)
    assert max(built) < 10_000


def test_methods_of_a_solution_class(fusion: FusionGrader) -> None:
    problem = calls(([[2, 7], 9], [0, 1]), entry_point="Solution().twoSum")
    program = """
class Solution:
    def twoSum(self, nums: List[int], target: int) -> Optional[List[int]]:
        return [0, 1]
"""
    assert fusion.grade(problem, program).passed
    tests = Given("asserts", entry_point="Solution().twoSum", asserts=("assert candidate([1, 2], 3) == [0, 1]",))
    assert fusion.grade(Problem("p", "", tests), program).passed


@pytest.mark.parametrize("mode", ["calls", "stdio"])
def test_expected_values_stay_here(server: Fusion, fusion: FusionGrader, mode: str) -> None:
    secret = 918273645
    if mode == "calls":
        fusion.grade(calls(([5], secret), ([6], [secret])), RIGHT)
    else:
        fusion.grade(stdio(("5\n", f"{secret}\n")), SCRIPTS["right"])
    assert server.requests
    assert str(secret) not in json.dumps(server.requests)


def test_programs_and_tests_are_not_in_the_file_that_is_run(server: Fusion, fusion: FusionGrader) -> None:
    fusion.grade(ASSERTS, RIGHT)
    (request,) = server.requests
    assert request["code"] == driver()
    assert "f(2) == 4" in request["stdin"]
    assert "f(2) == 4" not in request["code"]


def test_limits_are_passed_on(server: Fusion, fusion: FusionGrader) -> None:
    limits = Limits(time_s=2.0, total_s=7.0, memory_mb=300)
    assert fusion.grade(Problem("p", "", CALLS.tests, limits=limits), RIGHT).passed
    assert fusion.grade(Problem("p", "", STDIO.tests, limits=limits), SCRIPTS["right"]).passed
    assert [request["run_timeout"] for request in server.requests[:2]] == [17.0, 16.0]
    assert all(request["memory_limit_MB"] >= 300 for request in server.requests)
    assert {request["language"] for request in server.requests} == {"python"}
    tight = Problem("p", "", STDIO.tests, limits=Limits(time_s=2.0, total_s=0.5))
    verdict = fusion.grade(tight, "import time\ntime.sleep(0.3)\nprint(int(input()) ** 2)")
    assert (verdict.status, verdict.tests_passed) == ("timeout", 1)


# -- what a server can do wrong ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS)
def test_a_passing_fault_changes_no_verdict(server: Fusion, fusion: FusionGrader, fault: str) -> None:
    server.faults.extend([fault, fault])
    assert outcome(fusion.grade(CALLS, FUNCTIONS["wrong"])) == ("wrong_answer", 2, 3, "proxied")
    assert len(server.requests) == 3
    assert len({json.loads(request["stdin"])["token"] for request in server.requests}) == 3


@pytest.mark.parametrize("fault", FAULTS)
def test_a_lasting_fault_is_no_verdict(server: Fusion, fusion: FusionGrader, fault: str) -> None:
    server.always = fault
    with pytest.raises(SandboxError, match="p/stdio") as caught:
        fusion.grade(STDIO, SCRIPTS["wrong"])
    assert server.url in str(caught.value)
    assert "attempt 4 of 4" in str(caught.value)
    assert len(server.requests) == 4


@pytest.mark.parametrize("fault", ["hang", "drip"])
def test_a_server_that_hangs_is_not_waited_for(server: Fusion, fault: str) -> None:
    problem = Problem("p", "", CALLS.tests, limits=Limits(time_s=0.5, total_s=1.0))
    server.faults.append(fault)
    with FusionGrader(server.url, defaults=LIMITS, patience=HASTY) as grader:
        assert grader.grade(problem, RIGHT).passed
    assert len(server.requests) == 2


def test_a_server_that_always_hangs_is_no_verdict(server: Fusion) -> None:
    problem = Problem("p", "", CALLS.tests, limits=Limits(time_s=0.1, total_s=0.1))
    server.always = "hang"
    patience = Patience(attempts=2, first_wait_s=0.01, start_s=0.1, queue_s=0.1)
    with (
        FusionGrader(server.url, defaults=LIMITS, patience=patience) as grader,
        pytest.raises(SandboxError, match=r"no answer within 0\.3 s"),
    ):
        grader.grade(problem, RIGHT)


def test_many_programs_while_everything_goes_wrong(server: Fusion) -> None:
    names = ["right", "wrong", "raises", "sys.exit", "does not compile", "noise", "right", "os._exit in a call"]
    jobs: list[tuple[Problem, str | None]] = [(CALLS, FUNCTIONS[name]) for name in names]
    jobs += [(STDIO, SCRIPTS[name]) for name in ("right", "wrong", "exit status")] + [(ASSERTS, RIGHT), (CALLS, None)]
    patience = Patience(attempts=len(FAULTS) + 1, first_wait_s=0.01, longest_wait_s=0.05, start_s=10.0, queue_s=20.0)
    with FusionGrader(server.url, workers=3, defaults=LIMITS, patience=patience) as grader:
        calm = grader.grade_many(jobs)
        server.faults.extend(FAULTS)
        seen: list[int] = []
        stormy = grader.grade_many(jobs, lambda index, result: seen.append(index))
    assert not server.faults
    assert sorted(seen) == list(range(len(jobs)))
    found = [outcome(result) for result in stormy if isinstance(result, Verdict)]
    assert found == [outcome(result) for result in calm if isinstance(result, Verdict)]
    assert len(found) == len(jobs)


def test_one_program_that_cannot_be_graded_leaves_the_others_alone(server: Fusion, fusion: FusionGrader) -> None:
    server.poison = "the poisoned one"
    jobs: list[tuple[Problem, str | None]] = [(CALLS, RIGHT), (CALLS, f"{RIGHT}  # the poisoned one"), (CALLS, RIGHT)]
    first, second, third = fusion.grade_many(jobs)
    assert isinstance(first, Verdict)
    assert isinstance(third, Verdict)
    assert first.passed and third.passed
    assert isinstance(second, SandboxError)
    assert "the sandbox failed: exception on running code" in str(second)


def test_nobody_at_the_other_end() -> None:
    with Fusion() as gone:
        url = gone.url
        while not gone.cells.empty():
            gone.cells.get().close()
    with FusionGrader(url, patience=QUICK) as grader, pytest.raises(SandboxError, match="ConnectionRefusedError"):
        grader.grade(CALLS, RIGHT)


def test_a_wrong_url_is_said_at_once(server: Fusion) -> None:
    with FusionGrader(f"{server.url}/elsewhere", patience=QUICK) as grader:
        with pytest.raises(SandboxError, match=r"404 Not Found.*check the url"):
            grader.grade(CALLS, RIGHT)
        assert len(server.requests) == 1
    for url in ("localhost:8080", "ftp://host", "http://", "http://host:99999"):
        with pytest.raises(ConfigError, match="sandbox url"):
            FusionGrader(url)


def test_url_with_the_path_and_headers(server: Fusion) -> None:
    with FusionGrader(f"{server.url}/run_code/", defaults=LIMITS, headers={"X-Key": "abc"}) as grader:
        assert grader.grade(CALLS, RIGHT).passed
    assert server.headers[0]["X-Key"] == "abc"


class Clockless(threading.Event):
    """An event that remembers how long it was waited for, and does not wait."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout)
        return self.is_set()


def test_waits_grow_and_obey_the_server(server: Fusion, monkeypatch: pytest.MonkeyPatch) -> None:
    patience = Patience(attempts=6, first_wait_s=1.0, longest_wait_s=5.0, start_s=10.0, queue_s=20.0)
    asked = iter(["4", "60", "nonsense", None, "0"])
    monkeypatch.setattr(Handler, "fail", lambda self, *_: self.answer(503, b"", Retry_After=next(asked) or ""))
    server.faults.extend(["503"] * 5)
    with FusionGrader(server.url, defaults=LIMITS, patience=patience) as grader:
        events = grader._client._closed = Clockless()
        assert grader.grade(CALLS, RIGHT).passed
    first, second, third, fourth, fifth = [wait for wait in events.waits if wait is not None]
    assert first == 4.0
    assert second == 5.0
    assert 2.0 <= third <= 4.0
    assert 2.5 <= fourth <= 5.0
    assert 2.5 <= fifth <= 5.0


def test_retry_after_is_a_number_or_a_date() -> None:
    assert retry_after_s(None) is None
    assert retry_after_s(" 12 ") == 12.0
    assert retry_after_s("soon") is None
    assert retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    later = retry_after_s("Wed, 21 Oct 2105 07:28:00 GMT")
    assert later is not None
    assert later > 1e9


def test_closing_gives_up_what_is_under_way(server: Fusion) -> None:
    server.always = "hang"
    grader = FusionGrader(server.url, workers=2, defaults=LIMITS)
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.extend(grader.grade_many([(CALLS, RIGHT), (STDIO, "print()")])))
    thread.start()
    while len(server.requests) < 2:
        time.sleep(0.01)
    grader.close()
    thread.join(20)
    assert not thread.is_alive()
    assert all(isinstance(result, SandboxError) and "was closed" in str(result) for result in results)
    assert len(results) == 2
    with pytest.raises(SandboxError, match="was closed"):
        grader.grade(CALLS, RIGHT)


def test_an_interrupt_is_passed_on(server: Fusion, fusion: FusionGrader) -> None:
    def interrupt(*_: Any) -> None:
        server.always = "hang"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fusion.grade_many([(CALLS, RIGHT)] * 6, interrupt)


# -- output that is long, and output that is lost ----------------------------------------------------------------------

RANDOM = "import random\nrandom.seed(4)\nprint(''.join(random.choice('0123456789abcdef') for _ in range(900_000)))"


def test_long_outputs_come_whole(server: Fusion, fusion: FusionGrader) -> None:
    import random

    generator = random.Random(4)
    expected = "".join(generator.choice("0123456789abcdef") for _ in range(900_000))
    problem = Problem("p", "", stdio(("", expected)).tests, limits=Limits(time_s=10.0))
    assert fusion.grade(problem, RANDOM).passed
    (request,) = server.requests
    assert len(request["fetch_files"]) == 1
    repeated = Problem("p", "", stdio(("", "4" * 900_000)).tests)
    assert fusion.grade(repeated, "print('4' * 900_000)").passed


def test_a_long_output_that_is_not_handed_over_is_no_verdict(
    server: Fusion, fusion: FusionGrader, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = server.run
    monkeypatch.setattr(server, "run", lambda request: {**real(request), "files": {}})
    problem = Problem("p", "", stdio(("", "x")).tests, limits=Limits(time_s=10.0))
    with pytest.raises(SandboxError, match="did not hand over the file"):
        fusion.grade(problem, RANDOM)


def answer(stdout: str = "", status: str = "Finished", code: int | None = 0, stderr: str = "") -> bytes:
    run = {"status": status, "return_code": code, "stdout": stdout, "stderr": stderr, "execution_time": 1.0}
    return json.dumps({"status": "Failed", "message": "", "compile_result": None, "run_result": run}).encode()


START = "recode abc start\n"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (answer(START, "TimeLimitExceeded", None), "timeout"),
        (answer(START, code=-9), "memory_limit"),
        (answer(START, code=137), "memory_limit"),
        (answer(START, code=-15), "runtime_error"),
        (answer(START + "x" * 100), "runtime_error"),
        (answer(START + "recode xyz text eJyr .\n"), "runtime_error"),
    ],
)
def test_programs_that_end_the_driver(data: bytes, expected: str) -> None:
    report = read_answer(data, "abc")
    assert report.ended is not None
    assert report.ended[0] == expected


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"[" * 100_000,
        b'{"status": "Success"}',
        b'{"status": "Success", "run_result": null}',
        b'{"status": "SandboxError", "message": "psutil", "run_result": null}',
        answer(status="Error", code=None, stderr="exception on running command"),
        answer(""),
        answer("", "TimeLimitExceeded", None),
        answer("", code=1, stderr="python: not found"),
        answer(START),
        answer(START[:-1]),
        answer(START + "recode abc te"),
        answer(START + "recode abc text eJyrV"),
        answer(START + "recode abc text eJyrV .\n"),
        answer(START + "recode abc text " + base64.b64encode(b"no zlib").decode() + " .\n"),
        answer(START + "recode abc file .\n"),
    ],
)
def test_answers_from_which_nothing_is_learnt(data: bytes) -> None:
    with pytest.raises(Fault):
        read_answer(data, "abc")


def test_tests_that_need_what_the_server_lacks_are_no_verdict(server: Fusion, fusion: FusionGrader) -> None:
    with pytest.raises(UnusableTestsError, match=r"p/asserts.*no_such_package"):
        fusion.grade(asserts("assert f(2) == 4", setup="import math, no_such_package.inner"), RIGHT)
    assert len(server.requests) == 1
    optional = "try:\n    import no_such_package\nexcept ImportError:\n    pass"
    assert fusion.grade(asserts("import json.decoder\nassert f(2) == 4", setup=optional), RIGHT).passed


@pytest.mark.parametrize(
    ("tests", "message"),
    [
        (Given("calls", entry_point="f"), "no tests"),
        (Given("asserts", entry_point="f", asserts=("assert f(",)), "not Python"),
        (Given("answer", answer=" "), "need an answer of 1 to"),
    ],
)
def test_problems_that_cannot_be_graded(server: Fusion, fusion: FusionGrader, tests: Given, message: str) -> None:
    with pytest.raises(DataError, match=message):
        fusion.grade(Problem("the/problem", "", tests), RIGHT)
    with pytest.raises(DataError, match="the/problem"):
        fusion.grade_many([(CALLS, RIGHT), (Problem("the/problem", "", tests), RIGHT)])
    assert all("the/problem" not in request["stdin"] for request in server.requests)


def test_answers_of_mathematics_are_compared_here(server: Fusion, fusion: FusionGrader) -> None:
    pytest.importorskip("math_verify", reason="needs the extra [math]")
    problem = Problem("p/answer", "How much?", Given("answer", answer="18"))
    found = fusion.grade_many([(problem, "18.0"), (CALLS, RIGHT), (problem, "17"), (problem, None)])
    assert [v.status for v in found if isinstance(v, Verdict)] == ["passed", "passed", "wrong_answer", "no_code"]
    assert all("18" not in request["stdin"] for request in server.requests)


def test_the_driver_is_text_for_older_pythons() -> None:
    assert driver().isascii()
    tree = ast.parse(driver(), feature_version=(3, 10))
    last = tree.body[-1]
    assert isinstance(last, ast.Expr)
    assert isinstance(last.value, ast.Call)
    sources = ast.literal_eval(last.value.args[0])
    assert set(sources) > {"recode_rl.sandbox.codec", "recode_rl.grading.beside"}
    for source in sources.values():
        ast.parse(source, feature_version=(3, 10))


def test_a_client_takes_https() -> None:
    client = Client("https://host/sandbox/", {}, QUICK)
    assert (client._host, client._port, client._path) == ("host", None, "/sandbox/run_code")

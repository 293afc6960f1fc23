"""Grades on a SandboxFusion server: programs run over there, what they gave is compared over here.

For `stdio` and `calls` no expected value leaves this machine. Tests that are code (asserts, check, unittest) run beside
the program on the server, isolation "shared", and must hand back a nonce with every test and after the last one.
Answers of mathematics are no programs and do not go there.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import json
import secrets
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from recode_rl.errors import SandboxError
from recode_rl.grading import answers, code, compare, split
from recode_rl.grading.evaluator import MAX_DRAINED, short
from recode_rl.grading.fusion_client import Client, Ending, Patience, Report
from recode_rl.grading.grader import Done, Grader, Job, grade_all
from recode_rl.grading.session import UnusableTestsError
from recode_rl.sandbox import codec
from recode_rl.types import STATUS_SEVERITY, WALL_FACTOR, Isolation, Limits, Problem, Status, Tests, Verdict

WORKERS = 16

Result = tuple[Status, str | None]

_DEFAULTS = Limits()
_PATIENCE = Patience()
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})
_MIB = 1 << 20
_SHORT = 80
_SLACK = 4096
_FORGED: Result = ("runtime_error", "the program wrote to the channel of the verdict")
# After these the rest counts as failed: what was ended would be ended again, and each time costs a full limit.
_FINAL = ("compile_error", "timeout", "memory_limit", "output_limit")


class FusionGrader:
    """Used like `Grader`: a context manager; `grade` may be called from many threads, `workers` programs at a time.

    `url` is where the server is (`http://host:8080`), `headers` go with every request, for servers behind a gateway.
    `defaults` are the limits of problems that set none; the number of processes cannot be limited over there.
    ConfigError where the url is none, MissingExtraError where the extra [remote] is not installed. Nothing is asked of
    the server before the first program.
    """

    def __init__(
        self,
        url: str,
        workers: int | None = None,
        defaults: Limits = _DEFAULTS,
        headers: Mapping[str, str] = _NO_HEADERS,
        patience: Patience = _PATIENCE,
    ) -> None:
        self.workers = workers or WORKERS
        self.defaults = defaults
        self._client = Client(url, headers, patience)
        self._places = threading.BoundedSemaphore(self.workers)
        self._local: Grader | None = None
        self._lock = threading.Lock()

    def grade(self, problem: Problem, program: str | None) -> Verdict:
        """The verdict on one program.

        DataError where the problem has no usable tests. SandboxError where nothing was learnt about the program, after
        as many attempts as `patience` allows, or where the server lacks a package that the tests import.
        """
        total = code.check_problem(problem)
        if problem.tests.kind == "answer":  # no program: math-verify compares, on this machine
            return self._here().grade(problem, program)
        if program is None:
            return Verdict("no_code", 0, total, "none", "there is no program in the answer")
        limits = problem.limits or self.defaults
        grade = {"stdio": _grade_stdio, "calls": _grade_calls}.get(problem.tests.kind, _grade_beside)
        with self._places:
            try:
                return grade(self._client, problem, program, limits, total)
            except SandboxError as error:
                raise code.as_sandbox_error(error, problem.id) from error

    def _here(self) -> Grader:
        with self._lock:
            if self._local is None:
                self._local = Grader(defaults=self.defaults)
            return self._local

    def describe(self) -> dict[str, Any]:
        """What a manifest says: engine, where, workers, default limits. Its walls are its own."""
        return {
            "engine": "sandbox-fusion",
            "level": "as the server's",
            "missing": [],
            "isolation": "proxied",
            "workers": self.workers,
            "limits": dataclasses.asdict(self.defaults),
            "mathematics": answers.versions(),
        }

    def grade_many(self, jobs: Sequence[Job], on_done: Done | None = None) -> list[Verdict | SandboxError]:
        """A verdict for each job in the order of the jobs, or the SandboxError where there is none.

        `on_done(index, result)` is called in this thread as results come in. DataError, before anything runs, where a
        problem has no usable tests.
        """
        return grade_all(self.workers, jobs, self._attempt, on_done, self.close)

    def _attempt(self, job: Job) -> Verdict | SandboxError:
        try:
            return self.grade(*job)
        except SandboxError as error:
            return error

    def close(self) -> None:
        """Give up the requests under way; a closed grader grades no more."""
        self._client.close()
        if self._local is not None:
            self._local.close()

    def __enter__(self) -> FusionGrader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


# -- programs that read and print --------------------------------------------------------------------------------------


def _grade_stdio(client: Client, problem: Problem, program: str, limits: Limits, total: int) -> Verdict:
    """One request per case."""
    tests, statuses, detail = problem.tests, [], None
    used, rest = 0.0, limits.total_s
    for number, case in enumerate(tests.cases):
        wall = min(limits.time_s * WALL_FACTOR, rest)
        job = {
            "role": "script",
            "program": {"source": program},
            "input": case["input"].encode("utf-8", "surrogateescape").decode("latin-1"),
            "limits": _limits(limits, wall, wall, limits.time_s),
            "needs": [],
        }
        report = client.run(job, limits, wall)
        used += report.exit.cpu_s
        rest -= report.wall_s
        status, what = report.ended or _judge_script(report, tests, case, limits)
        statuses.append(status)
        if status != "passed" and detail is None:
            detail = what if status == "compile_error" else f"test {number + 1}: {what}"
        if status in _FINAL:
            break
        if rest <= 0 and number + 1 < total:
            statuses.append("timeout")
            detail = detail or f"all tests together took longer than {limits.total_s:g} s"
            break
    return Verdict(code.worst(statuses), statuses.count("passed"), total, "stdio", code.cut(detail), round(used, 6))


def _limits(limits: Limits, wall_s: float, total_s: float, cpu_s: float) -> dict[str, Any]:
    """The limits as the driver takes them: seconds of CPU and wall time for a test, `cpu_s` for the whole process."""
    return {
        "time_s": limits.time_s,
        "wall_s": wall_s,
        "total_s": total_s,
        "cpu_s": cpu_s,
        "memory_bytes": limits.memory_mb * _MIB,
        "files_bytes": limits.files_mb * _MIB,
        "output_bytes": int(limits.output_mb * _MIB),
    }


def _judge_script(report: Report, tests: Tests, case: dict[str, Any], limits: Limits) -> tuple[Status, str]:
    """The status of one run, and what to tell where it did not pass."""
    if (start := _start(report)) is not None:
        return start
    ending = report.exit
    if report.over is not None:
        return _over(report, limits)
    if ending.signal == signal.SIGXCPU or ending.cpu_s > limits.time_s:
        return "timeout", f"used more than {limits.time_s:g} s of CPU time"
    if ending.signal is not None:
        return _death(ending, "")
    errors = report.stderr.decode("utf-8", "replace").strip()
    return code.judge_output(ending.code, report.stdout, errors, tests, case)


# -- what the driver's report means ------------------------------------------------------------------------------------


def _start(report: Report) -> tuple[Status, str] | None:
    """Why the program could not be defined, None where it was. It speaks for itself here and can only harm itself."""
    if report.first is None:
        if report.over == "exit" and report.exit.signal not in (None, signal.SIGKILL, signal.SIGXCPU):
            return "compile_error", "the compiler crashed"
        return None if report.over is not None else _FORGED_START
    try:
        answer = json.loads(report.first)
        if answer.get("ready") is True:
            return None
        if "compile_error" in answer:
            return "compile_error", str(answer["compile_error"])
        error = answer["error"]
        return "memory_limit" if "MemoryError" in error["names"] else "runtime_error", str(error["text"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return _FORGED_START


_FORGED_START: tuple[Status, str] = ("runtime_error", "the program wrote to the channel it is asked through")


def _over(report: Report, limits: Limits) -> tuple[Status, str]:
    """What it means that the driver went no further."""
    if report.over == "exit":
        return _death(report.exit, " while it was being defined" if report.first is None else " before its tests ended")
    found: dict[str | None, tuple[Status, str]] = {
        "cpu": ("timeout", f"used more than {limits.time_s:g} s of CPU time"),
        "wall": ("timeout", f"took longer than {limits.time_s * WALL_FACTOR:g} s of wall time"),
        "total": ("timeout", f"all tests together took longer than {limits.total_s:g} s"),
        "output": ("output_limit", f"gave more than {limits.output_mb:g} MiB"),
    }
    return found.get(report.over, ("runtime_error", "the program closed the channel it is asked through"))


def _death(ending: Ending, when: str) -> tuple[Status, str]:
    """What it means that a process ended by itself."""
    if ending.signal == signal.SIGXCPU:
        return "timeout", f"used up its CPU time{when}"
    if ending.signal == signal.SIGKILL and not ending.killed:
        return "memory_limit", f"was killed{when}"
    if ending.signal is not None:
        return "runtime_error", f"ended by signal {ending.signal}{when}"
    return "runtime_error", f"ended itself with exit status {ending.code}{when}"


def _verdict(
    results: dict[int, Result], ended: Result | None, total: int, isolation: Isolation, used: float
) -> Verdict:
    """Count what passed, take the worst of what did not; a test without a word about it has failed."""
    statuses = [status for status, _ in results.values()]
    passed = statuses.count("passed")
    total = max(total, len(statuses))
    if ended is not None:
        statuses.append(ended[0])
    elif len(results) < total:
        statuses.append("runtime_error")
    first = min((number for number, (status, _) in results.items() if status != "passed"), default=None)
    detail = results[first][1] if first is not None else ended[1] if ended is not None else None
    if first is None and ended is None and passed < total:
        detail = f"{total - passed} of {total} tests did not report"
    return Verdict(code.worst(statuses), passed, total, isolation, code.cut(detail), round(used, 6))


def _end(results: dict[int, Result], report: Report, limits: Limits, test: int | None) -> Result | None:
    """Why it went no further, told of the test under way as well."""
    ended = report.ended or _start(report)
    if ended is None and report.over is not None:
        ended = _over(report, limits)
        if test is not None and report.first is not None:
            results.setdefault(test, (ended[0], f"test {test + 1}: {ended[1]}"))
    return ended


# -- calls -------------------------------------------------------------------------------------------------------------


def _grade_calls(client: Client, problem: Problem, program: str, limits: Limits, total: int) -> Verdict:
    """All cases in one request that has no expected value in it."""
    tests = problem.tests
    cases = code.split_job(problem)["cases"]
    lengths = [len(case["expected"]) for case in tests.cases if isinstance(case["expected"], (list, tuple))]
    job = {
        "role": "serve",
        "program": {"source": program, "entry_point": tests.entry_point, "prelude": code.prelude(tests)},
        "calls": [{"op": "call", "target": None, "args": case["args"], "kwargs": case["kwargs"]} for case in cases],
        "items": min(MAX_DRAINED, max(lengths) + 1) if lengths else 0,
        "limits": _limits(limits, limits.time_s * WALL_FACTOR, limits.total_s, limits.total_s),
        "needs": [],
    }
    report = client.run(job, limits, limits.total_s)
    results: dict[int, Result] = {}
    if report.ended is None and _start(report) is None:
        for number, (case, reply) in enumerate(zip(cases, report.messages, strict=False)):
            results[number] = _judge_call(tests, case, reply)
    ended = _end(results, report, limits, len(results))
    return _verdict(results, ended, total, "proxied", report.exit.cpu_s)


class _Raised(Exception):
    """The call gave no value; the argument says why."""

    def __init__(self, status: Status, text: str) -> None:
        super().__init__(text)
        self.status = status


class _Opaque:
    """An object of the program's that has no plain form: equal only to itself."""

    def __init__(self, rest: Sequence[Any]) -> None:
        self._kind = str(rest[-1])[:_SHORT] if rest else ""

    def __repr__(self) -> str:
        return f"<{self._kind} object of the program>"


def _judge_call(tests: Tests, case: dict[str, Any], reply: Any) -> Result:
    """The result of one case: `reply` is the text the program gave, and its items where it can be iterated over."""
    args, expected = codec.decode(case["args"]), codec.decode(case["expected"])
    shown = f"{tests.entry_point}({', '.join(short(arg) for arg in args)})"
    try:
        text, items = reply
        data = _answer(text, case)
        if items is not None and isinstance(expected, (list, tuple)):
            data = ["l", *[_answer(item, case) for item in items[: len(expected) + 1]]]
        got = _value(data, case)
    except _Raised as raised:
        return raised.status, f"{shown}: {raised}"
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return "runtime_error", f"{shown}: the program gave something that is no value"
    try:
        equal = compare.equal_value(got, expected, tests.compare or "exact", tests.rel_tol)
    except (ArithmeticError, ValueError, TypeError, RecursionError):
        equal = False  # some values of the standard library refuse to be compared
    return ("passed", None) if equal else ("wrong_answer", f"{shown}: expected {short(expected)}, got {short(got)}")


def _answer(text: str, case: dict[str, Any]) -> Any:
    """The encoded value in one reply. _Raised where it is an exception of the program's."""
    reply = json.loads(text)
    if "error" in reply:
        error = reply["error"]
        raise _Raised("memory_limit" if "MemoryError" in error["names"] else "runtime_error", str(error["text"]))
    if "same" in reply:  # an argument, maybe changed in place
        return reply.get("args", case["args"])[1:][reply["same"]]
    return reply["ok"]


def _value(data: Any, case: dict[str, Any]) -> Any:
    """The value as exact built-in types.

    This is the trainer's own process, without the clock that a confined one has over it: a value far larger than the
    expected one could keep it busy for hours (keys of one hash), and it can equal nothing, so it is not even built.
    """
    size, asked = len(json.dumps(data)), len(json.dumps([case["expected"], case["args"]]))
    if size > _SLACK + 32 * asked:  # a number of one character may come back as one of twenty-five
        raise _Raised("wrong_answer", f"gave a value far larger than the expected one ({size} characters)")
    try:
        return codec.decode(data, _Opaque)
    except codec.CodecError as error:
        raise _Raised("runtime_error", f"ValueError: the program gave {error}") from None


# -- tests that are code -----------------------------------------------------------------------------------------------


def _grade_beside(client: Client, problem: Problem, program: str, limits: Limits, total: int) -> Verdict:
    """Program and tests in one process over there, which hands a nonce back with every test and after the last."""
    tests = problem.tests
    prelude = code.LEETCODE_PRELUDE if "()." in (tests.entry_point or "") else ()
    given = {"setup": "\n".join([*prelude, tests.setup]), "asserts": list(tests.asserts), "code": tests.code or ""}
    nonce = secrets.token_hex(16)
    job = {
        "role": "beside",
        "program": {"kind": tests.kind, "entry_point": tests.entry_point, "source": program, **given},
        "nonce": nonce,
        "limits": _limits(limits, limits.time_s * WALL_FACTOR, limits.total_s, limits.total_s),
        "needs": _imports((tests.setup, *tests.asserts, tests.code or ""), problem.id),
    }
    report = client.run(job, limits, limits.total_s)
    if report.missing:
        raise UnusableTestsError(
            f"the tests import {', '.join(report.missing)}, which the sandbox server does not have; install it there"
        )
    results: dict[int, Result] = {}
    test, done = _hear(report, nonce, results)
    ended = _end(results, report, limits, test)
    if ended is None and not done:
        ended = _FORGED
    return _verdict(results, ended, total, "shared", report.exit.cpu_s)


def _hear(report: Report, nonce: str, results: dict[int, Result]) -> tuple[int | None, bool]:
    """Put what the tests said into `results`; the test under way, and whether the last one is done."""
    test: int | None = None
    try:
        for text in report.messages:
            said = json.loads(text[1:])
            if not secrets.compare_digest(str(said["nonce"]).encode(), nonce.encode()):
                break
            if text[0] == "E":
                return test, True
            test = int(said["test"]) if text[0] == "S" else None
            if text[0] == "T":
                results[int(said["test"])] = _result(said)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        pass  # nothing more can be believed; without the word after the last test it is not passed
    return test, False


def _result(said: dict[str, Any]) -> Result:
    if said["status"] not in STATUS_SEVERITY:
        raise ValueError("no status")
    return said["status"], None if said["detail"] is None else str(said["detail"])


@functools.lru_cache(maxsize=4096)  # a group of programs is graded against the same tests
def _imports(blocks: tuple[str, ...], problem_id: str) -> list[str]:
    """The packages that test code cannot do without: those it imports, unless it does so in a `try`."""
    found = {name for block in blocks for name in _imported(split.parse(block, problem_id))}
    return sorted(found - {"program", "__main__", "__future__"})


def _imported(node: ast.AST) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Try):
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module and not child.level:
            yield child.module.partition(".")[0]
        else:
            yield from _imported(child)

"""Problem × program → Verdict: a pass is positive evidence for every test, a failure of ours is raised."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from typing import Any

from recode_rl.errors import DataError, SandboxError
from recode_rl.grading import answers, compare, session, split
from recode_rl.grading.session import Evaluator, Outcome
from recode_rl.sandbox import Bounds, Cell, Interpreter, Walls, codec
from recode_rl.sandbox.script import ScriptRun, Scripts
from recode_rl.types import STATUS_SEVERITY, WALL_FACTOR, Isolation, Limits, Problem, Status, Tests, Verdict

_DETAIL = 300
_SHORT = 80
_MIB = 1 << 20
# The names LeetCode's own judge has ready for every program of the form `class Solution`.
LEETCODE_PRELUDE = (
    "from typing import *",
    "import collections, math, heapq, bisect, itertools, functools, string, re, random, operator",
    "from collections import *",
    "from heapq import *",
    "from bisect import *",
    "from itertools import *",
    "from functools import *",
    "from math import inf, gcd, ceil, floor, sqrt, comb, factorial",
)


class Workplace:
    """What one worker grades with: cells and an evaluator, built when needed. Not for two threads at a time."""

    def __init__(
        self, walls: Walls | None = None, core: int | None = None, interpreter: Interpreter | None = None
    ) -> None:
        self._walls = walls
        self._interpreter = interpreter
        self._core = core
        self._cells: dict[str, Cell] = {}
        self._evaluator: Evaluator | None = None
        self._checker: answers.Checker | None = None
        self._job: tuple[Problem, str] | None = None

    def job_of(self, problem: Problem) -> str:
        """The tests of a problem in JSON; kept, since the next program is often for the same problem."""
        if self._job is None or self._job[0] is not problem:
            self._job = problem, json.dumps(split_job(problem))
        return self._job[1]

    @property
    def programs(self) -> Cell:
        """The cell that programs run in."""
        return self._cell("programs", ())

    @property
    def mixed(self) -> Cell:
        """The cell for programs that tests run beside of."""
        return self._cell("mixed", session.BESIDE_MODULES, sockets=True)

    @property
    def evaluator(self) -> Evaluator:
        """The process that runs test code, in a cell of its own."""
        if self._evaluator is not None and session.worn(self._evaluator):
            self.replace_evaluator()
        if self._evaluator is None:
            self._evaluator = Evaluator(self._cell("tests", session.EVALUATOR_MODULES))
        return self._evaluator

    @property
    def checker(self) -> answers.Checker:
        """The process that compares answers of mathematics, in a cell of its own."""
        if self._checker is None:
            self._checker = answers.Checker(self._cell("answers", answers.MODULES))
        return self._checker

    def replace_evaluator(self) -> None:
        """Let the next tests have a new one."""
        if self._evaluator is not None:
            evaluator, self._evaluator = self._evaluator, None
            evaluator.close()

    def _cell(self, name: str, modules: tuple[str, ...], sockets: bool = False) -> Cell:
        """Each cell loads only what it needs: all of it is copied, if lazily, for every program."""
        if name not in self._cells:
            interpreter = self._interpreter if name == "mixed" else None
            self._cells[name] = Cell(modules, self._walls, sockets, self._core, interpreter)
        return self._cells[name]

    def close(self) -> None:
        """End everything; the next use builds it anew."""
        self.replace_evaluator()
        if self._checker is not None:
            checker, self._checker = self._checker, None
            checker.close()
        while self._cells:
            self._cells.popitem()[1].close()


def check_problem(problem: Problem) -> int:
    """The number of tests. DataError where a problem cannot be graded at all."""
    tests = problem.tests
    if tests.kind == "answer":
        return _check_answer(tests.answer, problem.id)
    if tests.kind in ("calls", "asserts", "check") and not tests.entry_point:
        raise DataError(f"{problem.id}: tests of kind {tests.kind!r} need an entry_point, the function they call")
    modes = compare.TEXT_MODES if tests.kind == "stdio" else compare.VALUE_MODES
    if tests.kind in ("stdio", "calls") and tests.compare is not None and tests.compare not in modes:
        raise DataError(f"{problem.id}: compare {tests.compare!r}: expected one of {', '.join(modes)}")
    if tests.kind == "stdio" and any(not _is_text(case.get("input", "")) for case in tests.cases):
        raise DataError(f"{problem.id}: the input of a test case holds half a character (a lone surrogate); mend it")
    for case in tests.cases:
        missing = {"input", "output"} if tests.kind == "stdio" else {"expected"}
        if missing := missing - case.keys():
            raise DataError(f"{problem.id}: a test case has no {', '.join(sorted(missing))}; add it to every case")
    count = _count(tests, problem.id)
    if count == 0:
        raise DataError(f"{problem.id}: has no tests; a program cannot pass what is not asked, leave the problem out")
    return count


def _check_answer(answer: str | None, problem_id: str) -> int:
    if not answers.plain(answer or "") or len(answer or "") > answers.LONGEST:
        raise DataError(
            f"{problem_id}: tests of kind 'answer' need an answer of 1 to {answers.LONGEST} characters, "
            f"not {show(answer or '')}; mend the problem or leave it out"
        )
    answers.need_library()
    return 1


def _count(tests: Tests, problem_id: str) -> int:
    if tests.kind in ("stdio", "calls"):
        return len(tests.cases)
    if tests.kind == "asserts":
        return len(tests.asserts)
    if not (tests.code or "").strip():
        return 0
    if tests.kind == "check":
        return 1
    return split.count_methods(split.parse(tests.code or "", problem_id))


def grade(
    problem: Problem, program: str | None, defaults: Limits, workplace: Workplace, beside: bool = False
) -> Verdict:
    """The verdict on one program. `beside` asks for the weak isolation even where tests could be kept apart.

    DataError where the problem has no usable tests, SandboxError where nothing was learnt about the program.
    """
    total = check_problem(problem)
    limits = problem.limits or defaults
    if problem.tests.kind == "answer":
        limits = problem.limits or replace(defaults, time_s=min(defaults.time_s, answers.TIME_S))
        return _grade_answer(problem.tests.answer or "", program, limits, workplace)
    if program is None:
        return Verdict("no_code", 0, total, "none", "there is no program in the answer")
    tests = problem.tests
    if tests.kind == "stdio":
        return _grade_stdio(tests, program, limits, workplace.programs, total)
    found = split.analyse(tests, problem.id)
    if tests.kind != "calls" and (beside or found.beside):
        return _grade_beside(tests, program, limits, workplace, total)
    about = {"source": program, "entry_point": tests.entry_point, "prelude": prelude(tests)}
    head = json.dumps({"program": about, "max_reply": int(limits.output_mb * _MIB)})
    message = f'{head[:-1]}, "job": {workplace.job_of(problem)}}}'.encode()
    outcome = session.split(workplace.programs, workplace.evaluator, limits, message)
    if found.leaves_traces:
        workplace.replace_evaluator()
    if outcome.unsplittable is not None:
        return _grade_beside(tests, program, limits, workplace, total)
    return _verdict(outcome, total, "proxied")


def split_job(problem: Problem) -> dict[str, Any]:
    """What the evaluator needs to know of a problem."""
    return _calls_job(problem) if problem.tests.kind == "calls" else _asserts_job(problem.tests)


def _calls_job(problem: Problem) -> dict[str, Any]:
    tests = problem.tests
    try:
        cases = [
            {
                "args": codec.encode(list(case.get("args", ()))),
                "kwargs": codec.encode(dict(case.get("kwargs") or {})),
                "expected": codec.encode(case["expected"]),
            }
            for case in tests.cases
        ]
    except codec.CodecError as error:
        raise DataError(f"{problem.id}: a test case cannot be handed over ({error}); use plain values") from None
    how = {"compare": tests.compare or "exact", "rel_tol": tests.rel_tol}
    return {"kind": "calls", "entry_point": tests.entry_point, "cases": cases, **how}


def _asserts_job(tests: Tests) -> dict[str, Any]:
    given = {"setup": tests.setup, "asserts": list(tests.asserts), "code": tests.code or ""}
    return {"kind": tests.kind, "entry_point": tests.entry_point, **given}


def prelude(tests: Tests) -> list[str]:
    """What every program for these tests may use without importing it."""
    leetcode = list(LEETCODE_PRELUDE) if "()." in (tests.entry_point or "") else []
    return [*leetcode, *split.shown_to_program(tests.setup)]


def _grade_beside(tests: Tests, program: str, limits: Limits, workplace: Workplace, total: int) -> Verdict:
    setup = "\n".join([*(LEETCODE_PRELUDE if "()." in (tests.entry_point or "") else ()), tests.setup])
    job = {**_asserts_job(tests), "source": program, "setup": setup}
    return _verdict(session.beside(workplace.mixed, limits, job), total, "shared")


def _verdict(outcome: Outcome, total: int, isolation: Isolation) -> Verdict:
    """Count what passed, take the worst of what did not; a test without a word about it has failed."""
    statuses = [status for status, _ in outcome.failed.values()]
    if outcome.ended is not None:
        statuses.append(outcome.ended)
    elif outcome.passed + len(outcome.failed) < total:
        statuses.append("runtime_error")
    if not statuses:
        return Verdict("passed", outcome.passed, total, isolation, None, round(outcome.cpu_s, 6))
    detail = outcome.failed[min(outcome.failed)][1] if outcome.failed else outcome.ended_detail
    if detail is None and outcome.ended is None:
        detail = f"{total - outcome.passed} of {total} tests did not report"
    return Verdict(worst(statuses), outcome.passed, total, isolation, cut(detail), round(outcome.cpu_s, 6))


def worst(statuses: list[Status]) -> Status:
    """The status that counts for a program whose tests ended in several ways."""
    return min(statuses, key=STATUS_SEVERITY.index)


def cut(detail: str | None) -> str | None:
    """The detail of a verdict, no longer than it may be."""
    if detail is None:
        return None
    detail = detail.encode("utf-8", "backslashreplace").decode()
    return detail if len(detail) <= _DETAIL else f"{detail[: _DETAIL - 3]}..."


def _grade_answer(wanted: str, given: str | None, limits: Limits, workplace: Workplace) -> Verdict:
    """One comparison. Where the texts are the same, mathematics is not asked."""
    if given is None or not given.strip():
        return Verdict("no_code", 0, 1, "none", "there is no answer in the completion")
    if len(given) > answers.LONGEST:
        return Verdict("wrong_answer", 0, 1, "none", f"an answer of more than {answers.LONGEST} characters")
    expected, found = answers.plain(wanted), answers.plain(given)
    if answers.same_text(expected, found):
        return Verdict("passed", 1, 1, "none")
    detail = f"expected {show(wanted)}, got {show(given)}"
    if answers.overlooked(expected, found):
        return Verdict("wrong_answer", 0, 1, "none", cut(detail))
    try:
        equal, used = workplace.checker.equal(expected, found, limits)
    except session.Over as over:
        return Verdict(over.status, 0, 1, "none", cut(f"{over.detail}: {detail}"))
    if equal:
        return Verdict("passed", 1, 1, "none", None, round(used, 6))
    return Verdict("wrong_answer", 0, 1, "none", cut(detail), round(used, 6))


def _grade_stdio(tests: Tests, program: str, limits: Limits, cell: Cell, total: int) -> Verdict:
    """One run of the program per case."""
    bounds = Bounds(limits.time_s, limits.memory_mb, limits.files_mb, limits.processes)
    statuses: list[Status] = []
    detail: str | None = None
    used = 0.0
    rest = limits.total_s
    with Scripts(cell, program, bounds, int(limits.output_mb * _MIB)) as scripts:
        for number, case in enumerate(tests.cases):
            run = scripts.run(_bytes(case["input"]), min(limits.time_s * WALL_FACTOR, rest))
            used += run.exit.cpu_s
            rest -= run.wall_s
            status, what = _judge_script(run, tests, case, limits)
            statuses.append(status)
            if status != "passed" and detail is None:
                detail = f"test {number + 1}: {what}" if status != "compile_error" else what
            # After these the rest counts as failed: what was ended would be ended again, each time at the full limit.
            if status in ("compile_error", "timeout", "memory_limit", "output_limit"):
                break
            if rest <= 0 and number + 1 < total:
                statuses.append("timeout")
                detail = detail or f"all tests together took longer than {limits.total_s:g} s"
                break
    return Verdict(worst(statuses), statuses.count("passed"), total, "stdio", cut(detail), round(used, 6))


def _is_text(value: Any) -> bool:
    try:
        _bytes(value)
    except UnicodeEncodeError:
        return False
    return True


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _judge_script(run: ScriptRun, tests: Tests, case: dict[str, Any], limits: Limits) -> tuple[Status, str]:
    """The status of one run, and what to tell where it did not pass."""
    if run.compile_error is not None:
        return "compile_error", run.compile_error
    if run.stopped == "output":
        return "output_limit", f"wrote more than {limits.output_mb:g} MiB"
    if run.stopped == "wall":
        return "timeout", f"was not done after {limits.time_s * WALL_FACTOR:g} s of wall time"
    if run.stopped == "cpu" or run.exit.signal == signal.SIGXCPU or run.exit.cpu_s > limits.time_s:
        return "timeout", f"used more than {limits.time_s:g} s of CPU time"
    errors = run.stderr.decode("utf-8", "replace").strip()
    if run.exit.over_memory:
        return "memory_limit", "used more memory than its processes may together"
    if run.exit.signal is not None:
        return "runtime_error", f"ended by signal {run.exit.signal}"
    return judge_output(run.exit.code, run.stdout, errors, tests, case)


def judge_output(
    code: int | None, stdout: bytes, errors: str, tests: Tests, case: dict[str, Any]
) -> tuple[Status, str]:
    """The status of a script that ended by itself, with exit status `code` and this last text on stderr."""
    last = errors.rpartition("\n")[2]
    if code != 0:
        return "memory_limit" if last.startswith("MemoryError") else "runtime_error", last or f"exit {code}"
    try:
        got = stdout.decode("utf-8")
    except UnicodeDecodeError:
        return "wrong_answer", "its output is not UTF-8"
    if compare.equal_text(got, case["output"], tests.compare or "lines", tests.rel_tol):
        return "passed", ""
    return "wrong_answer", f"input {show(case['input'])}, expected {show(case['output'])}, got {show(got)}"


def show(text: str) -> str:
    """A text for a person, cut."""
    shown = json.dumps(text[: _SHORT + 1], ensure_ascii=False)
    return shown if len(shown) <= _SHORT else f'{shown[: _SHORT - 4]}..."'


def as_sandbox_error(error: SandboxError, problem_id: str) -> SandboxError:
    """The same error with the problem's name in it."""
    return type(error)(f"{problem_id}: {error}")

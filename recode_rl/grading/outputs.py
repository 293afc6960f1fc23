"""What a program answers to inputs, as one digest: programs that agree on all of them have the same one.

Expected outputs are not looked at. Scripts are run as for a verdict; functions are called by a test that tells the
digest of what came back in place of judging it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re

from recode_rl.errors import SandboxError
from recode_rl.grading import code
from recode_rl.sandbox import Bounds
from recode_rl.sandbox.script import ScriptRun, Scripts
from recode_rl.types import WALL_FACTOR, Limits, Problem, Tests

_MIB = 1 << 20
_TOLD = re.compile(r"answers:([0-9a-f]{64}):(\d+)")
# Runs beside the tests' proxies. Equal values are written alike: 2 and 2.0, lists and tuples, sets in any order.
_ASK = """
import hashlib

nan, inf = float("nan"), float("inf")

def written(value):
    if isinstance(value, float):
        return format(value, ".9g")
    if isinstance(value, (set, frozenset)):
        return "{" + ",".join(sorted(map(written, value))) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(written, value)) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(sorted(written(k) + ":" + written(v) for k, v in value.items())) + "}"
    return repr(value)

def check(candidate):
    answers, failed = [], 0
    for args, kwargs in INPUTS:
        try:
            answers.append("=" + written(candidate(*args, **kwargs)))
        except Exception:
            answers.append("!")
            failed += 1
    digest = hashlib.sha256("\\n".join(answers).encode("utf-8", "surrogatepass")).hexdigest()
    raise AssertionError("answers:" + digest + ":" + str(failed))
"""


def has_inputs(problem: Problem) -> bool:
    """Whether the tests of a problem have inputs that a program can be run on without their judgement."""
    return problem.tests.kind in ("stdio", "calls") and bool(problem.tests.cases)


def answers(problem: Problem, program: str | None, inputs: int, defaults: Limits, place: code.Workplace) -> str | None:
    """The digest of a program's answers to the first inputs; None where it answers none of them.

    Ends early, with what there is, at a limit. SandboxError where nothing was learnt about the program.
    """
    if program is None or not has_inputs(problem):
        return None
    asked = dataclasses.replace(problem, tests=dataclasses.replace(problem.tests, cases=problem.tests.cases[:inputs]))
    if problem.tests.kind == "stdio":
        return _of_script(asked, program, defaults, place)
    return _of_function(asked, program, defaults, place)


def _of_function(problem: Problem, program: str, defaults: Limits, place: code.Workplace) -> str | None:
    tests = problem.tests
    inputs = [(list(case.get("args", ())), dict(case.get("kwargs") or {})) for case in tests.cases]
    asking = Tests("check", entry_point=tests.entry_point, setup=tests.setup, code=f"INPUTS = {inputs!r}\n{_ASK}")
    verdict = code.grade(dataclasses.replace(problem, tests=asking), program, defaults, place)
    told = _TOLD.search(verdict.detail or "")
    if told is None or int(told[2]) == len(inputs):
        return None
    return told[1]


def _of_script(problem: Problem, program: str, defaults: Limits, place: code.Workplace) -> str | None:
    limits = problem.limits or defaults
    bounds = Bounds(limits.time_s, limits.memory_mb, limits.files_mb, limits.processes)
    rest, found = limits.total_s, []
    with Scripts(place.programs, program, bounds, int(limits.output_mb * _MIB)) as scripts:
        for case in problem.tests.cases:
            data = case["input"].encode("utf-8", "surrogateescape")
            run = scripts.run(data, min(limits.time_s * WALL_FACTOR, rest))
            rest -= run.wall_s
            found.append(_answer(run, limits))
            if run.compile_error is not None or run.stopped is not None or rest <= 0:
                break
    found += [b"!"] * (len(problem.tests.cases) - len(found))
    if all(answer == b"!" for answer in found):
        return None
    return hashlib.sha256(b"\0".join(found)).hexdigest()


def _answer(run: ScriptRun, limits: Limits) -> bytes:
    """What a script wrote, without the white space that no comparison sees; "!" where it did not end well."""
    well = run.compile_error is None and run.stopped is None and run.exit.code == 0 and not run.exit.over_memory
    if not well or run.exit.cpu_s > limits.time_s:
        return b"!"
    return b"=" + b"\n".join(line.rstrip() for line in run.stdout.rstrip().split(b"\n"))


Answer = str | None | SandboxError
"""A digest, None for a program that answers nothing, or why it is not known."""

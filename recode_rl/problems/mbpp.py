"""MBPP, its sanitized subset, and MBPP+: a row of any of them as a Problem.

MBPP has one split for all three, by number of the task: 1–10 are prompt examples that no stage uses, 11–510 test,
511–600 validation, 601–974 train. A problem of MBPP+ falls where the same problem of MBPP does, so that training on
one is never tested by the other; an evaluation of the whole set takes split "all".
"""

from __future__ import annotations

import ast
import warnings
from dataclasses import replace
from typing import Any

from recode_rl.errors import DataError
from recode_rl.problems.rows import column
from recode_rl.types import Limits, Problem, Tests

HUB = "google-research-datasets/mbpp"
FULL_FILES = ("mbpp.jsonl", "mbpp.jsonl.gz")
SANITIZED_FILES = ("sanitized_mbpp.jsonl", "sanitized-mbpp.jsonl", "sanitized-mbpp.json")
PLUS_HUB = "evalplus/mbppplus"
PLUS_FILES = ("MbppPlus-OriginFmt.jsonl.gz", "MbppPlus-OriginFmt.jsonl")
# The script of an MBPP+ problem makes up to a few hundred calls and counts as one test.
PLUS_LIMITS = Limits(time_s=20.0, total_s=120.0)
HEAVY = {
    # lists of 80,000 tuples
    "Mbpp/255": replace(PLUS_LIMITS, time_s=60.0, total_s=200.0, memory_mb=4096, output_mb=512.0),
    "Mbpp/599": replace(PLUS_LIMITS, time_s=120.0, total_s=400.0),  # sums up to 10**8, twenty times
}
# One input of one problem asks for 1.7 million tuples of 77 strings, gigabytes to hand over to the tests: left out.
_HUGE_INPUT = ", [['Dog', 'Cat', 'CatBird', 'Bird', 'Fish'], 77]"
_SPLITS: dict[Any, str] = {"train": "train", "test": "held_out", "validation": "held_out", "prompt": "prompt"}
_PROMPT_UNTIL, _TEST_UNTIL, _VALIDATION_UNTIL = 10, 510, 600


def problem(row: dict[str, Any]) -> Problem:
    """A row of sanitized MBPP. DataError where a column is missing or no test calls a function of the reference."""
    return _problem(row, "mbpp", column(row, "prompt", str), _tests(row), None)


def full_problem(row: dict[str, Any]) -> Problem:
    """A row of the full MBPP, whose statement is in column `text`. DataError as `problem`."""
    return _problem(row, "mbpp-full", column(row, "text", str), _tests(row), None)


def plus_problem(row: dict[str, Any]) -> Problem:
    """A row of MBPP+ in its original format, where `test` is one script. DataError as `problem`."""
    script = column(row, "test", str)
    limits = HEAVY.get(f"Mbpp/{row.get('task_id')}", PLUS_LIMITS)
    made = _problem(row, "mbpp+", column(row, "prompt", str), (script.replace(_HUGE_INPUT, ""),), limits)
    if _HUGE_INPUT not in script:
        return made
    return replace(made, metadata={**made.metadata, "mended": f"left out the input {_HUGE_INPUT.removeprefix(', ')}"})


def _problem(row: dict[str, Any], source: str, text: str, asserts: tuple[str, ...], limits: Limits | None) -> Problem:
    number = column(row, "task_id", int)
    shown, reference = _tests(row), _unix(column(row, "code", str))
    # What base models continue: the text with its first test as a docstring, as EvalPlus's prompts have it.
    beginning = f'"""\n{_unix(text).strip()}\n{shown[0]}\n"""\n'
    metadata: dict[str, Any] = {"split": _split(number, row.get("split")), "reference": reference}
    metadata["beginning"] = beginning
    if row.get("challenge_test_list"):
        metadata["challenge_test_list"] = [_unix(test) for test in row["challenge_test_list"]]
    return Problem(
        id=f"Mbpp/{number}",
        prompt="\n".join([_unix(text).strip(), "", "Your code must pass these tests:", "", "```python", *shown, "```"]),
        tests=Tests(
            kind="asserts",
            entry_point=entry_point(reference, shown[0], f"Mbpp/{number}"),
            setup=_setup(row),
            asserts=tuple(_unix(block) for block in asserts),
        ),
        source=source,
        limits=limits,
        metadata=metadata,
    )


def _tests(row: dict[str, Any]) -> tuple[str, ...]:
    tests = tuple(_unix(test).strip() for test in column(row, "test_list", list))
    if not tests:
        raise DataError(f"task {row.get('task_id')!r}: its test_list is empty; leave the row out")
    return tests


def _setup(row: dict[str, Any]) -> str:
    parts = [row.get("test_setup_code") or "", *(row.get("test_imports") or [])]
    return "\n".join(_unix(part).strip() for part in parts if part.strip())


def _unix(text: str) -> str:
    """With line ends as Python writes them: the full set was written on Windows."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _split(number: int, stated: Any) -> str:
    if stated is not None:
        if stated not in _SPLITS:
            raise DataError(f"task {number}: split {stated!r}: expected one of {', '.join(_SPLITS)}")
        return _SPLITS[stated]
    if number <= _PROMPT_UNTIL:
        return "prompt"
    return "held_out" if number <= _VALIDATION_UNTIL else "train"


def entry_point(reference: str, test: str, identifier: str) -> str:
    """The function of the (trusted) reference program that a test calls, the outermost call where it calls several.

    A name that only looks like the wanted one, as `set` in `assert set(f(x)) == …`, is none of the reference's.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some programs of the set write "\w" for r"\w"
            defined = {node.name for node in ast.parse(reference).body if isinstance(node, ast.FunctionDef)}
            nodes = list(ast.walk(ast.parse(test)))
    except SyntaxError as error:
        raise DataError(f"problem {identifier!r}: its code or test is not Python ({error.msg}); mend the row") from None
    for node in nodes:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in defined:
            return node.func.id
    raise DataError(f"problem {identifier!r}: {test[:60]!r} calls no function of its reference; leave the row out")

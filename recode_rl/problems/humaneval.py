"""HumanEval and HumanEval+: a row of either data set as a Problem.

Rows have `task_id`, `prompt`, `canonical_solution`, `entry_point` and `test`, code that defines `check(candidate)`.
Both data sets are for evaluation alone, so every problem is held out.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from recode_rl.errors import DataError
from recode_rl.types import Limits, Problem, Tests

HUB = "openai/openai_humaneval"
FILES = ("HumanEval.jsonl", "HumanEval.jsonl.gz")
PLUS_HUB = "evalplus/humanevalplus"
PLUS_FILES = ("HumanEvalPlus-OriginFmt.jsonl.gz", "HumanEvalPlus-OriginFmt.jsonl")
# One check of HumanEval+ makes up to a thousand calls and counts as one test.
PLUS_LIMITS = Limits(time_s=20.0, total_s=120.0)
HEAVY = {"HumanEval/130": replace(PLUS_LIMITS, memory_mb=4096, output_mb=512.0)}  # lists of a million floats
# The published check of find_zero unpacks the number that it gets, so that no program passes; this is what
# EvalPlus itself evaluates in its place.
_BROKEN = "assert _poly(*candidate(*inp), inp) <= 0.0001"
_MENDED = "assert abs(_poly(*inp, candidate(*inp))) <= 0.0001"
_COLUMNS = ("task_id", "prompt", "canonical_solution", "entry_point", "test")


def problem(row: dict[str, Any]) -> Problem:
    """A row of HumanEval. DataError where a column is missing or the prompt does not define the entry point."""
    return _problem(row, "humaneval", None)


def plus_problem(row: dict[str, Any]) -> Problem:
    """A row of HumanEval+ in its original format, where `test` holds the expected results. DataError as `problem`."""
    made = _problem(row, "humaneval+", HEAVY.get(str(row.get("task_id")), PLUS_LIMITS))
    code = made.tests.code or ""
    if _BROKEN not in code:
        return made
    mended = replace(made.tests, code=code.replace(_BROKEN, _MENDED))
    return replace(made, tests=mended, metadata={**made.metadata, "mended": f"{_BROKEN} → {_MENDED}"})


def _problem(row: dict[str, Any], source: str, limits: Limits | None) -> Problem:
    for column in _COLUMNS:
        if not isinstance(row.get(column), str):
            raise DataError(f"column {column!r}: {row.get(column)!r}; a row of {source} needs {', '.join(_COLUMNS)}")
    name, prompt = row["entry_point"], row["prompt"]
    return Problem(
        id=row["task_id"],
        prompt=_statement(name, prompt),
        tests=Tests(kind="check", entry_point=name, setup=_setup(row["task_id"], name, prompt), code=row["test"]),
        source=source,
        limits=limits,
        metadata={"split": "held_out", "reference": prompt + row["canonical_solution"], "beginning": prompt},
    )


def _statement(name: str, prompt: str) -> str:
    return (
        f"Write the complete Python function `{name}`, with the imports and helper functions that it needs, "
        f"as its beginning here describes it:\n\n```python\n{prompt.strip()}\n```"
    )


def _setup(identifier: str, name: str, prompt: str) -> str:
    """What the prompt has before the function: imports, and helpers such as `poly` that tests of three problems use."""
    start = re.search(rf"^def {re.escape(name)}\s*\(", prompt, re.MULTILINE)
    if start is None:
        raise DataError(f"problem {identifier!r}: its prompt does not define {name!r}; the row is not HumanEval's")
    return prompt[: start.start()].strip()

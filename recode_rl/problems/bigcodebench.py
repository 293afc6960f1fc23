"""BigCodeBench and its hard part: functions that use many libraries, tested by unittest classes, for evaluation alone.

The prompt is that of "complete": the beginning of the program with its docstring. That of "instruct" is in the
metadata, and so are the libraries, by the names they are imported by.
"""

from __future__ import annotations

import ast
from typing import Any

from recode_rl.errors import DataError
from recode_rl.problems.rows import column
from recode_rl.types import Limits, Problem, Tests

HUB = "bigcode/bigcodebench"
HARD_HUB = "bigcode/bigcodebench-hard"
FILES = ("BigCodeBench.jsonl.gz", "BigCodeBench.jsonl")
HARD_FILES = ("BigCodeBench-Hard.jsonl.gz", "BigCodeBench-Hard.jsonl", *FILES)
# A test may import tensorflow, fit a model and draw its figure; libraries reserve far more memory than they use.
LIMITS = Limits(time_s=60.0, total_s=240.0, memory_mb=8192)


def problem(row: dict[str, Any]) -> Problem:
    """A row of BigCodeBench. DataError where a column is missing or its list of libraries cannot be read."""
    return _problem(row, "bigcodebench")


def hard_problem(row: dict[str, Any]) -> Problem:
    """A row of BigCodeBench-Hard. DataError as `problem`."""
    return _problem(row, "bigcodebench-hard")


def is_hard(row: dict[str, Any]) -> bool:
    """Whether a row is in the hard part; a file without the column `hard` is taken for the hard part itself."""
    return bool(row.get("hard", True))


def _problem(row: dict[str, Any], source: str) -> Problem:
    begin, name = column(row, "complete_prompt", str), column(row, "entry_point", str)
    return Problem(
        id=column(row, "task_id", str),
        prompt=(
            f"Write the complete Python function `{name}`, with the imports and constants that it needs, "
            f"as its beginning here describes it:\n\n```python\n{begin.strip()}\n```"
        ),
        tests=Tests(kind="unittest", entry_point=name, code=column(row, "test", str)),
        source=source,
        starter_code=row.get("code_prompt"),
        limits=LIMITS,
        metadata={
            "split": "held_out",
            "reference": f"{begin}{column(row, 'canonical_solution', str)}\n",
            "libs": _libraries(row),
            "instruct_prompt": row.get("instruct_prompt"),
            "beginning": begin,
        },
    )


def _libraries(row: dict[str, Any]) -> list[str]:
    """The libraries of a row, whose list is written as Python's literal."""
    try:
        names = ast.literal_eval(row["libs"]) if isinstance(row.get("libs"), str) else row.get("libs")
    except (ValueError, SyntaxError):
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"column 'libs': {str(row.get('libs'))[:60]!r}; expected a list of names")
    return names

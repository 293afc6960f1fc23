"""QuixBugs: forty small programs with one bug each, to be repaired, for evaluation alone."""

from __future__ import annotations

from typing import Any

from recode_rl.errors import DataError
from recode_rl.problems.rows import column, repair
from recode_rl.types import Limits, Problem, Tests

HUB = "Muennighoff/quixbugs"
FILES = ("quixbugs_python.jsonl", "quixbugs_python.jsonl.gz")
# Its own solution of levenshtein is recursive to the letter: a second or two here, over four on a slow processor.
LIMITS = Limits(time_s=10.0)
_COLUMNS = ("name", "buggy_program", "docstring", "solution", "tests")


def problem(row: dict[str, Any]) -> Problem:
    """A row of QuixBugs. DataError where a column is missing or the tests are not Python."""
    texts = {name: column(row, name, str) for name in _COLUMNS}
    return Problem(
        id=f"QuixBugs/{texts['name']}",
        prompt=repair(texts["docstring"].strip().strip('"'), texts["buggy_program"]),
        tests=Tests(kind="asserts", entry_point=texts["name"], asserts=_blocks(texts["tests"], texts["name"])),
        source="quixbugs",
        limits=LIMITS,
        starter_code=texts["buggy_program"],
        metadata={"split": "held_out", "reference": texts["solution"], "buggy": texts["buggy_program"]},
    )


def _blocks(code: str, name: str) -> tuple[str, ...]:
    """One entry for each assert or call at the top of the test code, with what is defined before it."""
    import ast

    try:
        tree = ast.parse(code)
    except SyntaxError as error:
        raise DataError(f"problem {name!r}: its tests are not Python ({error.msg}); mend the row") from None
    blocks: list[str] = []
    before: list[str] = []
    for node in tree.body:
        before.append(ast.get_source_segment(code, node) or "")
        if isinstance(node, (ast.Assert, ast.Expr)):
            blocks.append("\n".join(before))
            before = []
    if not blocks or before:
        raise DataError(f"problem {name!r}: its tests do not end in an assert or a call; mend the row")
    return tuple(blocks)

"""What EvalPlus grades of a text: the function under test with what it needs, and nothing that runs beside it.

Published numbers of HumanEval(+) and MBPP(+) are of programs that were cleaned up in this way (Liu et al., 2023;
evalplus/sanitize.py): a wrong assertion or an unfinished example below a right function costs nothing.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterable

# What ast.parse raises for text that is no program, however odd it is.
_NO_PROGRAM = (SyntaxError, ValueError, RecursionError, MemoryError)
_MOST_LINES = 2000


def needed(text: str, name: str) -> str:
    """The imports of a text, and of its definitions the one of `name` with those that it uses, directly or not.

    Read from the longest run of lines that is Python. Of definitions with one name the first counts. The run as it
    is where it does not define the name, and the whole text where no line of it is Python.
    """
    run = longest_run(text)
    if not run:
        return text
    body = _parse(run).body
    defined: dict[str, ast.stmt] = {}
    for node in body:
        for each in _names(node):
            defined.setdefault(each, node)
    if name not in defined:
        return run
    kept = {id(node) for node in _reachable(name, defined)}
    chosen = [node for node in body if isinstance(node, (ast.Import, ast.ImportFrom)) or id(node) in kept]
    lines = run.split("\n")
    return "\n".join("\n".join(lines[_first_line(node) - 1 : node.end_lineno]) for node in chosen) + "\n"


def longest_run(text: str) -> str:
    """The run of whole lines with the most lines that are not blank and that is Python; "" where none is."""
    lines = text.split("\n")[:_MOST_LINES]
    best, most = "", 0
    for start in range(len(lines)):
        if sum(bool(line.strip()) for line in lines[start:]) <= most:
            break
        end = _valid_until(lines, start)
        count = sum(bool(line.strip()) for line in lines[start:end])
        if count > most:
            best, most = "\n".join(lines[start:end]), count
    return best


def _valid_until(lines: list[str], start: int) -> int:
    """Where a run from `start` ends: each time the line that is complained of, and what follows it, is left out."""
    end = len(lines)
    while end > start:
        try:
            _parse("\n".join(lines[start:end]))
        except SyntaxError as error:
            end = min(end - 1, start + max(0, (error.lineno or 1) - 1))
        except _NO_PROGRAM:
            end = start + (end - start) // 2  # it does not say where: an odd character, or nested too deeply
        else:
            return end
    return start


def _parse(text: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        return ast.parse(text)


def _first_line(node: ast.stmt) -> int:
    decorators: Iterable[ast.expr] = getattr(node, "decorator_list", ())
    return min([node.lineno, *(each.lineno for each in decorators)])


def _names(node: ast.stmt) -> list[str]:
    """The names that a statement of the top level defines."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [node.name]
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, (ast.AnnAssign, ast.AugAssign)):
        targets = [node.target]
    else:
        return []
    return [each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)]


def _reachable(name: str, defined: dict[str, ast.stmt]) -> list[ast.stmt]:
    waiting, seen = [name], {name}
    found = []
    while waiting:
        node = defined[waiting.pop()]
        found.append(node)
        used = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)} & defined.keys()
        waiting += used - seen
        seen |= used
    return found

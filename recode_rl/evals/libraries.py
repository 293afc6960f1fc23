"""Which problems cannot be graded for want of libraries: they are reported as not evaluated, never as failed."""

from __future__ import annotations

import ast
import importlib.util
import json
import subprocess
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from recode_rl.errors import ConfigError
from recode_rl.types import Problem

# Looked for by name alone: to import them could take minutes, and to look inside a package imports it.
_QUESTION = """
import importlib.util, json, sys
print(json.dumps([name for name in json.load(sys.stdin) if importlib.util.find_spec(name) is None]))
"""


def excused(problems: Sequence[Problem], interpreter: Path | None = None) -> dict[str, str]:
    """The problems whose libraries are missing, with the reason. `interpreter` is what their programs will run in.

    Only those with unittest files, which name their libraries; other programs bring what they need or fail.
    """
    needed = {problem.id: packages_used(problem) for problem in problems if problem.tests.kind == "unittest"}
    absent = missing({name for names in needed.values() for name in names}, interpreter)
    found = {}
    for identifier, names in needed.items():
        if lacking := sorted(names & absent):
            found[identifier] = f"not installed: {', '.join(lacking)}"
    return found


def packages_used(problem: Problem) -> set[str]:
    """The packages that a problem names, or that its reference program or its tests import."""
    names = {str(name).partition(".")[0] for name in problem.metadata.get("libs") or ()}
    for code in (problem.metadata.get("reference"), problem.tests.code):
        names |= set(imports(code or ""))
    return names


def imports(code: str) -> Iterator[str]:
    """The packages that a program imports, by their first names."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            nodes = list(ast.walk(ast.parse(code)))
    except SyntaxError:
        return
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def missing(names: Iterable[str], interpreter: Path | None = None) -> set[str]:
    """Those of the packages that an interpreter (this one, if none is given) has not. ConfigError where it is none."""
    wanted = sorted(set(names))
    if interpreter is None:
        return {name for name in wanted if name not in sys.modules and importlib.util.find_spec(name) is None}
    program = interpreter / "bin" / "python" if interpreter.is_dir() else interpreter
    given = json.dumps(wanted)
    try:
        asked = subprocess.run(
            [str(program), "-I", "-c", _QUESTION], input=given, capture_output=True, text=True, timeout=120, check=True
        )
        return set(json.loads(asked.stdout))
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise ConfigError(f"{interpreter}: not a Python that can be started ({error}); give its path") from None

"""Decides from the test code alone whether tests can be kept apart from the program.

The program has no say in it: one that would rather run beside its tests must not be able to bring that about.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import functools
import symtable
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from recode_rl.errors import DataError
from recode_rl.types import Tests

# Names that stand for the state of a process, or for ways to change it that cannot be seen in the code.
_SHARED_STATE = {
    "setattr", "delattr", "exec", "eval", "compile", "globals", "vars", "__import__", "__builtins__", "builtins",
    "importlib", "sys", "os", "signal", "gc", "atexit", "threading", "multiprocessing", "subprocess", "asyncio",
    "warnings", "logging", "locale", "decimal", "ctypes", "mock", "patch", "unittest", "pytest", "setrecursionlimit",
    "getcontext", "setcontext", "environ", "seterr", "set_printoptions", "set_option",
}  # fmt: skip
_GIVEN = {"candidate", "check", "__name__", "__file__", "__doc__", "__builtins__"}


@dataclass(frozen=True, slots=True)
class Found:
    """What test code alone shows: why it needs the program beside it, if it does, and whether it may leave traces."""

    beside: str | None
    leaves_traces: bool  # in the process it runs in, which then must not run other tests


def analyse(tests: Tests, problem_id: str) -> Found:
    """Look at the tests of a problem. DataError where they do not compile."""
    if tests.kind == "unittest":
        return Found("unittest classes use whatever the program defines", leaves_traces=True)
    blocks = tuple(block for block in (tests.setup, *tests.asserts, tests.code) if block)
    return _analyse(blocks, (tests.entry_point or "").partition("().")[0], problem_id)


@functools.lru_cache(maxsize=4096)  # a group of programs is graded against the same tests
def _analyse(blocks: tuple[str, ...], name: str, problem_id: str) -> Found:
    trees = [parse(block, problem_id) for block in blocks]
    traces = any(map(may_leave_trace, (node for tree in trees for node in ast.walk(tree))))
    if any(uses_as_class(tree, name) for tree in trees):
        return Found(f"the tests use {name} as more than a function", traces)
    foreign = sorted(free_names("\n".join(blocks)) - {name} - _GIVEN)
    return Found(f"the tests use {', '.join(foreign)} of the program" if foreign else None, traces)


def may_leave_trace(node: ast.AST) -> bool:
    """Setting an attribute, or a word for what is shared by all code of a process: rather too often than too rarely."""
    if isinstance(node, ast.Attribute):
        return not isinstance(node.ctx, ast.Load) or node.attr in _SHARED_STATE or node.attr.startswith("__")
    if isinstance(node, ast.Name):
        return node.id in _SHARED_STATE
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        return any(module.partition(".")[0] in _SHARED_STATE for module in modules)
    return False


def parse(block: str, problem_id: str) -> ast.Module:
    """The syntax tree of a block of test code."""
    try:
        with _quiet():
            return ast.parse(block)
    except (SyntaxError, ValueError) as error:
        raise DataError(f"{problem_id}: its tests are not Python ({error}): {block[:80]!r}; mend them") from None


_filters = threading.Lock()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No warnings about the style of test code; one thread at a time, since the filters are the process's."""
    with _filters, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def uses_as_class(tree: ast.Module, name: str) -> bool:
    """Whether a name is a base class, has attributes taken, or is asked about by isinstance."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and any(_is(base, name) for base in node.bases):
            return True
        if isinstance(node, ast.Attribute) and _is(node.value, name):
            return True
        if isinstance(node, ast.Call) and any(_is(inner, name) for inner in _classes_asked_about(node)):
            return True
    return False


def _classes_asked_about(call: ast.Call) -> list[ast.AST]:
    if not any(_is(call.func, name) for name in ("isinstance", "issubclass")):
        return []
    return [inner for arg in call.args[1:] for inner in ast.walk(arg)]


def _is(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def free_names(source: str) -> set[str]:
    """Names the code reads from its module or the built-ins without ever defining them there."""
    with _quiet():
        if any(isinstance(node, ast.ImportFrom) and node.names[0].name == "*" for node in ast.walk(ast.parse(source))):
            return set()
        top = symtable.symtable(source, "tests", "exec")
    defined = {symbol.get_name() for symbol in top.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    read: set[str] = set()
    tables = [top]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        for symbol in table.get_symbols():
            if symbol.is_declared_global() and symbol.is_assigned():
                defined.add(symbol.get_name())
            if symbol.is_referenced() and (table is top or symbol.is_global()):
                read.add(symbol.get_name())
    return read - defined - set(dir(builtins))


@functools.lru_cache(maxsize=1024)
def shown_to_program(setup: str) -> tuple[str, ...]:
    """The imports and classes of a setup, which every program may use; its values and functions may be answers."""
    kept = (ast.Import, ast.ImportFrom, ast.ClassDef)
    with _quiet():
        return tuple(ast.unparse(node) for node in ast.parse(setup).body if isinstance(node, kept))


def count_methods(tree: ast.Module) -> int:
    """How many test methods the classes of a unittest file have; of two with one name in a class only one is left."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    methods = [{item.name for item in node.body if isinstance(item, kinds)} for node in classes.values()]
    return sum(name.startswith("test") for names in methods for name in names)

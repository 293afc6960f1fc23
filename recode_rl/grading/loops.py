"""Tests that are one loop over inputs, as EvalPlus publishes them: known by their form, prepared once, and kept.

    inputs = [..]
    results = [..]                                    # or ref_func(*inp) in place of exp
    for i, (inp, exp) in enumerate(zip(inputs, results)):
        assertion(candidate(*inp), exp, 0)

Of such tests it is known beforehand what will be called. So the inputs cross in batches, what is expected is computed
once for all programs, and an answer that is, to the byte, what the expected value would be needs no second look. Every
other answer is judged by the test's own words. Loaded inside the evaluator's process.
"""

from __future__ import annotations

import ast
import bisect
import collections
import hashlib
import itertools
import re
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from recode_rl.grading import split
from recode_rl.sandbox import codec, frames

# A batch grows while answers are right: of a program that fails early, or hangs, little is asked in vain. It stays
# below what a channel holds, so that nobody waits for the other for ever.
_FIRST, _GROWTH, _MOST, _MOST_BYTES = 1, 4, 256, 1 << 15
_KEPT_BYTES = 256 << 20
_LONG = 1 << 14
_DATA = re.compile(r"^ *(inputs|results) = (.*)$", re.MULTILINE)
_ALLOWED_NAMES = {"inf", "nan", "set", "frozenset", "complex", "float"}  # beside literals, in inputs and results


@dataclass(frozen=True, slots=True)
class Batch:
    """Calls that are asked for at once: all requests in one piece, the size of each, and the first one's number."""

    message: bytes
    sizes: tuple[int, ...]
    first: int


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop that is ready to run.

    `right` are the replies that need no second look, of long ones the digest in `right_long`; `judge` is the body of
    the loop over the names `out`, `inp` and `exp`; `back` says that it looks at the arguments again. Expected values
    are kept where they cannot be had from what is right, or computed again by the code `reference`.
    """

    batches: tuple[Batch, ...]
    inputs: tuple[Any, ...]
    right: dict[int, bytes]
    right_long: dict[int, bytes]
    expected: dict[int, Any]
    reference: types.CodeType | None
    namespace: dict[str, Any]
    judge: types.CodeType
    back: bool

    def is_right(self, number: int, reply: bytes) -> bool:
        """Whether a reply hands over the expected value itself."""
        if len(reply) > _LONG:
            return self.right_long.get(number) == _digest(reply)
        return self.right.get(number) == reply

    def scope(self, number: int, inp: list[Any], out: Any) -> dict[str, Any]:
        """The names that the judgement of one answer needs."""
        return {**self.namespace, "i": number, "inp": inp, "exp": self._expected(number), "out": out}

    def _expected(self, number: int) -> Any:
        if number in self.expected:
            return codec.decode(self.expected[number])
        if number in self.right:
            return codec.decode(codec.from_json(self.right[number])["ok"])
        assert self.reference is not None
        return eval(self.reference, {**self.namespace, "inp": codec.decode(self.inputs[number])})

    def size(self) -> int:
        """About how many bytes it takes to keep it."""
        return 8 * sum(len(batch.message) for batch in self.batches) + sum(map(len, self.right.values()))


def _digest(reply: bytes) -> bytes:
    return hashlib.blake2b(reply, digest_size=32).digest()


class Kept:
    """The loops of tests that were met lately, up to a number of bytes."""

    def __init__(self, most_bytes: int = _KEPT_BYTES) -> None:
        self._most, self._bytes = most_bytes, 0
        self._loops: collections.OrderedDict[tuple[str, str, str], Loop | None] = collections.OrderedDict()

    def find(self, kind: str, setup: str, code: str, name: str) -> Loop | None:
        """The loop that this test code is, None where it is no such loop or does not run as one."""
        key = (setup, code, name)
        if key in self._loops:
            self._loops.move_to_end(key)
            return self._loops[key]
        loop = self._loops[key] = prepare(kind, setup, code, name)
        self._bytes += _weight(key, loop)
        while self._bytes > self._most and len(self._loops) > 1:
            self._bytes -= _weight(*self._loops.popitem(last=False))
        return loop


def _weight(key: tuple[str, str, str], loop: Loop | None) -> int:
    return sum(map(len, key)) + (loop.size() if loop else 0)


def prepare(kind: str, setup: str, code: str, name: str) -> Loop | None:
    """Run all of the test code but the loop. None where that fails: then the tests are run as they stand."""
    try:
        found = _find(kind, setup, code, name)
        return None if found is None else _prepare(setup, found)
    except Exception:  # whatever it is, it is said when the tests run as they stand
        return None


@dataclass(frozen=True, slots=True)
class _Found:
    before: list[ast.stmt]
    data: dict[str, types.CodeType]
    body: ast.stmt
    reference: ast.expr | None  # what stands for the expected value where there are no results
    back: bool


def _find(kind: str, setup: str, code: str, name: str) -> _Found | None:
    """The parts of the loop. None where the code has any other form, or where it might leave traces for the next.

    Inputs and results, which are nearly all of the text, are not made into a tree: that would take longer than to run
    all of them.
    """
    if "enumerate(" not in code:
        return None
    data = {match[1]: compile(match[2], "test.py", "eval", dont_inherit=True) for match in _DATA.finditer(code)}
    module = ast.parse(_DATA.sub("", code))
    before, called = module.body[:-1], name
    loop = module.body[-1]
    if kind == "check":
        if not isinstance(loop, ast.FunctionDef) or loop.name != "check" or ast.unparse(loop.args) != "candidate":
            return None
        before, called, loop = [*before, *loop.body[:-1]], "candidate", loop.body[-1]
    if list(data) not in (["inputs"], ["inputs", "results"]) or not all(map(_is_data, data.values())):
        return None
    if any(not isinstance(s, (ast.Import, ast.ImportFrom, ast.FunctionDef)) for s in before):
        return None
    nodes = [node for part in (ast.parse(setup), *before) for node in ast.walk(part)]
    used = {node.id for node in nodes if isinstance(node, ast.Name)} | set(_modules(nodes))
    if used & {called, "random", "time"} or any(map(split.may_leave_trace, nodes)):
        return None
    return _body(loop, before, called, data)


def _is_data(code: types.CodeType) -> bool:
    """Whether an expression is made of values, and of nothing of the program's."""
    return set(code.co_names) <= _ALLOWED_NAMES and not any(isinstance(c, types.CodeType) for c in code.co_consts)


def _modules(nodes: list[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


_HEADS = {
    True: "for i, (inp, exp) in enumerate(zip(inputs, results)):\n    pass",
    False: "for i, inp in enumerate(inputs):\n    pass",
}


def _body(loop: ast.stmt, before: list[ast.stmt], called: str, data: dict[str, types.CodeType]) -> _Found | None:
    """The one statement of the loop, with names in place of the call and of the reference."""
    if not isinstance(loop, ast.For) or len(loop.body) != 1 or not isinstance(loop.body[0], (ast.Expr, ast.Assert)):
        return None
    body = loop.body[0]
    loop.body = [ast.Pass()]
    if ast.unparse(loop) != _HEADS["results" in data]:
        return None
    defined = {statement.name for statement in before if isinstance(statement, ast.FunctionDef)}
    calls = [node for node in ast.walk(body) if isinstance(node, ast.Call) and _is_given(node)]
    ours = [node for node in calls if ast.unparse(node.func) == called]
    others = [node for node in calls if node not in ours and ast.unparse(node.func) in defined]
    if len(ours) != 1 or len(others) > (0 if "results" in data else 1):
        return None
    names: dict[ast.expr, str] = {ours[0]: "out", **dict.fromkeys(others, "exp")}
    body = _Replaced(names).visit(body)
    left = {node.id for node in ast.walk(body) if isinstance(node, ast.Name)}
    return None if called in left else _Found(before, data, body, others[0] if others else None, "inp" in left)


def _is_given(call: ast.Call) -> bool:
    return [ast.unparse(arg) for arg in call.args] == ["*inp"] and not call.keywords


class _Replaced(ast.NodeTransformer):
    """Puts names in place of some calls."""

    def __init__(self, names: dict[ast.expr, str]) -> None:
        self._names = names

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """A name, or the call with what is in it replaced."""
        if node in self._names:
            return ast.copy_location(ast.Name(self._names[node], ast.Load()), node)
        return self.generic_visit(node)


def _prepare(setup: str, found: _Found) -> Loop:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(setup, "setup.py", "exec", dont_inherit=True), namespace)
    exec(_compiled(found.before), namespace)
    values = {name: eval(code, namespace) for name, code in found.data.items()}
    inputs = tuple(codec.encode(list(inp)) for inp in values["inputs"])
    expected = {number: codec.encode(value) for number, value in enumerate(values.get("results", ()))}
    if "results" in values:
        inputs = inputs[: len(expected)]
    reference = None
    if found.reference is not None:
        expression = ast.fix_missing_locations(ast.Expression(found.reference))
        reference = compile(expression, "test.py", "eval", dont_inherit=True)
    elif "results" not in values:
        expected = dict.fromkeys(range(len(inputs)))
    batches, judge = tuple(_batches(inputs, found.back)), _compiled([found.body])
    loop = Loop(batches, inputs, {}, {}, expected, reference, namespace, judge, found.back)
    if not found.back:
        for number in range(len(inputs)):
            _keep_right(loop, number)
    return loop


def _compiled(statements: list[ast.stmt]) -> types.CodeType:
    module = ast.fix_missing_locations(ast.Module(statements, []))
    return compile(module, "test.py", "exec", dont_inherit=True)


def _keep_right(loop: Loop, number: int) -> None:
    """Keep the reply that hands over the expected value itself, where the test agrees that this is right."""
    value = loop.expected[number] if number in loop.expected else codec.encode(loop.scope(number, [], None)["exp"])
    scope = {**loop.namespace, "i": number, "exp": codec.decode(value), "out": codec.decode(value)}
    try:
        exec(loop.judge, scope)
    except Exception:
        return  # such an answer is put to the test each time, and no other is known
    reply = codec.to_json({"ok": value})
    if len(reply) <= _LONG:
        loop.right[number] = reply
        loop.expected.pop(number, None)
    else:
        loop.right_long[number] = _digest(reply)


def _batches(inputs: tuple[Any, ...], back: bool) -> Iterator[Batch]:
    """The requests in batches. All but the last of a batch say that more come, so that replies may be gathered."""
    place, most = 0, _FIRST
    ends = [codec.to_json({"op": "call" if back else "plain", "target": None, "args": args}) for args in inputs]
    while place < len(ends):
        last = min(len(ends), place + most)
        sizes = list(itertools.accumulate(map(len, ends[place:last])))
        last = place + max(1, bisect.bisect(sizes, _MOST_BYTES))
        messages = [*(b'{"more":true,' + end[1:] for end in ends[place : last - 1]), ends[last - 1]]
        yield Batch(b"".join(map(frames.pack, messages)), tuple(map(len, messages)), place)
        place, most = last, min(most * _GROWTH, _MOST)

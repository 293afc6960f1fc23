"""Reads mathematics with math-verify and says whether two answers are the same, inside a confined process.

Texts come in, words go out. Nothing of a text is run: what sympy would evaluate as Python is refused, and formulas are
read by a parser of LaTeX. That parser and sympy's simplification have no bounds in time and memory of their own, so
the host ends this process where it passes its limits, and starts another.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import logging
import math
import os
import re
import resource
import signal
import time
from typing import Any

from recode_rl.sandbox import frames, roles

MEMORY_EXIT = 86  # the exit status of a process that has grown too large
_SAMPLE_S = 0.02
_NEAR = 1e-4
_LATEX = "latex2sympy2_extended.latex2sympy2"
_NUMBER = re.compile(r"[+-]?(?=\.?[0-9])[0-9]*(?P<rest>(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,5})?)")
# Read before any answer is: the parser of LaTeX learns from what it reads, and a first tuple takes it 200 ms.
_REHEARSAL = (
    r"18",
    r"-\frac{14}{3}",
    r"3\sqrt{13}+2",
    r"\left( 3, \frac{\pi}{2} \right)",
    r"(-\infty,-2)\cup[4,5)",
    r"\{1, 2, 3\}",
    r"6-5i",
    r"x^3-6x+\frac{x-1}{2}",
    r"(x+1)^2",
    r"y = 2x+3",
    r"x \le 5",
    r"50\%",
    r"120^\circ",
    r"4.5 \times 10^{33}",
    r"1,234.5",
    r"\text{Evelyn}",
    r"\sin x \cos(2x)",
    r"\log_2 8 \cdot \ln 3",
    r"e^{2 \pi i}",
    r"\binom{7}{3} + 5!",
    r"\begin{pmatrix} 1 & 2 \\ -3 & 4 \end{pmatrix}",
)


class _Library:
    """math-verify, with the way shut by which sympy evaluates a text as Python.

    Only numbers and names are read that way, and here they are read as what they are.
    """

    def __init__(self) -> None:
        logging.disable(logging.CRITICAL)
        math_verify = importlib.import_module("math_verify")
        sympy = importlib.import_module("sympy")
        importlib.import_module("sympy.physics.units")  # simplify loads it, and its names are read as Python
        for name in ("sympy.parsing", "sympy.parsing.sympy_parser", "math_verify.parser", _LATEX):
            module = importlib.import_module(name)
            for function in {"parse_expr", "eval_expr"} & vars(module).keys():
                setattr(module, function, self.number_or_name)
        self.expression, self.float, self.integer, self.symbol = sympy.Expr, sympy.Float, sympy.Integer, sympy.Symbol
        self._parse, self._verify = math_verify.parse, math_verify.verify
        self._how = [math_verify.LatexExtractionConfig(boxed_match_priority=0)]

    def number_or_name(self, text: Any, *args: Any, **kwargs: Any) -> Any:
        """In place of sympy's reader of Python: a number or a name. ValueError for any other text."""
        text = str(text).strip()
        found = _NUMBER.fullmatch(text)
        if found is None and text.isidentifier():
            return self.symbol(text)
        if found is None:
            raise ValueError("no text is evaluated here")
        return self.float(found[0]) if found["rest"] else self.integer(found[0])

    def read(self, text: str) -> list[Any]:
        """The formula of a text and the text as it was read; the latter alone where it is no formula."""
        # Without time limits of its own: they work by signals that C code does not hear.
        return list(self._parse(f"\\boxed{{{text}}}", self._how, parsing_timeout=None))

    def same(self, expected: list[Any], given: list[Any]) -> bool:
        """Whether math-verify takes one for the other."""
        return bool(self._verify(expected, given, timeout_seconds=None))


@functools.cache
def _library() -> _Library:
    return _Library()


def equal(expected: list[Any], given: list[Any]) -> bool:
    """Whether an answer is the expected one; both as `_Library.read` gives them."""
    if expected[-1] == given[-1]:
        return True
    return _library().same(expected, given) and _near(expected[0], given[0])


def _near(expected: Any, given: Any) -> bool:
    """Whether decimal numbers are the same but for a ten-thousandth.

    math-verify rounds them to six decimals, which makes all tiny numbers one. True for what is no decimal number.
    """
    library = _library()
    if not (isinstance(expected, library.expression) and isinstance(given, library.expression)):
        return True
    if not (expected.has(library.float) or given.has(library.float)):
        return True
    try:
        wanted, found = complex(expected.doit()), complex(given.doit())
    except (TypeError, ValueError, OverflowError):
        return True
    return wanted == 0 or math.isinf(abs(wanted)) or abs(wanted - found) <= _NEAR * abs(wanted)


def rehearse() -> None:
    """Load the library and let it read what answers look like, once for all processes to come."""
    for text in _REHEARSAL:
        equal(_library().read(text), _library().read(f"{text} + 1"))


def main(fd: int) -> None:
    """Answer one request after another until the other side closes the channel.

    `{"expected": text}` sets the answer that the following `{"given": text}` are compared with. Replies have `read`,
    whether there was anything to read, `equal`, and `cpu`, the seconds it took. A request may set `memory_mb`.
    """
    reader = frames.Reader(channel := roles.channel_at(fd))
    expected: list[Any] = []
    while True:
        try:
            request = json.loads(reader.receive())
        except frames.Closed:
            os._exit(0)
        begun = time.process_time()
        if "memory_mb" in request:
            watch_memory(int(request["memory_mb"]))
        if "expected" in request:
            expected = _library().read(request["expected"])
            reply = {"read": bool(expected)}
        else:
            given = _library().read(request["given"])
            reply = {"read": bool(given), "equal": bool(given) and equal(expected, given)}
        with contextlib.suppress(frames.Closed):
            frames.send(channel, json.dumps({**reply, "cpu": time.process_time() - begun}).encode())


def watch_memory(limit_mb: int) -> None:
    """End this process once it holds more than that.

    The kernel's own limit would be a MemoryError, which sympy and math-verify catch and take for "not equal".
    """

    def look(number: int, frame: object) -> None:
        if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > limit_mb * 1024:
            os._exit(MEMORY_EXIT)

    signal.signal(signal.SIGPROF, look)
    signal.setitimer(signal.ITIMER_PROF, _SAMPLE_S, _SAMPLE_S)

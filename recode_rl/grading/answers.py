"""Mathematics: whether the answer of a completion is the expected one, by math-verify in a process that can be ended.

The process is kept for many answers, so that most take a millisecond. Where an answer makes it hang, grow or crash, it
is ended, the answer gets the status that a program would get for the same, and another process takes its place. It
reads the expected answer before it is given the one to compare: what fails then is our own failure, and no verdict.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import importlib.util
import json
import re
import select
import signal
from pathlib import Path
from typing import Any

from recode_rl.errors import MissingExtraError, SandboxError
from recode_rl.grading.mathematics import MEMORY_EXIT
from recode_rl.grading.session import Clock, Over, UnusableTestsError
from recode_rl.sandbox import Bounds, Cell, Child, frames
from recode_rl.sandbox.cell import PATIENCE_S, Exit
from recode_rl.types import Limits

ROLE = "recode_rl.grading.mathematics:main"
MODULES = ("recode_rl.grading.mathematics",)
PACKAGES = ("math-verify", "latex2sympy2-extended", "sympy")
TIME_S = 2.0  # CPU seconds where a problem sets no limits: right answers take a hundredth of it
LONGEST = 2000  # characters; the longest answer of MATH has 159
_TICK_S = 0.05
_GRACE_S = 0.5
_USES = 5000  # then a new process, whatever has gathered in it
_CPU_S = 10**6  # it serves many answers; the host's clock ends it
_ROOM_MB = 512  # address space of the libraries, over what an answer may use

_DELIMITERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"))
_FONT = re.compile(r"\\(?:text|textbf|textit|mathbf|mathrm|boldsymbol|bm|mbox)\s*\{([^{}]*)\}")
# What is below a digit is the base of a number, and below E an index; math-verify reads neither.
_BELOW = re.compile(r"(?<=[0-9E])_\{?(\w+)\}?")
_UNIT = re.compile(
    r"\\(?:text|textrm|textbf|textit|textnormal|mathrm|mathbf|mathit|mbox)\s*\{(?!\s*(?:and|or)\s*\})[^{}]*\}"
)
_POWER = re.compile(r"\^\s*\{?[0-9]+\}?")
_LEAD = re.compile(r"^(?:the\s+)?(?:final\s+)?answer(?:\s+is)?\s*(?:[:=]\s*|\s)(?=\S)", re.IGNORECASE)
_AROUND = re.compile(r"(?<!\w)\s+|\s+(?!\w|\s)")
_BETWEEN = re.compile(r"\s+")
_POWER_OF_TEN = re.compile(r"(?<![\w.])(-?\d+(?:\.\d+)?)[eE]([+-]?\d{1,4})(?![\w.])")
_SIGNS = str.maketrans(
    {
        "−": "-",
        "–": "-",
        "×": r" \times ",
        "·": r" \cdot ",
        "÷": "/",
        "π": r" \pi ",
        "∞": r" \infty ",
        "°": r"^\circ ",
        "≤": r" \le ",
        "≥": r" \ge ",
        "∪": r" \cup ",
        "\u00a0": " ",
    }
)


class Checker:
    """The process that compares answers, in a cell of its own, started when it is needed. Not for two threads."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._child: Child | None = None
        self._memory_mb = 0
        self._expected: str | None = None  # the one that the process has read
        self._uses = 0

    def equal(self, expected: str, given: str, limits: Limits) -> tuple[bool, float]:
        """Whether they are the same, and the CPU seconds it took; both as `plain` gives them.

        Over where the given answer was too much for the process, UnusableTestsError where the expected one cannot be
        read, SandboxError where nothing was learnt.
        """
        self._uses += 1
        if self._child is None or self._uses > _USES or self._memory_mb != limits.memory_mb:
            self._start(limits)
        if self._expected != expected:
            try:
                reply = self._ask({"expected": expected}, limits)
            except Over as over:
                raise _unreadable(expected, over.detail) from None
            if not reply["read"]:
                raise _unreadable(expected, "there is nothing in it")
            self._expected = expected
        reply = self._ask({"given": given}, limits)
        return bool(reply["equal"]), float(reply["cpu"])

    def _start(self, limits: Limits) -> None:
        self.close()
        bounds = Bounds(_CPU_S, limits.memory_mb + _ROOM_MB, processes=8)
        with Path("/dev/null").open("r+b") as null:
            self._child = self._cell.start(ROLE, bounds, *[null.fileno()] * 3)
        self._child.channel.settimeout(PATIENCE_S)
        self._memory_mb = limits.memory_mb

    def _ask(self, request: dict[str, Any], limits: Limits) -> dict[str, Any]:
        """The reply to one request; a process that gives none is ended."""
        assert self._child is not None
        try:
            return _exchange(self._child, {**request, "memory_mb": limits.memory_mb}, limits)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the process; the next answer starts another."""
        child, self._child, self._expected, self._uses = self._child, None, None, 0
        if child is not None:
            with contextlib.suppress(SandboxError):
                child.close()
            child.channel.close()


def _exchange(child: Child, request: dict[str, Any], limits: Limits) -> dict[str, Any]:
    poller = select.poll()
    poller.register(child.channel, select.POLLIN)
    try:
        frames.send(child.channel, json.dumps(request).encode())
        if not poller.poll(_TICK_S * 1000):  # most are done by then
            clock = Clock(limits, child)
            clock.start()
            while not poller.poll(_TICK_S * 1000):
                clock.check()
        reply: dict[str, Any] = json.loads(frames.receive(child.channel))
        return reply
    except frames.Closed:
        raise _death(child.wait(_GRACE_S) or child.stop()) from None
    except TimeoutError:
        raise SandboxError("the process that compares answers does not listen") from None


def _death(ended: Exit) -> Over | SandboxError:
    """What it means that the process ended by itself: no answer can send it a signal but by a crash."""
    if ended.over_memory or ended.code == MEMORY_EXIT:
        return Over("memory_limit", "comparing it with the expected answer took too much memory")
    if ended.prepared and ended.signal in (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL):
        return Over("runtime_error", f"comparing it with the expected answer crashed (signal {ended.signal})")
    return SandboxError(f"the process that compares answers ended ({ended})")


def _unreadable(expected: str, why: str) -> UnusableTestsError:
    return UnusableTestsError(f"the expected answer {expected[:60]!r} cannot be read ({why}); mend the problem")


def plain(text: str) -> str:
    """An answer without what stands around a formula: delimiters, "The answer is", a full stop; signs as LaTeX."""
    text = text.translate(_SIGNS).strip()
    while (inner := _undelimited(_LEAD.sub("", text.removesuffix("."), count=1).strip())) != text:
        text = inner
    return _POWER_OF_TEN.sub(r"\1 \\times 10^{\2}", "" if set(text) <= {"$"} else text)


def _undelimited(text: str) -> str:
    if font := _FONT.fullmatch(text):
        return font[1].strip()
    for opening, closing in _DELIMITERS:
        inner = text[len(opening) : len(text) - len(closing)]
        if len(text) > len(opening + closing) and text == opening + inner + closing and opening not in inner:
            return inner.strip()
    return text


def overlooked(expected: str, given: str) -> bool:
    """Whether two answers differ in what math-verify leaves out of its comparison.

    These are bases of numbers, where both state them (`40_9` is not `40_{10}`), and all that follows a unit in words:
    of `18\\text{ cm}, 19\\text{ cm}` it would read the first number alone.
    """
    wanted, found = _BELOW.findall(expected), _BELOW.findall(given)
    return bool(wanted and found and sorted(wanted) != sorted(found)) or _behind(expected) != _behind(given)


def _behind(text: str) -> list[str]:
    """The numbers behind a unit that has a number before it."""
    unit = _UNIT.search(text)
    if unit is None or not re.search("[0-9]", text[: unit.start()]):
        return []
    return re.findall("[0-9]+", _POWER.sub("", text[unit.end() :]))


def same_text(expected: str, given: str) -> bool:
    """Whether two plain answers are the same letter by letter, but for white space: that needs no mathematics."""
    return _tight(expected) == _tight(given)


def _tight(text: str) -> str:
    """Without white space, but for one space between letters or digits: `1 2` is not `12`."""
    return _BETWEEN.sub(" ", _AROUND.sub("", text))


@functools.cache
def need_library() -> None:
    """MissingExtraError where math-verify is not installed."""
    if importlib.util.find_spec("math_verify") is None:
        raise MissingExtraError(
            "math_verify is not installed, and problems with an answer in place of tests need it; "
            'run: pip install "recode-rl[math]"'
        )


def versions() -> dict[str, str]:
    """The versions of what decides whether two answers are the same, as far as they are installed."""
    found = {}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found

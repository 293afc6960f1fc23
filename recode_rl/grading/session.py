"""One program against the tests of a problem: two confined processes, and the host relaying between them.

The host never looks into what the program says; it only counts, measures and ends. What it believes is the word of the
evaluator (tests) and of the cells' trusted parts (how processes ended, what they used).
"""

from __future__ import annotations

import json
import os
import secrets
import selectors
import signal
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recode_rl.errors import SandboxError
from recode_rl.sandbox import Bounds, Cell, Child, frames
from recode_rl.sandbox.cell import Exit, now
from recode_rl.types import WALL_FACTOR, Limits, Status

SERVE_ROLE = "recode_rl.sandbox.roles:serve"
EVALUATOR_ROLE = "recode_rl.grading.evaluator:main"
BESIDE_ROLE = "recode_rl.grading.beside:main"
MODULES = ("recode_rl.grading.evaluator", "recode_rl.grading.beside")
_TICK_S = 0.05
_GRACE_S = 0.5
_EVALUATOR_MEMORY_MB = 8192
_EVALUATOR_FRAME = 1 << 30
_MIB = 1 << 20


@dataclass
class Outcome:
    """What was learnt: a status per finished test, why it went no further, and what the program used."""

    results: dict[int, tuple[Status, str | None]] = field(default_factory=dict)
    ended: Status | None = None  # why the tests without a result have none
    ended_detail: str | None = None
    unsplittable: str | None = None
    cpu_s: float = 0.0


class _Over(Exception):
    """The session is over for a reason that says something about the program."""

    def __init__(self, status: Status, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class UnusableTestsError(SandboxError):
    """The tests themselves cannot run on this machine: nothing is learnt about the program, however often one tries."""


class Wire:
    """Messages over a socket that is never waited on."""

    def __init__(self, channel: socket.socket) -> None:
        channel.setblocking(False)
        self.channel = channel
        self._in = bytearray()
        self._out = bytearray()
        self.closed = False

    def queue(self, message: bytes) -> None:
        """Send as much as goes now, the rest when `flush` is called."""
        self._out += frames.pack(message)
        self.flush()

    def flush(self) -> None:
        """Go on sending."""
        try:
            while self._out:
                del self._out[: self.channel.send(memoryview(self._out)[:_MIB].tobytes())]
        except BlockingIOError:
            return
        except OSError:
            self._out.clear()

    @property
    def wants(self) -> int:
        """The events to wait for."""
        return selectors.EVENT_READ | (selectors.EVENT_WRITE if self._out else 0)

    def read(self, limit: int) -> list[bytes] | None:
        """Whole messages that have arrived; None where one is announced that is larger than `limit`."""
        try:
            while len(self._in) <= limit and not self.closed:
                part = self.channel.recv(_MIB)
                self._in += part
                self.closed = not part
        except BlockingIOError:
            pass
        except OSError:
            self.closed = True
        messages = []
        while len(self._in) >= frames.HEADER.size:
            (length,) = frames.HEADER.unpack_from(self._in)
            if length > limit:
                return None
            end = frames.HEADER.size + length
            if len(self._in) < end:
                break
            messages.append(bytes(self._in[frames.HEADER.size : end]))
            del self._in[:end]
        return messages


class Clock:
    """The limits of one test: CPU seconds of the program, wall seconds of everything."""

    def __init__(self, child: Child, limits: Limits) -> None:
        self._child = child
        self._limits = limits
        self._last = now() + limits.total_s
        self._checked = 0.0
        self.start()

    def start(self) -> None:
        """A test begins."""
        self._wall, self._cpu = now(), self._child.cpu_s()

    def check(self) -> None:
        """_Over where the test has used up its time. The program is only asked about after `time_s` of wall time."""
        moment, limit = now(), self._limits.time_s
        if moment > self._last:
            raise _Over("timeout", f"all tests together took longer than {self._limits.total_s:g} s")
        if moment - self._wall > limit * WALL_FACTOR:
            raise _Over("timeout", f"took longer than {limit * WALL_FACTOR:g} s of wall time")
        if moment - self._wall > limit and moment - self._checked > _TICK_S:
            self._checked = moment
            if self._child.cpu_s() - self._cpu > limit:
                raise _Over("timeout", f"used more than {limit:g} s of CPU time")


class Session:
    """The event loop over one or two confined processes."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.nonce = secrets.token_hex(16)
        self.outcome = Outcome()
        self._test: int | None = None
        self._allowed = int(limits.output_mb * _MIB)
        self._done = False

    def split(self, programs: Cell, tests: Cell, program: dict[str, Any], job: dict[str, Any]) -> Outcome:
        """The program in one cell, the tests in another."""
        with Path(os.devnull).open("r+b") as null:
            child = programs.start(SERVE_ROLE, self._bounds(), *[null.fileno()] * 3)
            try:
                self._split(child, tests, program, job, null.fileno())
            except _Over as over:
                self._end(over)
            finally:
                self._close(child)
        return self.outcome

    def _split(self, child: Child, tests: Cell, program: dict[str, Any], job: dict[str, Any], null: int) -> None:
        wire, clock = self._introduce(child, program)
        bounds = Bounds(self.limits.total_s + 1, _EVALUATOR_MEMORY_MB, self.limits.files_mb, self.limits.processes)
        evaluator = tests.start(EVALUATOR_ROLE, bounds, null, null, null)
        try:
            referee = Wire(evaluator.channel)
            referee.queue(json.dumps({**job, "nonce": self.nonce}).encode())
            clock.start()
            self._relay(child, wire, evaluator, referee, clock)
        finally:
            evaluator.close()

    def beside(self, programs: Cell, job: dict[str, Any]) -> Outcome:
        """Program and tests in one process."""
        with Path(os.devnull).open("r+b") as null:
            child = programs.start(BESIDE_ROLE, self._bounds(), *[null.fileno()] * 3)
            try:
                wire, clock = self._introduce(child, job)
                wire.queue(self.nonce.encode())
                clock.start()
                self._relay(child, None, child, wire, clock)
            except _Over as over:
                self._end(over)
            finally:
                self._close(child)
        return self.outcome

    def _bounds(self) -> Bounds:
        limits = self.limits
        return Bounds(limits.total_s + 1, limits.memory_mb, limits.files_mb, limits.processes)

    def _introduce(self, child: Child, program: dict[str, Any]) -> tuple[Wire, Clock]:
        """Give the process its program and wait until that is defined, within the limits of one test."""
        wire, clock = Wire(child.channel), Clock(child, self.limits)
        wire.queue(json.dumps(program).encode())
        with selectors.DefaultSelector() as selector:
            selector.register(child.cell, selectors.EVENT_READ)
            selector.register(wire.channel, wire.wants)
            while True:
                for key, _ in selector.select(_TICK_S):
                    if key.fileobj is child.cell:
                        child.poll()
                wire.flush()
                messages = wire.read(self._allowed)
                if messages is None:
                    raise _Over("output_limit", "the program wrote too much")
                if messages:
                    _believe_start(messages[0])
                    return wire, clock
                if wire.closed:
                    child.wait(_GRACE_S)
                if child.exit is not None:
                    raise _death(child.exit, "while it was being defined")
                if wire.closed:
                    raise _Over("runtime_error", "the program closed the channel it is asked through")
                selector.modify(wire.channel, wire.wants)
                clock.check()

    def _relay(self, child: Child, wire: Wire | None, referee: Child, reports: Wire, clock: Clock) -> None:
        """Pass calls and replies on until the referee says that all is done, or something ends it."""
        wires = [reports] if wire is None else [reports, wire]
        with selectors.DefaultSelector() as selector:
            for cell in {child.cell, referee.cell}:
                selector.register(cell, selectors.EVENT_READ)
            for each in wires:
                selector.register(each.channel, each.wants)
            while not self._done:
                for key, _ in selector.select(_TICK_S):
                    if key.fileobj is child.cell:
                        child.poll()
                    elif key.fileobj is referee.cell:
                        referee.poll()
                self._hear(reports, wire, clock)
                if wire is not None and not self._done:
                    self._answer(wire, reports)
                for each in wires:
                    each.flush()
                    selector.modify(each.channel, each.wants)
                if child.exit is not None:  # what it said before it ended may have come while we asked about it
                    self._hear(reports, wire, clock)
                if not self._done:
                    _check_alive(child, referee, reports, wire)
                    clock.check()

    def _hear(self, reports: Wire, wire: Wire | None, clock: Clock) -> None:
        """What the referee says."""
        messages = reports.read(_EVALUATOR_FRAME if wire is not None else self._allowed)
        if messages is None:
            raise _Over("output_limit", "more was written than a test may write")
        for message in messages:
            kind, body = message[:1], message[1:]
            if kind == b"C" and wire is not None:
                self._allowed = int(self.limits.output_mb * _MIB) + 2 * len(body)
                wire.queue(body)
                continue
            if not self._believe(kind, body, clock):
                raise _Over("runtime_error", "the program wrote to the channel of the verdict")

    def _believe(self, kind: bytes, body: bytes, clock: Clock) -> bool:
        """A report, if it carries the nonce."""
        try:
            report = json.loads(body)
            if not secrets.compare_digest(str(report["nonce"]).encode(), self.nonce.encode()):
                return False
            if kind == b"S":
                self._test = int(report["test"])
                clock.start()
            elif kind == b"T":
                self.outcome.results[int(report["test"])] = (report["status"], report["detail"])
                self._test = None
            elif kind == b"E":
                self._done = True
            elif kind == b"U":
                self.outcome.unsplittable, self._done = str(report["reason"]), True
            elif kind == b"F":
                raise UnusableTestsError(str(report["reason"]))
            else:
                return False
        except (ValueError, KeyError, TypeError, RecursionError):
            return False
        return True

    def _answer(self, wire: Wire, reports: Wire) -> None:
        """What the program says goes to the evaluator as it is."""
        messages = wire.read(self._allowed)
        if messages is None:
            raise _Over("output_limit", f"returned more than {self.limits.output_mb:g} MiB")
        for message in messages:
            reports.queue(message)

    def _end(self, over: _Over) -> None:
        self.outcome.ended, self.outcome.ended_detail = over.status, over.detail
        if self._test is not None and self._test not in self.outcome.results:
            self.outcome.results[self._test] = (over.status, f"test {self._test + 1}: {over.detail}")

    def _close(self, child: Child) -> None:
        child.close()
        if child.exit is not None:
            self.outcome.cpu_s = child.exit.cpu_s


def _check_alive(child: Child, referee: Child, reports: Wire, wire: Wire | None) -> None:
    """SandboxError or _Over where a process that is still needed has ended."""
    if wires_closed := (reports if wire is None else wire).closed:
        child.wait(_GRACE_S)  # the channel of a process that dies closes before we hear of its death
    if child.exit is not None:
        raise _death(child.exit, "before its tests were done")
    if wires_closed:
        raise _Over("runtime_error", "the program closed the channel it is asked through")
    if referee is not child and referee.exit is not None:
        raise SandboxError(f"the process that runs the tests ended early ({referee.exit})")


def _believe_start(message: bytes) -> None:
    """Whether the program could be defined; it speaks for itself here, and can only harm itself."""
    try:
        answer = json.loads(message)
        if answer.get("ready") is True:
            return
        if "compile_error" in answer:
            raise _Over("compile_error", str(answer["compile_error"]))
        error = answer["error"]
        memory = "MemoryError" in error["names"]
        raise _Over("memory_limit" if memory else "runtime_error", str(error["text"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise _Over("runtime_error", "the program wrote to the channel it is asked through") from None


def _death(ended: Exit, when: str) -> _Over:
    """What it means that a process ended by itself."""
    if not ended.prepared:
        raise SandboxError(f"a confined process could not be set up ({ended})")
    if ended.signal == signal.SIGXCPU:
        return _Over("timeout", f"used up its CPU time {when}")
    if ended.signal == signal.SIGKILL and not ended.killed:
        return _Over("memory_limit", f"was killed {when}")
    if ended.signal is not None:
        return _Over("runtime_error", f"ended by signal {ended.signal} {when}")
    return _Over("runtime_error", f"ended itself with exit status {ended.code} {when}")

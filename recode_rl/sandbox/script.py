"""Run a program as a script on one input: bounded output, a deadline, and the exit status as its parent saw it."""

from __future__ import annotations

import json
import os
import select
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from recode_rl.errors import SandboxError
from recode_rl.sandbox import frames
from recode_rl.sandbox.cell import PATIENCE_S, Bounds, Cell, Child, Exit, exit_of, now
from recode_rl.sandbox.roles import READY

ROLE = "recode_rl.sandbox.roles:scripts"
_STDERR_TAIL = 4000
_CHUNK = 1 << 16

Stopped = Literal["wall", "cpu", "output"]
_TICK_S = 0.05
_GRACE_S = 0.5


@dataclass(frozen=True, slots=True)
class Limit:
    """What the host itself watches: CPU and wall seconds, bytes of output."""

    cpu_s: float
    wall_s: float
    output_bytes: int

    def passed(self, child: Child, wall_s: float, output_bytes: int) -> Stopped | None:
        """The limit that a running process has passed. Its CPU time is only asked for once it can matter."""
        if output_bytes > self.output_bytes:
            return "output"
        if wall_s > self.wall_s:
            return "wall"
        return "cpu" if wall_s > self.cpu_s and child.usage().cpu_s > self.cpu_s else None


@dataclass(frozen=True, slots=True)
class ScriptRun:
    """What a script did. `stopped` says why we ended it, `compile_error` why it never ran; None where neither."""

    exit: Exit
    stdout: bytes
    stderr: bytes  # the last part of it
    wall_s: float
    stopped: Stopped | None = None
    compile_error: str | None = None


def run_script(cell: Cell, source: str, data: bytes, bounds: Bounds, wall_s: float, output_bytes: int) -> ScriptRun:
    """Run `source` once with `data` as its standard input. SandboxError where the outcome could not be learnt."""
    with Scripts(cell, source, bounds, output_bytes) as scripts:
        return scripts.run(data, wall_s)


class Scripts:
    """A program that is run as a script, once for each input; compiled once, and again after a run that left traces."""

    def __init__(self, cell: Cell, source: str, bounds: Bounds, output_bytes: int) -> None:
        self._cell = cell
        self._source = source
        self._bounds = bounds
        self._output_bytes = output_bytes
        self._child: Child | None = None

    def run(self, data: bytes, wall_s: float) -> ScriptRun:
        """One run with `data` as standard input. SandboxError where the outcome could not be learnt."""
        if self._child is None:
            self._child, error = self._start()
            if error is not None:
                ended = self._child.wait(_GRACE_S) or self._child.stop()
                return ScriptRun(ended, b"", b"", 0.0, None, error)
        out_read, out_write = os.pipe()
        err_read, err_write = os.pipe()
        try:
            with _input_file(data) as stdin:
                try:
                    socket.send_fds(self._child.channel, [b"r"], [stdin.fileno(), out_write, err_write])
                except OSError:
                    pass  # it is gone, which is found out below
                finally:
                    os.close(out_write)
                    os.close(err_write)
            watch = _Watch(self._child, (out_read, err_read), Limit(self._bounds.cpu_s, wall_s, self._output_bytes))
            run = watch.follow()
            if not watch.clean:
                self.close()
            return run
        finally:
            os.close(out_read)
            os.close(err_read)

    def _start(self) -> tuple[Child, str | None]:
        """The process that holds the compiled program, and what the compiler had against it."""
        with Path(os.devnull).open("r+b") as null:
            child = self._cell.start(ROLE, self._bounds, *[null.fileno()] * 3)
        child.channel.settimeout(PATIENCE_S)
        return child, _hand_over(child, self._source)

    def close(self) -> None:
        """End what runs; a further run starts anew."""
        if self._child is not None:
            child, self._child = self._child, None
            child.close()

    def __enter__(self) -> Scripts:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _input_file(data: bytes) -> IO[bytes]:
    """The input as a file that has no name: nothing to write while the program runs, nothing to deadlock on."""
    file: IO[bytes]
    if hasattr(os, "memfd_create"):
        file = os.fdopen(os.memfd_create("stdin"), "w+b", buffering=0)
    else:
        file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
    file.seek(0)
    return file


class _Watch:
    """Drains the output of one run until the run has ended or has to be ended."""

    def __init__(self, child: Child, pipes: tuple[int, int], limit: Limit) -> None:
        self.clean = False  # whether another run may follow in the same place
        self._child = child
        self._pipes = pipes
        self._limit = limit
        self._stdout = bytearray()
        self._stderr = bytearray()
        self._exit: Exit | None = None
        self._stopped: Stopped | None = None

    def follow(self) -> ScriptRun:
        """Until the end of the run."""
        begun = now()
        poller = select.poll()
        for fd in (*self._pipes, self._child.channel.fileno()):
            poller.register(fd, select.POLLIN)
        open_fds = {*self._pipes, self._child.channel.fileno()}
        over: float | None = None  # when the run was over; where nothing can find what it left, its pipes may stay open
        while open_fds and (over is None or now() - over < _GRACE_S):
            for fd, _ in poller.poll(_TICK_S * 1000):
                if not (self._drain(fd) if fd in self._pipes else self._hear_end()):
                    poller.unregister(fd)
                    open_fds.discard(fd)
            if self._stopped is None and self._exit is None:
                self._stopped = self._limit.passed(self._child, now() - begun, len(self._stdout))
                if self._stopped is not None:
                    self._exit = self._child.stop()
            if over is None and self._exit is not None:
                over = now()
        if self._stopped is None and len(self._stdout) > self._limit.output_bytes:
            self._stopped = "output"
        if self._stopped is not None:
            self.clean = False
        assert self._exit is not None
        output = bytes(self._stdout[: self._limit.output_bytes])
        return ScriptRun(self._exit, output, bytes(self._stderr), now() - begun, self._stopped)

    def _drain(self, pipe: int) -> bool:
        part = os.read(pipe, _CHUNK)
        if pipe == self._pipes[0]:
            self._stdout += part
        else:
            self._stderr = (self._stderr + part)[-_STDERR_TAIL:]
        return bool(part)

    def _hear_end(self) -> bool:
        """The word about the end of the run; where there is none any more, how the whole tree ended."""
        try:
            ended = json.loads(frames.receive(self._child.channel))
        except (frames.Closed, TimeoutError):
            self._exit = self._exit or self._child.wait(_GRACE_S) or self._child.stop()
            return False
        self.clean = ended["clean"]
        if not self.clean:
            self._child.stop()  # what the run has left behind holds its pipes, and may for ever
        self._exit = exit_of({**ended, "killed": False, "memory": False, "prepared": True})
        return False


def _hand_over(child: Child, source: str) -> str | None:
    """Give the process its source; what its compiler had against it. No line of the program has run by then."""
    try:
        frames.send(child.channel, json.dumps({"source": source}).encode())
        answer = frames.receive(child.channel)
        return None if answer == READY else str(json.loads(answer)["compile_error"])
    except frames.Closed:
        ended = child.wait(PATIENCE_S) or child.stop()
        if not ended.prepared or ended.killed:
            raise SandboxError(f"a confined process could not be set up ({ended})") from None
        return "the compiler crashed"
    except TimeoutError:
        child.stop()
        return "the compiler did not finish"

"""What a confined process can be asked to do with a program: run it as a script, or answer calls to its functions.

Runs inside the confined process. Everything here is at the program's mercy once the program has started, so nothing
here decides anything: the process only ever speaks for the program.
"""

from __future__ import annotations

import atexit
import gc
import io
import itertools
import json
import operator
import os
import random
import signal
import socket
import sys
import threading
import traceback
import types
from collections.abc import Callable
from typing import Any, NoReturn

from recode_rl.sandbox import codec, frames

CONFINED_HOME = "/box"  # the launcher's BOX
MODULE_NAME = "program"  # not "__main__": a program's `if __name__ == "__main__":` block is no part of its functions
MAX_HANDLES = 100_000
READY = b'{"ready": true}'
_TEXT = 2000
_GATHERED = 1 << 16  # bytes of replies
_REHEARSALS = 10
_UNCHANGING = {int, float, str, bool, type(None)}


class _Nothing:
    @staticmethod
    def after_fork() -> None:
        """In place of what `threading` does in the child of a fork."""

    def seed(self, a: object = None, version: int = 2) -> None:
        """In place of `random.Random.seed`, whose code refers to its class as well."""
        if False:
            super()


_AFTER_FORK: tuple[tuple[Any, Any, Any], ...] = tuple(
    (function, function.__code__, nothing.__code__)
    for function, nothing in (
        (threading._after_fork, _Nothing.after_fork),  # type: ignore[attr-defined]
        (random.Random.seed, _Nothing.seed),
    )
    # Without pidfd_open the launcher has a second thread; another Python may have another closure there.
    if hasattr(os, "pidfd_open") and function.__code__.co_freevars == nothing.__code__.co_freevars
)


_seed = super(random.Random, random._inst).seed  # the part that is written in C


def fork() -> int:
    """os.fork without what the standard library does in every child, but for seeding `random`.

    It costs as much as a third of a short script: a process with one thread, forked by itself, has no threads to forget
    and no locks to free, and `random` can be seeded in a tenth of the time. A program's own forks do all of it.
    """
    for function, _, nothing in _AFTER_FORK:
        function.__code__ = nothing
    try:
        pid = os.fork()
    finally:
        for function, whole, _ in _AFTER_FORK:
            function.__code__ = whole
    if pid == 0 and _AFTER_FORK:
        _seed(int.from_bytes(os.urandom(8)))
    return pid


def scripts(fd: int) -> None:
    """Compile the program once, then run it as a script as often as asked, each time in a process of its own.

    Standard input and output are the program's own. This process runs none of its lines: a line that ran could only
    send it signals, and its word about how a run ended is worth what its death is worth, a failed test.
    """
    channel = channel_at(fd)
    job = json.loads(frames.receive(channel))
    code = compile_program(channel, job["source"])
    frames.send(channel, READY)
    prepare_main()
    gc.freeze()  # so that the collection at the end of each run does not look at, and copy, what all runs share
    while True:
        word, fds, _, _ = socket.recv_fds(channel, 1, 3)
        if not word or len(fds) != 3:
            os._exit(0)
        pid = fork()
        if pid == 0:
            channel.close()
            for place, given in enumerate(fds):
                os.dup2(given, place)
                os.close(given)
            run_as_main(code)
        for given in fds:
            os.close(given)
        _, status, usage = os.wait4(pid, 0)
        ended = {"status": status, "cpu": usage.ru_utime + usage.ru_stime, "rss": usage.ru_maxrss}
        clean = leave_nothing_running() and next(os.scandir(), None) is None
        frames.send(channel, codec.to_json({**ended, "clean": clean}))


def main(fd: int) -> None:
    """Run the program as a script, once, in this very process."""
    channel = channel_at(fd)
    job = json.loads(frames.receive(channel))
    code = compile_program(channel, job["source"])
    frames.send(channel, READY)
    channel.close()
    open_streams()
    prepare_main()
    run_as_main(code)


def leave_nothing_running() -> bool:
    """Kill what a run has left behind; whether there was nothing. Only where all we may kill is the program's own."""
    try:
        if os.environ["HOME"] == CONFINED_HOME:
            os.kill(-1, signal.SIGKILL)
        return False
    except ProcessLookupError:
        return True


def prepare_main() -> None:
    """Give `__main__` what it has where an interpreter runs a file."""
    module = sys.modules["__main__"]
    module.__dict__.update(__builtins__=__builtins__, __file__=os.path.abspath("program.py"))  # noqa: PTH100


def run_as_main(code: types.CodeType) -> NoReturn:
    """Run as an interpreter runs a file; exits as that would."""
    module = sys.modules["__main__"]
    os._exit(finish(run_script(code, module.__dict__), module.__dict__))


def compile_program(channel: socket.socket, source: str) -> types.CodeType:
    """The program's code; where it does not compile, say so and end. No line of the program has run by then."""
    try:
        return compile(source.removeprefix("\ufeff"), "program.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
        frames.send(channel, json.dumps({"compile_error": describe(error)}).encode())
        os._exit(0)


def open_streams() -> None:
    """Fresh text streams over 0, 1 and 2, as an interpreter makes them at its start.

    The launcher makes them once for all its processes: to make them takes longer than to run a short program. All they
    remember of their files is that standard output cannot be rewound.
    """
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", closefd=False)  # type: ignore[misc]  # noqa: SIM115
    sys.stdout = sys.__stdout__ = open(1, "w", encoding="utf-8", closefd=False)  # type: ignore[misc]  # noqa: SIM115
    raw = open(2, "wb", buffering=0, closefd=False)  # noqa: SIM115
    sys.stderr = sys.__stderr__ = io.TextIOWrapper(  # type: ignore[misc]
        raw, encoding="utf-8", errors="backslashreplace", write_through=True
    )


def run_script(code: types.CodeType, namespace: dict[str, Any]) -> int:
    """Run to the end; the exit status an interpreter would give."""
    try:
        exec(code, namespace)
    except SystemExit as stop:
        return exit_status(stop.code)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def exit_status(code: object) -> int:
    """What `sys.exit(code)` means."""
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    print(code, file=sys.stderr)
    return 1


def finish(status: int, namespace: dict[str, Any]) -> int:
    """What an interpreter does at its end: wait for threads, run exit handlers, flush, let go of what is left.

    With its names gone and its cycles collected, files that the program left open are flushed and `__del__` has run.
    """
    try:
        if len(threading._active) > 1 or threading._threading_atexits:  # type: ignore[attr-defined]
            threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        flush_streams()
    except BaseException:
        traceback.print_exc()
        return status or 120
    try:  # noqa: SIM105  (in a process this short every class that is not needed costs)
        let_go(namespace)
    except BaseException:
        pass
    return status


def let_go(namespace: dict[str, Any]) -> None:
    """Drop the program's names, collect its cycles, flush what that has written."""
    for name in [name for name, value in namespace.items() if hasattr(type(value), "__del__")]:
        del namespace[name]  # first, while what they use is still there
    for name in [name for name in namespace if name != "__builtins__"]:
        namespace[name] = None
    # Where no collection has run, all that the program made is young; a full one would empty free lists as well.
    gc.collect(2 if any(gc.get_count()[1:]) else 0)
    flush_streams()


def flush_streams() -> None:
    """Flush what the program calls its output now, and what was given to it as that."""
    for stream in (sys.stdout,) if sys.stdout is sys.__stdout__ else (sys.stdout, sys.__stdout__):
        try:
            if stream is not None:
                stream.flush()
        except ValueError:  # it is closed, or has given its buffer away
            pass


def serve(fd: int) -> None:
    """Define the program, then answer one request after another until the other side closes the channel."""
    channel = channel_at(fd)
    reader = frames.Reader(channel)
    server = define(channel, reader)
    gathered = b""  # replies to requests that others follow at once: they need not cross one by one
    while True:
        try:
            request = reader.receive()
        except frames.Closed:
            os._exit(0)
        reply = frames.pack(server.answer(request))
        gathered = gathered + reply if gathered else reply
        if not server.more or len(gathered) > _GATHERED:
            try:
                channel.sendall(gathered)
            except OSError:
                os._exit(0)
            gathered = b""


def channel_at(fd: int) -> socket.socket:
    """The channel behind a descriptor. Its kind is given, since to find it out takes system calls."""
    return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=fd)


def define(channel: socket.socket, reader: frames.Reader) -> Server:
    """Receive the program, run it up to its end, and say that it is ready to be called; where it is not, say why."""
    job = codec.from_json(reader.receive())
    module = types.ModuleType(MODULE_NAME)
    sys.modules[MODULE_NAME] = module
    sys.modules["__main__"] = module
    code = compile_program(channel, job["source"])
    prelude(job["prelude"], module.__dict__)
    target = Target(job["entry_point"], module.__dict__)
    try:
        exec(code, module.__dict__)
        target.resolve()
    except BaseException as error:
        frames.send(channel, json.dumps({"error": encode_error(error)}).encode())
        os._exit(0)
    frames.send(channel, READY)
    return Server(target)


_REHEARSAL = """
import math
from typing import List, Dict, Optional
from collections import defaultdict
class Node:
    def __init__(self, value): self.value = value
def f(xs: List[int], text: str = "a") -> List[int]:
    total, seen = 0, set()
    for i, x in enumerate(sorted(xs)):
        if x % 2 == 0 and x not in seen:
            seen.add(x)
            total += x
    while total > 100: total //= 2
    return [total, f"{text}{len(xs)}", {"k": (1.5, None)}, [x for x in xs]]
"""


def rehearse() -> None:
    """Define and call a program of our own a few times, before any other is there.

    The interpreter adapts code that runs often by rewriting it in place, and fills its caches. What it has written
    before the fork, no program's process has to write, and copy a page for, again.
    """
    ours, theirs = socket.socketpair()
    job = json.dumps({"source": _REHEARSAL, "prelude": ["import math"], "entry_point": "f"}).encode()
    args = codec.encode([[5, 3, 2, 8, 8], "text"])
    request = json.dumps({"op": "call", "target": None, "args": args, "kwargs": ["d"]}).encode()
    with ours, theirs:
        reader = frames.Reader(theirs)
        for _ in range(_REHEARSALS):
            frames.send(ours, job)
            server = define(theirs, reader)
            frames.receive(ours)
            for _ in range(4):
                frames.send(ours, request)
                frames.send(theirs, server.answer(reader.receive()))
                frames.receive(ours)
    del sys.modules[MODULE_NAME]


def prelude(blocks: list[str], namespace: dict[str, Any]) -> None:
    """Imports and classes the problem gives to every program; one that fails here is left out, as if not given."""
    for block in blocks:
        try:
            exec(compile(block, "setup.py", "exec", dont_inherit=True), namespace)
        except Exception:
            continue  # the program meets a NameError if it wanted that name, which says more than we could


class MissingEntryPoint(NameError):
    """The program has no function of the name that is asked for."""


class Target:
    """The function under test: `f`, or `Solution().f` with a new object for every call."""

    def __init__(self, name: str, namespace: dict[str, Any]) -> None:
        self.name = name
        self.owner, _, self.function = name.rpartition("().")
        self.namespace = namespace

    def resolve(self) -> Any:
        """The callable, looked up anew for each call as a caller inside the program would."""
        missing = MissingEntryPoint(f"the program does not define {self.name!r}")
        if not self.owner:
            if not callable(found := self.namespace.get(self.function)):
                raise missing
            return found
        if not callable(owner := self.namespace.get(self.owner)) or not hasattr(owner, self.function):
            raise missing
        return getattr(owner(), self.function)


# What tests may do with an object of the program's, beside calling it.
OPERATIONS: dict[str, Callable[..., Any]] = {
    "next": next,
    "iter": iter,
    "len": len,
    "dir": dir,
    "hash": hash,
    "repr": repr,
    "str": str,
    "int": int,
    "float": float,
    "index": operator.index,
    "get": getattr,
    "set": setattr,
    "del": delattr,
    "item": operator.getitem,
    "set_item": operator.setitem,
    "del_item": operator.delitem,
    "enter": lambda target: type(target).__enter__(target),
    "exit": lambda target: type(target).__exit__(target, None, None, None),
    **{name: getattr(operator, name) for name in ("truth", "neg", "abs", "eq", "ne", "lt", "le", "gt", "ge")},
    **{name: getattr(operator, name) for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul")},
    **{name: getattr(operator, name) for name in ("and_", "or_", "xor")},
}


class Server:
    """Turns requests into calls, and results into plain values or handles."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.objects: list[Any] = []
        self.numbers: dict[int, int] = {}
        self.more = False  # whether the request that was answered last said that another follows at once

    def answer(self, request: bytes) -> bytes:
        """The reply to one request; a failure of the program is a reply as well."""
        self.more = False
        try:
            asked = codec.from_json(request)
            self.more = "more" in asked
            return codec.to_json(self.act(asked))
        except BaseException as error:
            return json.dumps({"error": encode_error(error)}).encode()

    def act(self, request: dict[str, Any]) -> dict[str, Any]:
        """Carry out one request: a call, `next`, an attribute, or another of the OPERATIONS on an object."""
        action = request["op"]
        if action == "plain":  # a call of the entry point whose arguments nobody looks at again
            return {"ok": self.encode(self.target.resolve()(*self.decode(request["args"])))}
        if action == "call":
            return self.call(request)
        target = self.object(request["target"])
        return {"ok": self.encode(OPERATIONS[action](target, *map(self.decode, request["with"])))}

    def call(self, request: dict[str, Any]) -> dict[str, Any]:
        """Call the entry point or an object of the program's; arguments it changed in place go back as well.

        With "items", an iterator is answered by so many of its items.
        """
        function = self.target.resolve() if request["target"] is None else self.object(request["target"])
        args = self.decode(request["args"])
        kwargs = self.decode(request["kwargs"]) if "kwargs" in request else {}
        given = list(args)
        result = function(*args, **kwargs)
        reply: dict[str, Any] = {}
        if kwargs or not _UNCHANGING.issuperset(map(type, given)):
            after, named = self.encode(given), self.encode(kwargs)
            if after != request["args"] or (kwargs and named != request["kwargs"]):
                reply.update(args=after, kwargs=named)
        for place, value in enumerate(given):
            if value is result and isinstance(value, (list, dict, set, bytearray)):
                return {**reply, "same": place}
        encoded = self.encode(result)
        if "items" in request and isinstance(encoded, list) and encoded[0] == "h" and hasattr(type(result), "__iter__"):
            encoded = self.encode(list(itertools.islice(iter(result), request["items"])))
        return {**reply, "ok": encoded}

    def object(self, number: Any) -> Any:
        """The object behind a handle."""
        return self.objects[number]

    def encode(self, value: Any) -> Any:
        """A plain value, or a handle for what has none."""
        return codec.encode(value, self.handle)

    def decode(self, data: Any) -> Any:
        """A plain value or the object of a handle."""
        return codec.decode(data, lambda rest: self.object(rest[0]))

    def handle(self, value: Any) -> list[Any]:
        """The number of an object (the same object has the same number) and whether it can be iterated over."""
        number = self.numbers.get(id(value))
        if number is None:
            if len(self.objects) >= MAX_HANDLES:
                raise MemoryError("too many objects that have no plain form")
            number = self.numbers[id(value)] = len(self.objects)
            self.objects.append(value)
        return [number, hasattr(type(value), "__iter__"), type(value).__name__[:80]]


def encode_error(error: BaseException) -> dict[str, Any]:
    """An exception as the names of its classes, its plain arguments and its text, all of them capped."""
    try:
        args = codec.encode(tuple(error.args))
        if len(json.dumps(args)) > _TEXT:
            args = None
    except Exception:
        args = None
    names = [kind.__name__[:80] for kind in type(error).__mro__ if issubclass(kind, BaseException)]
    return {"names": names, "args": args, "text": describe(error), "missing": isinstance(error, MissingEntryPoint)}


def describe(error: BaseException) -> str:
    """One line for a person: the type and the text."""
    try:
        text = str(error)
    except Exception:
        text = "(its text cannot be shown)"
    return f"{type(error).__name__}: {text}"[:_TEXT]

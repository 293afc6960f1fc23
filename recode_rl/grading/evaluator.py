"""Runs the test code, in a process of its own that the program cannot reach; the function under test is a proxy here.

Loaded by the trusted part of a sandbox cell. What the program returned is rebuilt from plain data, so test code meets
exact built-in values, and whatever the program does to its own process, it can only change its answers. One process
serves program after program; the host starts a new one after tests that may leave traces in it.
"""

from __future__ import annotations

import builtins
import collections
import functools
import itertools
import json
import mmap
import os
import socket
import struct
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

from recode_rl.grading import compare, loops
from recode_rl.sandbox import codec, frames, roles

MAX_DRAINED = 1_000_000
_AHEAD, _AHEAD_BYTES = 32, 1 << 15  # requests and bytes sent ahead; a channel holds several times as much
PROGRESS = struct.Struct("ii")  # the page shared with the host: test under way, tests passed
_SHORT = 100
_DETAIL = 1000
_Encoded = Any


class Unsplittable(BaseException):
    """The tests hand the program something that has no plain form; they have to run beside it."""


class Remote:
    """An object of the program's that has no plain form, used by asking the program.

    To plain values it is equal, and comparable, never: what a test expects is not for the program to compare. Two such
    objects are both the program's, so it is asked about these.
    """

    __slots__ = ("_kind", "_link", "_number")

    def __init__(self, link: Link, number: int, kind: str) -> None:
        for name, value in (("_link", link), ("_number", number), ("_kind", kind)):
            object.__setattr__(self, name, value)

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        found: dict[str, Any] = self._do("get", "__dict__")
        return found

    def __dir__(self) -> list[str]:
        return list(self._do("dir"))

    def _do(self, operation: str, *values: Any) -> Any:
        given = [self._link.encode(value) for value in values]
        return self._link.ask({"op": operation, "target": self._number, "with": given})

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._link.call(self._number, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"{self._kind!r} object has no attribute {name!r} that can be seen from here")
        return self._do("get", name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._do("set", name, value)

    def __delattr__(self, name: str) -> None:
        self._do("del", name)

    def __getitem__(self, key: Any) -> Any:
        return self._do("item", key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._do("set_item", key, value)

    def __delitem__(self, key: Any) -> None:
        self._do("del_item", key)

    def __len__(self) -> int:
        return int(self._do("len"))

    def __bool__(self) -> bool:
        return bool(self._do("truth"))

    def __hash__(self) -> int:
        return int(self._do("hash"))

    def __repr__(self) -> str:
        return f"<{self._kind} object of the program>" if _showing else str(self._do("repr"))

    def __str__(self) -> str:
        return str(self._do("str"))

    def __int__(self) -> int:
        return int(self._do("int"))

    def __float__(self) -> float:
        return float(self._do("float"))

    def __index__(self) -> int:
        return int(self._do("index"))

    def __enter__(self) -> Any:
        return self._do("enter")

    def __exit__(self, *_: object) -> None:
        self._do("exit")

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Remote) and bool(self._do("eq", other)))

    def __ne__(self, other: object) -> bool:
        return self is not other and (not isinstance(other, Remote) or bool(self._do("ne", other)))


def _between_objects(operation: str) -> Callable[[Remote, Any], Any]:
    """An operator of two objects of the program's."""

    def operate(self: Remote, other: Any) -> Any:
        return self._do(operation, other) if isinstance(other, Remote) else NotImplemented

    return operate


for _operation in ("lt", "le", "gt", "ge", "add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul"):
    setattr(Remote, f"__{_operation}__", _between_objects(_operation))
for _operation in ("and_", "or_", "xor"):
    setattr(Remote, f"__{_operation.rstrip('_')}__", _between_objects(_operation))
for _operation in ("neg", "abs"):
    setattr(Remote, f"__{_operation}__", functools.partialmethod(Remote._do, _operation))


class RemoteIterable(Remote):
    """A generator, an iterator, or another object of the program's that gives items."""

    __slots__ = ()

    def __iter__(self) -> Iterator[Any]:
        found = self._do("iter")
        while True:
            try:
                item = found._do("next") if isinstance(found, Remote) else next(found)
            except StopIteration:
                return
            yield item

    def __next__(self) -> Any:
        return self._do("next")


_showing = False
_NEVER = object()
# What stands for a list where a test case, written in JSON, expects one.
_VIEWS: tuple[Any, ...] = (type({}.keys()), type({}.values()), type({}.items()))
DRAINED: tuple[Any, ...] = (RemoteIterable, range, collections.deque, *_VIEWS)


@functools.lru_cache(maxsize=256)
def _named_like(kind: str, iterable: bool) -> type[Remote]:
    """The class of objects whose class has this name in the program."""
    return type(kind if kind.isidentifier() else "object", (RemoteIterable if iterable else Remote,), {"__slots__": ()})


class Unusable(BaseException):
    """The tests themselves cannot run: no verdict."""


class Link:
    """The way to the program: one request, one reply."""

    def __init__(self, channel: socket.socket, max_reply: int) -> None:
        self.channel = channel
        self.reader = frames.Reader(channel)
        self.max_reply = max_reply
        self.remotes: dict[int, Remote] = {}
        self.last: Any = _NEVER  # what the last call returned
        self.unsplittable: str | None = None
        self.ahead: collections.deque[int] = collections.deque()  # sizes of requests whose replies are to come
        self.early: collections.deque[bytes] = collections.deque()  # replies that came before their turn
        self.closed = False
        self.too_long = False

    def receive(self, asked: int) -> bytes:
        """A message of the program's, no longer than its output may be and what it was asked for."""
        try:
            return self.reader.receive(self.max_reply + 2 * asked)
        except frames.Closed:
            self.closed = True  # kept, since a bare `except:` of the tests may swallow what is raised
            raise
        except frames.TooLong as error:
            self.closed = self.too_long = True
            self.channel.shutdown(socket.SHUT_RDWR)
            raise frames.Closed(str(error)) from None

    def call(self, target: int | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the entry point (None) or an object of the program's; arguments it changes in place change here too."""
        reply = self.exchange(self.call_request(target, args, kwargs))
        return self.result(reply, args, kwargs)

    def call_request(self, target: int | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The request for a call."""
        request = {"op": "call", "target": target, "args": self.encode(list(args))}
        return {**request, "kwargs": self.encode(kwargs)} if kwargs else request

    def result(self, reply: dict[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What a call gave."""
        if "args" in reply:
            self.bring_back(args, kwargs, reply)
        self.last = args[reply["same"]] if "same" in reply else self.decode(reply["ok"])
        return self.last

    def bring_back(self, args: tuple[Any, ...], kwargs: dict[str, Any], reply: dict[str, Any]) -> None:
        """What the program did to its copies of the arguments happens to ours."""
        after, named = self.decode(reply["args"]), self.decode(reply["kwargs"])
        for old, new in zip(args, after, strict=True):
            graft(old, new)
        for name, old in kwargs.items():
            graft(old, named.get(name))

    def ask(self, request: dict[str, Any]) -> Any:
        """The value a request gives."""
        return self.decode(self.exchange(request, may_stop=request["op"] == "next")["ok"])

    def exchange(self, request: dict[str, Any], may_stop: bool = False) -> dict[str, Any]:
        """One request and its reply; an exception of the program is raised here."""
        while self.ahead:
            self.early.append(self.receive(self.ahead.popleft()))
        return understood(self.receive(self.send(request)), self, may_stop)

    def send(self, request: dict[str, Any]) -> int:
        """Ask; the number of bytes that took."""
        message = codec.to_json(request)
        try:
            frames.send(self.channel, message)
        except frames.Closed:
            self.closed = True
            raise
        return len(message)

    def send_ahead(self, request: dict[str, Any]) -> None:
        """Ask for what `next_reply` will be wanted for later. A program that has ended may have replied before."""
        try:
            self.ahead.append(self.send(request))
        except frames.Closed:
            self.closed = False
            self.ahead.append(0)

    def send_batch(self, batch: loops.Batch) -> None:
        """Ask for all of a batch at once; nothing else may be under way."""
        try:
            self.channel.sendall(batch.message)
        except OSError as error:
            self.closed = True
            raise frames.Closed(str(error)) from None
        self.ahead.extend(batch.sizes)

    def next_bytes(self) -> bytes:
        """The reply to the first of the requests sent ahead that has not been looked at, as it came."""
        return self.early.popleft() if self.early else self.receive(self.ahead.popleft())

    def has_room(self) -> bool:
        """Whether another request fits the channel for certain, so that nobody waits for the other for ever."""
        waiting = len(self.ahead) + len(self.early)
        return not waiting or (waiting < _AHEAD and sum(self.ahead) < _AHEAD_BYTES)

    def next_reply(self) -> dict[str, Any]:
        """The reply to the first of the requests sent ahead that has not been looked at."""
        return understood(self.next_bytes(), self)

    def encode(self, value: Any) -> _Encoded:
        """An argument as plain data. Unsplittable where it has no plain form."""
        try:
            return codec.encode(value, self._handle)
        except codec.CodecError as error:
            self.unsplittable = str(error)  # kept, since a bare `except:` of the tests may swallow what is raised
            raise Unsplittable(str(error)) from None

    def _handle(self, value: Any) -> list[Any]:
        if isinstance(value, Remote):
            return [value._number]
        raise codec.CodecError(f"the tests pass a value of type {type(value).__name__}")

    def decode(self, data: Any) -> Any:
        """A value of the program's as exact built-in types."""
        try:
            return codec.decode(data, self._resolve)
        except codec.CodecError as error:
            raise remote_error({"names": ["ValueError"], "text": f"the program gave {error}"}) from None

    def _resolve(self, rest: list[Any]) -> Remote:
        number, iterable, kind = rest
        if type(number) is not int or not isinstance(kind, str):
            raise codec.CodecError("a broken handle")
        if number not in self.remotes:
            self.remotes[number] = _named_like(kind[:80], bool(iterable))(self, number, kind[:80])
        return self.remotes[number]


def understood(data: bytes, link: Link, may_stop: bool = False) -> dict[str, Any]:
    """A reply; an exception of the program is raised here.

    `StopIteration` only as the answer to `next`: out of a call it would silently end a loop of the tests.
    """
    try:
        reply = json.loads(data)
    except (ValueError, RecursionError):
        reply = None
    if not isinstance(reply, dict):
        raise remote_error({"names": ["RuntimeError"], "text": "the program gave something that is no value"})
    if "error" in reply:
        link.last = _NEVER
        error = remote_error(reply["error"])
        if isinstance(error, (StopIteration, StopAsyncIteration, GeneratorExit)) and not may_stop:
            text = f"the program raised {type(error).__name__}"
            error = remote_error({"names": ["RuntimeError"], "text": text})
        raise error
    if "ok" not in reply and "same" not in reply:
        raise remote_error({"names": ["RuntimeError"], "text": "the program gave no value"})
    return reply


def graft(old: Any, new: Any) -> None:
    """Make a mutable value equal to another one of its type, keeping inner lists and dicts the objects they are."""
    if type(old) is not type(new):
        return
    if isinstance(old, list):
        for place, item in enumerate(new[: len(old)]):
            old[place] = kept(old[place], item)
        old[len(new) :] = new[len(old) :]
    elif isinstance(old, dict):
        values = {key: kept(old[key], item) if key in old else item for key, item in new.items()}
        old.clear()
        old.update(values)
    elif isinstance(old, set):
        old.clear()
        old.update(new)
    elif isinstance(old, bytearray):
        old[:] = new
    elif hasattr(old, "appendleft"):
        old.clear()
        old.extend(new)
    elif isinstance(old, tuple):
        for inner, item in zip(old, new, strict=False):
            graft(inner, item)


def kept(old: Any, new: Any) -> Any:
    """The old container, filled with what is new, where both are of one mutable type; else the new value."""
    if type(old) is type(new) and isinstance(old, (list, dict, set, bytearray)):
        graft(old, new)
        return old
    return new


def remote_error(error: Any) -> BaseException:
    """An exception of the program's as the nearest built-in exception class, marked as not ours."""
    error = error if isinstance(error, dict) else {}
    names = [name for name in error.get("names") or [] if isinstance(name, str)] or ["RuntimeError"]
    text = str(error.get("text"))[:2000]
    base = next((kind for kind in map(_exception_class, names) if kind is not None), Exception)
    kind = base if names[0] == base.__name__ else type(names[0][:80], (base,), {})
    try:
        args = codec.decode(error["args"])
        made = kind(*args)
    except Exception:
        try:
            made = kind(text)
        except Exception:
            made = RuntimeError(text)
    error_made: BaseException = made
    error_made.__dict__["_of_the_program"] = text
    return error_made


def _exception_class(name: str) -> type[BaseException] | None:
    found = getattr(builtins, name, None)
    return found if isinstance(found, type) and issubclass(found, BaseException) else None


def short(value: Any) -> str:
    """The value for a person, cut. Objects of the program's are not asked how they would like to be shown."""
    global _showing
    _showing = True
    try:
        text = repr(value)
    except Exception:
        text = f"a {type(value).__name__}"
    finally:
        _showing = False
    return text if len(text) <= _SHORT else f"{text[: _SHORT - 3]}..."


class Report:
    """What is known about the tests; the number of the test under way is in the page that the host looks at."""

    def __init__(self, link: Link, page: mmap.mmap) -> None:
        self.link = link
        self.page = page
        self.test = -1
        self.passed = 0
        self.failed: list[tuple[int, str, str | None]] = []
        self.start: str | None = None

    def show(self) -> None:
        """Let the host see how far we are."""
        self.page[: PROGRESS.size] = PROGRESS.pack(self.test, self.passed)

    def run(self, number: int, test: Callable[[], str | None], source: Callable[[], str]) -> None:
        """Run one test; `test` returns None where it passed, else what was wrong; `source` shows the test."""
        self.link.last = _NEVER
        self.test = number
        self.show()
        status: str
        try:
            wrong = test()
            status = "passed" if wrong is None else "wrong_answer"
        except (Unsplittable, Unusable, frames.Closed):
            raise
        except BaseException as error:
            status, wrong = self.judge(error, source())
        if self.link.closed:
            raise frames.Closed("the program is gone")
        if status == "passed":
            self.passed += 1
        else:
            self.failed.append((number, status, None if wrong is None else wrong[:_DETAIL]))
        self.test = -1

    def judge(self, error: BaseException, source: str) -> tuple[str, str]:
        """The status an exception stands for: the program's own are its errors, all others mean a wrong answer."""
        text = getattr(error, "_of_the_program", None)
        if text is not None:
            memory = isinstance(error, MemoryError)
            return "memory_limit" if memory else "runtime_error", f"{source}: {text}"
        if isinstance(error, ImportError):
            raise Unusable(f"the tests cannot run here: {error}")
        said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        last = "" if self.link.last is _NEVER else f"the last call returned {short(self.link.last)}"
        parts = [source, "" if isinstance(error, AssertionError) and not str(error) else said, last]
        return "wrong_answer", ": ".join(part for part in parts if part)


def main(fd: int) -> None:
    """Serve until the host closes the channel: tests and the channel to a program come in, a report goes back."""
    host = socket.socket(fileno=fd)
    page = mmap.mmap(0, mmap.PAGESIZE)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    while True:
        head, fds, _, _ = socket.recv_fds(host, frames.HEADER.size, 1)
        if not head or not fds:
            return
        message = json.loads(frames.body(host, head))
        with socket.socket(fileno=fds[0]) as channel:
            report = judge_program(message, Link(channel, message["max_reply"]), page)
        frames.send(host, json.dumps(report).encode())


def judge_program(message: dict[str, Any], link: Link, page: mmap.mmap) -> dict[str, Any]:
    """Hand the program over to its process, run the tests one after another, and say what came of it."""
    job, report = message["job"], Report(link, page)
    closed = unusable = None
    # By what these tests say, not by what is loaded: that may be from the tests of an earlier program.
    codec.arrays = any("numpy" in text for text in (job.get("setup", ""), job.get("code", ""), *job.get("asserts", ())))
    try:
        frames.send(link.channel, json.dumps(message["program"]).encode())
        first = link.receive(0)
        if first == roles.READY:
            RUNNERS[job["kind"]](job, link, report)
        else:
            report.start = first.decode("utf-8", "replace")
    except Unsplittable:
        pass
    except Unusable as error:
        unusable = str(error)[:_DETAIL]
    except frames.Closed:
        closed = report.test
    known = {"passed": report.passed, "failed": report.failed, "start": report.start, "too_long": link.too_long}
    return {**known, "closed": closed, "unsplittable": link.unsplittable, "unusable": unusable}


@functools.lru_cache(maxsize=1024)
def compiled(source: str, name: str) -> types.CodeType:
    """Test code, which comes again with every program of a group."""
    return compile(source, name, "exec", dont_inherit=True)


def run_calls(job: dict[str, Any], link: Link, report: Report) -> None:
    """Each case: call with its arguments, compare with what was expected.

    Requests are sent ahead of their turn, as far as they fit the channel, so that the program need not wait for us
    between two cases. It learns nothing from knowing later arguments.
    """
    cases = [[codec.decode(case[name]) for name in ("args", "kwargs", "expected")] for case in job["cases"]]
    sent = 0
    for number, (args, kwargs, expected) in enumerate(cases):
        while sent < len(cases) and link.has_room():
            given, named, wanted = cases[sent]
            request = link.call_request(None, tuple(given), named)
            items = {"items": min(MAX_DRAINED, len(wanted) + 1)} if isinstance(wanted, (list, tuple)) else {}
            link.send_ahead({**request, **items})
            sent += 1

        def test(args: Any = args, kwargs: Any = kwargs, expected: Any = expected) -> str | None:
            got = link.result(link.next_reply(), tuple(args), kwargs)
            if isinstance(got, DRAINED) and isinstance(expected, (list, tuple)):
                got = list(itertools.islice(got, min(MAX_DRAINED, len(expected) + 1)))
            if compare.equal_value(got, expected, job["compare"], job["rel_tol"]):
                return None
            return f"{shown(job['entry_point'], args)}: expected {short(expected)}, got {short(got)}"

        report.run(number, test, functools.partial(shown, job["entry_point"], args))


def shown(name: str, args: list[Any]) -> str:
    """A call for a person."""
    return f"{name}({', '.join(map(short, args))})"


_kept = loops.Kept()


def run_loop(job: dict[str, Any], link: Link, report: Report) -> bool:
    """Tests that are one loop over inputs, as one test; False where they are not, and nothing has been run."""
    code, shown = (job["code"], "check") if job["kind"] == "check" else (job["asserts"][0], None)
    loop = None
    if len(job["asserts"]) <= 1 and "()." not in job["entry_point"]:
        loop = _kept.find(job["kind"], job["setup"], code, job["entry_point"])
    if loop is None:
        return False
    report.run(0, lambda: run_batches(loop, link), lambda: shown or code.replace("\n", " "))
    return True


def run_batches(loop: loops.Loop, link: Link) -> None:
    """Batch after batch, up to the first answer that is wrong: the test's own words raise what they raise."""
    for batch in loop.batches:
        link.send_batch(batch)
        for number in range(batch.first, batch.first + len(batch.sizes)):
            reply = link.next_bytes()
            if loop.is_right(number, reply):
                continue
            inp = codec.decode(loop.inputs[number])
            out = link.result(understood(reply, link), tuple(inp), {})
            exec(loop.judge, loop.scope(number, inp, out))


def run_asserts(job: dict[str, Any], link: Link, report: Report) -> None:
    """The entries in order, in one namespace; each is a test."""
    if run_loop(job, link, report):
        return
    namespace = prepare(job, link)
    for number, source in enumerate(job["asserts"]):
        code = compiled(source, f"test_{number}.py")

        def test(code: types.CodeType = code) -> str | None:
            exec(code, namespace)
            return None

        report.run(number, test, functools.partial(str.replace, source, "\n", " "))


def run_check(job: dict[str, Any], link: Link, report: Report) -> None:
    """Test code that defines `check(candidate)`, or that is a test as it stands: one test."""
    if run_loop(job, link, report):
        return
    namespace = prepare(job, link)
    candidate = namespace["candidate"]

    def test() -> str | None:
        exec(compiled(job["code"], "test.py"), namespace)
        if callable(check := namespace.get("check")):
            check(candidate)
        return None

    report.run(0, test, lambda: "check")


def prepare(job: dict[str, Any], link: Link) -> dict[str, Any]:
    """The namespace of the tests: what the setup defines, and proxies for what the program defines."""
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    namespace = module.__dict__

    def candidate(*args: Any, **kwargs: Any) -> Any:
        return link.call(None, args, kwargs)

    owner, _, function = job["entry_point"].rpartition("().")
    candidate.__name__ = candidate.__qualname__ = function
    try:
        exec(compiled(job["setup"], "setup.py"), namespace)
    except Exception as error:
        raise Unusable(f"the setup of the tests fails: {type(error).__name__}: {error}") from None
    namespace["candidate"] = candidate
    if owner:
        namespace[owner] = lambda: types.SimpleNamespace(**{function: candidate})
    else:
        namespace[function] = candidate
    return namespace


RUNNERS: dict[str, Callable[[dict[str, Any], Link, Report], None]] = {
    "calls": run_calls,
    "asserts": run_asserts,
    "check": run_check,
}

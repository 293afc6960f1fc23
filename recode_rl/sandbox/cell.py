"""The host's side of a cell: start it, run one confined process at a time in it, learn how that process ended."""

from __future__ import annotations

import functools
import json
import math
import os
import select
import site
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from recode_rl.errors import SandboxError
from recode_rl.sandbox import bwrap, seccomp

PACKAGE = Path(__file__).resolve().parents[1]
PATIENCE_S = 30.0  # how long our own processes may take for things that take them milliseconds
_PACKAGES = ("recode_rl", "recode_rl.sandbox", "recode_rl.grading")
_ROLES = ("recode_rl.sandbox.roles",)
_SYSTEM = ("/usr", "/lib", "/lib64", "/lib32", "/bin", "/sbin")
_WALLS = ("namespaces", "own root directory", "no network")
# Message boundaries are kept by both kinds; the second is for systems that lack the first.
_MESSAGES = socket.SOCK_SEQPACKET if sys.platform == "linux" else socket.SOCK_DGRAM
_TREE = "memory limit over all processes of a program"


Walls = Literal["namespaces", "bwrap", "none"]


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python that cells can run: its program, the folders it consists of, and where its third-party packages are."""

    program: str
    folders: tuple[str, ...]
    packages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SandboxLevel:
    """How strong the walls are on this machine: "full", or "weak" with the names of those that are missing."""

    name: str
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits of one process: CPU seconds, MiB of address space and of files, processes.

    The kernel counts CPU seconds by its ticks and may be a fifth off, so its own limit is set a second above `cpu_s`;
    whoever started the process watches `Child.usage()`, which is exact.
    """

    cpu_s: float
    memory_mb: int = 1024
    files_mb: int = 256
    processes: int = 64


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used so far: CPU seconds, and seconds it was ready to run and waited for a processor."""

    cpu_s: float
    waited_s: float


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended, as its trusted parent saw it: wait status, CPU seconds of its tree, largest RSS in MiB."""

    code: int | None  # exit status, None where a signal ended it
    signal: int | None
    cpu_s: float
    rss_mb: float
    killed: bool  # by the host's word
    over_memory: bool  # ended because its processes together passed the memory limit
    prepared: bool  # whether its walls stood before the first line of a program could run


class Cell:
    """A set of walls that is built once and used for one process after another. Not for two threads at a time.

    `modules` are loaded by the trusted part at its start, so that their functions can be roles of a process
    (`"package.module:function"`, called with the number of a socket's descriptor). With `sockets` a program may make
    internet sockets, where it has a network namespace of its own and thus nobody to talk to. `core` is the processor
    that its processes start on; those that take longer may leave it. `interpreter` is another Python than this one.
    """

    def __init__(
        self,
        modules: tuple[str, ...] = (),
        walls: Walls | None = None,
        sockets: bool = False,
        core: int | None = None,
        interpreter: Interpreter | None = None,
    ) -> None:
        self._python = interpreter or _this()
        self.walls: Walls = walls or ("namespaces" if _can_confine() else "none")
        self._modules = modules
        self._sockets = sockets and self.walls != "none"
        self._core = core
        self._runs = 0
        self._launch()

    def _launch(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, _MESSAGES)
        self._control.settimeout(PATIENCE_S)
        settings = _configuration(self._modules, self.walls, self._sockets, self._python)
        config = {**settings, "core": self._core}
        launcher = Path(__file__).with_name("launcher.py")
        # Not -I, which would leave PYTHONHASHSEED unread; the environment is ours and the folder is not searched.
        command = [self._python.program, "-s", "-P", "-S", "-X", "utf8", str(launcher), str(theirs.fileno())]
        if self.walls == "bwrap":
            command = bwrap.command(command, config, _environment(self._python))
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=_environment(self._python),
                pass_fds=[theirs.fileno()],
                cwd="/",
            )
        except OSError as error:
            self._control.close()
            raise SandboxError(f"the sandbox launcher cannot be started: {error}") from None
        finally:
            theirs.close()
        self._built: dict[str, Any] | None = None
        try:
            self._send(config)
        except BaseException:
            self.close()
            raise

    def build(self) -> dict[str, Any]:
        """What the trusted part says of the walls, once they stand: it builds them while we do something else.

        SandboxError where they cannot be built.
        """
        if self._built is None:
            try:
                answer = self.receive()
                if answer["op"] != "ready":
                    raise SandboxError(f"the sandbox cannot be built here: {answer.get('missing')}")
            except BaseException:
                self.close()
                raise
            self._built = answer
        return self._built

    @property
    def missing(self) -> tuple[str, ...]:
        """The walls that the trusted part could not build."""
        built = self.build()
        walls = (("system call filter", built["filter"]), (_TREE, built["proc"]))
        return tuple(name for name, there in walls if not there)

    @property
    def pid(self) -> int:
        """The launcher's process id on this machine."""
        return self._process.pid

    def start(self, role: str, bounds: Bounds, stdin: int, stdout: int, stderr: int, *, stay: bool = False) -> Child:
        """Start a confined process in a role. The three descriptors stay the caller's to close.

        With `stay` it keeps to the cell's processor however long it runs.
        """
        if self.walls == "bwrap" and self._runs:  # it cannot renew what is inside, so it is made anew
            self.close()
            self._launch()
        self.build()
        self._runs += 1
        ours, theirs = socket.socketpair()
        request = {
            "op": "run",
            "run": self._runs,
            "role": role,
            "cpu_s": math.ceil(bounds.cpu_s) + 1,
            "memory_mb": bounds.memory_mb,
            "files_mb": bounds.files_mb,
            "processes": bounds.processes,
            "stay": stay,
        }
        try:
            socket.send_fds(self._control, [json.dumps(request).encode()], [stdin, stdout, stderr, theirs.fileno()])
        except OSError as error:
            ours.close()
            raise SandboxError(f"the sandbox is gone ({error}); its launcher was ended from outside") from None
        finally:
            theirs.close()
        return Child(self, self._runs, ours)

    def fileno(self) -> int:
        """Readable when the cell has something to say."""
        return self._control.fileno()

    def tell(self, op: str, run: int) -> None:
        """Send a word about the process that runs."""
        self._send({"op": op, "run": run})

    def receive(self) -> dict[str, Any]:
        """The next message of the trusted part. SandboxError where there is none."""
        try:
            data = self._control.recv(1 << 16)
        except OSError as error:
            raise SandboxError(f"the sandbox does not answer ({error})") from None
        if not data:
            raise SandboxError("the sandbox is gone; its launcher was ended from outside")
        message: dict[str, Any] = json.loads(data)
        return message

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self._control.send(json.dumps(message).encode())
        except OSError as error:
            raise SandboxError(f"the sandbox is gone ({error}); its launcher was ended from outside") from None

    def close(self) -> None:
        """End the cell and everything in it."""
        self._control.close()
        try:
            self._process.wait(0.5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Cell:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Child:
    """One confined process: a private channel to it, and the trusted part's word about it."""

    def __init__(self, cell: Cell, run: int, channel: socket.socket) -> None:
        self.cell = cell
        self.channel = channel
        self.exit: Exit | None = None
        self._run = run

    def usage(self) -> Usage:
        """CPU seconds used so far by the process and its threads, and seconds it waited for a processor."""
        if self.exit is None:
            self.cell.tell("cpu", self._run)
            answer = self._next("cpu")
            if answer is not None:
                return Usage(float(answer["s"]), float(answer["waited"]))
        assert self.exit is not None
        return Usage(self.exit.cpu_s, 0.0)

    def poll(self) -> Exit | None:
        """Read one message that is waiting on the cell; the exit, if that is what it was."""
        if self.exit is None:
            self._next(None)
        return self.exit

    def stop(self) -> Exit:
        """Kill the process and all it started, where it still runs; how it ended."""
        if self.exit is None:
            self.cell.tell("kill", self._run)
            while self.exit is None:
                self._next(None)
        return self.exit

    def wait(self, timeout_s: float) -> Exit | None:
        """Wait for the process to end by itself; how it did, None where it still runs."""
        deadline = now() + timeout_s
        while self.exit is None and (rest := deadline - now()) > 0:
            if select.select([self.cell], [], [], rest)[0]:
                self._next(None)
        return self.exit

    def _next(self, wanted: str | None) -> dict[str, Any] | None:
        while True:
            message = self.cell.receive()
            if message.get("run") != self._run:
                continue
            if message["op"] == "exit":
                self.exit = exit_of(message)
                return None
            if wanted is None or message["op"] == wanted:
                return message

    def close(self) -> None:
        """Stop the process and let go of the channel."""
        try:
            self.stop()
        finally:
            self.channel.close()


def exit_of(message: dict[str, Any]) -> Exit:
    """What a trusted parent said about the end of a process."""
    status = message["status"]
    signalled = os.WIFSIGNALED(status)
    return Exit(
        code=None if signalled else os.WEXITSTATUS(status),
        signal=os.WTERMSIG(status) if signalled else None,
        cpu_s=message["cpu"],
        rss_mb=message["rss"] / 1024,
        killed=message["killed"],
        over_memory=message["memory"],
        prepared=message["prepared"],
    )


@functools.cache
def _this() -> Interpreter:
    """This interpreter: itself, not a virtual environment's link to it, since that folder is not shown inside."""
    return _described(_describe())


def _describe() -> dict[str, Any]:
    """Where things are in the interpreter that runs this."""
    user = [site.getusersitepackages()] if site.ENABLE_USER_SITE else []
    paths = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages(), *user]
    return {"program": sys.executable, "prefix": sys.base_prefix, "library": os.__file__, "packages": paths}


def _described(found: dict[str, Any]) -> Interpreter:
    """Not its whole prefix, which may hold anything, but the folders with programs and libraries."""
    program = os.path.realpath(found["program"])
    prefix, library = Path(found["prefix"]).resolve(), Path(found["library"]).resolve().parent
    folders = (prefix / "bin", prefix / "lib", prefix / "lib64", Path(program).parent, library)
    packages = [os.path.realpath(path) for path in dict.fromkeys(found["packages"])]
    return Interpreter(program, tuple(map(str, folders)), tuple(path for path in packages if _is_folder(path)))


_OLDEST = (3, 11)
_QUESTION = """
import json, os, site, sys, sysconfig
paths = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()]
print(json.dumps({"program": sys.executable, "prefix": sys.base_prefix, "library": os.__file__, "packages": paths,
                  "version": sys.version_info[:2]}))
"""


@functools.cache
def interpreter_at(place: Path) -> Interpreter:
    """The Python at a path, which may be the folder of its environment. SandboxError where it cannot be used."""
    program = place / "bin" / "python" if place.is_dir() else place
    try:
        asked = subprocess.run([str(program), "-I", "-c", _QUESTION], capture_output=True, timeout=60, check=True)
        found = json.loads(asked.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise SandboxError(f"{place}: not a Python that can be started ({error}); give its path or folder") from None
    if tuple(found["version"]) < _OLDEST:
        version = ".".join(map(str, found["version"]))
        raise SandboxError(f"{place}: Python {version}; the sandbox needs {'.'.join(map(str, _OLDEST))} or newer")
    return _described(found)


def _environment(python: Interpreter) -> dict[str, str]:
    """All that a program finds in its environment; one thread for numpy, whose pools eat address space."""
    return {
        "PATH": f"{Path(python.program).parent}:/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",  # the order of sets of strings, and so a verdict, is the same in every run
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }


def _configuration(modules: tuple[str, ...], walls: Walls, sockets: bool, python: Interpreter) -> dict[str, Any]:
    folders = {"recode_rl": PACKAGE, "recode_rl.sandbox": PACKAGE / "sandbox", "recode_rl.grading": PACKAGE / "grading"}
    return {
        "walls": walls,
        "packages": {name: str(folders[name]) for name in _PACKAGES},
        "modules": [*_ROLES, *modules],
        "bind": _visible([*_SYSTEM, *python.folders, *python.packages]),
        "hide": [str(PACKAGE)],
        "path": list(python.packages),
        "filter": (seccomp.program(sockets=sockets) or b"").hex(),
    }


def _is_folder(path: str) -> bool:
    try:
        return Path(path).is_dir()
    except PermissionError:  # another user's home: nothing there is ours to show
        return False


def _visible(paths: list[str]) -> list[str]:
    """Without doubles and without paths below another one, outer ones first."""
    kept: list[str] = []
    for path in sorted(dict.fromkeys(paths), key=len):
        if not any(path.startswith(outer + "/") and not Path(outer).is_symlink() for outer in kept):
            kept.append(path)
    return kept


_level_lock = threading.Lock()


def level(*, bubblewrap: bool = False) -> SandboxLevel:
    """What this machine allows (with bubblewrap in place of our own walls), found by trying each once per process."""
    with _level_lock:
        return _probe("bwrap" if bubblewrap else "namespaces")[0]


def _can_confine() -> bool:
    """Whether namespaces work at all: walls with a hole are still better than none."""
    with _level_lock:
        return _probe("namespaces")[1]


@functools.cache
def _probe(walls: Walls) -> tuple[SandboxLevel, bool]:
    try:
        with Cell(walls=walls) as cell:
            leaks = tuple(dict.fromkeys([*cell.missing, *_leaks(cell)]))
    except SandboxError as error:
        return SandboxLevel("weak", (*_WALLS, str(error))), False
    return SandboxLevel("weak" if leaks else "full", leaks), True


_PROBE = """
import ctypes, os, resource, socket
def leaks(secret):
    found = []
    def attempt(name, action):
        try:
            action()
        except OSError:
            return
        found.append(name)
    attempt("own root directory", lambda: open(secret).close())
    attempt("read-only root directory", lambda: open("/probe", "w").close())
    attempt("no network", lambda: socket.create_connection(("127.0.0.1", 1), 0.2))
    if ctypes.CDLL(None).prctl(39, 0, 0, 0, 0) != 1:
        found.append("no new privileges")
    for name in ("RLIMIT_AS", "RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_NOFILE", "RLIMIT_NPROC"):
        if resource.getrlimit(getattr(resource, name))[1] == resource.RLIM_INFINITY:
            found.append(name)
    attempt("no rights", lambda: os.setuid(0))
    attempt("system call filter", lambda: socket.socket(socket.AF_INET).close())
    if os.path.exists("/proc/self"):
        found.append("own process list")
    if os.getpid() > 1000:
        found.append("pid namespace")
    try:
        interfaces = socket.if_nameindex()
    except OSError:
        interfaces = []
    if interfaces not in ([(1, "lo")], []):
        found.append("no network")
    return found
"""


def _leaks(cell: Cell) -> list[str]:
    """Run a program that tries what it should not be able to do; the names of the walls it got through."""
    from recode_rl.sandbox import codec, frames

    with tempfile.NamedTemporaryFile(prefix="recode-secret-") as secret, Path(os.devnull).open("r+b") as null:
        fd = null.fileno()
        child = cell.start("recode_rl.sandbox.roles:serve", Bounds(cpu_s=10), fd, fd, fd)
        child.channel.settimeout(PATIENCE_S)
        try:
            frames.send(child.channel, json.dumps({"source": _PROBE, "prelude": [], "entry_point": "leaks"}).encode())
            frames.receive(child.channel)
            call = {"op": "call", "target": None, "args": codec.encode([secret.name]), "kwargs": ["d"]}
            frames.send(child.channel, json.dumps(call).encode())
            answer = json.loads(frames.receive(child.channel))
            found = codec.decode(answer["ok"])
        except (frames.Closed, TimeoutError, KeyError, ValueError) as error:
            raise SandboxError(f"the self-test of the sandbox did not finish ({error!r})") from None
        finally:
            child.close()
    return [str(name) for name in found]


def now() -> float:
    """Wall seconds that never go back."""
    return time.monotonic()

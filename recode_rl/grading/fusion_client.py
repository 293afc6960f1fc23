"""Asks a SandboxFusion server to run one job, as often as it takes to get an answer that can be believed.

The server's own failures (no connection, an HTTP error, status SandboxError, an answer that is broken, cut short or
late) are tried again and end as a SandboxError; what comes back is about the program alone.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import email.utils
import functools
import http.client
import json
import re
import secrets
import socket
import threading
import time
import urllib.parse
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recode_rl.errors import ConfigError, SandboxError
from recode_rl.extras import need
from recode_rl.types import Limits, Status
from recode_rl.waiting import PASSING, Fault, wait_or_asked

_PACKAGE = Path(__file__).resolve().parents[1]
# What the driver needs on the other side, packages before what is in them.
_SENT = ("", "sandbox", "grading", "sandbox.codec", "sandbox.frames", "sandbox.roles", "grading.beside")
_MIB = 1 << 20
_SPARE_MB = 512  # for the process that watches the program
_MAX_ANSWER = 512 * _MIB
_MAX_REPORT = 512 * _MIB
_CONNECT_S = 15.0
_TAIL = 300
_KILLED = {-9, 137}


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a server is waited for.

    `attempts` in all, with waits in between that double from `first_wait_s` up to `longest_wait_s` (Retry-After is
    obeyed up to `longest_wait_s` as well). `start_s` is what starting Python and writing the report may take beyond the
    program's own limits, `queue_s` what a request may wait for its turn before it counts as lost.
    """

    attempts: int = 6
    first_wait_s: float = 0.5
    longest_wait_s: float = 30.0
    start_s: float = 10.0
    queue_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Ending:
    """How the process of the program ended: exit status or signal, CPU seconds, and whether it was by our driver."""

    code: int | None = None
    signal: int | None = None
    cpu_s: float = 0.0
    killed: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """What the driver saw.

    `first` is what the process said of its program (ready, or why not), `messages` what it said after that, `over` why
    it went no further: exit, closed, cpu, wall, total, output; `ended` is set instead where the driver was ended.
    """

    ended: tuple[Status, str] | None = None
    missing: tuple[str, ...] = ()
    first: str | None = None
    messages: tuple[Any, ...] = ()
    over: str | None = None
    exit: Ending = Ending()
    stdout: bytes = b""
    stderr: bytes = b""
    wall_s: float = 0.0


class Client:
    """Requests to one server; `run` may be called from many threads. ConfigError where the url is none."""

    def __init__(self, url: str, headers: Mapping[str, str], patience: Patience) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"sandbox url {url!r}: expected something like http://host:8080")
        self.url = url
        self.patience = patience
        self._host = parts.hostname
        try:
            self._port = parts.port
        except ValueError:
            raise ConfigError(f"sandbox url {url!r}: its port is no number from 0 to 65535") from None
        self._secure = parts.scheme == "https"
        self._path = parts.path.rstrip("/").removesuffix("/run_code") + "/run_code"
        self._headers = {"Content-Type": "application/json", "Accept": "application/json", "Connection": "close"}
        self._headers.update(headers)
        self._tenacity: Any = need("tenacity", "remote")
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()

    def run(self, job: dict[str, Any], limits: Limits, seconds: float) -> Report:
        """Run a job whose program may take some seconds. SandboxError where there is no answer to be had."""
        tenacity = self._tenacity
        attempts = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self.patience.attempts) | tenacity.stop_when_event_set(self._closed),
            wait=self._wait,
            sleep=tenacity.sleep_using_event(self._closed),
            retry=tenacity.retry_if_exception_type(Fault),
            reraise=True,
        )
        try:
            report: Report = attempts(self._attempt, job, limits, seconds)
            return report
        except Fault as fault:
            if self._closed.is_set():
                raise SandboxError(f"{self.url}: the grader was closed while it waited for an answer") from None
            tried = attempts.statistics["attempt_number"]
            raise SandboxError(
                f"{self.url}: {fault} (attempt {tried} of {self.patience.attempts}); see to the sandbox server, "
                "then run again"
            ) from fault

    def _wait(self, state: Any) -> float:
        """Seconds until the next attempt."""
        asked: float | None = state.outcome.exception().retry_after_s
        patience = self.patience
        return wait_or_asked(state.attempt_number, patience.first_wait_s, patience.longest_wait_s, asked)

    def _attempt(self, job: dict[str, Any], limits: Limits, seconds: float) -> Report:
        """One request, with marks of its own: nothing an earlier attempt may have left behind fits them."""
        token = secrets.token_hex(12)
        allowed_s = seconds + self.patience.start_s
        request = {
            "code": driver(),
            "language": "python",
            "stdin": json.dumps({**job, "token": token, "file": f"report-{token}"}),
            "compile_timeout": allowed_s,
            "run_timeout": allowed_s,
            "memory_limit_MB": limits.memory_mb + _SPARE_MB,
            "files": {},
            "fetch_files": [f"report-{token}"],
        }
        return read_answer(self._post(json.dumps(request).encode(), allowed_s + self.patience.queue_s), token)

    def _post(self, body: bytes, timeout_s: float) -> bytes:
        """The answer to one request, within `timeout_s` altogether."""
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=min(timeout_s, _CONNECT_S))
        late = threading.Event()
        try:
            connection.connect()
            connection.sock.settimeout(timeout_s)
            with self._watched(connection.sock, timeout_s, late):
                connection.request("POST", self._path, body, self._headers)
                with connection.getresponse() as response:
                    data = response.read(_MAX_ANSWER)
                    if response.status != http.HTTPStatus.OK:
                        raise self._refusal(response, data)
                    return data
        except (OSError, http.client.HTTPException) as error:
            if late.is_set() or isinstance(error, TimeoutError):
                raise Fault(f"no answer within {timeout_s:g} s") from None
            raise Fault(f"the connection failed ({type(error).__name__}: {error})") from None
        finally:
            connection.close()

    @contextlib.contextmanager
    def _watched(self, sock: socket.socket, timeout_s: float, late: threading.Event) -> Any:
        """Cut the connection when the time is over (a socket's own timeout starts anew with every byte) or on close."""

        def cut() -> None:
            late.set()
            shut(sock)

        timer = threading.Timer(timeout_s, cut)
        timer.daemon = True
        with self._lock:
            if self._closed.is_set():
                raise Fault("the grader was closed")
            self._sockets.add(sock)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            with self._lock:
                self._sockets.discard(sock)

    def _refusal(self, response: http.client.HTTPResponse, data: bytes) -> Exception:
        """What an HTTP status other than 200 means: try again, or mend the request."""
        said = " ".join(data[: 2 * _TAIL].decode("utf-8", "replace").split())[:_TAIL]
        what = f"answered {response.status} {response.reason} {said}".rstrip()
        if response.status in PASSING or response.status >= 500:
            return Fault(what, retry_after_s(response.getheader("Retry-After")))
        return SandboxError(f"{self.url}: {what}; check the url and the headers of the sandbox server")

    def close(self) -> None:
        """Give up all requests under way; later ones are refused."""
        with self._lock:
            self._closed.set()
            for sock in self._sockets:
                shut(sock)


def shut(sock: socket.socket) -> None:
    """End a connection from another thread; whoever reads from it is woken."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def retry_after_s(header: str | None) -> float | None:
    """Seconds from a Retry-After header, which has a number of them or a date."""
    if header is None:
        return None
    if header.strip().isdigit():
        return float(header)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return None


@functools.cache
def driver() -> str:
    """The text that is run on the server: the driver and the modules it needs; the same for every program."""
    names = {("recode_rl." + name).rstrip("."): name.replace(".", "/") for name in _SENT}
    files = {name: _PACKAGE / f"{path}.py" for name, path in names.items()}
    sources = {name: path.read_text(encoding="utf-8") if path.is_file() else "" for name, path in files.items()}
    source = Path(__file__).with_name("fusion_driver.py").read_text(encoding="utf-8")
    return f"{source}\n\nmain({sources!a})\n"


def read_answer(data: bytes, token: str) -> Report:
    """What an answer of the server says about the program. Fault where it says nothing about it."""
    try:
        answer = json.loads(data)
        status, run = answer["status"], answer.get("run_result")
        if status == "SandboxError" or (isinstance(run, dict) and run.get("status") == "Error"):
            said = answer.get("message") or (run or {}).get("stderr") or "(no message)"
            raise Fault(f"the sandbox failed: {str(said)[-_TAIL:]}")
        ended, code = run["status"], run.get("return_code")
        stdout, stderr = run.get("stdout") or "", run.get("stderr") or ""
        text = _find(stdout, answer.get("files") or {}, token)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        start = data[:80].decode("utf-8", "replace")
        raise Fault(f"a broken answer ({type(error).__name__}): {start!r}") from None
    if text is not None:
        return _report(text)
    return Report(ended=_without_report(stdout, str(stderr), ended, code, token))


def _find(stdout: str, files: Mapping[str, str], token: str) -> str | None:
    """The report as it was sent, None where there is no whole one."""
    found = re.search(f"recode {token} (?:text ([A-Za-z0-9+/=]*)|file) [.]\n", stdout)
    if found is None:
        return None
    if found[1] is not None:
        return found[1]
    content = files.get(f"report-{token}")
    if content is None:
        raise Fault("the server did not hand over the file with the report")
    return base64.b64decode(content).decode("ascii")


def _without_report(stdout: str, stderr: str, ended: str, code: int | None, token: str) -> tuple[Status, str]:
    """What it means that the driver did not get as far as its report. Fault where that may be the server's doing."""
    start = f"recode {token} start\n"
    if start not in stdout:
        last = stderr.strip().rpartition("\n")[2][-_TAIL:]
        raise Fault(f"Python did not start there (status {ended}, return code {code}, {last or 'no message'})")
    if ended == "TimeLimitExceeded":
        return "timeout", "was not done when the sandbox server ended it"
    rest = stdout.partition(start)[2]
    if rest and not rest.startswith(f"recode {token} "[: len(rest)]):
        return "runtime_error", "the program wrote to the channel of the verdict"
    if code in _KILLED:
        return "memory_limit", "was killed"
    if code:
        return "runtime_error", f"the process that watches the program ended with {code}"
    raise Fault("an answer that was cut short")


def _report(text: str) -> Report:
    """The report from its compressed text."""
    try:
        unpacker = zlib.decompressobj()
        data = json.loads(unpacker.decompress(base64.b64decode(text, validate=True), _MAX_REPORT))
        if not unpacker.eof:
            raise Fault("a report that was cut short or is too long")
        if "broken" in data:
            raise Fault(f"the driver failed there: {data['broken'][:_TAIL]}")
        ending = data["exit"]
        return Report(
            missing=tuple(str(name) for name in data["missing"]),
            first=None if data["first"] is None else str(data["first"]),
            messages=tuple(data["messages"]),
            over=None if data["over"] is None else str(data["over"]),
            exit=Ending(ending["code"], ending["signal"], float(ending["cpu_s"]), bool(ending["killed"])),
            stdout=data["stdout"].encode("latin-1"),
            stderr=data["stderr"].encode("latin-1"),
            wall_s=float(data["wall_s"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, zlib.error, binascii.Error) as error:
        raise Fault(f"a broken report ({type(error).__name__})") from None

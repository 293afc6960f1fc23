"""A scripted chat endpoint in a thread: it answers by a function of the request, and fails as it is told to."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FAULTS = (
    "429",
    "429 with a date",
    "500",
    "503",
    "garbage",
    "no json",
    "other json",
    "no choices",
    "content that is no text",
    "error in a 200",
    "cut json",
    "cut body",
    "dropped",
    "empty",
    "hang",
    "drip",
)
_SENTENCE = (
    "the input holds numbers so each value is read once and kept in order then a sum is built from left to right and "
    "compared with what was seen before because equal values share one place while an empty list gives zero at once"
)
WORDS = _SENTENCE.split()


def prose(key: str, count: int = 60) -> str:
    """Sentences that depend on the key alone."""
    digest = hashlib.sha256(key.encode()).digest() * (count // 16 + 1)
    chosen = [WORDS[digest[i] * 7 % len(WORDS)] + (str(digest[i + 1] % 10) if i % 9 == 0 else "") for i in range(count)]
    return " ".join(" ".join(chosen[i : i + 12]).capitalize() + "." for i in range(0, count, 12))


def answer(request: dict[str, Any]) -> str:
    """What the model of this server writes: one text for a prompt and a seed."""
    asked = request["messages"][-1]["content"]
    text = prose(f"{request['model']}/{request.get('seed')}/{asked}")
    if "### Changes" not in asked:
        return text
    return f"### Reasoning\n{text}\n\n### Changes\nOne step was put in another place, with seed {request.get('seed')}."


class ChatServer(ThreadingHTTPServer):
    """Takes the next fault from `faults`, if there is one, in place of an answer by `model`."""

    daemon_threads = True

    def __init__(self, model: Callable[[dict[str, Any]], Any] = answer) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.model = model
        self.faults: deque[str] = deque()
        self.always: str | None = None
        self.status: tuple[int, bytes] | None = None  # answer with this instead
        self.location: str | None = None  # where that answer sends to
        self.retry_after = "0"
        self.delay_s = 0.0
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.paths: list[str] = []
        self.answered: Counter[str] = Counter()  # how often each request got a whole answer
        self.at_a_time = self.most_at_a_time = 0
        self.stop = threading.Event()
        self.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"

    def next_fault(self) -> str | None:
        if self.always is not None:
            return self.always
        with contextlib.suppress(IndexError):
            return self.faults.popleft()
        return None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is part of the tests."""


class Handler(BaseHTTPRequestHandler):
    """One request to the server."""

    server: ChatServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # a body that waits for its headers to be acknowledged costs 40 ms

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on the screen."""

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            server.requests.append(request)
            server.headers.append(dict(self.headers))
            server.times.append(time.monotonic())
            server.paths.append(self.path)
            server.at_a_time += 1
            server.most_at_a_time = max(server.most_at_a_time, server.at_a_time)
            fault = server.next_fault()
        try:
            if server.delay_s:
                time.sleep(server.delay_s)
            self.fail(fault, request) if fault else self.succeed(request)
        finally:
            with server.lock:
                server.at_a_time -= 1

    def succeed(self, request: dict[str, Any]) -> None:
        if self.server.status is not None:
            headers = {} if self.server.location is None else {"Location": self.server.location}
            self.send(*self.server.status, **headers)
            return
        self.send(200, self.whole(request))
        with self.server.lock:
            self.server.answered[json.dumps([request["messages"], request.get("seed")])] += 1

    def whole(self, request: dict[str, Any]) -> bytes:
        made = self.server.model(request)
        choice = made if isinstance(made, dict) else {"message": {"content": made}, "finish_reason": "stop"}
        content = choice["message"]["content"] or ""
        used = {"prompt_tokens": len(request["messages"][-1]["content"]) // 4, "completion_tokens": len(content) // 4}
        return json.dumps({"id": "x", "object": "chat.completion", "choices": [choice], "usage": used}).encode()

    def send(self, status: int, body: bytes, announced: int | None = None, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body) if announced is None else announced))
        self.end_headers()
        self.wfile.write(body)

    def fail(self, fault: str, request: dict[str, Any]) -> None:
        whole = self.whole(request)
        if fault == "429":
            self.send(429, b'{"error": {"message": "slow down"}}', Retry_After=self.server.retry_after)
        elif fault == "429 with a date":
            self.send(429, b"", Retry_After="Wed, 21 Oct 2015 07:28:00 GMT")
        elif fault == "500":
            self.send(500, b"<h1>Internal Server Error</h1>")
        elif fault == "503":
            self.send(503, b"", Retry_After=self.server.retry_after)
        elif fault == "garbage":
            self.send(200, b"\x00\xff\xfe" * 50)
        elif fault == "no json":
            self.send(200, b"<html>Bad gateway</html>")
        elif fault == "other json":
            self.send(200, b'["choices"]')
        elif fault == "no choices":
            self.send(200, b'{"object": "chat.completion", "choices": []}')
        elif fault == "content that is no text":
            self.send(200, b'{"choices": [{"message": {"content": [1, 2]}, "finish_reason": "stop"}]}')
        elif fault == "error in a 200":
            self.send(200, b'{"error": {"message": "upstream failed", "code": 502}}')
        elif fault == "cut json":
            self.send(200, whole[: len(whole) // 2])
        elif fault == "cut body":
            self.send(200, whole[: len(whole) // 2], announced=len(whole))
            self.close_connection = True
        elif fault == "empty":
            self.send(200, b"")
        elif fault == "dropped":
            self.close_connection = True
        elif fault == "hang":
            self.server.stop.wait(30)
            self.close_connection = True
        elif fault == "drip":  # a byte now and then, so that no timeout of the connection ever comes
            self.close_connection = True
            with contextlib.suppress(OSError):
                for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"a" * 300:
                    self.wfile.write(bytes([byte]))
                    if self.server.stop.wait(0.1):
                        return
        else:
            raise AssertionError(fault)


@contextlib.contextmanager
def running(model: Callable[[dict[str, Any]], Any] = answer) -> Iterator[ChatServer]:
    """A server that is up within the block."""
    with ChatServer(model) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.stop.set()
            server.shutdown()
            thread.join()

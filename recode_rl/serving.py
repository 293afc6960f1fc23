"""What servers of this package share: a socket before anything is loaded for it, a quiet end, a plain HTTP server."""

from __future__ import annotations

import contextlib
import ipaddress
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any

from recode_rl.errors import ConfigError
from recode_rl.extras import need

_GRACE_S = 30
_BACKLOG = 4096


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to an address; port 0 takes any that is free. ConfigError where it cannot be."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends each part at once only where the protocol is named; else a body waits 40 ms behind its headers.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)  # who comes before the server runs is kept waiting, not turned away
    except (OSError, OverflowError) as error:
        listener.close()
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ConfigError(f"{host}:{port}: {reason}; choose another --host or --port") from None
    return listener


def url_of(listener: socket.socket) -> str:
    """The address that a socket listens on, as a browser takes it."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether an address or a name is this machine's alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def read_body(request: Any, most: int) -> bytes | None:
    """The body of a request; None where it has more than `most` bytes, of which the rest is not read."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            return None
        parts.append(part)
    return b"".join(parts)


def run(app: Any, listener: socket.socket) -> None:
    """Answer requests on a socket that is bound, until a signal or (in another thread) the server is told to stop."""
    server = make_server(app)
    with _quiet_end():
        server.run(sockets=[listener])


def make_server(app: Any) -> Any:
    """The HTTP server around an application; `should_exit` ends it."""
    uvicorn: Any = need("uvicorn", "serve")
    return uvicorn.Server(
        uvicorn.Config(
            app,
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="on",
            log_level="warning",
            access_log=False,
            backlog=_BACKLOG,
            timeout_graceful_shutdown=_GRACE_S,
        )
    )


@contextlib.contextmanager
def _quiet_end() -> Iterator[None]:
    """uvicorn sends itself the signal that ended it once more; here that is the way to end, and no failure."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

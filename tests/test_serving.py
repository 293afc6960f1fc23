"""What the servers of the package share: sockets, addresses."""

from __future__ import annotations

import socket

import pytest

from recode_rl.errors import ConfigError
from recode_rl.serving import is_loopback, listen, url_of


def test_a_socket_is_bound_and_its_address_said() -> None:
    with listen("127.0.0.1", 0) as listener:
        host, port = listener.getsockname()
        assert url_of(listener) == f"http://{host}:{port}"
        with pytest.raises(ConfigError, match=rf"127.0.0.1:{port}: .*choose another --host or --port"):
            listen("127.0.0.1", port)


def test_what_is_accepted_names_its_protocol_so_that_nothing_waits_for_acknowledgements() -> None:
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.proto == socket.IPPROTO_TCP  # what asyncio looks at before it sets TCP_NODELAY


def test_loopback_is_told_from_the_rest() -> None:
    assert all(is_loopback(host) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost"))
    assert not any(is_loopback(host) for host in ("0.0.0.0", "::", "192.168.1.2", "example.com", ""))

"""The client of a reward model's server: the same scores whatever goes wrong on the way, and an end to its patience."""

from __future__ import annotations

import dataclasses
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from recode_rl.errors import ConfigError, InfrastructureError, UnreachableError
from recode_rl.reward import find_rule, price
from recode_rl.scorer import Patience, RemoteScorer, open_scorer
from recode_rl.scorer.remote import fit
from recode_rl.types import Completion, Problem, Tests, Verdict

pytest.importorskip("tenacity", reason="needs the extra [remote]")

ITEMS = [("Add two numbers.", "The sum is a + b."), ("Add two numbers.", "Take b from a."), ("Square n.", "n times n")]
QUICK = Patience(attempts=4, first_wait_s=0.01, longest_wait_s=0.05, answer_s=2.0)
Fault = Callable[["Handler"], None]


def score_of(reasoning: str) -> float:
    return (len(reasoning) % 97) / 97


class Handler(BaseHTTPRequestHandler):
    """Answers as serve-rm does, after the faults that the server was told to make."""

    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""

    def do_GET(self) -> None:
        self.reply(200, self.server.health)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body["items"])
        if self.server.faults:
            self.server.faults.pop(0)(self)
        else:
            self.reply(200, {"scores": [score_of(item["reasoning"]) for item in body["items"]], "cut": 1})

    def reply(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


class Server(ThreadingHTTPServer):
    """Keeps what it was asked, and the faults still to be made."""

    daemon_threads = True

    def __init__(self, health: dict[str, Any] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.faults: list[Fault] = []
        self.asked: list[list[dict[str, str]]] = []
        self.health = health or {"max_length": 1024, "max_items": 256, "max_characters": 100_000}
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_: object) -> None:
        """A client that has gone is what some tests are about."""


@contextmanager
def serving(health: dict[str, Any] | None = None) -> Iterator[Server]:
    server = Server(health)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


def drop(handler: Handler) -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)


def hang(handler: Handler) -> None:
    time.sleep(1.3)


def cut_short(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "500")
    handler.end_headers()
    handler.wfile.write(b'{"scores": [0.1, 0.')
    handler.close_connection = True


def reply(status: int, body: Any, **headers: str) -> Fault:
    return lambda handler: handler.reply(status, body, {name.replace("_", "-"): text for name, text in headers.items()})


FAULTS: dict[str, Fault] = {
    "too many requests": reply(429, {"error": "slow down"}, Retry_After="0"),
    "full queue": reply(503, {"error": "the queue is full"}, Retry_After="1"),
    "server error": reply(500, b"<html>oops</html>"),
    "bad gateway": reply(502, b""),
    "dropped connection": drop,
    "hang": hang,
    "garbage": reply(200, b"\x00\xff not json"),
    "another object": reply(200, {"result": []}),
    "JSON cut short": cut_short,
    "a score too few": reply(200, {"scores": [0.5, 0.5], "cut": 0}),
    "a score that is no number": reply(200, b'{"scores": [0.5, NaN, 0.5], "cut": 0}'),
    "a score beyond 1": reply(200, {"scores": [0.5, 1.5, 0.5], "cut": 0}),
    "scores that are null": reply(200, {"scores": [0.5, None, 0.5], "cut": 0}),
}


def test_scores_come_back_in_the_order_of_the_items(server: Server) -> None:
    scorer = RemoteScorer(server.url, patience=QUICK)
    assert scorer(ITEMS) == [score_of(reasoning) for _, reasoning in ITEMS]
    assert scorer.cut == 1
    assert scorer([]) == []
    assert len(server.asked) == 1


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_that_passes_changes_nothing(name: str, server: Server) -> None:
    scorer = RemoteScorer(server.url, patience=Patience(4, 0.01, 0.05, 1.0))
    server.faults = [FAULTS[name], FAULTS[name]]
    assert scorer(ITEMS) == [score_of(reasoning) for _, reasoning in ITEMS]
    assert len(server.asked) == 3
    assert scorer.cut == 1


def test_a_fault_that_stays_is_an_infrastructure_error_after_the_last_attempt(server: Server) -> None:
    scorer = RemoteScorer(server.url, patience=QUICK)
    server.faults = [FAULTS["server error"]] * 10
    with pytest.raises(InfrastructureError, match=r"answered 500 .* \(attempt 4 of 4\); see to the reward model's"):
        scorer(ITEMS)
    assert len(server.asked) == 4


def test_with_a_limit_of_time_attempts_are_not_counted(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr("recode_rl.scorer.remote.say", told.append)
    patient = Patience(attempts=1, first_wait_s=0.01, longest_wait_s=0.05, answer_s=2.0, total_s=30.0)
    scorer = RemoteScorer(server.url, patience=patient)
    server.faults = [FAULTS["server error"]] * 10
    assert scorer(ITEMS) == [score_of(reasoning) for _, reasoning in ITEMS]
    assert len(server.asked) == 11
    assert len(told) == 1
    assert told[0].startswith(f"{server.url}: answered 500") and told[0].endswith("waiting for it, at most 30 s")
    short = RemoteScorer(server.url, patience=dataclasses.replace(patient, total_s=0.2))
    server.faults = [FAULTS["server error"]] * 100
    with pytest.raises(UnreachableError, match=r"answered 500 .* \(waited for 0.2 s\); see to the reward model's"):
        short(ITEMS)
    assert len(server.faults) > 0


def test_a_refusal_is_not_tried_again(server: Server) -> None:
    scorer = RemoteScorer(server.url, patience=QUICK)
    server.faults = [reply(422, {"error": "items[0].problem: empty"})]
    with pytest.raises(InfrastructureError, match=r"answered 422 .*items\[0\]\.problem: empty"):
        scorer(ITEMS)
    assert len(server.asked) == 1


def test_retry_after_is_waited_for_within_the_longest_wait(server: Server) -> None:
    scorer = RemoteScorer(server.url, patience=Patience(3, 0.01, 0.4, 2.0))
    server.faults = [reply(503, {"error": "full"}, Retry_After="3600")]
    start = time.monotonic()
    scorer(ITEMS)
    assert time.monotonic() - start >= 0.4


def test_a_server_that_is_not_there_is_named_when_the_scorer_is_made() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and nobody listens
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(InfrastructureError, match=rf"{url}: the connection failed .*attempt 4 of 4"):
            RemoteScorer(url, patience=QUICK)


def test_a_server_of_another_kind_is_said_to_be_one() -> None:
    with serving({"hello": "world"}) as server:  # noqa: SIM117
        with pytest.raises(InfrastructureError, match="GET /health is not answered as serve-rm does"):
            RemoteScorer(server.url, patience=QUICK)


@pytest.mark.parametrize("url", ["http://", "http://host:port", "http://[::1", "https://:80", "http://host:0"])
def test_an_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="expected something like http://"):
        open_scorer(url)


def test_the_address_of_the_path_is_taken_as_well(server: Server) -> None:
    assert RemoteScorer(f"{server.url}/score", patience=QUICK)(ITEMS[:1]) == [score_of(ITEMS[0][1])]
    assert RemoteScorer(f"{server.url}/", patience=QUICK)(ITEMS[:1]) == [score_of(ITEMS[0][1])]


def test_a_blank_reasoning_scores_zero_and_the_server_is_not_asked(server: Server) -> None:
    scorer = RemoteScorer(server.url, patience=QUICK)
    assert scorer([("Square n.", ""), ("Square n.", " \n")]) == [0.0, 0.0]
    assert server.asked == []
    assert scorer([("Square n.", ""), ITEMS[0]]) == [0.0, score_of(ITEMS[0][1])]


def test_many_items_go_in_requests_of_the_size_that_the_server_takes() -> None:
    with serving({"max_length": 64, "max_items": 3, "max_characters": 1000}) as server:
        items = [("p", "x" * n) for n in range(1, 11)]
        assert RemoteScorer(server.url, patience=QUICK)(items) == [score_of(reasoning) for _, reasoning in items]
        assert [len(asked) for asked in server.asked] == [3, 3, 3, 1]


def test_an_item_that_the_server_would_refuse_for_its_size_loses_its_middle() -> None:
    with serving({"max_length": 64, "max_items": 3, "max_characters": 100}) as server:
        scorer = RemoteScorer(server.url, patience=QUICK)
        server.faults = [reply(200, {"scores": [0.25], "cut": 0})]
        assert scorer([("problem", "begin" + "x" * 500 + "end")]) == [0.25]
        (sent,) = server.asked[0]
        assert sent["problem"] == "problem"
        assert len(sent["reasoning"]) == 93
        assert sent["reasoning"].startswith("begin")
        assert sent["reasoning"].endswith("end")
        assert scorer.cut == 1


@pytest.mark.parametrize("problem", [0, 10, 60, 99, 500])
@pytest.mark.parametrize("reasoning", [1, 10, 60, 99, 500])
def test_what_is_sent_fits_and_what_fits_is_sent_whole(problem: int, reasoning: int) -> None:
    before = ("p" * problem, "r" * reasoning)
    after = fit(*before, 100)
    assert len(after[0]) + len(after[1]) <= 100
    assert after[1]
    assert (after == before) == (problem + reasoning <= 100)


def test_a_server_that_cuts_earlier_than_is_asked_for_is_refused(server: Server) -> None:
    scorer = open_scorer(server.url, 1024)
    assert isinstance(scorer, RemoteScorer)
    with pytest.raises(ConfigError, match=r"max_length 2048: .* cuts at 1024 tokens; start serve-rm with --max-length"):
        open_scorer(server.url, 2048)


def test_a_sample_whose_score_cannot_be_had_is_absent_from_the_reward(server: Server) -> None:
    scorer = RemoteScorer(server.url, patience=QUICK)
    server.faults = [FAULTS["dropped connection"]] * 10
    problem = Problem("p", "Square n.", Tests("stdio"))
    completion = Completion("text", "n times n", "print(1)", "print(1)", True)
    verdict = Verdict("passed", 1, 1, "stdio")
    (found,) = price(find_rule("consistency_gated"), scorer, [problem], [completion], [verdict])
    assert isinstance(found, InfrastructureError)
    assert not isinstance(found, ConfigError)

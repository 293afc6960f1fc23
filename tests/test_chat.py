"""The chat client against a real server that fails in every way: the same replies, none lost, none made twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openai", reason="needs the extra [remote]")
pytest.importorskip("tenacity", reason="needs the extra [remote]")

from chat_server import FAULTS, ChatServer, answer, running

from recode_rl.chat import (
    Budget,
    BudgetSpent,
    ChatClient,
    ChatSettings,
    EndpointError,
    Fault,
    Patience,
    Reply,
    at_most_tokens,
    endpoint_url,
    read_reply,
    retry_after_s,
)
from recode_rl.errors import ConfigError, InfrastructureError, Interrupted

QUICK = Patience(first_wait_s=0.01, longest_wait_s=0.05, longest_asked_s=5.0)
KEY = "sk-secret-4711"


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with running() as server:
        yield server


def settings(server: ChatServer, **more: Any) -> ChatSettings:
    return ChatSettings(**{"url": server.url, "model": "m", "timeout_s": 1.0, "key_variable": "NO_SUCH_KEY", **more})


def ask_for(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def expected(text: str, seed: int = 0) -> str:
    return answer({"model": "m", "messages": ask_for(text), "seed": seed})


# -- one request -------------------------------------------------------------------------------------------------------


def test_a_question_is_asked_with_the_settings_and_its_reply_is_read(server: ChatServer) -> None:
    with ChatClient(settings(server, temperature=0.7, top_p=0.9, max_tokens=99, seed=3)) as client:
        reply = client.ask(ask_for("Why?"))
        client.ask(ask_for("Why?"), seed=4, max_tokens=5)
    assert reply == Reply(expected("Why?", 3), "stop", 1, len(expected("Why?", 3)) // 4)
    first, second = server.requests
    assert first == {
        "model": "m",
        "messages": ask_for("Why?"),
        "temperature": 0.7,
        "top_p": 0.9,
        "max_tokens": 99,
        "seed": 3,
    }
    assert (second["seed"], second["max_tokens"]) == (4, 5)
    assert server.paths == ["/v1/chat/completions"] * 2


def test_an_answer_that_is_begun_is_to_be_continued(server: ChatServer) -> None:
    with ChatClient(settings(server)) as client:
        client.ask([*ask_for("Why?"), {"role": "assistant", "content": "Because"}])
    (asked,) = server.requests
    assert asked["messages"][-1] == {"role": "assistant", "content": "Because"}
    assert (asked["continue_final_message"], asked["add_generation_prompt"]) == (True, False)


def test_log_probabilities_are_asked_for_and_read() -> None:
    tops = [{"token": " 0.7", "logprob": -0.1}, {"token": " 0.2", "logprob": -9999.0}]
    choice = {
        "message": {"content": " 0.7"},
        "finish_reason": "stop",
        "logprobs": {"content": [{"token": " 0.7", "logprob": -0.1, "top_logprobs": tops}]},
    }
    with running(lambda _: choice) as server, ChatClient(settings(server, top_logprobs=2)) as client:
        reply = client.ask(ask_for("Score?"))
        assert (server.requests[0]["logprobs"], server.requests[0]["top_logprobs"]) == (True, 2)
    assert reply.top_logprobs == [[(" 0.7", -0.1), (" 0.2", -9999.0)]]


def test_what_a_reply_lacks_is_filled_in_honestly() -> None:
    body = {"choices": [{"message": {"role": "assistant", "content": None}, "finish_reason": None}]}
    assert read_reply(json.dumps(body).encode(), 41) == Reply("", "unknown", 11, 0)
    body = {"choices": [{"message": {"content": "12345"}}], "usage": {"prompt_tokens": "many"}}
    assert read_reply(json.dumps(body).encode(), 4) == Reply("12345", "unknown", 1, 2)


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b"{}", b'{"choices": null}', b'{"choices": [{"message": "x"}]}', b"[" * 100_000, b"\xff"],
)
def test_a_body_that_is_no_reply_is_a_fault(body: bytes) -> None:
    with pytest.raises(Fault, match="a broken answer"):
        read_reply(body, 0)


# -- faults ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_passes_leaves_no_trace(server: ChatServer, fault: str) -> None:
    server.faults.append(fault)
    with ChatClient(settings(server, timeout_s=1.0), patience=QUICK) as client:
        assert client.ask(ask_for(fault)).text == expected(fault)
    assert len(server.requests) == 2
    assert server.requests[0] == server.requests[1]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_stays_is_an_error_after_so_many_attempts(server: ChatServer, fault: str) -> None:
    server.always = fault
    with ChatClient(settings(server, timeout_s=1.0, attempts=3), patience=QUICK) as client:
        with pytest.raises(EndpointError, match=r"\(attempt 3 of 3\)") as caught:
            client.ask(ask_for("x"))
        assert str(caught.value).startswith(server.url)
        assert isinstance(caught.value, InfrastructureError)
        assert client.usage.requests == len(server.requests) == 3


def test_a_storm_of_faults_changes_nothing(server: ChatServer) -> None:
    """Every fault several times over while many are asked: each gets its reply, and no whole answer is thrown away."""
    jobs = [(n, ask_for(f"question {n}")) for n in range(40)]
    server.faults.extend(fault for fault in FAULTS * 2 if fault not in ("hang", "drip"))
    server.faults.extend(["hang", "drip"])
    with ChatClient(settings(server, timeout_s=1.0, concurrency=4, attempts=20), patience=QUICK) as client:
        found = list(client.ask_all(jobs))
    replies = {key: reply.text for key, reply in found if isinstance(reply, Reply)}
    assert len(found) == 40
    assert replies == {n: expected(f"question {n}") for n in range(40)}
    assert set(server.answered.values()) == {1}
    assert len(server.answered) == 40
    assert not server.faults


def test_an_endpoint_that_is_not_there_is_named() -> None:
    told = r"http://127.0.0.1:9/v1: the connection failed \(.*attempt 2 of 2"
    client = ChatClient(ChatSettings("http://127.0.0.1:9", "m", attempts=2), patience=QUICK)
    with client, pytest.raises(EndpointError, match=told):
        client.ask(ask_for("x"))


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 301, 307])
def test_what_is_our_fault_is_not_tried_again(server: ChatServer, status: int) -> None:
    server.status = (status, b'{"error": {"message": "no such model"}}')
    told = f"answered {status} .*no such model.*check url, model and the key"
    with ChatClient(settings(server)) as client, pytest.raises(EndpointError, match=told) as caught:
        client.ask(ask_for("x"))
    assert len(server.requests) == 1
    assert not caught.value.overlong


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, b'{"error": {"message": "x", "code": "context_length_exceeded"}}'),
        (400, b'{"error": {"code": 400, "message": "x", "type": "exceed_context_size_error"}}'),
        (400, b'{"object": "error", "message": "This model\'s maximum context length is 2048 tokens."}'),
        (413, b'{"error": {"message": "The prompt is too long"}}'),
    ],
)
def test_messages_that_do_not_fit_are_told_apart(server: ChatServer, status: int, body: bytes) -> None:
    server.status = (status, body)
    with ChatClient(settings(server), patience=QUICK) as client, pytest.raises(EndpointError) as caught:
        client.ask(ask_for("x"))
    assert caught.value.overlong
    assert len(server.requests) == 1


def test_an_account_without_credit_is_not_asked_again(server: ChatServer) -> None:
    server.status = (429, b'{"error": {"message": "You have no credit.", "code": "insufficient_quota"}}')
    with ChatClient(settings(server), patience=QUICK) as client, pytest.raises(EndpointError, match="no credit"):
        client.ask(ask_for("x"))
    assert len(server.requests) == 1


# -- patience ----------------------------------------------------------------------------------------------------------


def test_retry_after_is_respected_by_every_request_under_way(server: ChatServer) -> None:
    server.retry_after = "1"
    server.faults.append("429")
    with ChatClient(settings(server, timeout_s=5.0, concurrency=1), patience=QUICK) as client:
        list(client.ask_all([(0, ask_for("a")), (1, ask_for("b"))]))
    assert server.times[1] - server.times[0] >= 0.99
    server.times.clear()
    server.faults.append("503")
    with ChatClient(settings(server, timeout_s=5.0), patience=QUICK) as client:
        first = client.submit(ask_for("a"))
        while not server.times:
            time.sleep(0.01)
        time.sleep(0.3)  # the answer has come by then
        client.ask(ask_for("b"))
        first.result()
    assert min(server.times[1:]) - server.times[0] >= 0.99


def test_an_endpoint_that_asks_for_too_long_a_wait_is_left(server: ChatServer) -> None:
    server.retry_after = "3600"
    server.always = "429"
    told = "asks to come back in 3600 s: run again then"
    with ChatClient(settings(server), patience=QUICK) as client, pytest.raises(EndpointError, match=told):
        client.ask(ask_for("x"))
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after": "9", "retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "9" * 400}, None),
        ({}, None),
    ],
)
def test_retry_after_is_read_in_all_its_forms(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers) == seconds


def test_the_library_does_not_try_again_beside_us(server: ChatServer) -> None:
    """Its own retries would double ours, and would not count against the budget."""
    server.always = "500"
    with ChatClient(settings(server, attempts=1)) as client, pytest.raises(EndpointError):
        client.ask(ask_for("x"))
    assert len(server.requests) == 1


# -- many at a time ----------------------------------------------------------------------------------------------------


def test_no_more_than_so_many_are_asked_at_a_time(server: ChatServer) -> None:
    server.delay_s = 0.02
    read: list[int] = []

    def jobs() -> Iterator[tuple[int, list[dict[str, str]]]]:
        for n in range(20):
            read.append(n)
            yield n, ask_for(str(n))

    done = 0
    with ChatClient(settings(server, concurrency=3)) as client:
        for _ in client.ask_all(jobs()):
            done += 1
            assert len(read) <= done + 3  # jobs are read as their turn comes
    assert done == 20
    assert server.most_at_a_time == 3


def test_threads_may_share_a_client(server: ChatServer) -> None:
    server.delay_s = 0.01
    with ChatClient(settings(server, concurrency=2)) as client, ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(lambda n: client.ask(ask_for(str(n))).text, range(24)))
    assert texts == [expected(str(n)) for n in range(24)]
    assert server.most_at_a_time == 2


def test_one_that_fails_does_not_stop_the_others() -> None:
    def model(request: dict[str, Any]) -> Any:
        return [] if request["messages"][0]["content"] == "bad" else "good"

    with running(model) as server, ChatClient(settings(server, attempts=2), patience=QUICK) as client:
        found = dict(client.ask_all([("a", ask_for("a")), ("b", ask_for("bad")), ("c", ask_for("c"))]))
    assert isinstance(found["b"], EndpointError)
    assert all(isinstance(found[key], Reply) for key in "ac")


def test_closing_gives_up_what_is_under_way(server: ChatServer) -> None:
    server.always = "hang"
    client = ChatClient(settings(server, timeout_s=60.0))
    waiting = client.submit(ask_for("x"))
    told: list[BaseException] = []

    def wait() -> None:
        try:
            client.ask(ask_for("y"))
        except EndpointError as error:
            told.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    while len(server.requests) < 2:
        time.sleep(0.01)
    client.close()
    thread.join()
    client.close()
    assert waiting.cancelled()
    assert "closed" in str(told[0])
    with pytest.raises(EndpointError, match="closed"):
        client.ask(ask_for("z"))


# -- budgets -----------------------------------------------------------------------------------------------------------


def test_a_budget_of_requests_is_never_passed_and_its_replies_are_given(server: ChatServer) -> None:
    found = []
    with ChatClient(settings(server, max_requests=7, concurrency=3)) as client:
        with pytest.raises(BudgetSpent, match=r"budget of 7 requests \(max_requests\) is used up") as caught:
            for key, reply in client.ask_all((n, ask_for(str(n))) for n in range(100)):
                found.append((key, reply))
        with pytest.raises(BudgetSpent):
            client.ask(ask_for("x"))
    assert isinstance(caught.value, Interrupted)
    assert len(server.requests) == len(found) == 7
    assert all(isinstance(reply, Reply) for _, reply in found)


def test_requests_that_failed_count_as_well(server: ChatServer) -> None:
    server.always = "500"
    with ChatClient(settings(server, max_requests=2), patience=QUICK) as client, pytest.raises(BudgetSpent):
        client.ask(ask_for("x"))
    assert len(server.requests) == 2


def test_a_budget_of_tokens_is_never_passed(server: ChatServer) -> None:
    with ChatClient(settings(server, max_total_tokens=2000, max_tokens=150, concurrency=4)) as client:
        with pytest.raises(BudgetSpent, match=r"budget of 2000 tokens \(max_total_tokens\)"):
            for _ in client.ask_all((n, ask_for(str(n))) for n in range(1000)):
                pass
        used = client.usage
    assert 2000 - 200 < used.prompt_tokens + used.completion_tokens <= 2000


def test_clients_can_share_a_budget(server: ChatServer) -> None:
    budget = Budget(max_requests=3)
    with ChatClient(settings(server), budget=budget) as one, ChatClient(settings(server), budget=budget) as two:
        for client in (one, two, one):
            client.ask(ask_for("x"))
        with pytest.raises(BudgetSpent):
            two.ask(ask_for("x"))
    assert len(server.requests) == budget.used.requests == 3


def test_tokens_of_messages_are_not_underrated() -> None:
    assert at_most_tokens(ask_for("word " * 100)) >= 100
    assert at_most_tokens(ask_for("数" * 100)) >= 100


# -- keys, and where requests go ---------------------------------------------------------------------------------------


def test_the_key_comes_from_the_environment_and_goes_to_the_endpoint_alone(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    server.status = (401, f'{{"error": {{"message": "Incorrect API key provided: {KEY}."}}}}'.encode())
    caplog.set_level("DEBUG")
    with ChatClient(settings(server, key_variable="MY_KEY")) as client:
        with pytest.raises(EndpointError, match=r"provided: \*\*\*.*check url, model and the key in MY_KEY") as caught:
            client.ask(ask_for("x"))
        shown = (
            f"{client!r} {client.settings!r} {vars(client.settings) if hasattr(client.settings, '__dict__') else ''}"
        )
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    error: BaseException | None = caught.value
    while error is not None:
        shown += str(error)
        error = error.__cause__
    assert KEY not in shown
    assert KEY not in caplog.text


def test_a_local_server_needs_no_key_and_learns_nothing_of_this_machine(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, KEY)
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", f"Authorization: Bearer {KEY}\nX-More: {KEY}")
    with ChatClient(settings(server)) as client:
        client.ask(ask_for("x"))
    (headers,) = server.headers
    allowed = {"host", "connection", "content-length", "content-type", "accept", "accept-encoding", "user-agent"}
    assert {name.lower() for name in headers} <= allowed
    assert headers["User-Agent"].startswith("recode-rl/")


def test_requests_go_to_the_endpoint_alone(server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a proxy of the environment nor another base url of the library's nor a redirect leads elsewhere."""
    with running() as other:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "OPENAI_BASE_URL"):
            monkeypatch.setenv(name, other.url)
        monkeypatch.setenv("NO_PROXY", "")
        with ChatClient(settings(server)) as client:
            assert client.ask(ask_for("x")).text == expected("x")
            server.status, server.location = (307, b""), f"{other.url}/chat/completions"
            with pytest.raises(EndpointError, match="answered 307"):
                client.ask(ask_for("x"))
        assert not other.requests
    assert len(server.requests) == 2


def test_a_transport_can_stand_in_for_the_network() -> None:
    httpx = pytest.importorskip("httpx2")

    def handle(request: Any) -> Any:
        assert str(request.url) == "http://nowhere.invalid/v1/chat/completions"
        return httpx.Response(200, json={"choices": [{"message": {"content": "hello"}, "finish_reason": "stop"}]})

    with ChatClient(ChatSettings("http://nowhere.invalid", "m"), httpx.MockTransport(handle)) as client:
        assert client.ask(ask_for("x")).text == "hello"


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("http://localhost:8080", "http://localhost:8080/v1"),
        ("http://localhost:8080/", "http://localhost:8080/v1"),
        ("https://api.example.org/v1/", "https://api.example.org/v1"),
        ("https://api.example.org/v1/chat/completions", "https://api.example.org/v1"),
        ("https://example.org/openai/v2", "https://example.org/openai/v2"),
    ],
)
def test_the_url_may_be_given_in_its_usual_forms(given: str, used: str) -> None:
    assert endpoint_url(given) == used


@pytest.mark.parametrize(
    "url", ["localhost:8080", "ftp://host", "http://", "http://host:port", "http://host:99999", "http://[::1", ""]
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="expected something like"):
        ChatSettings(url, "m")


@pytest.mark.parametrize("url", [f"http://user:{KEY}@host/v1", f"http://{KEY}@host", f"http://host/v1?key={KEY}"])
def test_a_url_with_a_secret_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ConfigError, match="environment variable") as caught:
        ChatSettings(url, "m")
    assert KEY not in str(caught.value)


def test_numbers_below_one_are_refused() -> None:
    for name in ("concurrency", "attempts", "max_tokens", "timeout_s"):
        with pytest.raises(ConfigError, match=name):
            ChatSettings("http://host", "m", **{name: 0})


def test_without_the_extra_there_is_a_sentence_with_the_command() -> None:
    code = """
import sys
sys.modules["openai"] = None
from recode_rl.chat import ChatClient, ChatSettings
from recode_rl.errors import MissingExtraError
try:
    ChatClient(ChatSettings("http://host", "m"))
except MissingExtraError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.strip() == 'openai is not installed; run: pip install "recode-rl[remote]"'


def test_importing_the_client_loads_neither_library() -> None:
    code = (
        "import sys, recode_rl.chat; print([name for name in ('openai', 'httpx2', 'tenacity') if name in sys.modules])"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60, env=env)
    assert run.stdout.strip() == "[]"

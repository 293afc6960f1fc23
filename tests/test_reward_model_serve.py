"""The reward model's server over real sockets: scores, refusals, common batches, a full queue, a crowd, its end."""

from __future__ import annotations

import asyncio
import http.client
import json
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tiny import tiny_reward_model

from recode_rl.errors import ConfigError
from recode_rl.reward_model.batcher import QueueSettings
from recode_rl.reward_model.exposition import Counter, Histogram, Metrics
from recode_rl.reward_model.serve import Served, ServeSettings, make_app, serve
from recode_rl.scorer import RemoteScorer, RewardModelScorer, Score
from recode_rl.serving import listen, make_server

for module, extra in (("starlette", "serve"), ("uvicorn", "serve"), ("tenacity", "remote")):
    pytest.importorskip(module, reason=f"needs the extra [{extra}]")

ITEM = {"problem": "Add two numbers.", "reasoning": "The sum is a + b."}
SETTINGS = ServeSettings(port=0, max_items=8, max_characters=1000, max_body_bytes=20_000)


@dataclass
class Running:
    """A server in a thread of this process."""

    host: str
    port: int
    server: Any
    metrics: Metrics

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any, http.client.HTTPMessage]:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        try:
            data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, data)
            response = connection.getresponse()
            text = response.read().decode()
            return response.status, json.loads(text) if path != "/metrics" else text, response.headers
        finally:
            connection.close()

    def score(self, *items: Any) -> tuple[int, Any]:
        status, body, _ = self.ask("POST", "/score", {"items": list(items)})
        return status, body


@contextmanager
def running(score: Callable[[Any], Sequence[Score]], settings: ServeSettings = SETTINGS) -> Iterator[Running]:
    metrics = Metrics()
    listener = listen(settings.host, settings.port)
    host, port = listener.getsockname()[:2]
    server = make_server(make_app(Served("tiny", 256, score), settings, metrics))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield Running(host, port, server, metrics)
    finally:
        server.should_exit = True
        thread.join()


def wait_until(true: Callable[[], Any], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def by_length(items: Sequence[tuple[str, str]]) -> list[Score]:
    return [Score(len(reasoning) / 1000, cut=len(reasoning) > 900) for _, reasoning in items]


class Gate:
    """A scorer that waits until it is let go, and keeps the sizes of its batches."""

    def __init__(self) -> None:
        self.open, self.inside, self.sizes = threading.Event(), threading.Event(), list[int]()

    def __call__(self, items: Sequence[tuple[str, str]]) -> list[Score]:
        self.sizes.append(len(items))
        self.inside.set()
        assert self.open.wait(60)
        return by_length(items)


@pytest.fixture(scope="module")
def served() -> Iterator[Running]:
    with running(by_length) as found:
        yield found


# -- scores ------------------------------------------------------------------------------------------------------------


def test_scores_are_those_of_the_model_in_process(tiny_reward: Path) -> None:
    scorer = RewardModelScorer(str(tiny_reward), 256)
    items = [(f"Problem {n % 3}", "read n and print it " * (1 + 3 * n)) for n in range(20)]
    expected = scorer(items)
    with running(scorer.scores, ServeSettings(port=0)) as server:
        remote = RemoteScorer(server.url)
        assert remote(items) == pytest.approx(expected, abs=1e-5)
        assert remote.cut == sum(score.cut for score in scorer.scores(items)) > 0
        assert remote.max_length == 256


def test_the_answer_has_scores_and_how_many_were_cut(served: Running) -> None:
    long = {"problem": "p", "reasoning": "x" * 950}
    assert served.score(ITEM, long) == (200, {"scores": [0.017, 0.95], "cut": 1})


def test_health_says_what_is_served_and_its_limits(served: Running) -> None:
    status, body, _ = served.ask("GET", "/health")
    assert status == 200
    assert body == {
        "status": "ok",
        "model": "tiny",
        "max_length": 256,
        "max_items": 8,
        "max_characters": 1000,
        "queue": 0,
    }


# -- what is refused ---------------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[Any, int, str]] = {
    "no JSON": (b"{'items': []}", 400, "the body is no JSON"),
    "nothing": (b"", 400, "the body is no JSON"),
    "no UTF-8": (b'{"items": "\xff"}', 400, "the body is no JSON"),
    "too deep": (b"[" * 10_000, 400, "the body is no JSON"),
    "a list": ([ITEM], 422, "the body has no list of items"),
    "other keys": ({"pairs": [ITEM]}, 422, "the body has no list of items"),
    "no items": ({"items": []}, 422, "items: the list is empty"),
    "an item that is text": ({"items": [ITEM, "x"]}, 422, "items[1]: expected an object"),
    "no reasoning": ({"items": [{"problem": "p"}]}, 422, "items[0].reasoning: expected text"),
    "a number": ({"items": [{"problem": 1, "reasoning": "x"}]}, 422, "items[0].problem: expected text"),
    "empty problem": ({"items": [ITEM, {"problem": " ", "reasoning": "x"}]}, 422, "items[1].problem: empty"),
    "empty reasoning": (
        {"items": [{"problem": "p", "reasoning": "\n"}]},
        422,
        "items[0].reasoning: empty; a completion without a reasoning has process reward 0",
    ),
    "half a character": ({"items": [{"problem": "p", "reasoning": "\ud800"}]}, 422, "half of a surrogate pair"),
    "overlong item": (
        {"items": [ITEM, {"problem": "p", "reasoning": "x" * 1000}]},
        413,
        "items[1]: 1001 characters; at most 1000 are taken",
    ),
    "too many items": ({"items": [ITEM] * 9}, 413, "items: 9 of them; at most 8 are taken at a time"),
    "overlong body": (b" " * 20_001, 413, "more than 20000 bytes"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_scored_is_refused_with_a_reason(name: str, served: Running) -> None:
    body, status, reason = REFUSED[name]
    found, answer, _ = served.ask("POST", "/score", body)
    assert found == status
    assert set(answer) == {"error"}
    assert reason in answer["error"]
    assert served.score(ITEM)[0] == 200  # it goes on


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/score", 405), ("GET", "/", 404), ("POST", "/x", 404)])
def test_other_paths_and_methods_are_refused_in_json(method: str, path: str, status: int, served: Running) -> None:
    found, body, _ = served.ask(method, path)
    assert found == status
    assert set(body) == {"error"}


def test_a_model_that_fails_on_one_request_serves_the_others() -> None:
    gate = Gate()

    def picky(items: Sequence[tuple[str, str]]) -> list[Score]:
        scores = gate(items)
        if any(problem == "poison" for problem, _ in items):
            raise RuntimeError("out of memory")
        return scores

    with running(picky) as server, ThreadPoolExecutor(8) as pool:
        first = pool.submit(server.score, ITEM)
        assert gate.inside.wait(30)
        rest = [pool.submit(server.score, {"problem": p, "reasoning": "x"}) for p in ("a", "poison", "b")]
        wait_until(lambda: server.ask("GET", "/health")[1]["queue"] == 3)
        gate.open.set()
        assert first.result()[0] == 200
        assert [answer.result()[0] for answer in rest] == [200, 500, 200]
        assert rest[1].result()[1] == {"error": "the model failed (RuntimeError: out of memory)"}
        assert server.score(ITEM)[0] == 200
        assert "recode_rm_failed_batches_total 2\n" in server.ask("GET", "/metrics")[1]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_an_error_of_the_server(value: float) -> None:
    with running(lambda items: [Score(value)] * len(items)) as server:
        assert server.score(ITEM) == (500, {"error": "the model gave a score that is no number; see to the model"})


# -- batches and the queue ---------------------------------------------------------------------------------------------


def test_requests_that_wait_together_run_in_one_batch() -> None:
    gate = Gate()
    with running(gate) as server, ThreadPoolExecutor(10) as pool:
        first = pool.submit(server.score, ITEM)
        assert gate.inside.wait(30)
        rest = [pool.submit(server.score, {"problem": "p", "reasoning": "x" * n}) for n in range(1, 10)]
        wait_until(lambda: server.ask("GET", "/health")[1]["queue"] == 9)
        gate.open.set()
        assert [answer.result()[1]["scores"] for answer in rest] == [[n / 1000] for n in range(1, 10)]
        assert first.result()[1]["scores"] == [0.017]
        assert gate.sizes == [1, 9]


def test_a_batch_has_about_the_size_that_was_set() -> None:
    gate = Gate()
    settings = ServeSettings(port=0, queue=QueueSettings(batch_items=4))
    with running(gate, settings) as server, ThreadPoolExecutor(10) as pool:
        first = pool.submit(server.score, ITEM)
        assert gate.inside.wait(30)
        rest = [pool.submit(server.score, *[ITEM] * n) for n in (3, 3, 7)]
        wait_until(lambda: server.ask("GET", "/health")[1]["queue"] == 13)
        gate.open.set()
        assert [len(answer.result()[1]["scores"]) for answer in [first, *rest]] == [1, 3, 3, 7]
        assert sum(gate.sizes) == 14
        assert len(gate.sizes) == 4


def test_a_full_queue_is_503_with_the_time_to_come_back() -> None:
    gate = Gate()
    settings = ServeSettings(port=0, max_items=4, queue=QueueSettings(queue_items=4))
    with running(gate, settings) as server, ThreadPoolExecutor(4) as pool:
        running_now = pool.submit(server.score, ITEM)
        assert gate.inside.wait(30)
        waiting = pool.submit(server.score, ITEM, ITEM, ITEM)
        wait_until(lambda: server.ask("GET", "/health")[1]["queue"] == 3)
        status, body, headers = server.ask("POST", "/score", {"items": [ITEM, ITEM]})
        assert status == 503
        assert body["error"].startswith("the queue is full; try again in ")
        assert 1 <= int(headers["Retry-After"]) <= 60
        fits = pool.submit(server.score, ITEM)
        wait_until(lambda: server.ask("GET", "/health")[1]["queue"] == 4)
        gate.open.set()
        assert [answer.result()[0] for answer in (running_now, waiting, fits)] == [200, 200, 200]
        assert server.score(ITEM)[0] == 200


def test_a_client_of_ours_gets_through_a_full_queue() -> None:
    gate = Gate()
    settings = ServeSettings(port=0, max_items=4, queue=QueueSettings(queue_items=4))
    with running(gate, settings) as server, ThreadPoolExecutor(4) as pool:
        remote = RemoteScorer(server.url)
        asked = [pool.submit(server.score, ITEM)]
        assert gate.inside.wait(30)
        asked.append(pool.submit(server.score, *[ITEM] * 4))
        wait_until(lambda: server.ask("GET", "/health")[1]["queue"] == 4)
        scores = pool.submit(remote, [("p", "x" * 500)])
        wait_until(lambda: '{status="503"}' in server.ask("GET", "/metrics")[1])
        gate.open.set()
        assert scores.result() == [0.5]
        assert [answer.result()[0] for answer in asked] == [200, 200]


def test_a_request_whose_client_has_left_is_not_scored() -> None:
    gate = Gate()
    with running(gate) as server, ThreadPoolExecutor(4) as pool:
        first = pool.submit(server.score, ITEM)
        assert gate.inside.wait(30)
        left = http.client.HTTPConnection(server.host, server.port)
        left.request("POST", "/score", json.dumps({"items": [ITEM] * 5}))
        wait_until(lambda: server.ask("GET", "/health")[1]["queue"] == 5)
        left.close()
        wait_until(lambda: 'requests_total{status="499"} 1' in server.ask("GET", "/metrics")[1])
        gate.open.set()
        assert first.result()[0] == 200
        assert server.score(ITEM)[0] == 200
        assert gate.sizes == [1, 1]
        assert "recode_rm_abandoned_total 1\n" in server.ask("GET", "/metrics")[1]


def test_a_queue_that_can_never_take_a_whole_request_is_refused() -> None:
    with pytest.raises(ConfigError, match="max_items 8: a request of that size never fits a queue of 4 items"):
        make_app(
            Served("tiny", 1, by_length), ServeSettings(max_items=8, queue=QueueSettings(queue_items=4)), Metrics()
        )


# -- a crowd -----------------------------------------------------------------------------------------------------------


async def crowd(server: Running, bodies: Sequence[bytes]) -> list[tuple[int, Any]]:
    """All requests at once, each on a connection of its own, none sent before all are connected."""
    connections = await asyncio.gather(*(asyncio.open_connection(server.host, server.port) for _ in bodies))

    async def ask(connection: Any, body: bytes) -> tuple[int, Any]:
        reader, writer = connection
        head = f"POST /score HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        status, _, text = answer.partition(b"\r\n\r\n")
        return int(status.split()[1]), json.loads(text)

    return await asyncio.gather(*(ask(*each) for each in zip(connections, bodies, strict=True)))


def test_a_thousand_requests_at_once_are_all_answered_rightly(tmp_path: Path) -> None:
    scorer = RewardModelScorer(str(tiny_reward_model(tmp_path / "rm", spread=0.3)), 256)
    draw = random.Random(0)
    words = ["read", "n", "numbers", "print", "the", "sum", "of", "all", "squares", "loop", "first", "return", "0"]
    items = [(f"Problem {n // 8}", " ".join(draw.choices(words, k=draw.randrange(1, 9)))) for n in range(1000)]
    expected = scorer(items)
    assert len({round(value, 4) for value in expected}) > 300, "an answer that went astray must be seen"
    bodies = [json.dumps({"items": [{"problem": p, "reasoning": r}]}).encode() for p, r in items]
    with running(scorer.scores, ServeSettings(port=0)) as server:
        answers = asyncio.run(crowd(server, bodies))
        assert {status for status, _ in answers} == {200}
        assert [body["scores"][0] for _, body in answers] == pytest.approx(expected, abs=1e-5)
        text = server.ask("GET", "/metrics")[1]
    assert 'recode_rm_requests_total{status="200"} 1000\n' in text
    assert "recode_rm_items_total 1000\n" in text
    batches = int(re.findall(r"recode_rm_batch_items_count (\d+)", text)[0])
    assert batches < 500


# -- the end -----------------------------------------------------------------------------------------------------------


def test_requests_under_way_are_answered_before_the_end() -> None:
    gate = Gate()
    with running(gate) as server, ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(server.score, ITEM)]
        assert gate.inside.wait(30)
        asked.append(pool.submit(server.score, ITEM))
        wait_until(lambda: server.ask("GET", "/health")[1]["queue"] == 1)
        server.server.should_exit = True
        time.sleep(0.3)
        gate.open.set()
        assert [answer.result()[0] for answer in asked] == [200, 200]
    with pytest.raises(ConnectionRefusedError):
        server.score(ITEM)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_with_status_0(number: signal.Signals, tiny_reward: Path) -> None:
    code = f"""
from recode_rl.reward_model.serve import ServeSettings, serve
print(serve({str(tiny_reward)!r}, ServeSettings(port=0), 128))
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        said = process.stderr.readline()
        found = re.search(r"serving .* at http://127\.0\.0\.1:(\d+)/score", said)
        assert found, said + process.stderr.read()
        server = Running("127.0.0.1", int(found[1]), None, Metrics())
        wait_until(lambda: answers(server))
        status, body = server.score(ITEM)
        assert status == 200
        assert 0.0 <= body["scores"][0] <= 1.0
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert "'items': 1" in out
        assert "Traceback" not in err
    finally:
        process.kill()
        process.communicate()


def answers(server: Running) -> bool:
    try:
        return server.ask("GET", "/health")[0] == 200
    except ConnectionRefusedError:
        return False


def test_an_address_that_is_taken_is_named(tiny_reward: Path) -> None:
    with running(by_length) as server:  # noqa: SIM117
        with pytest.raises(
            ConfigError, match=rf"127\.0\.0\.1:{server.port}: .*in use; choose another --host or --port"
        ):
            serve(str(tiny_reward), ServeSettings(port=server.port))


@pytest.mark.parametrize("settings", [ServeSettings(host="no.such.host.invalid"), ServeSettings(port=70_000)])
def test_an_address_that_is_none_is_named(settings: ServeSettings) -> None:
    with pytest.raises(ConfigError, match="choose another --host or --port"):
        listen(settings.host, settings.port)


# -- metrics -----------------------------------------------------------------------------------------------------------


def test_metrics_are_in_the_format_of_prometheus(served: Running) -> None:
    served.score(ITEM)
    status, text, headers = served.ask("GET", "/metrics")
    assert status == 200
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert text.endswith("\n")
    sample = re.compile(r'[a-z_]+(\{[a-z]+="[^"]*"\})? -?[0-9.]+')
    for line in text.splitlines():
        assert line.startswith(("# HELP ", "# TYPE ")) or sample.fullmatch(line), line
    typed = re.findall(r"# TYPE (\w+) (\w+)", text)
    assert len(typed) == len(set(typed)) == 9
    assert ("recode_rm_queue_items", "gauge") in typed
    assert ("recode_rm_request_seconds", "histogram") in typed


def test_a_histogram_counts_up_to_each_bound() -> None:
    histogram = Histogram("h", "Some.", (1, 2.5))
    for value in (0.5, 1.0, 2.0, 9.0):
        histogram.observe(value)
    assert list(histogram.lines())[2:] == [
        'h_bucket{le="1"} 2',
        'h_bucket{le="2.5"} 3',
        'h_bucket{le="+Inf"} 4',
        "h_sum 12.500000",
        "h_count 4",
    ]


def test_a_counter_counts_by_its_label() -> None:
    counter = Counter("c", "Some.", "status")
    counter.add(1, "200")
    counter.add(2, "503")
    counter.add(1, "200")
    assert list(counter.lines())[2:] == ['c{status="200"} 2', 'c{status="503"} 2']
    assert counter.total == 4
    assert list(Counter("d", "None yet.").lines())[2:] == ["d 0"]

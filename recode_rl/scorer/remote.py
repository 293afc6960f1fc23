"""A reward model behind a server of `serve-rm`: asked over HTTP, as often as it takes to get an answer."""

from __future__ import annotations

import http.client
import json
import math
import threading
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from recode_rl.errors import ConfigError, EndpointError, UnreachableError
from recode_rl.extras import need
from recode_rl.progress import say
from recode_rl.waiting import PASSING, Fault, wait_or_asked

_CONNECT_S = 10.0
_MAX_ANSWER = 64 << 20
_TAIL = 300
_TOLD_AT = 3  # failed attempts


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a server is waited for.

    `attempts` in all, with waits in between that double from `first_wait_s` up to `longest_wait_s` (Retry-After is
    obeyed up to `longest_wait_s` as well); `answer_s` is how long a server may be silent before an attempt is lost.
    With `total_s` attempts are not counted: no further one begins so many seconds after the first.
    """

    attempts: int = 6
    first_wait_s: float = 0.5
    longest_wait_s: float = 30.0
    answer_s: float = 300.0
    total_s: float | None = None


def _parts(url: str) -> urllib.parse.SplitResult:
    try:
        parts = urllib.parse.urlsplit(url)
        sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # brackets that do not close, a port that is no number
        sound = False
    if not sound:
        raise ConfigError(f"reward model url {url!r}: expected something like http://127.0.0.1:8321")
    return parts


def is_url(text: str) -> bool:
    """Whether a reward model is named by the address of a server."""
    return text.startswith(("http://", "https://"))


class RemoteScorer:
    """Scores `(problem, reasoning)` items as RewardModelScorer does; safe to call from several threads.

    The server is asked for its limits when this is made. EndpointError (an InfrastructureError) where it cannot be
    reached, there or later; ConfigError where the url is none. A server that stays away is an UnreachableError.
    """

    def __init__(self, url: str, *, patience: Patience | None = None) -> None:
        parts = _parts(url)
        self.url = url
        self._host, self._port, self._secure = parts.hostname or "", parts.port, parts.scheme == "https"
        self._path = parts.path.rstrip("/").removesuffix("/score")
        self._patience = patience or Patience()
        self._tenacity: Any = need("tenacity", "remote")
        self._lock = threading.Lock()
        self.cut = 0
        """How many reasonings lost their middle so far."""
        limits: Limits = self._ask("GET", "/health", None, _limits)
        self.max_length = limits.max_length
        self._limits = limits

    def __call__(self, items: Sequence[tuple[str, str]]) -> list[float]:
        """R_proc of each `(problem, reasoning)`, in [0, 1]; 0.0 for a blank reasoning, without asking the server."""
        asked = [index for index, (_, reasoning) in enumerate(items) if reasoning.strip()]
        found = [0.0] * len(items)
        for start in range(0, len(asked), self._limits.max_items):
            part = asked[start : start + self._limits.max_items]
            for index, score in zip(part, self._score([items[index] for index in part]), strict=True):
                found[index] = score
        return found

    def _score(self, items: Sequence[tuple[str, str]]) -> list[float]:
        """The scores of one request's worth of items."""
        fitted = [fit(problem, reasoning, self._limits.max_characters) for problem, reasoning in items]
        body = {"items": [{"problem": problem, "reasoning": reasoning} for problem, reasoning in fitted]}
        answer: Answer = self._ask("POST", "/score", json.dumps(body).encode(), lambda data: _scores(data, len(items)))
        shortened = sum(pair != item for pair, item in zip(fitted, items, strict=True))
        with self._lock:
            self.cut += max(answer.cut, shortened)  # what was cut here is most likely cut again there
        return answer.scores

    def _ask(self, method: str, path: str, body: bytes | None, read: Any) -> Any:
        """What `read` makes of the answer to a request; UnreachableError after the last attempt."""
        tenacity = self._tenacity
        limit = self._patience.total_s
        attempts = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self._patience.attempts)
            if limit is None
            else tenacity.stop_before_delay(limit),
            wait=self._wait,
            retry=tenacity.retry_if_exception_type(Fault),
            before_sleep=self._tell,
            reraise=True,
        )
        try:
            return attempts(lambda: read(self._request(method, path, body)))
        except Fault as fault:
            tried = self._patience.attempts
            waited = f"attempt {tried} of {tried}" if limit is None else f"waited for {limit:g} s"
            raise UnreachableError(
                f"{self.url}: {fault} ({waited}); see to the reward model's server, then run again"
            ) from fault

    def _tell(self, state: Any) -> None:
        """Once for each request, that a server is waited for long."""
        if self._patience.total_s is not None and state.attempt_number == _TOLD_AT:
            say(f"{self.url}: {state.outcome.exception()}; waiting for it, at most {self._patience.total_s:g} s")

    def _wait(self, state: Any) -> float:
        """Seconds until the next attempt."""
        asked: float | None = state.outcome.exception().retry_after_s
        patience = self._patience
        return wait_or_asked(state.attempt_number, patience.first_wait_s, patience.longest_wait_s, asked)

    def _request(self, method: str, path: str, body: bytes | None) -> bytes:
        """The body of an answer with status 200; Fault where trying again may help."""
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=min(_CONNECT_S, self._patience.answer_s))
        headers = {"Accept": "application/json", "Connection": "close"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            connection.connect()
            connection.sock.settimeout(self._patience.answer_s)
            connection.request(method, self._path + path, body, headers)
            with connection.getresponse() as response:
                data = response.read(_MAX_ANSWER)
                if response.status != http.HTTPStatus.OK:
                    raise self._refusal(response, data)
                return data
        except TimeoutError:
            raise Fault(f"no answer within {self._patience.answer_s:g} s") from None
        except (OSError, http.client.HTTPException) as error:
            raise Fault(f"the connection failed ({type(error).__name__}: {error})") from None
        finally:
            connection.close()

    def _refusal(self, response: http.client.HTTPResponse, data: bytes) -> Exception:
        """What a status other than 200 means: try again, or mend the request."""
        said = " ".join(data[: 2 * _TAIL].decode("utf-8", "replace").split())[:_TAIL]
        what = f"answered {response.status} {response.reason} {said}".rstrip()
        if response.status in PASSING or response.status >= 500:
            return Fault(what, _seconds(response.getheader("Retry-After")))
        return EndpointError(f"{self.url}: {what}; check that the url is that of a serve-rm of this version")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server says of itself: tokens of a row, items of a request, characters of an item."""

    max_length: int
    max_items: int
    max_characters: int


@dataclass(frozen=True, slots=True)
class Answer:
    """Scores in [0, 1] in the order of the items, and how many of these lost their middle."""

    scores: list[float]
    cut: int


def fit(problem: str, reasoning: str, characters: int) -> tuple[str, str]:
    """Head and tail of what a server would refuse for its size; far more of them than a model's length takes."""
    room = max(characters - len(reasoning), characters // 2)
    if len(problem) > room:
        problem = _ends(problem, room)
    room = characters - len(problem)
    return problem, _ends(reasoning, room) if len(reasoning) > room else reasoning


def _ends(text: str, room: int) -> str:
    tail = room // 2
    return text[: room - tail] + (text[-tail:] if tail else "")


def _limits(data: bytes) -> Limits:
    try:
        found = json.loads(data)
        limits = Limits(int(found["max_length"]), int(found["max_items"]), int(found["max_characters"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Fault(f"GET /health is not answered as serve-rm does: {_start(data)}") from None
    if min(limits.max_length, limits.max_items, limits.max_characters) < 1:
        raise Fault(f"GET /health has limits below 1: {_start(data)}")
    return limits


def _scores(data: bytes, wanted: int) -> Answer:
    """The scores of a whole and sound answer."""
    try:
        found = json.loads(data)
        scores, cut = [float(score) for score in found["scores"]], int(found["cut"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Fault(f"a broken answer: {_start(data)}") from None
    if len(scores) != wanted:
        raise Fault(f"{len(scores)} scores for {wanted} items")
    strange = next((score for score in scores if not (math.isfinite(score) and 0.0 <= score <= 1.0)), None)
    if strange is not None:
        raise Fault(f"a score of {strange!r}: expected a number in [0, 1]")
    return Answer(scores, cut)


def _start(data: bytes) -> str:
    return repr(data[:80].decode("utf-8", "replace"))


def _seconds(header: str | None) -> float | None:
    """Seconds from a Retry-After header that has a number of them."""
    return float(header) if header is not None and header.strip().isdigit() else None

"""Asks an OpenAI-compatible chat endpoint: so many requests at a time, tried again with patience, within a budget.

What an endpoint does wrong in passing (no connection, no answer in time, 408, 409, 425, 429, 5xx, an answer that is
broken or cut short) is tried again; what remains is an EndpointError. Requests go to the endpoint alone: redirects are
not followed, proxies of the environment are not used, and no header is sent but those of the request and the key.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import os
import re
import threading
import time
import urllib.parse
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import Any, TypeVar

from recode_rl import __version__
from recode_rl.errors import BudgetSpent, ConfigError, EndpointError
from recode_rl.extras import need
from recode_rl.waiting import PASSING, Fault, spread_wait

K = TypeVar("K")
Messages = list[dict[str, str]]

_HEADERS = {"host", "connection", "content-length", "content-type", "transfer-encoding", "accept", "accept-encoding"}
_CONNECT_S = 15.0
_PASSING = PASSING | {409}  # a conflict is one that this kind of endpoint asks to try again
_TAIL = 300
_OVERLONG = re.compile(
    r"context[ _-](length|size|window)|maximum context|maximum model length|(prompt|input) (is )?too long",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model wrote. `top_logprobs`: for each token the most likely ones with their natural log probabilities.

    Where the endpoint reports no use of tokens, they are counted as one for every four characters.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    top_logprobs: list[list[tuple[str, float]]] | None = None


@dataclass(frozen=True, slots=True)
class ChatSettings:
    """An endpoint, its model, and how it is asked.

    `timeout_s` bounds one request altogether, `attempts` is how often one is tried. The key is read from the
    environment variable `key_variable`; without one none is sent. `max_requests` counts every request sent,
    `max_total_tokens` those of prompts and completions.
    """

    url: str
    model: str
    concurrency: int = 8
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 1024
    timeout_s: float = 120
    attempts: int = 6
    key_variable: str = "OPENAI_API_KEY"
    max_requests: int | None = None
    max_total_tokens: int | None = None
    seed: int = 0
    top_logprobs: int = 0
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        endpoint_url(self.url)
        for name in ("concurrency", "attempts", "max_tokens", "timeout_s"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} {getattr(self, name)!r}: expected a number above 0")


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds between attempts: doubled from `first_wait_s` up to `longest_wait_s`, or what the endpoint asks for.

    An endpoint that asks for more than `longest_asked_s` is not waited for.
    """

    first_wait_s: float = 0.5
    longest_wait_s: float = 30.0
    longest_asked_s: float = 600.0


@dataclass(frozen=True, slots=True)
class Usage:
    """What has been sent and counted so far."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Budget:
    """Requests and tokens that may be used, by one client or by several together; safe to share between threads."""

    def __init__(self, max_requests: int | None = None, max_tokens: int | None = None) -> None:
        self.max_requests, self.max_tokens = max_requests, max_tokens
        self._lock = threading.Lock()
        self._requests = self._prompt = self._completion = self._reserved = 0
        self._spent: str | None = None

    @property
    def used(self) -> Usage:
        """What has been used so far."""
        with self._lock:
            return Usage(self._requests, self._prompt, self._completion)

    def reserve(self, tokens: int) -> bool:
        """Take one request of at most so many tokens. False: only what is under way can tell whether it fits.

        Raises BudgetSpent where it does not fit; from then on nothing does.
        """
        with self._lock:
            if self._spent is None and self.max_requests is not None and self._requests >= self.max_requests:
                self._spent = f"the budget of {self.max_requests} requests (max_requests) is used up"
            if self._spent is None and self.max_tokens is not None:
                used = self._prompt + self._completion
                if used + self._reserved + tokens > self.max_tokens:
                    if self._reserved and used + tokens <= self.max_tokens:
                        return False
                    self._spent = (
                        f"the budget of {self.max_tokens} tokens (max_total_tokens) is used up: {used} are used, "
                        f"and the next request may take {tokens}"
                    )
            if self._spent is not None:
                raise BudgetSpent(self._spent)
            self._requests += 1
            self._reserved += tokens
            return True

    def settle(self, tokens: int, reply: Reply | None) -> None:
        """Give back what was reserved, and count what the reply took."""
        with self._lock:
            self._reserved -= tokens
            if reply is not None:
                self._prompt += reply.prompt_tokens
                self._completion += reply.completion_tokens


class ChatClient:
    """Requests to one endpoint from any thread. A loop in a thread of its own makes them; `close` gives up all of them.

    `transport` (an httpx2.AsyncBaseTransport) stands in for the network; a `budget` can be shared with other clients.
    """

    def __init__(
        self,
        settings: ChatSettings,
        transport: Any = None,
        *,
        patience: Patience | None = None,
        budget: Budget | None = None,
    ) -> None:
        self._openai, self._tenacity = need("openai", "remote"), need("tenacity", "remote")
        self.settings, self.patience = settings, patience or Patience()
        self.budget = budget or Budget(settings.max_requests, settings.max_total_tokens)
        self.url = endpoint_url(settings.url)
        self._key = os.environ.get(settings.key_variable, "").strip()
        self._client = self._open(transport)
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._pause_until = 0.0
        self._closed = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"chat {self.url}", daemon=True)
        self._thread.start()

    def _open(self, transport: Any) -> Any:
        httpx = need("httpx2", "remote")
        settings = self.settings
        timeout = httpx.Timeout(settings.timeout_s, connect=min(settings.timeout_s, _CONNECT_S))
        # A transport given to the client is one without the proxies of the environment.
        inner = transport or httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=settings.concurrency))
        http_client = httpx.AsyncClient(transport=_Plain(inner, self._key), timeout=timeout, follow_redirects=False)
        return self._openai.AsyncOpenAI(
            api_key="not sent", base_url=self.url, max_retries=0, timeout=timeout, http_client=http_client
        )

    @property
    def usage(self) -> Usage:
        """Requests and tokens so far; with a shared budget, those of all its clients."""
        return self.budget.used

    def ask(self, messages: Messages, *, seed: int | None = None, max_tokens: int | None = None) -> Reply:
        """The reply to chat messages. EndpointError where there is none to be had, BudgetSpent at the budget's end.

        `seed` and `max_tokens` stand in for those of the settings.
        """
        return self._outcome(self.submit(messages, seed=seed, max_tokens=max_tokens))

    def submit(self, messages: Messages, *, seed: int | None = None, max_tokens: int | None = None) -> Future[Reply]:
        """The same without waiting for it: the future raises what `ask` raises."""
        if self._closed:
            raise EndpointError(f"{self.url}: the client is closed")
        chosen = (self.settings.seed if seed is None else seed, max_tokens or self.settings.max_tokens)
        return asyncio.run_coroutine_threadsafe(self._ask(messages, *chosen), self._loop)

    def ask_all(self, jobs: Iterable[tuple[K, Messages]]) -> Iterator[tuple[K, Reply | EndpointError]]:
        """Replies in order of completion, at most `concurrency` at a time; jobs are read as their turn comes.

        At the end of the budget the replies under way are still given; then BudgetSpent is raised.
        """
        waiting: dict[Future[Reply], K] = {}
        source = iter(jobs)
        spent: BudgetSpent | None = None
        try:
            while True:
                if spent is None:
                    for key, messages in islice(source, self.settings.concurrency - len(waiting)):
                        waiting[self.submit(messages)] = key
                if not waiting:
                    break
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    key = waiting.pop(future)
                    try:
                        outcome: Reply | EndpointError = self._outcome(future)
                    except BudgetSpent as error:
                        spent = error
                        continue
                    except EndpointError as error:
                        outcome = error
                    yield key, outcome
        finally:
            for future in waiting:
                future.cancel()
        if spent is not None:
            raise spent

    def _outcome(self, future: Future[Reply]) -> Reply:
        try:
            return future.result()
        except CancelledError:
            raise EndpointError(f"{self.url}: the client was closed while it waited for an answer") from None

    async def _ask(self, messages: Messages, seed: int, max_tokens: int) -> Reply:
        tenacity = self._tenacity
        attempts = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(self.settings.attempts),
            wait=self._wait,
            sleep=asyncio.sleep,
            retry=tenacity.retry_if_exception_type(Fault),
            reraise=True,
        )
        async with self._slots:
            try:
                reply: Reply = await attempts(self._attempt, messages, seed, max_tokens)
                return reply
            except Fault as fault:
                raise EndpointError(
                    f"{self.url}: {fault} (attempt {self.settings.attempts} of {self.settings.attempts}); see to the "
                    "endpoint, then run again"
                ) from None

    def _wait(self, state: Any) -> float:
        """Seconds until the next attempt."""
        waited = spread_wait(state.attempt_number, self.patience.first_wait_s, self.patience.longest_wait_s)
        asked: float | None = state.outcome.exception().retry_after_s
        return waited if asked is None else asked + waited / 4

    async def _attempt(self, messages: Messages, seed: int, max_tokens: int) -> Reply:
        """One request, within its time altogether (a timeout of the connection starts anew with every byte)."""
        while (left := self._pause_until - time.monotonic()) > 0:  # another request was asked to come back later
            await asyncio.sleep(left)
        reserved = max_tokens + at_most_tokens(messages)
        while not self.budget.reserve(reserved):
            await asyncio.sleep(0.05)
        reply: Reply | None = None
        try:
            async with asyncio.timeout(self.settings.timeout_s):
                reply = await self._post(messages, seed, max_tokens)
            return reply
        except TimeoutError:
            raise Fault(
                f"no answer within {self.settings.timeout_s:g} s; allow more, or have fewer requests at a time"
            ) from None
        finally:
            self.budget.settle(reserved, reply)

    async def _post(self, messages: Messages, seed: int, max_tokens: int) -> Reply:
        openai, settings = self._openai, self.settings
        more: dict[str, Any] = {"stop": list(settings.stop)} if settings.stop else {}
        if settings.top_logprobs:
            more |= {"logprobs": True, "top_logprobs": settings.top_logprobs}
        if messages[-1]["role"] == "assistant":  # to be continued: vLLM and llama-server ask for it in these words
            more["extra_body"] = {"continue_final_message": True, "add_generation_prompt": False}
        try:
            # Raw, because the library makes an object of any answer, whatever is missing in it.
            raw = await self._client.chat.completions.with_raw_response.create(
                model=settings.model,
                messages=messages,
                temperature=settings.temperature,
                top_p=settings.top_p,
                max_tokens=max_tokens,
                seed=seed,
                **more,
            )
            return read_reply(raw.content, sum(len(message["content"]) for message in messages))
        except openai.APIStatusError as error:
            raise self._refusal(error) from None
        except openai.APITimeoutError:
            raise TimeoutError from None
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            raise Fault(self._clean(f"the connection failed ({type(cause).__name__}: {cause})")) from None
        except Fault as fault:
            raise Fault(self._clean(str(fault)), fault.retry_after_s) from None

    def _refusal(self, error: Any) -> Exception:
        """What an HTTP status other than 200 means: try again, or mend the request."""
        said = self._clean(" ".join(error.response.text.split())[:_TAIL])
        what = f"answered {error.status_code} {said}".rstrip()
        if (error.status_code in _PASSING or error.status_code >= 500) and error.code != "insufficient_quota":
            asked = retry_after_s(error.response.headers)
            if asked is not None and asked > self.patience.longest_asked_s:
                return EndpointError(f"{self.url}: {what}; it asks to come back in {asked:.0f} s: run again then")
            if asked is not None:
                self._pause_until = max(self._pause_until, time.monotonic() + asked)
            return Fault(what, asked)
        overlong = error.status_code in (400, 413, 422) and bool(_OVERLONG.search(f"{error.code} {error.type} {said}"))
        fix = "shorten the problem" if overlong else f"check url, model and the key in {self.settings.key_variable}"
        return EndpointError(f"{self.url}: {what}; {fix}", overlong=overlong)

    def _clean(self, text: str) -> str:
        """Text without the key, which some servers repeat."""
        return text.replace(self._key, "***") if self._key else text

    def close(self) -> None:
        """Give up all requests under way; later ones are refused."""
        if self._closed:
            return
        self._closed = True
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.close()
        await self._loop.shutdown_asyncgens()
        await self._loop.shutdown_default_executor()

    def __enter__(self) -> ChatClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Plain:
    """A transport that sends what a request needs and the key, and nothing else the library adds.

    That would be facts about this machine, and headers and other keys out of environment variables. The library reads
    its own headers again when the answer comes: they are left out here, not taken from its request.
    """

    def __init__(self, inner: Any, key: str) -> None:
        self._inner, self._key = inner, key

    async def handle_async_request(self, request: Any) -> Any:
        headers = [(name, value) for name, value in request.headers.items() if name.lower() in _HEADERS]
        headers.append(("User-Agent", f"recode-rl/{__version__}"))
        if self._key:
            headers.append(("Authorization", f"Bearer {self._key}"))
        plain = type(request)(
            request.method, request.url, headers=headers, stream=request.stream, extensions=request.extensions
        )
        return await self._inner.handle_async_request(plain)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def __aenter__(self) -> _Plain:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()


def endpoint_url(url: str) -> str:
    """The base url with its version path, "http://host:8080" as "http://host:8080/v1"; ConfigError where it is none."""
    try:
        parts = urllib.parse.urlsplit(url.strip())
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError:
        raise ConfigError(f"endpoint {url!r}: expected something like http://host:8080/v1") from None
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        shown = f"{parts.scheme}://{parts.hostname}{port}"
        raise ConfigError(
            f"endpoint {shown}: a url with a user, a password or a query would be kept in manifests; give the url "
            "alone, and the key in an environment variable"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"endpoint {url!r}: expected something like http://host:8080/v1")
    path = parts.path.rstrip("/").removesuffix("/chat/completions").rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path or '/v1'}"


def at_most_tokens(messages: Messages) -> int:
    """A number of tokens that messages will hardly pass: one for every two bytes, and some for the form."""
    return sum(len(message["content"].encode("utf-8", "replace")) // 2 + 16 for message in messages)


def retry_after_s(headers: Any) -> float | None:
    """Seconds from Retry-After, which has a number of them or a date, or from retry-after-ms; None without either."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        text = str(headers.get(name, "")).strip()
        if re.fullmatch(r"\d{1,12}(\.\d{1,12})?", text):
            return float(text) / unit
    try:
        date = email.utils.parsedate_to_datetime(headers.get("retry-after", ""))
        return max(0.0, date.timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def read_reply(data: bytes, prompt_characters: int) -> Reply:
    """The reply in the body of an answer; Fault where there is none."""
    try:
        answer = json.loads(data)
        if answer.get("error") and not answer.get("choices"):
            raise Fault(f"answered with an error: {str(answer['error'])[:_TAIL]}")
        choice = answer["choices"][0]
        text = choice["message"]["content"]
        if text is not None and not isinstance(text, str):
            raise TypeError("content that is no text")
        usage = answer.get("usage") or {}
        return Reply(
            text=text or "",
            finish_reason=str(choice.get("finish_reason") or "unknown"),
            prompt_tokens=_count(usage.get("prompt_tokens"), prompt_characters),
            completion_tokens=_count(usage.get("completion_tokens"), len(text or "")),
            top_logprobs=_top_logprobs(choice.get("logprobs")),
        )
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        start = data[:80].decode("utf-8", "replace")
        raise Fault(f"a broken answer ({type(error).__name__}): {start!r}") from None


def _count(reported: Any, characters: int) -> int:
    return reported if isinstance(reported, int) and reported >= 0 else (characters + 3) // 4


def _top_logprobs(logprobs: Any) -> list[list[tuple[str, float]]] | None:
    if not logprobs or logprobs.get("content") is None:
        return None
    return [
        [(str(top["token"]), float(top["logprob"])) for top in token.get("top_logprobs") or []]
        for token in logprobs["content"]
    ]

"""`serve-rm`: a reward model over HTTP, for trainers and evaluations on other machines or in other environments.

    POST /score    {"items": [{"problem": "…", "reasoning": "…"}, …]} → {"scores": [0.71, …], "cut": 0}
    GET  /health   what is served, and its limits
    GET  /metrics  counts and durations for Prometheus

Items of all requests run in common batches on one thread. Every error has a body {"error": "one sentence"}: 400 for
what is no JSON, 422 for items of a wrong form or without a reasoning, 413 for too many or too long ones, 503 with
Retry-After while the queue is full.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import resource
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from recode_rl.errors import ConfigError
from recode_rl.extras import need
from recode_rl.reward_model.batcher import Batcher, Item, QueueFull, QueueSettings, Stopped
from recode_rl.reward_model.chat_template import ChatTemplateScorer, Template, expects_chat
from recode_rl.reward_model.exposition import CONTENT_TYPE, Metrics
from recode_rl.scorer import RewardModelScorer, Score
from recode_rl.serving import listen, read_body, run, url_of

_CONNECTIONS = 16_384
_CLIENT_LEFT = 499  # nginx's word for it; nobody is there to read it


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """Where to listen, and what is refused: `max_characters` is of one item, problem and reasoning together.

    A reasoning longer than the model takes is cut and counted; a refusal is for what no policy writes.
    """

    host: str = "127.0.0.1"
    port: int = 8321
    max_items: int = 256
    max_characters: int = 200_000
    max_body_bytes: int = 64 << 20
    queue: QueueSettings = field(default_factory=QueueSettings)


@dataclass(frozen=True, slots=True)
class Served:
    """A reward model to serve: its name, the tokens of a row, and the function that scores items."""

    name: str
    max_length: int
    score: Callable[[Sequence[Item]], Sequence[Score]]


class Refused(Exception):
    """A request that gets no scores: an HTTP status and one sentence."""

    def __init__(self, status: int, reason: str, retry_after_s: int | None = None) -> None:
        super().__init__(reason)
        self.status, self.retry_after_s = status, retry_after_s


def serve(
    model: str, settings: ServeSettings, max_length: int | None = None, template: Template = "recode"
) -> dict[str, Any]:
    """Load a reward model and answer requests until SIGINT or SIGTERM; what was served is returned.

    `template` "chat" is for classifiers of others, which are read through their own chat template; "auto" decides.

    Requests under way are answered before it ends. ConfigError where the address cannot be listened on.
    """
    need("uvicorn", "serve")
    listener = listen(settings.host, settings.port)
    _allow_connections()
    scorer: RewardModelScorer | ChatTemplateScorer
    chat = expects_chat(model, template)
    scorer = ChatTemplateScorer(model, max_length) if chat else RewardModelScorer(model, max_length)
    metrics = Metrics()
    url = url_of(listener)
    print(f"serving {model} at {url}/score (Ctrl-C ends it)", file=sys.stderr, flush=True)
    app = make_app(Served(scorer.name, scorer.max_length, scorer.scores), settings, metrics)
    run(app, listener)
    return {"url": url, "items": metrics.items.total, "requests": metrics.requests.total, "cut": scorer.cut}


def make_app(served: Served, settings: ServeSettings, metrics: Metrics) -> Any:
    """The application: three routes before one thread with the model, which lives as long as the application runs."""
    applications, routing = need("starlette.applications", "serve"), need("starlette.routing", "serve")
    responses = need("starlette.responses", "serve")
    if settings.max_items > settings.queue.queue_items:
        raise ConfigError(
            f"max_items {settings.max_items}: a request of that size never fits a queue of "
            f"{settings.queue.queue_items} items; lower it, or make the queue longer"
        )

    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        app.state.batcher = Batcher(served.score, settings.queue, metrics)
        yield
        await asyncio.to_thread(app.state.batcher.close)

    async def score(request: Any) -> Any:
        start = time.monotonic()
        headers: dict[str, str] = {}
        try:
            status, body = 200, await _scored(request, settings, metrics)
        except Refused as refusal:
            status, body = refusal.status, {"error": str(refusal)}
            if refusal.retry_after_s is not None:
                headers["Retry-After"] = str(refusal.retry_after_s)
        metrics.requests.add(1, str(status))
        metrics.request_seconds.observe(time.monotonic() - start)
        return responses.JSONResponse(body, status, headers)

    async def health(request: Any) -> Any:
        batcher = request.app.state.batcher
        body = {
            "status": "ok" if batcher.running else "stopping",
            "model": served.name,
            "max_length": served.max_length,
            "max_items": settings.max_items,
            "max_characters": settings.max_characters,
            "queue": batcher.waiting,
        }
        return responses.JSONResponse(body, 200 if batcher.running else 503)

    async def text(request: Any) -> Any:
        return responses.PlainTextResponse(metrics.text(request.app.state.batcher.waiting), media_type=CONTENT_TYPE)

    async def unknown(request: Any, error: Any) -> Any:
        said = {404: "no such path; there are POST /score, GET /health, GET /metrics", 405: "another method is wanted"}
        return responses.JSONResponse({"error": said.get(error.status_code, error.detail)}, error.status_code)

    return applications.Starlette(
        routes=[
            routing.Route("/score", score, methods=["POST"]),
            routing.Route("/health", health, methods=["GET"]),
            routing.Route("/metrics", text, methods=["GET"]),
        ],
        lifespan=lifespan,
        exception_handlers={need("starlette.exceptions", "serve").HTTPException: unknown},
    )


async def _scored(request: Any, settings: ServeSettings, metrics: Metrics) -> dict[str, Any]:
    """The answer to a request; Refused where there is none."""
    items = read_items(await _body(request, settings.max_body_bytes), settings)
    try:
        scores = await _while_connected(request, request.app.state.batcher.submit(items))
    except QueueFull as full:
        raise Refused(503, str(full), full.retry_after_s) from None
    except Stopped:
        raise Refused(503, "the server is stopping", 1) from None
    if not all(math.isfinite(score.value) for score in scores):
        raise Refused(500, "the model gave a score that is no number; see to the model")
    cut = sum(score.cut for score in scores)
    metrics.items.add(len(items))
    metrics.cut.add(cut)
    return {"scores": [score.value for score in scores], "cut": cut}


async def _body(request: Any, most: int) -> bytes:
    found = await read_body(request, most)
    if found is None:
        raise Refused(413, f"the request has more than {most} bytes; send fewer items at a time")
    return found


async def _while_connected(request: Any, asked: Any) -> list[Score]:
    """The scores, unless the client leaves: then they are taken out of the queue."""
    answer: asyncio.Future[list[Score]] = asyncio.wrap_future(asked)
    gone = asyncio.ensure_future(request.receive())  # after the body, the only message is that of the end
    try:
        await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise Refused(_CLIENT_LEFT, "the client left")
        error = answer.exception()
        if error is not None:
            raise Refused(500, f"the model failed ({type(error).__name__}: {error})") from error
        return answer.result()
    finally:
        gone.cancel()
        answer.cancel()


def read_items(body: bytes, settings: ServeSettings) -> list[Item]:
    """The items of a request; Refused names the one that cannot be scored, and why."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"the body is no JSON: {error}") from None
    items = found.get("items") if isinstance(found, dict) else None
    if not isinstance(items, list):
        raise Refused(422, 'the body has no list of items; expected {"items": [{"problem": "…", "reasoning": "…"}]}')
    if not items:
        raise Refused(422, "items: the list is empty")
    if len(items) > settings.max_items:
        raise Refused(413, f"items: {len(items)} of them; at most {settings.max_items} are taken at a time")
    return [_item(number, item, settings) for number, item in enumerate(items)]


def _item(number: int, item: Any, settings: ServeSettings) -> Item:
    where = f"items[{number}]"
    if not isinstance(item, dict):
        raise Refused(422, f"{where}: expected an object with problem and reasoning")
    for name in ("problem", "reasoning"):
        value = item.get(name)
        if not isinstance(value, str):
            raise Refused(422, f"{where}.{name}: expected text")
        if not value.strip():
            why = "; a completion without a reasoning has process reward 0" if name == "reasoning" else ""
            raise Refused(422, f"{where}.{name}: empty{why}")
        if not _is_text(value):
            raise Refused(422, f"{where}.{name}: has half of a surrogate pair, which is no character")
    problem, reasoning = item["problem"], item["reasoning"]
    size = len(problem) + len(reasoning)
    if size > settings.max_characters:
        raise Refused(413, f"{where}: {size} characters; at most {settings.max_characters} are taken")
    return problem, reasoning


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _allow_connections() -> None:
    """Raise the limit of open files, which a connection takes one of, as far as this user may; often it is 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _CONNECTIONS if hard == resource.RLIM_INFINITY else min(_CONNECTIONS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))

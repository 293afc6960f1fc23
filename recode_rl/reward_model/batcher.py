"""One thread with the model, and a bounded queue before it: what many requests ask for runs in common batches."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from recode_rl.reward_model.exposition import Metrics
from recode_rl.scorer import Score

Item = tuple[str, str]
Scoring = Callable[[Sequence[Item]], Sequence[Score]]
_LONGEST_RETRY_S = 60


class QueueFull(Exception):
    """There is no room for these items now; `retry_after_s` is when there may be."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"the queue is full; try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class Stopped(Exception):
    """The model is not running (any more)."""


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """`queue_items` may wait; a batch has about `batch_items`, and waits up to `wait_s` for more when it has fewer."""

    queue_items: int = 4096
    batch_items: int = 64
    wait_s: float = 0.005


@dataclass(slots=True)
class _Ask:
    """The items of one request, and where their scores go."""

    items: Sequence[Item]
    answer: Future[list[Score]] = field(default_factory=Future)


class Batcher:
    """Takes items from any thread; the scorer is called from one thread of its own. Close it when done."""

    def __init__(self, score: Scoring, settings: QueueSettings, metrics: Metrics) -> None:
        self._score, self._settings, self._metrics = score, settings, metrics
        self._changed = threading.Condition()
        self._asks: deque[_Ask] = deque()
        self._waiting = 0
        self._closed = False
        self._item_s = 0.0
        self._thread = threading.Thread(target=self._run, name="reward-model", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Items in the queue."""
        return self._waiting

    @property
    def running(self) -> bool:
        """Whether items are taken."""
        return self._thread.is_alive() and not self._closed

    def submit(self, items: Sequence[Item]) -> Future[list[Score]]:
        """The scores to come; cancel them if nobody waits any more. QueueFull or Stopped where they are not taken."""
        with self._changed:
            if self._closed:
                raise Stopped
            if self._waiting + len(items) > self._settings.queue_items:
                raise QueueFull(min(_LONGEST_RETRY_S, max(1, math.ceil(self._waiting * self._item_s))))
            ask = _Ask(items)
            self._asks.append(ask)
            self._waiting += len(items)
            self._changed.notify()
        return ask.answer

    def close(self) -> None:
        """Score what is in the queue, then stop."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while asks := self._next():
            wanted = [ask for ask in asks if ask.answer.set_running_or_notify_cancel()]
            self._metrics.abandoned.add(len(asks) - len(wanted))
            self._answer(wanted)

    def _next(self) -> list[_Ask]:
        """The requests of the next batch, none when it is over."""
        with self._changed:
            while not self._asks and not self._closed:
                self._changed.wait()
            until = time.monotonic() + self._settings.wait_s
            while self._asks and self._waiting < self._settings.batch_items and not self._closed:
                left = until - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            taken: list[_Ask] = []
            size = 0
            while self._asks and (not taken or size + len(self._asks[0].items) <= self._settings.batch_items):
                taken.append(self._asks.popleft())
                size += len(taken[-1].items)
            self._waiting -= size
            return taken

    def _answer(self, asks: list[_Ask]) -> None:
        if not asks:
            return
        items = [item for ask in asks for item in ask.items]
        start = time.monotonic()
        try:
            scores = list(self._score(items))
            if len(scores) != len(items):
                raise RuntimeError(f"{len(scores)} scores for {len(items)} items")
        except Exception as error:  # handed to those who asked; the thread must outlive a bad batch
            self._metrics.failed_batches.add(1)
            if len(asks) == 1:
                asks[0].answer.set_exception(error)
                return
            for ask in asks:  # one request's trouble is not the others'
                self._answer([ask])
            return
        seconds = time.monotonic() - start
        self._item_s = seconds / len(items) if not self._item_s else 0.8 * self._item_s + 0.2 * seconds / len(items)
        self._metrics.batch_items.observe(len(items))
        self._metrics.model_seconds.observe(seconds)
        for ask in asks:
            ask.answer.set_result(scores[: len(ask.items)])
            del scores[: len(ask.items)]

"""Counts and durations of a server, in the text format that Prometheus reads."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Counter:
    """A number that grows, by the value of one label if it has one."""

    def __init__(self, name: str, meaning: str, label: str | None = None) -> None:
        self._name, self._meaning, self._label = name, meaning, label
        self._lock = threading.Lock()
        self._values: dict[str, int] = {} if label else {"": 0}

    def add(self, amount: int, value: str = "") -> None:
        """Add to the count, of that value of the label."""
        with self._lock:
            self._values[value] = self._values.get(value, 0) + amount

    @property
    def total(self) -> int:
        """The count over all values of the label."""
        with self._lock:
            return sum(self._values.values())

    def lines(self) -> Iterator[str]:
        """This metric as text."""
        yield from _head(self._name, self._meaning, "counter")
        with self._lock:
            values = sorted(self._values.items())
        for value, count in values:
            label = f'{{{self._label}="{value}"}}' if self._label else ""
            yield f"{self._name}{label} {count}"


class Histogram:
    """How often a quantity was at most each of some bounds, its sum and its count."""

    def __init__(self, name: str, meaning: str, bounds: Sequence[float]) -> None:
        self._name, self._meaning, self._bounds = name, meaning, bounds
        self._lock = threading.Lock()
        self._counts = [0] * len(bounds)
        self._sum, self._count = 0.0, 0

    def observe(self, value: float) -> None:
        """One more."""
        with self._lock:
            self._sum += value
            self._count += 1
            for index, bound in enumerate(self._bounds):
                self._counts[index] += value <= bound

    def lines(self) -> Iterator[str]:
        """This metric as text."""
        yield from _head(self._name, self._meaning, "histogram")
        with self._lock:
            counts, total, count = list(self._counts), self._sum, self._count
        for bound, below in zip(self._bounds, counts, strict=True):
            yield f'{self._name}_bucket{{le="{bound:g}"}} {below}'
        yield f'{self._name}_bucket{{le="+Inf"}} {count}'
        yield f"{self._name}_sum {total:.6f}"
        yield f"{self._name}_count {count}"


@dataclass(frozen=True, slots=True)
class Metrics:
    """What a reward model's server counts."""

    requests: Counter = field(
        default_factory=lambda: Counter("recode_rm_requests_total", "Requests to /score by HTTP status.", "status")
    )
    items: Counter = field(default_factory=lambda: Counter("recode_rm_items_total", "Items that were scored."))
    cut: Counter = field(
        default_factory=lambda: Counter("recode_rm_cut_total", "Reasonings that lost their middle to fit.")
    )
    abandoned: Counter = field(
        default_factory=lambda: Counter("recode_rm_abandoned_total", "Requests whose client left before their turn.")
    )
    failed_batches: Counter = field(
        default_factory=lambda: Counter("recode_rm_failed_batches_total", "Batches that the model failed on.")
    )
    batch_items: Histogram = field(
        default_factory=lambda: Histogram("recode_rm_batch_items", "Items in a batch of the model.", _SIZES)
    )
    model_seconds: Histogram = field(
        default_factory=lambda: Histogram("recode_rm_model_seconds", "Seconds of a batch in the model.", _SECONDS)
    )
    request_seconds: Histogram = field(
        default_factory=lambda: Histogram("recode_rm_request_seconds", "Seconds from request to answer.", _SECONDS)
    )

    def text(self, waiting: int) -> str:
        """All of them; `waiting` is the number of items in the queue."""
        gauge = [*_head("recode_rm_queue_items", "Items that wait for the model.", "gauge")]
        metrics: list[Counter | Histogram] = [
            self.requests, self.items, self.cut, self.abandoned, self.failed_batches,
            self.batch_items, self.model_seconds, self.request_seconds,
        ]  # fmt: skip
        lines = [line for metric in metrics for line in metric.lines()]
        return "\n".join([*lines, *gauge, f"recode_rm_queue_items {waiting}", ""])


def _head(name: str, meaning: str, kind: str) -> Iterator[str]:
    yield f"# HELP {name} {meaning}"
    yield f"# TYPE {name} {kind}"

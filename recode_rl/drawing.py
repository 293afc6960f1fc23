"""Drawing tokens on a CPU in a fifth of the time: one random number a row instead of one for each of 150,000 tokens."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from recode_rl.extras import need

_lock = threading.Lock()
_open = 0
_original: Callable[..., Any] | None = None


@contextmanager
def quick_draws() -> Iterator[None]:
    """While open, `torch.multinomial` draws one index a row of a CPU matrix by the inverse distribution function.

    `transformers.generate` calls `torch.multinomial` for every token of every row, and torch's own way there draws a
    random number for each entry of the vocabulary, which takes longer than the model when that is small. The
    distribution is the same, but for the rounding of sums in fp64; the random numbers are others. All other calls go to
    torch. It holds for the whole process, and may be opened again, also by other threads, while it is open.
    """
    global _open, _original
    torch: Any = need("torch", "train")
    with _lock:
        if _open == 0:
            _original = torch.multinomial
            torch.multinomial = _quick(torch, _original)
        _open += 1
    try:
        yield
    finally:
        with _lock:
            _open -= 1
            if _open == 0:
                torch.multinomial = _original


def _quick(torch: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    """What stands in for `torch.multinomial`; its arguments have torch's names."""

    def multinomial(input: Any, num_samples: int, replacement: bool = False, **more: Any) -> Any:
        ours = num_samples == 1 and not more and input.dim() == 2
        if not ours or input.device.type != "cpu" or input.dtype != torch.float32:
            return original(input, num_samples, replacement, **more)
        sums = input.cumsum(dim=-1, dtype=torch.float64)
        total = sums[:, -1:]
        if not bool(((total > 0) & total.isfinite()).all()) or bool((input < 0).any()):
            return original(input, num_samples, replacement)  # what is no distribution is torch's to refuse
        # The first index whose sum is above the number has weight itself: one of weight 0 is never drawn.
        drawn = torch.searchsorted(sums, torch.rand_like(total) * total, right=True)
        return drawn.clamp_(max=input.shape[-1] - 1)

    return multinomial

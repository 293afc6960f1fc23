"""Generation on a CPU with and without quick draws, and the draws alone, on the same work in one run.

    python bench/drawing.py --model models/smollm2-135m --json

The named alternative is `torch.multinomial`, which `transformers.generate` calls for each token. Both take turns,
several times; medians count. `ratio` is tokens per second with quick draws over without, `draw_ratio` the same of the
draws alone.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch

from recode_rl import models
from recode_rl.drawing import quick_draws
from recode_rl.extras import quiet_transformers

WAYS: dict[str, Callable[[], AbstractContextManager[None]]] = {"torch": contextlib.nullcontext, "quick": quick_draws}


def generate(model: Any, ids: Any, tokens: int) -> float:
    """Seconds of generating `tokens` tokens for every row."""
    start = time.perf_counter()
    with torch.no_grad():
        model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, min_new_tokens=tokens,
            do_sample=True, top_k=0, pad_token_id=0,
        )  # fmt: skip
    return time.perf_counter() - start


def draw(weights: Any) -> float:
    """Seconds of one draw for every row."""
    start = time.perf_counter()
    torch.multinomial(weights, num_samples=1)
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--rows", type=int, default=32, help="sequences generated at a time")
    parser.add_argument("--prompt", type=int, default=200, help="tokens of the prompt")
    parser.add_argument("--tokens", type=int, default=32, help="tokens generated for each")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    quiet_transformers()
    torch.manual_seed(0)
    model = models.load_causal(options.model, "bfloat16").eval()
    vocabulary = model.config.get_text_config().vocab_size
    ids = torch.randint(0, vocabulary, (options.rows, options.prompt))
    weights = torch.softmax(torch.randn(options.rows, vocabulary), dim=-1)
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    draws: dict[str, list[float]] = {way: [] for way in WAYS}
    for repeat in range(options.repeat + 1):
        for way, opened in WAYS.items():
            with opened():
                times = generate(model, ids, options.tokens), draw(weights)
            if repeat:  # the first round warms up
                seconds[way].append(times[0])
                draws[way].append(times[1])
    tokens = options.rows * options.tokens
    result: dict[str, Any] = {
        "model": options.model,
        "rows": options.rows,
        "vocabulary": vocabulary,
        "tokens_per_s": {way: round(tokens / statistics.median(found), 1) for way, found in seconds.items()},
        "draw_ms": {way: round(1e3 * statistics.median(found), 2) for way, found in draws.items()},
    }
    result["ratio"] = round(result["tokens_per_s"]["quick"] / result["tokens_per_s"]["torch"], 2)
    result["draw_ratio"] = round(result["draw_ms"]["torch"] / result["draw_ms"]["quick"], 2)
    print(json.dumps(result) if options.json else json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

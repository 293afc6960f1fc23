"""Generation on a CPU with and without `quick_generation`, and the draws alone, on the same work in one run.

    python bench/generation.py --model models/smollm2-135m --json

The named alternative is transformers as it is. The work is that of a step of training: each prompt stands in `--group`
rows, whose completions end at even distances, the first after a quarter of `--tokens`. Both take turns, several times;
medians count. `ratio` is the seconds of transformers over ours, `ratio_full` the same where all rows have all tokens,
`ratio_alone` where each row has a prompt of its own besides, and `draw_ratio` that of `torch.multinomial` alone.
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
from recode_rl.extras import quiet_transformers
from recode_rl.quick import quick_generation

WAYS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "transformers": contextlib.nullcontext,
    "quick": quick_generation,
}


def generate(model: Any, ids: Any, tokens: int, first: int) -> float:
    """Seconds of generating for every row: `first` tokens for the first of them, `tokens` for the last."""
    lengths = ids.shape[1] + torch.linspace(first, tokens, len(ids)).round()

    def ended(found: Any, scores: Any, **more: Any) -> Any:
        return lengths <= found.shape[1]

    start = time.perf_counter()
    with torch.no_grad():
        model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, min_new_tokens=tokens,
            do_sample=True, top_k=0, pad_token_id=0, stopping_criteria=[ended],
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
    parser.add_argument("--group", type=int, default=8, help="of them with one prompt")
    parser.add_argument("--prompt", type=int, default=300, help="tokens of the prompt")
    parser.add_argument("--tokens", type=int, default=96, help="tokens generated for each")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    quiet_transformers()
    torch.manual_seed(0)
    model = models.load_causal(options.model, "bfloat16").eval()
    vocabulary = model.config.get_text_config().vocab_size
    ids = torch.randint(0, vocabulary, (options.rows, options.prompt))
    grouped = ids[: options.rows // options.group].repeat_interleave(options.group, dim=0)
    weights = torch.softmax(torch.randn(options.rows, vocabulary), dim=-1)
    work: dict[str, Callable[[], float]] = {
        "ending": lambda: generate(model, grouped, options.tokens, options.tokens // 4),
        "grouped": lambda: generate(model, grouped, options.tokens, options.tokens),
        "alone": lambda: generate(model, ids, options.tokens, options.tokens),
        "draw": lambda: draw(weights),
    }
    seconds: dict[tuple[str, str], list[float]] = {(part, way): [] for part in work for way in WAYS}
    for repeat in range(options.repeat + 1):
        for way, opened in WAYS.items():
            for part, run in work.items():
                with opened():
                    taken = run()
                if repeat:  # the first round warms up
                    seconds[part, way].append(taken)
    median = {key: statistics.median(found) for key, found in seconds.items()}
    result: dict[str, Any] = {
        "model": options.model,
        "rows": options.rows,
        "group": options.group,
        "prompt": options.prompt,
        "tokens": options.tokens,
        "vocabulary": vocabulary,
        "seconds": {part: {way: round(median[part, way], 4) for way in WAYS} for part in work},
    }
    names = {
        "ending": "ratio",
        "grouped": "ratio_full",
        "alone": "ratio_alone",
        "draw": "draw_ratio",
    }
    for part, name in names.items():
        result[name] = round(median[part, "transformers"] / median[part, "quick"], 2)
    print(json.dumps(result) if options.json else json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

"""The probabilities and gradients of a CG-GRPO step on a CPU, as this project and as TRL computes them, in one run.

    python bench/update.py --model models/smollm2-135m --json

The named alternative is TRL's GRPOTrainer, with this project's settings of it (`training.lean_head`,
`training.keep_freed_memory`). The work is the update of one generation batch: every row forwards and backwards once, in
passes of `--micro` rows. Completions end at lengths drawn evenly from a quarter of `--tokens` to all of them; TRL's
rows are shuffled and padded, as its trainer has them. In `--even` of the groups all earn the same, so that no row of
theirs has an advantage. Both take turns, several times; medians count. `ratio` is TRL's seconds over ours.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import torch
import trl
from trl.trainer.utils import add_fused_lm_head

from recode_rl import models, training
from recode_rl.extras import quiet_transformers
from recode_rl.policy import packing


def rows(options: argparse.Namespace, vocabulary: int) -> list[tuple[list[int], list[int]]]:
    """Prompt and completion of every row, those of one prompt next to each other."""
    drawn = random.Random(0)

    def text(tokens: int) -> list[int]:
        return [drawn.randrange(vocabulary) for _ in range(tokens)]

    prompts = [text(options.prompt) for _ in range(options.rows // options.group)]
    return [
        (prompt, text(drawn.randint(options.tokens // 4, options.tokens)))
        for prompt in prompts
        for _ in range(options.group)
    ]


def padded(found: list[tuple[list[int], list[int]]]) -> tuple[Any, Any, int]:
    """Ids, mask, and the width of completions."""
    before, behind = (max(len(row[side]) for row in found) for side in (0, 1))
    ids, mask = [], []
    for prompt, completion in found:
        left, right = before - len(prompt), behind - len(completion)
        ids.append([0] * left + prompt + completion + [0] * right)
        mask.append([0] * left + [1] * (len(prompt) + len(completion)) + [0] * right)
    return torch.tensor(ids), torch.tensor(mask), behind


def update(trainer: Any, batch: tuple[Any, Any, int], advantages: Any, micro: int) -> float:
    """Seconds of all forward and backward passes."""
    ids, mask, behind = batch
    start = time.perf_counter()
    trainer.model.zero_grad()
    for part_ids, part_mask, weights in zip(*(each.split(micro) for each in (ids, mask, advantages)), strict=True):
        trainer._learning = weights.ne(0)
        logps, _, _ = trainer._get_per_token_logps_and_entropies(
            trainer.model, part_ids, part_mask, behind, compute_entropy=True
        )
        (logps * part_mask[:, -behind:] * weights[:, None]).mean().backward()
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--rows", type=int, default=32, help="completions of a generation batch")
    parser.add_argument("--group", type=int, default=8, help="of them with one prompt")
    parser.add_argument("--prompt", type=int, default=150, help="tokens of the prompt")
    parser.add_argument("--tokens", type=int, default=256, help="of the longest completion")
    parser.add_argument("--even", type=float, default=0.0, help="share of groups in which all earned the same")
    parser.add_argument("--micro", type=int, default=2, help="rows of a forward pass")
    parser.add_argument("--our-micro", type=int, help="the same for the packed way; none: as many")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    quiet_transformers()
    training.keep_freed_memory()
    training.lean_head()
    torch.manual_seed(0)
    model = models.load_causal(options.model, "bfloat16").train()
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    found = rows(options, model.config.vocab_size)
    learning = options.rows - round(options.even * (options.rows // options.group)) * options.group
    advantages = torch.tensor([1.0] * learning + [0.0] * (options.rows - learning))
    shuffled = random.Random(1).sample(range(len(found)), len(found))
    work = {
        "trl": (trl.GRPOTrainer, padded([found[row] for row in shuffled]), advantages[shuffled], options.micro),
        "packed": (packing.trainer_class(), padded(found), advantages, options.our_micro or options.micro),
    }
    seconds: dict[str, list[float]] = {way: [] for way in work}
    for repeat in range(options.repeat + 1):
        for way, (kind, batch, weights, micro) in work.items():
            trainer: Any = object.__new__(kind)  # its methods alone: the set-up wants data and rewards
            trainer.model = model
            trainer.accelerator = SimpleNamespace(autocast=nullcontext, is_main_process=False)
            taken = update(trainer, batch, weights, micro)
            if repeat:  # the first round warms up
                seconds[way].append(taken)
    median = {way: round(statistics.median(taken), 3) for way, taken in seconds.items()}
    result = {
        "model": options.model,
        **{name: getattr(options, name) for name in ("rows", "group", "prompt", "tokens", "even")},
        "micro": {way: micro for way, (*_, micro) in work.items()},
        "completion_tokens": sum(len(completion) for _, completion in found),
        "seconds": median,
        "ratio": round(median["trl"] / median["packed"], 2),
    }
    print(json.dumps(result) if options.json else json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

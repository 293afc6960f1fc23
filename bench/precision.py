"""Training and generation in the three precisions that recipes offer, on the same work in one run.

    python bench/precision.py --model models/smollm2-135m --json

Each precision trains one batch and generates one batch, in turn, several times; the median tokens per second count.
`ratio` is training with "bf16-master" over training with "fp32".
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

import torch

from recode_rl import models, training
from recode_rl.config import Precision
from recode_rl.extras import quiet_transformers

PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16-autocast", "bf16-master")


class Subject:
    """A model with its optimizer in one precision."""

    def __init__(self, model: str, precision: Precision) -> None:
        self.model = models.load_causal(model, training.model_dtype(precision)).train()
        self.autocast = precision == "bf16-autocast"
        own, _ = training.optimizers(self.model, precision, 1e-6, 0.0)
        self.optimizer = own or torch.optim.AdamW(self.model.parameters(), lr=1e-6)

    def train(self, ids: Any) -> float:
        """Seconds of one update: forward, backward, optimizer step."""
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
            loss = self.model(input_ids=ids, labels=ids).loss
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return time.perf_counter() - start

    def generate(self, ids: Any, tokens: int) -> float:
        """Seconds of generating `tokens` tokens for every row."""
        start = time.perf_counter()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
            self.model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, min_new_tokens=tokens,
                do_sample=True, pad_token_id=0,
            )  # fmt: skip
        return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--rows", type=int, default=8, help="sequences in a training batch")
    parser.add_argument("--length", type=int, default=256, help="tokens in a training sequence")
    parser.add_argument("--prompts", type=int, default=32, help="sequences in a generation batch")
    parser.add_argument("--tokens", type=int, default=48, help="tokens generated per sequence")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="end with one JSON object that has `ratio`")
    options = parser.parse_args()
    quiet_transformers()
    torch.manual_seed(0)
    batch = torch.randint(100, 400, (options.rows, options.length))
    prompts = torch.randint(100, 400, (options.prompts, 100))
    trained: dict[str, list[float]] = {name: [] for name in PRECISIONS}
    generated: dict[str, list[float]] = {name: [] for name in PRECISIONS}
    for round_number in range(options.rounds + 1):
        for precision in PRECISIONS:  # in turn, so that a noisy minute does not hit one precision alone
            subject = Subject(options.model, precision)
            subject.train(batch)
            if round_number:  # the first round warms up
                trained[precision].append(batch.numel() / subject.train(batch))
                subject.model.eval()
                seconds = subject.generate(prompts, options.tokens)
                generated[precision].append(options.prompts * options.tokens / seconds)
    rows = {
        name: {
            "train_tokens_per_s": round(statistics.median(trained[name]), 1),
            "generate_tokens_per_s": round(statistics.median(generated[name]), 1),
        }
        for name in PRECISIONS
    }
    for name, row in rows.items():
        print(
            f"{name:14} train {row['train_tokens_per_s']:8.1f}  generate {row['generate_tokens_per_s']:8.1f} tokens/s"
        )
    if options.json:
        ratio = rows["bf16-master"]["train_tokens_per_s"] / rows["fp32"]["train_tokens_per_s"]
        print(json.dumps({"ratio": round(ratio, 3), "against": "fp32", "precisions": rows}))


if __name__ == "__main__":
    main()

"""The process reward of one group in three ways, on the same completions in one run.

    python bench/scoring.py --model models/qwen2.5-coder-0.5b --json

    ours     the consistency gate first: reasonings of failed programs are not scored; the others share their prompt
    plain    one padded batch of (problem, reasoning) over the whole group
    trl      what GRPOTrainer of TRL does with a reward model in `reward_funcs`: one padded batch of prompt and whole
             completion, every sample (the text of the problem stands for the prompt, without a chat template, which
             is the least that this way can have to do)

The ways take turns; the median of the rounds counts. `ratio` is plain over ours, `ratio_trl` is trl over ours, by the
clock; `ratio_cpu` is plain over ours in seconds of the processor, which other work on the machine disturbs less.
A model without a score head gets a random one: the work is the same. `greatest_difference` is between the raw scores of
ours and of plain, over the reasonings that ours scores.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from recode_rl import completion as completions
from recode_rl import models
from recode_rl.extras import quiet_transformers
from recode_rl.reward import Scored, find_rule, price
from recode_rl.scorer import Loaded, RewardModelScorer, encode
from recode_rl.types import Problem, Tests, Verdict

RULE = find_rule("consistency_gated")
STATEMENT = (
    "You are given an array of n integers and q queries.", "For each query print the smallest index that satisfies it.",
    "The first line holds n and q, the second line the array.", "It is guaranteed that the values fit into 32 bits.",
    "If there is no such index, print -1 instead.", "Two elements are close when they differ by at most k.",
    "The sum of n over all test cases is at most 200000.", "Note that the array may hold equal elements.",
)  # fmt: skip
THOUGHTS = (
    "First I sort the indices by value, so that equal elements stand together.", "Brute force takes n squared steps.",
    "With a prefix sum each query is answered in constant time.", "The empty array is an edge case that prints -1.",
    "Walking through the example, the pointer moves from 2 to 5.", "Wait, the bound is inclusive, so I add one to it.",
    "A heap keeps the largest of the k elements seen so far.", "This takes n log n time and n memory, which fits.",
    "The invariant holds because each element enters and leaves once.", "Next I check what happens when k is zero.",
)  # fmt: skip
PROGRAM = """\
import sys
from bisect import bisect_left


def main():
    data = list(map(int, sys.stdin.read().split()))
    n, q = data[0], data[1]
    values = sorted(data[2:2 + n])
    answers = []
    for wanted in data[2 + n:2 + n + q]:
        place = bisect_left(values, wanted)
        answers.append(place + 1 if place < n and values[place] == wanted else -1)
    print("\\n".join(map(str, answers)))


main()
"""


@dataclass(frozen=True, slots=True)
class Group:
    """One problem, what the policy wrote for it, and what the tests said."""

    problem: Problem
    texts: list[str]
    verdicts: list[Verdict]

    @property
    def reasonings(self) -> list[str]:
        """The think blocks."""
        return [str(completions.parse(text).reasoning) for text in self.texts]

    @property
    def passing(self) -> list[int]:
        """Indices of the samples that passed."""
        return [index for index, verdict in enumerate(self.verdicts) if verdict.passed]


@dataclass(frozen=True, slots=True)
class Sizes:
    """Tokens of the prompt and of a reasoning (spread evenly by a share of it), samples, and how many of them pass."""

    prompt: int
    reasoning: int
    spread: float
    samples: int
    passing: int


def make_group(tokenizer: Any, sizes: Sizes, seed: int) -> Group:
    """Made-up text of the wanted size; passing and failing samples alternate, lengths are spread alike over both."""
    draw = random.Random(seed)
    statement = text_of(tokenizer, STATEMENT, sizes.prompt, draw)
    steps = [1 + sizes.spread * (2 * (n + 0.5) / sizes.samples - 1) for n in range(sizes.samples)]
    texts = [
        f"<think>\n{text_of(tokenizer, THOUGHTS, round(sizes.reasoning * step), draw)}\n</think>\n"
        f"<answer>\n```python\n{PROGRAM}```\n</answer>"
        for step in steps
    ]
    passes = [(n + 1) * sizes.passing // sizes.samples > n * sizes.passing // sizes.samples for n in range(len(texts))]
    verdicts = [Verdict("passed" if passed else "wrong_answer", int(passed), 1, "stdio") for passed in passes]
    return Group(Problem("bench/0", statement, Tests("stdio")), texts, verdicts)


def text_of(tokenizer: Any, sentences: tuple[str, ...], tokens: int, draw: random.Random) -> str:
    """Sentences at random, cut to about that many tokens."""
    text = " ".join(draw.choices(sentences, k=max(1, tokens // 4)))
    return str(tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"][:tokens])).strip()


class Subject:
    """A reward model and the three ways to ask it."""

    def __init__(self, loaded: Loaded, max_length: int) -> None:
        self.model, self.tokenizer, self.max_length = loaded.model, loaded.tokenizer, max_length
        self.scorer = RewardModelScorer(loaded, max_length)
        self.ways: dict[str, Callable[[Group], list[float]]] = {"ours": self.ours, "plain": self.plain, "trl": self.trl}

    def ours(self, group: Group) -> list[float]:
        """Process rewards of the samples that passed, as a training step gets them."""
        parsed = [completions.parse(text) for text in group.texts]
        found = price(RULE, self.scorer, [group.problem] * len(parsed), parsed, group.verdicts)
        return [each.reward.process for each in found if isinstance(each, Scored) and each.reward.process is not None]

    def plain(self, group: Group) -> list[float]:
        """Raw scores of all reasonings in one padded batch."""
        statement, pad = group.problem.prompt, self.tokenizer.pad_token_id
        rows = [encode(self.tokenizer, statement, text, self.max_length).ids for text in group.reasonings]
        width = max(map(len, rows))
        ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows], device=self.model.device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=self.model.device)
        with torch.inference_mode():
            logits = self.model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, 0]
        return [float(value) for value in logits]

    def trl(self, group: Group) -> list[float]:
        """Raw scores of prompt and completion, as in `GRPOTrainer._calculate_rewards` of TRL 1.16."""
        texts = [group.problem.prompt + text for text in group.texts]
        inputs = self.tokenizer(
            text=texts, return_tensors="pt", padding=True, padding_side="right", add_special_tokens=False
        ).to(self.model.device)
        with torch.inference_mode():
            logits = self.model(**inputs).logits[:, 0]
        return [float(value) for value in logits]

    @contextmanager
    def counting(self) -> Iterator[list[int]]:
        """Tokens, padding included, of each call of the backbone."""
        seen: list[int] = []
        hook = self.model.base_model.register_forward_pre_hook(
            lambda module, args, kwargs: seen.append((args[0] if args else kwargs["input_ids"]).numel()),
            with_kwargs=True,
        )
        try:
            yield seen
        finally:
            hook.remove()


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of the clock and of the processor, and tokens with their padding."""

    wall: float
    cpu: float
    tokens: int


def measure(subject: Subject, group: Group, rounds: int) -> dict[str, list[Cost]]:
    """What each way took in each round; the ways take turns, each round beginning with another."""
    costs: dict[str, list[Cost]] = {name: [] for name in subject.ways}
    names = list(subject.ways)
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            synchronise()
            wall, cpu = time.perf_counter(), time.process_time()
            with subject.counting() as tokens:
                subject.ways[name](group)
            synchronise()
            costs[name].append(Cost(time.perf_counter() - wall, time.process_time() - cpu, sum(tokens)))
    return costs


def synchronise() -> None:
    """Wait for the accelerator, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def greatest_difference(subject: Subject, group: Group) -> float:
    """Between the raw scores of ours and of plain, over the reasonings that ours scores."""
    plain = subject.plain(group)
    asked = [(group.problem.prompt, group.reasonings[index]) for index in group.passing]
    ours = subject.scorer.logits(asked)
    return max(abs(a - plain[index]) for a, index in zip(ours, group.passing, strict=True))


def load(model: str) -> Loaded:
    """The reward model, or a language model with a head that is random."""
    return Loaded(models.load_sequence_classifier(model, seed=0), models.load_tokenizer(model), model)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder or hub id of a sequence classifier or language model")
    parser.add_argument("--prompt-tokens", type=int, default=400)
    parser.add_argument("--reasoning-tokens", type=int, default=250)
    parser.add_argument("--spread", type=float, default=0.1, help="lengths of reasonings differ by this share")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--passing", type=int, default=4)
    parser.add_argument("--max-length", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, help="of the processor; default: what torch takes")
    parser.add_argument("--json", action="store_true", help="end with one JSON object that has `ratio`")
    options = parser.parse_args()
    quiet_transformers()
    if options.threads:
        torch.set_num_threads(options.threads)
    sizes = Sizes(options.prompt_tokens, options.reasoning_tokens, options.spread, options.samples, options.passing)
    subject = Subject(load(options.model), options.max_length)
    group = make_group(subject.tokenizer, sizes, seed=0)
    small = make_group(subject.tokenizer, Sizes(24, 12, 0.0, sizes.samples, sizes.passing), seed=1)
    for way in subject.ways.values():  # warm-up: the check whether the model can share prompts is made here
        way(small)
    costs = measure(subject, group, options.rounds)
    tokens = {name: found[0].tokens for name, found in costs.items()}
    medians = {name: statistics.median(cost.wall for cost in found) for name, found in costs.items()}
    cpu = {name: statistics.median(cost.cpu for cost in found) for name, found in costs.items()}
    per_round = [b.wall / a.wall for a, b in zip(costs["ours"], costs["plain"], strict=True)]
    for name, median in medians.items():
        print(f"{name:6} {median:8.3f} s  {tokens[name]:6} tokens  {medians['plain'] / median:5.2f}x plain")
    print(f"plain over ours in each round: {', '.join(f'{each:.2f}' for each in per_round)}")
    if options.json:
        prompt = encode(subject.tokenizer, group.problem.prompt, "", options.max_length).prompt
        lengths = [len(subject.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in group.reasonings]
        print(json.dumps({
            "ratio": round(medians["plain"] / medians["ours"], 3),
            "against": "plain",
            "ratio_trl": round(medians["trl"] / medians["ours"], 3),
            "ratio_cpu": round(cpu["plain"] / cpu["ours"], 3),
            "ratio_of_rounds": [round(each, 3) for each in per_round],
            "ratio_of_tokens": round(tokens["plain"] / tokens["ours"], 3),
            "greatest_difference": greatest_difference(subject, group),
            "seconds": {name: round(value, 4) for name, value in medians.items()},
            "cpu_seconds": {name: round(value, 4) for name, value in cpu.items()},
            "tokens": tokens,
            "prompt_tokens": prompt,
            "reasoning_tokens": lengths,
            "passing": len(group.passing),
            "shared": subject.scorer.plain_because is None,
            "device": str(subject.model.device),
            "threads": torch.get_num_threads(),
        }))  # fmt: skip


if __name__ == "__main__":
    main()

"""What the process reward costs: a CG-GRPO step against an outcome-only step, in turns in one training run.

    python bench/step.py --policy models/smollm2-135m --json

It is the project's own TRL run, `recode_rl.policy.trl`: real generation of a fixed number of tokens, real programs in
the real sandbox, a real reward model of the policy's size, real updates. One thing stands in: a small model's
completions do not pass tests, so behind generation each is replaced by a text with a reasoning of `--reasoning-tokens`
and a program, of which a share of `--open` in each group passes. The first of each pair of steps is gated and
outcome-only in turn, and the first pair is warm-up.

`ratio` is the median gated step over the median outcome-only step; `stages` has the medians of each stage in seconds.
`reward` is the time that the update waits for rewards; `grade` and `score` overlap in it. Without --reward-model the
policy itself gets a random score head: the work is the same. The monitor, which scores a few samples more, is off.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from recode_rl import jsonl, models, prompts
from recode_rl.config import TrainConfig, build
from recode_rl.errors import InfrastructureError, ReCodeError
from recode_rl.extras import quiet_transformers
from recode_rl.policy import trl
from recode_rl.problems.records import problem_to_record
from recode_rl.reward import Grades, Reward, Scored, Scorer, find_rule
from recode_rl.sampling import chat_ids
from recode_rl.types import Problem, Tests

GATED, PLAIN = "consistency_gated", "outcome_only"
STAGES = ("generate", "reward", "grade", "score", "update", "step")
WORDS = (
    "first the values are sorted so that equal ones stand together and a pointer moves over them once more "
    "an empty list gives zero while the bound is inclusive so one is added after each query of the second line"
)
PROGRAM = """\
import sys
from bisect import bisect_left

data = list(map(int, sys.stdin.read().split()))
n, q = data[0], data[1]
values = sorted(data[2 : 2 + n])
for wanted in data[2 + n : 2 + n + q]:
    place = bisect_left(values, wanted)
    print(place + 1 if place < n and values[place] == wanted else {missing})
"""


def order(rounds: int) -> list[str]:
    """The rule of each step: warm-up of both, then pairs whose order is turned each time."""
    pairs = [(GATED, PLAIN) if number % 2 == 0 else (PLAIN, GATED) for number in range(rounds + 1)]
    return [rule for pair in pairs for rule in pair]


def problem(number: int, tokenizer: Any, tokens: int) -> Problem:
    """A problem with ten tests and a statement of about that many tokens."""
    draw = random.Random(number)
    cases = []
    for _ in range(10):
        values, asked = draw.sample(range(10_000), 200), draw.sample(range(10_000), 50)
        place = {value: index + 1 for index, value in enumerate(sorted(values))}
        lines = [f"{len(values)} {len(asked)}", " ".join(map(str, values)), " ".join(map(str, asked))]
        expected = "\n".join(str(place.get(value, -1)) for value in asked)
        cases.append({"input": "\n".join(lines) + "\n", "output": expected + "\n"})
    statement = f"Problem {number}: {text_of(tokenizer, tokens, draw)}"
    return Problem(f"bench/{number}", statement, Tests("stdio", tuple(cases)), metadata={"split": "train"})


def text_of(tokenizer: Any, tokens: int, draw: random.Random) -> str:
    """Words at random, cut to that many tokens."""
    ids = tokenizer(" ".join(draw.choices(WORDS.split(), k=tokens)), add_special_tokens=False)["input_ids"]
    return str(tokenizer.decode(ids[:tokens])).strip()


class TakingTurns(Reward):
    """The reward of stand-ins for what was generated, by one rule and the other in turn."""

    rules: Sequence[str]
    tokenizer: Any
    reasoning_tokens: int
    open_share: float
    overlap: bool

    def __init__(self, rule: str, grader: Grades, scorer: Scorer | None = None) -> None:
        super().__init__(rule, grader, scorer)
        self.steps = 0

    def score_overlapped(self, batch: Sequence[tuple[Problem, str]]) -> list[Scored | InfrastructureError]:
        """As in training, on other texts."""
        self.rule = find_rule(self.rules[self.steps])
        self.steps += 1
        seen: dict[str, int] = {}
        texts = []
        for number, (asked, _) in enumerate(batch):
            place = seen[asked.id] = seen.get(asked.id, -1) + 1
            group = sum(other.id == asked.id for other, _ in batch)
            passes = place < round(self.open_share * group)
            texts.append((asked, self._text(passes, random.Random(1000 * self.steps + number))))
        return super().score_overlapped(texts) if self.overlap else self.score(texts)

    def _text(self, passes: bool, draw: random.Random) -> str:
        reasoning = text_of(self.tokenizer, self.reasoning_tokens, draw)
        program = PROGRAM.format(missing=-1 if passes else 0)
        return f"<think>\n{reasoning}\n</think>\n<answer>\n```python\n{program}```\n</answer>"


def reward_folder(options: argparse.Namespace, policy: str, folder: Path) -> str:
    """The reward model, or one made of the policy with a random head."""
    if options.reward_model:
        return str(options.reward_model)
    model, tokenizer = models.load_sequence_classifier(policy, seed=0), models.load_tokenizer(policy)
    models.save_whole(model, tokenizer, folder)
    return str(folder)


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Train, and return the run's numbers."""
    policy = models.resolve(options.policy)
    tokenizer = models.load_tokenizer(policy)
    problems = [problem(number, tokenizer, options.prompt_tokens) for number in range(options.prompts)]
    jsonl.write(folder / "problems.jsonl", map(problem_to_record, problems))
    longest = max(len(chat_ids(tokenizer, prompts.policy(each))) for each in problems)
    rules = order(options.rounds)
    TakingTurns.rules, TakingTurns.tokenizer = rules, tokenizer
    TakingTurns.reasoning_tokens, TakingTurns.open_share = options.reasoning_tokens, options.open
    TakingTurns.overlap = not options.no_overlap
    config = build(
        TrainConfig,
        {
            "model": policy,
            "out": str(folder / "run"),
            "data": {"dataset": "file", "path": str(folder / "problems.jsonl"), "max_prompt_tokens": longest},
            "reward": {"rule": GATED, "model": reward_folder(options, policy, folder / "reward")},
            "grpo": {
                "steps": len(rules),
                "prompts_per_step": options.prompts,
                "group_size": options.group,
                "updates_per_batch": options.updates,
                "micro_batch": options.micro_batch,
                "max_completion_tokens": options.completion_tokens,
                "precision": options.precision,
            },
            "evaluation": {"every": 0},
            "monitor": {"enabled": False},
            "save_every": len(rules),
        },
        "bench/step.py",
    )
    return numbers(train(config), rules, config)


def train(config: TrainConfig) -> list[dict[str, Any]]:
    """The run, with stand-ins for its completions and as many tokens in each: the lines of its metrics.jsonl."""
    arguments, reward = trl._arguments, trl.Reward

    def fixed_length(config: TrainConfig) -> Any:
        made = arguments(config)
        made.generation_kwargs = {"min_new_tokens": config.grpo.max_completion_tokens}
        return made

    trl._arguments, trl.Reward = fixed_length, TakingTurns  # type: ignore[misc]
    try:
        trl.train(config, "bench")
    finally:
        trl._arguments, trl.Reward = arguments, reward  # type: ignore[misc]
    return [record for _, record in jsonl.read(config.out / "metrics.jsonl")]


def numbers(lines: Sequence[dict[str, Any]], rules: Sequence[str], config: TrainConfig) -> dict[str, Any]:
    """What is printed: medians of the steps behind the warm-up."""
    kept = list(zip(rules, lines, strict=True))[2:]
    stages = {
        rule: {
            stage: round(statistics.median(line[f"time/{stage}_s"] for name, line in kept if name == rule), 4)
            for stage in STAGES
        }
        for rule in (GATED, PLAIN)
    }
    pairs = [dict(kept[start : start + 2]) for start in range(0, len(kept), 2)]
    gated = [line for rule, line in kept if rule == GATED]
    return {
        "ratio": round(stages[GATED]["step"] / stages[PLAIN]["step"], 4),
        "against": PLAIN,
        "ratio_of_rounds": [round(pair[GATED]["time/step_s"] / pair[PLAIN]["time/step_s"], 4) for pair in pairs],
        "stages": stages,
        "open_share": statistics.fmean(line["gate/open_share"] for line in gated),
        "tokens": {
            "completion": statistics.fmean(line["tokens/completion_mean"] for line in gated),
            "reasoning": TakingTurns.reasoning_tokens,
        },
        "completions_per_step": config.grpo.prompts_per_step * config.grpo.group_size,
        "overlapped": TakingTurns.overlap,
        "updates_per_step": config.grpo.updates_per_batch,
        "precision": config.grpo.precision,
        "device": models.device(),
        "threads": torch.get_num_threads(),
    }


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--policy", default="smollm2-135m", help="folder, hub id or known name of a chat model")
    made.add_argument("--reward-model", help="folder of a reward model; default: the policy with a random head")
    made.add_argument("--prompt-tokens", type=int, default=300)
    made.add_argument("--completion-tokens", type=int, default=256)
    made.add_argument("--reasoning-tokens", type=int, default=160)
    made.add_argument("--open", type=float, default=0.5, help="share of each group that passes")
    made.add_argument(
        "--no-overlap", action="store_true", help="score behind grading, to see what the overlap is worth"
    )
    made.add_argument("--prompts", type=int, default=4)
    made.add_argument("--group", type=int, default=8)
    made.add_argument("--updates", type=int, default=2)
    made.add_argument("--micro-batch", type=int, default=4)
    made.add_argument("--precision", default="bf16-master")
    made.add_argument("--rounds", type=int, default=4, help="steps of each kind behind the warm-up")
    made.add_argument("--threads", type=int, help="of the processor; default: what torch takes")
    made.add_argument("--json", action="store_true", help="end with one JSON object that has `ratio`")
    return made


def main() -> None:
    """Measure and print."""
    options = parser().parse_args()
    quiet_transformers()
    if options.threads:
        torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory(prefix="recode-bench-") as folder:
        try:
            found = run(options, Path(folder))
        except ReCodeError as error:
            raise SystemExit(f"bench/step.py: {error}") from None
    print(f"{'':18}" + "".join(f"{stage:>10}" for stage in STAGES))
    for rule, seconds in found["stages"].items():
        print(f"{rule:18}" + "".join(f"{seconds[stage]:9.2f}s" for stage in STAGES))
    print(f"ratio {found['ratio']:.3f}; of rounds: {', '.join(f'{each:.3f}' for each in found['ratio_of_rounds'])}")
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()

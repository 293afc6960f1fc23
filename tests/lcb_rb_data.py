"""Problems, samples and decisions for tests of LCB-RB."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recode_rl import jsonl
from recode_rl.completion import render
from recode_rl.lcb_rb.records import Decision
from recode_rl.problems.records import write_problems
from recode_rl.types import Problem, Sample
from recode_rl.types import Tests as ProblemTests

STATEMENT = r"""You are given $n$ integers ($1 \le n \le 10^5$). Print the sum of those that are **positive**.

\[ s = \sum_{i=1}^{n} \max(a_i, 0) \]

| input | output |
|------:|:------:|
| `3`   | `3`    |
"""
REASONING = """First read the numbers. A number counts when $a_i > 0$, so zero changes nothing.

1. Keep a running sum $s$.
2. Add each $a_i > 0$ to it.

On `1 -2 3` this gives 4. One pass takes $O(n)$ time."""
PROGRAM = """import sys


def main():
    # all numbers behind the first
    numbers = map(int, sys.stdin.read().split()[1:])
    print(sum(n for n in numbers if n > 0))


main()
"""


def problem(name: str, date: str | None = None, prompt: str = STATEMENT) -> Problem:
    tests = ProblemTests("stdio", cases=({"input": "3\n1 -2 3\n", "output": "4\n"},), compare="lines")
    return Problem(name, prompt, tests, source="starter", date=date, difficulty="easy")


def sample(name: str, number: int, reasoning: str | None = None, program: str = PROGRAM) -> Sample:
    text = f"{REASONING} Way number {number} of {name}." if reasoning is None else reasoning
    return Sample(name, str(number), completion=render(text, program), model="tiny-model")


def write_samples(path: Path, samples: Sequence[Sample]) -> None:
    jsonl.write(
        path,
        (
            {"problem_id": s.problem_id, "sample_id": s.sample_id, "completion": s.completion, "model": s.model}
            for s in samples
        ),
    )


def write_world(folder: Path, problems: int = 3, samples: int = 4) -> tuple[Path, Path]:
    """problems.jsonl and samples.jsonl."""
    found = [problem(f"p{i}") for i in range(problems)]
    write_problems(folder / "problems.jsonl", found)
    write_samples(folder / "samples.jsonl", [sample(p.id, i) for p in found for i in range(samples)])
    return folder / "problems.jsonl", folder / "samples.jsonl"


def decision(key: tuple[str, str], who: str, said: str, role: str = "annotator", note: str = "") -> Decision:
    """`said` is sound, flawed or misaligned."""
    return Decision(*key, who, said != "flawed", said != "misaligned", note, "2026-01-01T00:00:00+00:00", role)  # type: ignore[arg-type]

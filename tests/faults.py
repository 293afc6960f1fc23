"""A CG-GRPO run in a process of its own, which tests may kill: real grading, real scores, and a verdict that is known.

A random model writes no programs, so each completion stands for one of three, by its bytes: `expected` says what the
tests must find. Run as a script, it trains by the config in a JSON file: `torchrun … faults.py CONFIG`.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
import transformers  # noqa: F401  # imported once, in the server that runs are forked from
import trl as engine

from recode_rl import completion, jsonl
from recode_rl.config import TrainConfig, build
from recode_rl.errors import ReCodeError
from recode_rl.grading import Grader
from recode_rl.policy import trl
from recode_rl.types import Completion, Problem, Verdict

assert engine.GRPOTrainer  # loads the module behind the name

PROGRAMS = ("n = int(input())\nprint(n * n)\n", "print(0)\n", "n = int(input())\nprint(n // (n - 3))\n")
STATUSES = ("passed", "wrong_answer", "runtime_error")
PROBLEMS = [
    {
        "id": f"square/{number}",
        "source": "test",
        "prompt": f"Read n and print its square. This is problem {number}.",
        "tests": {"kind": "stdio", "cases": [{"input": f"{n}\n", "output": f"{n * n}\n"} for n in (2, 3)]},
        "metadata": {"split": "held_out" if number > 4 else "train"},
    }
    for number in range(7)
]


def kind(text: str) -> int:
    return sum(text.encode()) % 3


def expected(text: str) -> str:
    """The status that a completion has to get."""
    return STATUSES[kind(text)]


def parse(text: str) -> Completion:
    """All of a text as its reasoning, and one of the programs."""
    return Completion(text, text or None, text, PROGRAMS[kind(text)], format_ok=len(text) % 2 == 0)


def play(config: dict[str, Any], kill_cells: bool = False) -> None:
    """Train; an error of ours goes to error.txt beside the run, as a command would print it."""
    torch.set_num_threads(1)
    completion.parse = parse
    wanted = build(TrainConfig, config, "test")
    if kill_cells:
        _kill_cells()
    try:
        trl.train(wanted)
    except ReCodeError as error:
        wanted.out.with_suffix(".error").write_text(str(error), encoding="utf-8")
        sys.exit(1)


def _kill_cells() -> None:
    """Kill what programs run in, all of it, a moment after every third program has begun."""
    grade, count = Grader.grade, itertools.count()

    def disturbed(self: Grader, problem: Problem, program: str | None) -> Verdict:
        if next(count) % 3 == 0:
            threading.Timer(0.05, kill, [self]).start()
        return grade(self, problem, program)

    def kill(grader: Grader) -> None:
        for place in grader._places:
            for cell in list(place._cells.values()):
                with suppress(ProcessLookupError):
                    os.kill(cell.pid, signal.SIGKILL)

    Grader.grade = disturbed  # type: ignore[method-assign]


def serve(model: str, port: int) -> None:
    """A reward model's server, as serve-rm runs it."""
    from recode_rl.reward_model import serve as server

    torch.set_num_threads(1)
    server.serve(model, server.ServeSettings(port=port), 256)


def context() -> Any:
    """Where processes are forked from one that has imported all of this."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(["faults"])
    return found


@contextmanager
def running(target: Any, *args: Any) -> Iterator[Any]:
    """A process that is killed at the end, if it is still there."""
    process = context().Process(target=target, args=args)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def end_family(pid: int) -> None:
    """Kill a process with all that it has started, and all that those have."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    family = [pid]
    for member in family:
        family += [child for child, parent in parents.items() if parent == member]
    for member in family:
        with suppress(ProcessLookupError):
            os.kill(member, signal.SIGKILL)


def records(out: Path) -> list[dict[str, Any]]:
    """What completions.jsonl holds so far, but for a line that is being written."""
    path = out / "completions.jsonl"
    if not path.exists():
        return []
    whole = path.read_text(encoding="utf-8").split("\n")[:-1]
    return [jsonl._parse_line(path, number, line) for number, line in enumerate(whole, start=1)]


if __name__ == "__main__":
    play(jsonl.read_json(sys.argv[1]))

"""The problems of a run as the parquet files that veRL reads.

A row has no tests: they lie in the run's problems.jsonl, where the reward workers find them by the problem's id. Tests
of hundreds of megabytes in a column, and values nested in it, are what parquet readers break on.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recode_rl import jsonl, prompts
from recode_rl.extras import need
from recode_rl.types import Problem


def row(problem: Problem, index: int, split: str) -> dict[str, Any]:
    """One row: the chat that the policy is asked, and how to find the problem again."""
    return {
        "data_source": problem.source or "problems",
        "prompt": prompts.policy(problem),
        "ability": "math" if problem.tests.kind == "answer" else "code",
        "reward_model": {"style": "rule", "ground_truth": problem.id},
        "extra_info": {"index": index, "split": split, "problem_id": problem.id},
    }


def write(path: Path, problems: Sequence[Problem], split: str) -> None:
    """Replace a parquet file with these problems, of the part `split` ("train" or "held_out"), in one rename."""
    arrow, parquet = need("pyarrow", "verl"), need("pyarrow.parquet", "verl")
    table = arrow.Table.from_pylist([row(problem, index, split) for index, problem in enumerate(problems)])
    content = io.BytesIO()
    parquet.write_table(table, content)
    jsonl.write_bytes(path, content.getvalue())

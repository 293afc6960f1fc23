"""One split by problem, used by every stage: what SFT, reward model and policy train on, none of them is judged on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Literal

from recode_rl.types import Problem

Split = Literal["train", "held_out"]
HELD_OUT_PERCENT = 25


def split_by_id(identifier: str) -> Split:
    """The split of a problem by the digest of its id, so that a growing data set never moves a problem."""
    digest = hashlib.sha256(identifier.encode()).digest()
    return "held_out" if int.from_bytes(digest[:4], "big") % 100 < HELD_OUT_PERCENT else "train"


def split_of(problem: Problem) -> str:
    """The split that the data set states in `metadata.split`, else the one by id."""
    return str(problem.metadata.get("split") or split_by_id(problem.id))


def select(problems: Iterable[Problem], split: str) -> list[Problem]:
    """The problems of one split, in order; "all" selects every problem."""
    return [problem for problem in problems if split == "all" or split_of(problem) == split]


def fold_of(identifier: str, folds: int) -> int:
    """The cross-validation fold of a problem, by the digest of its id: all pairs of a problem fall into one fold."""
    return int.from_bytes(hashlib.sha256(f"fold/{identifier}".encode()).digest()[:4], "big") % folds

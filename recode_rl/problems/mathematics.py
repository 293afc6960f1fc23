"""Mathematics with one answer to a problem: MATH and its test set MATH500, Minerva Math, AIME 2024, DAPO-Math.

Where a row has no column for the answer, it is what the last box of its solution holds, as in MATH and Minerva Math.
"""

from __future__ import annotations

import re
from typing import Any

from recode_rl.completion import extract_boxed
from recode_rl.errors import DataError
from recode_rl.problems.rows import NO_ANSWER, UnusableRow, column, digest_id, optional_text
from recode_rl.types import Problem, Tests

MATH_HUB = "DigitalLearningGmbH/MATH-lighteval"
MATH_FILES = ("MATH_train.jsonl.gz", "MATH_train.jsonl")
MATH500_HUB = "HuggingFaceH4/MATH-500"
MATH500_FILES = ("math500.jsonl", "math500.jsonl.gz")
MINERVA_HUB = "math-ai/minervamath"
MINERVA_FILES = ("minerva_math.jsonl", "minerva_math.jsonl.gz")
AIME24_HUB = "HuggingFaceH4/aime_2024"
AIME24_FILES = ("aime24.jsonl", "aime24.jsonl.gz")
DAPO_HUB = "open-r1/DAPO-Math-17k-Processed"  # each problem once; the original has every row a hundred times
DAPO_CONFIG = "all"
DAPO_FILES = ("dapo-math-17k.parquet", "dapo-math-17k.jsonl", "dapo-math-17k.jsonl.gz")

# MATH has five levels; the three difficulties of our problems are ours.
_DIFFICULTY = {1: "easy", 2: "easy", 3: "medium", 4: "hard", 5: "hard"}
_SPLITS = {"train": "train", "test": "held_out"}
_DAPO_BEFORE = re.compile(r"\s*Solve the following math problem step by step\.[^\n]*\n+")
_DAPO_BEHIND = re.compile(r"\n+Remember to put your answer on its own line after \"Answer:\"\.\s*$")


def math_problem(row: dict[str, Any]) -> Problem:
    """A row of MATH, with `problem`, and `answer` or `solution`. DataError, UnusableRow as `made` says."""
    statement = column(row, "problem", str)
    split = _SPLITS.get(str(row.get("hub_split")))
    return made("math", digest_id("math", statement), statement, row, {"split": split} if split else {})


def math500_problem(row: dict[str, Any]) -> Problem:
    """A row of MATH500, a part of MATH's test set; held out. DataError, UnusableRow as `made` says."""
    identifier = f"math500/{column(row, 'unique_id', str).removesuffix('.json')}"
    return made("math500", identifier, column(row, "problem", str), row, {"split": "held_out"})


def minerva_problem(row: dict[str, Any]) -> Problem:
    """A row of Minerva Math, undergraduate science with numbers or formulas as answers; held out. Errors as `made`."""
    statement = column(row, "question" if "problem" not in row else "problem", str)
    number = row.get("idx")
    identifier = f"minerva/{number}" if isinstance(number, int) else digest_id("minerva", statement)
    return made("minerva", identifier, statement, row, {"split": "held_out"})


def aime24_problem(row: dict[str, Any]) -> Problem:
    """A row of AIME 2024 (I and II), whose answers are whole numbers up to 999; held out. Errors as `made`."""
    return made("aime24", f"aime24/{column(row, 'id', int)}", column(row, "problem", str), row, {"split": "held_out"})


def dapo_problem(row: dict[str, Any]) -> Problem:
    """A row of DAPO-Math-17k, as published or without its repetitions: the same problem, without its own instructions.

    `prompt` is a text or chat messages, the answer is `reward_model.ground_truth`. Errors as `made`.
    """
    prompt, reference = row.get("prompt"), row.get("reward_model")
    if isinstance(prompt, list) and prompt and isinstance(prompt[-1], dict):
        prompt = prompt[-1].get("content")
    if not isinstance(prompt, str) or not isinstance(reference, dict):
        raise DataError(f"columns prompt, reward_model: not as in DAPO-Math-17k (the row has {', '.join(row)})")
    statement = _DAPO_BEHIND.sub("", _DAPO_BEFORE.sub("", prompt, count=1)).strip()
    row = {"answer": reference.get("ground_truth")}
    return made("dapo-math", digest_id("dapo-math", statement), statement, row, {})


def made(source: str, identifier: str, statement: str, row: dict[str, Any], metadata: dict[str, Any]) -> Problem:
    """A problem out of a statement and a row with `answer` or `solution`, and perhaps `level` and `subject`.

    UnusableRow where there is no answer, or nothing is asked.
    """
    solution = optional_text(row, "solution")
    answer = str(row["answer"]).strip() if row.get("answer") is not None else extract_boxed(solution or "")
    if not answer:
        raise UnusableRow(identifier, NO_ANSWER)
    if not statement.strip():
        raise UnusableRow(identifier, "no statement")
    level = _level(row)
    about = {"level": level, "subject": row.get("subject") or row.get("type"), "solution": solution}
    return Problem(
        id=identifier,
        prompt=statement.strip(),
        tests=Tests(kind="answer", answer=answer),
        source=source,
        difficulty=_DIFFICULTY.get(level or 0),
        metadata={**metadata, **{key: value for key, value in about.items() if value}},
    )


def _level(row: dict[str, Any]) -> int | None:
    """1 to 5, written as a number ("level", "difficulty") or as "Level 3"; None where there is none."""
    found = re.fullmatch(r"(?:Level )?([1-5])(?:\.0)?", str(row.get("level") or row.get("difficulty") or ""))
    return int(found[1]) if found else None

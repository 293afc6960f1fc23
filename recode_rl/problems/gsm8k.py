"""GSM8K: grade school word problems with worked solutions, whose last line is `#### ` and the answer, a number."""

from __future__ import annotations

import re
from typing import Any

from recode_rl.problems.rows import NO_ANSWER, UnusableRow, column, digest_id
from recode_rl.types import Problem, Tests

HUB = "openai/gsm8k"
CONFIG = "main"
FILES = {
    "train": ("gsm8k/train.jsonl.gz", "gsm8k/train.jsonl", "train.jsonl.gz", "train.jsonl"),
    "test": ("gsm8k/test.jsonl", "gsm8k/test.jsonl.gz", "test.jsonl", "test.jsonl.gz"),
}
_SPLITS = {"train": "train", "test": "held_out"}
_ANSWER = re.compile(r"\n#### *(\S+)\s*$")
_CALCULATOR = re.compile(r"<<[^<>\n]*>>")  # "16 - 3 = <<16-3=13>>13": what a calculator was to put in


def problem(row: dict[str, Any]) -> Problem:
    """A row of GSM8K. DataError where a column is missing, UnusableRow where the last line is not `#### NUMBER`.

    The test set is held out and the training set is for training, where `hub_split` says which the row is of.
    """
    question, worked = column(row, "question", str), column(row, "answer", str)
    identifier = digest_id("gsm8k", question)
    found = _ANSWER.search(worked)
    if found is None:
        raise UnusableRow(identifier, NO_ANSWER)
    split = _SPLITS.get(str(row.get("hub_split")))
    return Problem(
        id=identifier,
        prompt=question.strip(),
        tests=Tests(kind="answer", answer=found[1].replace(",", "")),
        source="gsm8k",
        metadata={
            **({"split": split} if split else {}),
            "solution": _CALCULATOR.sub("", worked[: found.start()]).strip(),
        },
    )

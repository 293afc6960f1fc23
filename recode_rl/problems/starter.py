"""The starter corpus: small problems with programs and with one reasoning in three qualities, written for this project.

One TOML file per theme in `problems/starter/`; its README is the data card. Everything here is trusted text, but its
programs run through the sandbox like all others.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from recode_rl.errors import DataError
from recode_rl.problems.records import problem_from_record
from recode_rl.problems.splits import split_by_id
from recode_rl.types import Problem, Quality, Variant

GENERATOR = "starter-corpus"
PROMPT_VERSION = "starter-1"
_QUALITIES: tuple[Quality, ...] = ("base", "optimized", "degraded")


@dataclass(frozen=True, slots=True)
class StarterEntry:
    """A problem with a program that passes, one that fails, and its reasonings by quality."""

    problem: Problem
    reference: str
    wrong: str
    variants: dict[Quality, Variant]


@cache
def entries() -> tuple[StarterEntry, ...]:
    """Every problem of the corpus, sorted by id."""
    folder = resources.files("recode_rl.problems") / "starter"
    found: list[StarterEntry] = []
    for file in sorted(folder.iterdir(), key=lambda item: item.name):
        if file.name.endswith(".toml"):
            theme = tomllib.loads(file.read_text(encoding="utf-8"))
            found.extend(_entry(record, file.name.removesuffix(".toml")) for record in theme["problem"])
    ids = [entry.problem.id for entry in found]
    if len(set(ids)) != len(ids):
        raise DataError("starter corpus: an id occurs twice")
    return tuple(sorted(found, key=lambda entry: entry.problem.id))


def load() -> list[Problem]:
    """The problems alone."""
    return [entry.problem for entry in entries()]


def variants() -> list[Variant]:
    """The reasonings of all problems, three a problem, in the order of the problems."""
    return [entry.variants[quality] for entry in entries() for quality in _QUALITIES]


def _entry(record: dict[str, Any], theme: str) -> StarterEntry:
    identifier = record["id"]
    tests: dict[str, Any] = {
        "kind": record["kind"],
        "cases": [json.loads(line) for line in record["cases"].strip().splitlines()],
    }
    if record["kind"] == "calls":
        tests["entry_point"] = record["entry_point"]
    problem = problem_from_record(
        {
            "id": identifier,
            "source": "starter",
            "prompt": record["statement"].strip(),
            "difficulty": record["difficulty"],
            "tests": tests,
            "metadata": {"theme": theme, "split": split_by_id(identifier)},
        }
    )
    methods = {"base": (), "optimized": record["optimize_methods"], "degraded": record["degrade_methods"]}
    reasonings = {
        quality: Variant(
            problem_id=identifier,
            variant=quality,
            reasoning=" ".join(record[quality].split()),
            methods=tuple(methods[quality]),
            generator=GENERATOR,
            prompt_version=PROMPT_VERSION,
        )
        for quality in _QUALITIES
    }
    return StarterEntry(problem, record["reference"].strip() + "\n", record["wrong"].strip() + "\n", reasonings)

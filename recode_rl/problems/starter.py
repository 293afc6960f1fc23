"""The starter corpus: problems with programs and with reasonings in three qualities, written for this project.

One TOML file per theme in `problems/starter/` (the core, small problems for small policies), in `starter/harder/` (more
problems for reward models), and in `starter/styles/` (further reasonings for all of them, as numbered steps and as
terse notes). The README there is the data card. Everything here is trusted text, but its programs run through the
sandbox like all others.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

from recode_rl.errors import DataError
from recode_rl.problems.records import problem_from_record
from recode_rl.problems.splits import split_by_id
from recode_rl.types import Problem, Quality, Variant

GENERATOR = "starter-corpus"
PROMPT_VERSION = "starter-2"
Part = Literal["core", "harder", "all"]
_QUALITIES: tuple[Quality, ...] = ("base", "optimized", "degraded")
_STYLES = ("steps", "notes")


@dataclass(frozen=True, slots=True)
class StarterEntry:
    """A problem with a program that passes, one that fails, and its reasonings.

    `variants` is the triple of reasonings in prose, by quality; `styled` has further triples by style.
    """

    problem: Problem
    reference: str
    wrong: str
    variants: dict[Quality, Variant]
    styled: dict[str, dict[Quality, Variant]]


@cache
def entries(part: Part = "core") -> tuple[StarterEntry, ...]:
    """The problems of a part of the corpus, sorted by id."""
    folder = resources.files("recode_rl.problems") / "starter"
    styled = _styled(folder / "styles")
    found: list[StarterEntry] = []
    for name in ("core", "harder") if part == "all" else (part,):
        for theme, records in _themes(folder / "harder" if name == "harder" else folder, "problem"):
            found.extend(_entry(record, theme, name, styled) for record in records)
    ids = [entry.problem.id for entry in found]
    if len(set(ids)) != len(ids):
        raise DataError("starter corpus: an id occurs twice")
    return tuple(sorted(found, key=lambda entry: entry.problem.id))


def load(part: Part = "core") -> list[Problem]:
    """The problems alone."""
    return [entry.problem for entry in entries(part)]


def variants(part: Part = "all") -> list[Variant]:
    """The reasonings in the order of the problems: of each the triple in prose, then those in other styles."""
    return [
        triple[quality]
        for entry in entries(part)
        for triple in (entry.variants, *entry.styled.values())
        for quality in _QUALITIES
    ]


def _themes(folder: Any, table: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    for file in sorted(folder.iterdir(), key=lambda item: str(item.name)):
        if file.name.endswith(".toml"):
            yield file.name.removesuffix(".toml"), tomllib.loads(file.read_text(encoding="utf-8"))[table]


def _styled(folder: Any) -> dict[str, dict[str, dict[Quality, Variant]]]:
    """Further triples: by problem, by style, by quality."""
    found: dict[str, dict[str, dict[Quality, Variant]]] = {}
    for _, records in _themes(folder, "reasoning"):
        for record in records:
            found.setdefault(record["id"], {})[record["style"]] = _triple(record, record["style"])
    return {
        problem: {style: triples[style] for style in _STYLES if style in triples} for problem, triples in found.items()
    }


def _triple(record: dict[str, Any], style: str | None = None) -> dict[Quality, Variant]:
    methods = {"base": (), "optimized": record["optimize_methods"], "degraded": record["degrade_methods"]}
    return {
        quality: Variant(
            problem_id=record["id"],
            variant=quality,
            reasoning=_text(record[quality], keep_lines=style is not None),
            methods=tuple(methods[quality]),
            generator=GENERATOR if style is None else f"{GENERATOR}/{style}",
            prompt_version=PROMPT_VERSION,
        )
        for quality in _QUALITIES
    }


def _text(text: str, keep_lines: bool) -> str:
    lines = [" ".join(line.split()) for line in text.strip().splitlines()]
    return "\n".join(lines) if keep_lines else " ".join(lines)


def _entry(record: dict[str, Any], theme: str, part: str, styled: dict[str, Any]) -> StarterEntry:
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
            "metadata": {"theme": theme, "part": part, "split": split_by_id(identifier)},
        }
    )
    return StarterEntry(
        problem,
        record["reference"].strip() + "\n",
        record["wrong"].strip() + "\n",
        _triple(record),
        styled.get(identifier, {}),
    )

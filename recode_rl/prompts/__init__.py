"""Prompts as text files, one a prompt; a folder of the user's own can replace them file by file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from recode_rl.errors import ConfigError
from recode_rl.types import Problem

_VERSION = re.compile(r"version:[ \t]*(\S[^\n]*)(?:\n|$)")


@dataclass(frozen=True, slots=True)
class Versioned:
    """A prompt without its version line; `digest` is of the whole text as it was read."""

    version: str
    digest: str
    text: str


def load(name: str, folder: Path | None = None) -> str:
    """The text of prompt `name`, from the user's folder where it has one, else from the package."""
    if folder is not None:
        if not folder.is_dir():
            raise ConfigError(f"{folder}: no such folder of prompts")
        own = folder / f"{name}.txt"
        if own.is_file():
            return own.read_text(encoding="utf-8").strip()
    return (resources.files(__name__) / f"{name}.txt").read_text(encoding="utf-8").strip()


def versioned(name: str, fields: Sequence[str], folder: Path | None = None) -> Versioned:
    """Prompt `name` with its version. ConfigError where it has no place for one of `fields`."""
    found = split(name, load(name, folder))
    if missing := [field for field in fields if f"{{{field}}}" not in found.text]:
        raise ConfigError(f"prompt {name}.txt has no {{{missing[0]}}}; put it where that text belongs")
    return found


def split(name: str, text: str) -> Versioned:
    """The text of prompt `name` apart from its version line; without one it is named by its digest."""
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    stated = _VERSION.match(text)
    if stated is None:
        return Versioned(f"{name}@{digest}", digest, text)
    return Versioned(stated[1].strip(), digest, text[stated.end() :].strip())


def fill(template: str, values: Mapping[str, str]) -> str:
    """The template with its places filled, all at once: what a value has in braces is no place of another."""
    return re.sub(r"\{(\w+)\}", lambda place: values.get(place[1], place[0]), template)


def policy(problem: Problem, folder: Path | None = None) -> list[dict[str, str]]:
    """What the policy is asked for a problem, as chat messages."""
    statement = problem.prompt.strip()
    if problem.starter_code:
        statement += f"\n\nBegin with this code:\n```python\n{problem.starter_code.strip()}\n```"
    # replace, not format: statements and the user's own prompts are full of braces
    name = "policy_answer" if problem.tests.kind == "answer" else "policy"
    return [{"role": "user", "content": load(name, folder).replace("{problem}", statement)}]

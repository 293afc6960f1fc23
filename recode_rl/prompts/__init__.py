"""Prompts as text files, one a prompt; a folder of the user's own can replace them file by file."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from recode_rl.errors import ConfigError
from recode_rl.types import Problem


def load(name: str, folder: Path | None = None) -> str:
    """The text of prompt `name`, from the user's folder where it has one, else from the package."""
    if folder is not None:
        if not folder.is_dir():
            raise ConfigError(f"{folder}: no such folder of prompts")
        own = folder / f"{name}.txt"
        if own.is_file():
            return own.read_text(encoding="utf-8").strip()
    return (resources.files(__name__) / f"{name}.txt").read_text(encoding="utf-8").strip()


def policy(problem: Problem, folder: Path | None = None) -> list[dict[str, str]]:
    """What the policy is asked for a problem, as chat messages."""
    statement = problem.prompt.strip()
    if problem.starter_code:
        statement += f"\n\nBegin with this code:\n```python\n{problem.starter_code.strip()}\n```"
    # replace, not format: statements and the user's own prompts are full of braces
    return [{"role": "user", "content": load("policy", folder).replace("{problem}", statement)}]

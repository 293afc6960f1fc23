"""What a generator is asked for: prompts with their versions, put together for one problem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recode_rl import prompts
from recode_rl.errors import ConfigError
from recode_rl.types import DEGRADE_METHODS, OPTIMIZE_METHODS, Problem, Quality

BASE = "base_reasoning"
VERBS: dict[Quality, str] = {"optimized": "optimize", "degraded": "degrade"}
METHODS: dict[Quality, tuple[str, ...]] = {"optimized": OPTIMIZE_METHODS, "degraded": DEGRADE_METHODS}
_PLACES = {BASE: ("problem",), **dict.fromkeys(VERBS.values(), ("problem", "reasoning", "methods"))}


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt without its version line; `digest` is of the whole text as it was read."""

    name: str
    version: str
    digest: str
    text: str


class Prompts:
    """All prompts of the synthesis, those of the user's folder in place of the package's."""

    def __init__(self, folder: Path | None = None) -> None:
        names = [BASE, *VERBS.values()]
        names += [f"{verb}_{method}" for quality, verb in VERBS.items() for method in METHODS[quality]]
        self.by_name = {name: read_prompt(name, prompts.load(name, folder)) for name in names}
        if folder is not None and not any((folder / f"{name}.txt").is_file() for name in names):
            raise ConfigError(
                f"{folder}: none of the prompts of the synthesis; expected some of {', '.join(names)} (.txt)"
            )

    def base(self, problem: Problem) -> list[dict[str, str]]:
        """Chat messages that ask for a reasoning."""
        return _message(self.by_name[BASE].text, {"problem": statement(problem)})

    def variant(
        self, problem: Problem, reasoning: str, quality: Quality, methods: Sequence[str]
    ) -> list[dict[str, str]]:
        """Chat messages that ask for the reasoning in another quality."""
        verb = VERBS[quality]
        wanted = [self.by_name[f"{verb}_{method}"].text for method in methods]
        listed = wanted[0] if len(wanted) == 1 else "\n".join(f"{i}. {text}" for i, text in enumerate(wanted, start=1))
        values = {"problem": statement(problem), "reasoning": reasoning, "methods": listed}
        return _message(self.by_name[verb].text, values)

    def version(self, quality: Quality, methods: Sequence[str] = ()) -> str:
        """The versions of all prompts that a variant is made with, as variants.jsonl has them."""
        verb = VERBS.get(quality)
        names = [BASE] if verb is None else [verb, *(f"{verb}_{method}" for method in methods)]
        return "+".join(self.by_name[name].version for name in names)


def read_prompt(name: str, text: str) -> Prompt:
    """A prompt from the text of its file. One without a version line is named by its digest.

    ConfigError where a prompt lacks the place for something that it must show.
    """
    found = prompts.split(name, text)
    if missing := [place for place in _PLACES.get(name, ()) if f"{{{place}}}" not in found.text]:
        raise ConfigError(f"prompt {name}.txt: no {{{missing[0]}}} in it; write it where the {missing[0]} belongs")
    if not found.text:
        raise ConfigError(f"prompt {name}.txt: nothing in it; write what is asked for, or remove the file")
    return Prompt(name, found.version, found.digest, found.text)


def statement(problem: Problem) -> str:
    """The problem as a generator sees it."""
    text = problem.prompt.strip()
    return f"{text}\n\nThe program begins with:\n{problem.starter_code.strip()}" if problem.starter_code else text


def _message(template: str, values: dict[str, str]) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompts.fill(template, values)}]

"""What a synthesis run is made by: the recipe of `recode-rl synth`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from recode_rl.config import DataConfig, Strict, build, load_recipe
from recode_rl.errors import ConfigError


class GeneratorConfig(Strict):
    """One model behind an OpenAI-compatible endpoint."""

    url: str
    model: str
    concurrency: int = Field(8, ge=1)
    """Problems at a time; each has one request under way."""
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; without one no key is sent."""


class RefusalConfig(Strict):
    """When a variant is refused. Words are runs of letters and digits."""

    min_words: int = Field(20, ge=1)
    """A reasoning with fewer words is too short."""
    shortest: float = Field(0.25, ge=0, le=1)
    """A variant with fewer words than this share of its base is too short."""
    longest: float = Field(3.0, gt=1)
    """A variant with more words than this many times its base is too long."""
    max_similarity: float = Field(0.97, gt=0, le=1)
    """A variant is nearly unchanged where twice the words it shares with its base in order, over all words of both, is
    more."""


class SynthConfig(Strict):
    """A synthesis run: base reasonings, optimized and degraded variants, and pairs of them."""

    out: Path
    problems: Path | None = None
    """A problems.jsonl, all of whose problems are taken; None takes `data`."""
    data: DataConfig = DataConfig()
    generators: tuple[GeneratorConfig, ...] = Field(min_length=1)
    """Each gets its own share of the problems, by the digest of their ids."""
    variants: int = Field(1, ge=1)
    """Optimized and degraded variants of each problem, so many of both."""
    methods_per_variant: int = Field(1, ge=1, le=5)
    attempts_per_variant: int = Field(3, ge=1)
    """A refused variant is asked for again with another seed until so many were refused; then it is lost."""
    temperature: float = Field(1.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    max_tokens: int = Field(2048, ge=16)
    """Longest reply."""
    timeout_s: float = Field(300.0, gt=0)
    """Seconds that one request may take."""
    attempts: int = Field(6, ge=1)
    """How often one request is tried when the endpoint fails."""
    max_requests: int | None = Field(None, ge=1)
    """The run stops after so many requests of all generators together; the same command continues it."""
    max_total_tokens: int | None = Field(None, ge=1)
    """The run stops before it uses more tokens, of prompts and replies; the same command continues it."""
    prompts: Path | None = None
    """Folder with prompts of your own; each replaces the one with the same file name."""
    refuse: RefusalConfig = RefusalConfig()
    seed: int = 0

    @model_validator(mode="after")
    def _one_source(self) -> SynthConfig:
        if self.problems is not None and self.data != DataConfig():
            raise ValueError("give problems, a file, or data, a table; not both")
        return self


def synth_config(
    recipe: Path | None,
    overrides: Sequence[str],
    options: dict[str, Any],
    endpoints: Sequence[str] = (),
    names: Sequence[str] = (),
) -> SynthConfig:
    """The config of `recode-rl synth`; options that were given win over the recipe.

    The first endpoint goes with the first model name and so on; one alone goes with all of the other.
    """
    given = {key: value for key, value in options.items() if value is not None}
    if generators := _generators(endpoints, names):
        given["generators"] = generators
    if recipe is None:
        if overrides:
            raise ConfigError(f"override {overrides[0]!r} without a recipe; give the recipe first")
        return build(SynthConfig, given, "options")
    return load_recipe(SynthConfig, recipe, [*overrides, *(f"{key}={_toml(value)}" for key, value in given.items())])


def _generators(endpoints: Sequence[str], names: Sequence[str]) -> list[dict[str, str]]:
    if not endpoints and not names:
        return []
    count = max(len(endpoints), len(names))
    if not endpoints or not names or any(len(given) not in (1, count) for given in (endpoints, names)):
        raise ConfigError(
            f"{len(endpoints)} times --endpoint and {len(names)} times --model; give one --model for each --endpoint"
        )
    return [{"url": endpoints[i % len(endpoints)], "model": names[i % len(names)]} for i in range(count)]


def _toml(value: Any) -> str:
    """A value as TOML writes it; a JSON string is a TOML string."""
    if isinstance(value, list):
        tables = (", ".join(f"{key} = {_toml(inner)}" for key, inner in table.items()) for table in value)
        return f"[{', '.join(f'{{{table}}}' for table in tables)}]"
    return json.dumps(str(value) if isinstance(value, Path) else value)

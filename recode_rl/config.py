"""Recipes: one strict pydantic class per stage, read from TOML, changed by dotted overrides.

An unknown key is an error that names the key and the ones there are. There are no aliases, and nothing but credentials
and endpoints is read from the environment.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from recode_rl.errors import ConfigError
from recode_rl.reward import find_rule, rule_names
from recode_rl.types import Limits, PairKind

Precision = Literal["fp32", "bf16-autocast", "bf16-master"]
Tracker = Literal["tensorboard", "wandb", "trackio"]


class Strict(BaseModel):
    """Base of all config classes: frozen, unknown keys refused, no infinities."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataConfig(Strict):
    """Which problems a stage works on."""

    dataset: str = "starter"
    """Name of a data set (`recode-rl problems --help` lists them), or "file" for a problems.jsonl in `path`."""
    path: Path | None = None
    """File or folder with the data set's own files; None loads it from the package or from a hub."""
    split: Literal["train", "held_out", "all"] = "train"
    eval_split: Literal["train", "held_out", "all"] = "held_out"
    limit: int | None = Field(None, ge=1)
    """Use only this many problems for training (the first ones in a shuffle by `seed`)."""
    eval_limit: int | None = Field(None, ge=1)
    max_prompt_tokens: int = Field(512, ge=8)
    """Problems with a longer prompt are left out, and counted in the manifest."""


class GraderConfig(Strict):
    """How programs are run."""

    workers: int | None = Field(None, ge=1)
    """Programs at a time; None takes one per core."""
    time_s: float = Field(4.0, gt=0)
    total_s: float = Field(40.0, gt=0)
    memory_mb: int = Field(1024, ge=64)
    output_mb: float = Field(8.0, gt=0)
    files_mb: int = Field(256, ge=1)
    processes: int = Field(64, ge=1)
    require: Literal["any", "full"] = "any"
    """"full" refuses to run programs where a wall of the sandbox is missing."""
    isolation: Literal["proxied", "shared"] = "proxied"
    """"shared" runs tests beside the program always, which is weaker."""
    engine: Literal["local", "bwrap", "sandbox-fusion"] = "local"
    """What programs run in: this project's sandbox, bubblewrap (slow), or a SandboxFusion server."""
    url: str | None = None
    """Where that server is."""

    @model_validator(mode="after")
    def _server_has_a_place(self) -> GraderConfig:
        if (self.engine == "sandbox-fusion") != (self.url is not None):
            raise ValueError('engine "sandbox-fusion" needs url, and the others take none')
        if self.engine == "sandbox-fusion" and self.require == "full":
            raise ValueError('require = "full" is about the walls of this machine; a server has its own')
        return self

    def limits(self) -> Limits:
        """The defaults for problems that state no limits."""
        return Limits(
            self.time_s, self.total_s, self.memory_mb, self.output_mb, processes=self.processes, files_mb=self.files_mb
        )


class SftConfig(Strict):
    """Supervised warm start: the policy learns the think/answer form on reasonings and programs of the train split."""

    model: str = "smollm2-135m"
    out: Path
    data: DataConfig = DataConfig()
    quality: Literal["base", "optimized"] = "base"
    """Which reasoning is imitated; "base" leaves room for reinforcement learning."""
    epochs: float = Field(3.0, gt=0)
    learning_rate: float = Field(1e-4, gt=0)
    batch_size: int = Field(8, ge=1)
    """Sequences per update."""
    micro_batch: int = Field(4, ge=1)
    """Sequences per forward pass; must divide `batch_size`."""
    max_length: int = Field(768, ge=16)
    precision: Precision = "bf16-autocast"
    track: tuple[Tracker, ...] = ()
    seed: int = 0

    @model_validator(mode="after")
    def _micro_batch_divides(self) -> SftConfig:
        if self.batch_size % self.micro_batch:
            raise ValueError(f"micro_batch {self.micro_batch} does not divide batch_size {self.batch_size}")
        return self


class LoraConfig(Strict):
    """Low-rank adapters in place of all weights (peft); they are merged into the model that is kept."""

    rank: int = Field(16, ge=1)
    alpha: float = Field(32.0, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    targets: tuple[str, ...] | Literal["all-linear"] = "all-linear"
    """Names of the layers that get adapters; "all-linear" is every one but the head, which is trained whole."""


class RewardModelConfig(Strict):
    """Bradley–Terry training of a reward model on pairs."""

    base: str = "smollm2-135m"
    out: Path
    pairs: Path | None = None
    """pairs.jsonl; None takes the pairs of the starter corpus."""
    split: Literal["train", "all"] | None = None
    """Whose pairs are used; None takes "train" for the starter corpus, and every problem of a file of your own."""
    validation: Path | None = None
    """Held-out pairs for early stopping; None holds out `validation_percent` of the problems."""
    kinds: tuple[PairKind, ...] = ("opt_deg", "opt_ori", "ori_deg")
    limit: int | None = Field(None, ge=1)
    """Use only this many pairs, drawn evenly over the kinds by `seed`."""
    epochs: float = Field(2.0, gt=0)
    learning_rate: float = Field(1e-6, gt=0)
    batch_size: int = Field(128, ge=1)
    """Pairs per update, over all processes."""
    micro_batch: int = Field(8, ge=1)
    """Pairs per forward pass of one process."""
    lora: LoraConfig | None = None
    """Adapters in place of all weights; None trains all."""
    activation_checkpointing: bool = False
    """Compute activations twice to hold fewer of them: a third slower, for large models."""
    max_length: int = Field(1024, ge=16)
    """Tokens of a problem with a reasoning; longer reasonings lose their middle, and are counted."""
    layers: int | None = Field(None, ge=1)
    """Keep only the first layers of the base; None keeps all. Cheaper, and the middle of a small model judges well."""
    center: float = Field(0.01, ge=0)
    """Weight of the term that keeps scores around zero, where the sigmoid is not saturated."""
    validation_percent: int = Field(10, ge=0, le=50)
    evaluate_every: int | None = Field(None, ge=1)
    """Updates between evaluations (and checkpoints); None evaluates after each epoch."""
    patience: int = Field(3, ge=1)
    """Evaluations without a better held-out loss before training stops."""
    precision: Precision = "bf16-autocast"
    track: tuple[Tracker, ...] = ()
    seed: int = 0

    @model_validator(mode="after")
    def _micro_batch_divides(self) -> RewardModelConfig:
        if self.batch_size % self.micro_batch:
            raise ValueError(f"micro_batch {self.micro_batch} does not divide batch_size {self.batch_size}")
        return self


class RewardConfig(Strict):
    """R and where its process part comes from."""

    rule: str = "consistency_gated"
    model: str | None = None
    """Folder or hub id of the reward model; None only for rules that never ask it."""
    max_length: int = Field(1024, ge=16)
    max_infra_share: float = Field(0.05, ge=0, le=1)
    """The run stops when a larger share of samples was failed by our own infrastructure."""

    @model_validator(mode="after")
    def _known_rule(self) -> RewardConfig:
        try:
            rule = find_rule(self.rule)
        except ConfigError:
            raise ValueError(f"rule {self.rule!r}: expected one of {', '.join(rule_names())}") from None
        if rule.uses_process and not self.model:
            raise ValueError(f"rule {self.rule!r} needs reward.model, the folder or hub id of a reward model")
        return self


class GrpoConfig(Strict):
    """CG-GRPO as TRL runs it (GRPOConfig); the defaults are the paper's where it states them."""

    steps: int = Field(100, ge=1)
    prompts_per_step: int = Field(4, ge=1)
    """Prompts per generation batch."""
    group_size: int = Field(8, ge=2)
    """G, completions per prompt. Not published; 8 is our choice."""
    updates_per_batch: int = Field(1, ge=1)
    """Optimizer updates per generation batch. With 1 the ratio is 1 and clip-higher never fires."""
    micro_batch: int = Field(8, ge=1)
    """Completions per forward pass in training."""
    learning_rate: float = Field(1e-6, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    clip_low: float = Field(0.2, gt=0)
    clip_high: float = Field(0.28, gt=0)
    beta: float = Field(0.0, ge=0)
    """Weight of the KL term; the paper uses none."""
    scale_rewards: Literal["group", "batch", "none"] = "group"
    temperature: float = Field(1.0, gt=0)
    top_p: float = Field(1.0, gt=0, le=1)
    max_completion_tokens: int = Field(4096, ge=8)
    mask_truncated: bool = False
    max_grad_norm: float = Field(1.0, gt=0)
    precision: Precision = "bf16-autocast"

    @model_validator(mode="after")
    def _batches_fit(self) -> GrpoConfig:
        completions = self.prompts_per_step * self.group_size
        if completions % self.updates_per_batch:
            raise ValueError(
                f"updates_per_batch {self.updates_per_batch} does not divide the {completions} completions of a "
                f"generation batch (prompts_per_step {self.prompts_per_step} × group_size {self.group_size})"
            )
        per_update = completions // self.updates_per_batch
        if per_update % self.micro_batch:
            raise ValueError(
                f"micro_batch {self.micro_batch} does not divide the {per_update} completions of one update; "
                f"choose a divisor of {per_update}"
            )
        return self


class EvaluationConfig(Strict):
    """The evaluation on held-out problems in the course of training."""

    every: int = Field(10, ge=0)
    """Steps between evaluations; 0 for none."""
    samples: int = Field(1, ge=1)
    temperature: float = Field(0.0, ge=0)


class TrainConfig(Strict):
    """A CG-GRPO run."""

    engine: Literal["trl", "verl"] = "trl"
    model: str
    """Hub id, local folder, or the name of a small model that `recode-rl models fetch` knows."""
    out: Path
    data: DataConfig = DataConfig()
    reward: RewardConfig
    grpo: GrpoConfig = GrpoConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    grader: GraderConfig = GraderConfig()
    save_every: int = Field(10, ge=1)
    """Steps between checkpoints that a stopped run continues from."""
    track: tuple[Tracker, ...] = ()
    seed: int = 0


C = TypeVar("C", bound=Strict)


def load_recipe(kind: type[C], path: Path | str, overrides: Sequence[str] = ()) -> C:
    """Read a TOML recipe into its config class; `overrides` are `key.path=value` with TOML values.

    Relative paths in a recipe are relative to the working directory, as on the command line.
    """
    path = Path(path)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such recipe; see the recipes/ folder for examples") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: a folder; give a recipe file such as {path / 'recipe.toml'}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    for override in overrides:
        apply_override(values, override)
    return build(kind, values, str(path))


def from_command_line(kind: type[C], recipe: Path | None, overrides: Sequence[str], options: dict[str, Any]) -> C:
    """A config from an optional recipe and from options; options that were given win over the recipe."""
    given = {key: value for key, value in options.items() if value is not None}
    if recipe is None:
        if overrides:
            raise ConfigError(f"override {overrides[0]!r} without a recipe; give the recipe first")
        return build(kind, given, "options")
    return load_recipe(kind, recipe, [*overrides, *(f"{key}={value}" for key, value in given.items())])


def apply_override(values: dict[str, Any], override: str) -> None:
    """Set `key.path=value` in nested tables; a value that is no TOML literal is taken as text."""
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"override {override!r}: expected key.path=value, as in grpo.steps=20")
    *parents, last = key.strip().split(".")
    table = values
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise ConfigError(f"override {override!r}: {parent!r} is a value, not a table")
    table[last] = _toml_value(text.strip())


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def build(kind: type[C], values: dict[str, Any], where: str) -> C:
    """Validate values against a config class; the first fault becomes one sentence with the key and the fix."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_explain(kind, error)}") from None


def _explain(kind: type[Strict], error: ValidationError) -> str:
    fault = error.errors()[0]
    key = ".".join(str(part) for part in fault["loc"]) or "the recipe"
    if fault["type"] == "extra_forbidden":
        known = ", ".join(sorted(_fields_at(kind, fault["loc"][:-1])))
        return f"unknown key {key!r}; known keys here: {known}"
    if fault["type"] == "missing":
        return f"key {key!r} is missing"
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "value_error":
        return f"{key}: {message}"
    return f"{key} = {fault['input']!r}: {message[0].lower()}{message[1:]}"


def _fields_at(kind: type[Strict], location: Sequence[int | str]) -> list[str]:
    """The field names of the config class that a location inside `kind` leads to."""
    current: Any = kind
    for part in location:
        current = get_args(current)[0] if isinstance(part, int) else current.model_fields[part].annotation
    return list(current.model_fields)

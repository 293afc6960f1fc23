"""Recipes: one strict pydantic class per stage, read from TOML, changed by dotted overrides.

An unknown key is an error that names the key and the ones there are. There are no aliases, and nothing but credentials
and endpoints is read from the environment.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from types import UnionType
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
    decontaminate: tuple[str, ...] = ()
    """Evaluation sets, "NAME" or "NAME=FILE": problems to train on that say what one of theirs says are left out."""
    decontaminate_path: Path | None = None
    """File or folder of those sets that are given by name alone; None loads them from a hub."""


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
    interpreter: Path | None = None
    """A Python (or its environment's folder) for programs that run beside their tests, as BigCodeBench's do."""

    @model_validator(mode="after")
    def _server_has_a_place(self) -> GraderConfig:
        if (self.engine == "sandbox-fusion") != (self.url is not None):
            raise ValueError('engine "sandbox-fusion" needs url, and the others take none')
        if self.engine == "sandbox-fusion" and self.require == "full":
            raise ValueError('require = "full" is about the walls of this machine; a server has its own')
        if self.engine == "sandbox-fusion" and self.interpreter is not None:
            raise ValueError("interpreter is one of this machine; a server has its own")
        return self

    def limits(self) -> Limits:
        """The defaults for problems that state no limits."""
        return Limits(
            self.time_s, self.total_s, self.memory_mb, self.output_mb, processes=self.processes, files_mb=self.files_mb
        )


class SftConfig(Strict):
    """Supervised warm start: the policy learns the think/answer form on reasonings and what they lead to."""

    model: str = "smollm2-135m"
    out: Path
    data: DataConfig = DataConfig()
    quality: Literal["base", "optimized"] = "base"
    """Which reasoning of the starter corpus is imitated; "base" leaves room for reinforcement learning."""
    samples: Path | None = None
    """samples.jsonl whose completions are imitated where they passed, in place of what the data set has."""
    verdicts: Path | None = None
    """verdicts.jsonl of these samples."""
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
    def _samples_are_graded(self) -> SftConfig:
        if (self.samples is None) != (self.verdicts is None):
            raise ValueError("samples and verdicts go together; `recode-rl grade` makes the one of the other")
        return self

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
    """Training of a reward model: Bradley–Terry on pairs, or the score-based baseline on scored reasonings."""

    objective: Literal["bradley_terry", "score"] = "bradley_terry"
    """"score" teaches a language model to say the score that a judge gave a reasoning."""
    base: str = "smollm2-135m"
    out: Path
    pairs: Path | None = None
    """pairs.jsonl; None takes the pairs of the starter corpus."""
    scored: Path | None = None
    """scored.jsonl of `recode-rl judge`: what objective "score" is trained on."""
    split: Literal["train", "all"] | None = None
    """Whose pairs are used; None takes "train" for the starter corpus, and every problem of a file of your own."""
    validation: Path | None = None
    """Held-out pairs (or scored reasonings) for early stopping; None holds out `validation_percent` of the problems."""
    kinds: tuple[PairKind, ...] = ("opt_deg", "opt_ori", "ori_deg")
    limit: int | None = Field(None, ge=1)
    """Use only this many pairs, drawn evenly over the kinds by `seed` (or this many scored reasonings)."""
    epochs: float = Field(2.0, ge=0)
    learning_rate: float = Field(1e-6, gt=0)
    batch_size: int = Field(128, ge=1)
    """Pairs (or scored reasonings) per update, over all processes."""
    micro_batch: int = Field(8, ge=1)
    """Pairs (or scored reasonings) per forward pass of one process."""
    lora: LoraConfig | None = None
    """Adapters in place of all weights; None trains all."""
    activation_checkpointing: bool = False
    """Compute activations twice to hold fewer of them: a third slower, for large models."""
    max_length: int = Field(1024, ge=16)
    """Tokens of a problem with a reasoning; longer reasonings lose their middle, and are counted."""
    layers: int | None = Field(None, ge=1)
    """Keep only the first layers of the base; None keeps all. Cheaper, and the middle of a small model judges well."""
    pooling: Literal["last", "mean"] = "last"
    """The head reads the state of the last token, as in the paper, or the mean over the reasoning's."""
    likelihood: float = Field(0.0, ge=0)
    """Weight of the reasoning's mean log-probability (nats a token) in the score; 0 is the paper's plain head. Small
    models judge others' reasonings better with it. The base must tie its embeddings; it stays whole, and the head reads
    the states behind `layers`."""
    copy_length: int = Field(0, ge=0)
    """Tokens in a row that count as a copy where they stood before, in the problem or in the reasoning: the likelihood
    leaves out the last of each. Otherwise a copied statement is the most likely reasoning. 0 leaves out nothing."""
    fit_head: bool = False
    """Start from a head that is fitted on the frozen base; with epochs = 0 that is the whole training."""
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

    @model_validator(mode="after")
    def _trains_something(self) -> RewardModelConfig:
        if not self.epochs and not self.fit_head:
            raise ValueError("epochs 0 trains nothing: give more, or fit_head = true")
        if self.likelihood and not self.fit_head:
            raise ValueError(f"likelihood {self.likelihood} needs fit_head = true, which centres the scores")
        if self.copy_length and not self.likelihood:
            raise ValueError(f"copy_length {self.copy_length} is for the likelihood, which is 0; leave it out")
        return self

    @model_validator(mode="after")
    def _data_suit_the_objective(self) -> RewardModelConfig:
        if self.objective == "bradley_terry":
            if self.scored is not None:
                raise ValueError('scored is for objective "score"; Bradley–Terry is trained on pairs')
            return self
        if self.scored is None:
            raise ValueError('objective "score" needs scored, a scored.jsonl as `recode-rl judge` writes it')
        for key in ("pairs", "layers", "pooling", "likelihood", "copy_length", "fit_head"):
            if getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f'{key} is for objective "bradley_terry"; leave it out')
        return self


class RewardConfig(Strict):
    """R and where its process part comes from."""

    rule: str = "consistency_gated"
    model: str | None = None
    """Folder or hub id of the reward model; None only for rules that never ask it."""
    max_length: int = Field(1024, ge=16)
    max_infra_share: float = Field(0.05, ge=0, le=1)
    """The run stops when a larger share of samples was failed by our own infrastructure."""
    wait_s: float = Field(300.0, ge=0)
    """Seconds that a reward model's server is waited for when it does not answer; then the run stops, resumably."""

    @model_validator(mode="after")
    def _known_rule(self) -> RewardConfig:
        try:
            rule = find_rule(self.rule)
        except ConfigError:
            raise ValueError(f"rule {self.rule!r}: expected one of {', '.join(rule_names())}") from None
        if rule.uses_process and not self.model:
            raise ValueError(f"rule {self.rule!r} needs reward.model, the folder or hub id of a reward model")
        return self


class VllmConfig(Strict):
    """Completions by vLLM in place of transformers."""

    mode: Literal["colocate", "server"] = "colocate"
    """Inside the training processes, or a server of its own (`vllm serve`)."""
    url: str | None = None
    """Where that server is."""
    memory_share: float = Field(0.3, gt=0, lt=1)
    """Share of the GPU's memory for vLLM beside training; for "colocate"."""
    tensor_parallel: int = Field(1, ge=1)
    """GPUs for one copy of the model; for "colocate"."""
    sleep: bool = True
    """Give the memory back while training; for "colocate"."""
    timeout_s: float = Field(240.0, gt=0)
    """Seconds that the server is waited for at the start."""
    correction: Literal["none", "token_truncate", "token_mask", "sequence_truncate", "sequence_mask"] = "sequence_mask"
    """Importance sampling between vLLM's probabilities and those of training (TRL's default; veRL has none)."""
    correction_max: float = Field(3.0, gt=1)
    """Ratios above it are cut ("truncate") or left out ("mask")."""

    @model_validator(mode="after")
    def _server_has_a_place(self) -> VllmConfig:
        if (self.mode == "server") != (self.url is not None):
            raise ValueError('mode "server" needs url, such as http://localhost:8000, and "colocate" takes none')
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
    """Completions per forward pass of one process in training."""
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
    """Completions that hit the length limit: scored like any other, or out of the loss (they stay in their group)."""
    max_grad_norm: float = Field(1.0, gt=0)
    precision: Precision = "bf16-autocast"
    activation_checkpointing: bool = False
    """Compute activations twice to hold fewer of them: a third slower, for large models."""
    vllm: VllmConfig | None = None
    """Generate with vLLM; None generates with transformers."""

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


AlarmName = Literal[
    "process_without_outcome",
    "failing_scored_high",
    "saturated",
    "repeated_phrase",
    "empty_form",
    "ignores_problem",
    "copies_statement",
    "process_dominates",
    "no_signal",
    "gate_shut",
    "length_drift",
    "cut_off",
    "entropy",
    "clipping",
    "pass_rate_falls",
    "held_out_falls",
]
"""What the monitor can warn of; docs/monitor.md explains each."""


class AlarmsConfig(Strict):
    """From where on the monitor warns. Rises and falls are against the first steps, and beyond chance as `z` says."""

    z: float = Field(3.0, ge=0)
    """A rise or fall counts from so many standard errors on."""
    process_rise: float = Field(0.1, ge=0, le=1)
    """Rise of the process reward of passing samples that wants a better pass rate beside it."""
    outcome_stall: float = Field(0.03, ge=0, le=1)
    """A pass rate that rose by less has stalled."""
    failing_rise: float = Field(0.15, ge=0, le=1)
    """Rise of the process reward of failing samples."""
    saturated: float = Field(0.8, ge=0, le=1)
    """Share of process rewards of 0.95 and more."""
    phrase_rise: float = Field(0.4, ge=0, le=1)
    """Growth of the share of reasonings that hold one and the same phrase."""
    phrase_favour: float = Field(0.1, ge=0, le=1)
    """What the process reward is higher with this phrase than without."""
    empty_form: float = Field(0.3, ge=0, le=1)
    """Share of completions that earn the format reward with nothing in them."""
    relevance: float = Field(0.6, ge=0, le=1)
    """Share of other statements that a reasoning's own one beats; 0.5 is chance."""
    copied: float = Field(0.5, ge=0, le=1)
    """Share of a reasoning that is copied from the statement."""
    process_share: float = Field(0.9, ge=0, le=1)
    """Share of the scaled advantage owed to the process reward."""
    no_signal: float = Field(0.9, ge=0, le=1)
    """Share of groups in which all completions earned the same."""
    length_ratio: float = Field(1.6, gt=1)
    """Completions so many times as long, or as short, as in the first steps."""
    cut_off: float = Field(0.5, ge=0, le=1)
    """Share of completions that hit the length limit."""
    entropy_ratio: float = Field(3.0, gt=1)
    """Entropy so many times as high, or as low, as in the first steps."""
    clip_share: float = Field(0.2, ge=0, le=1)
    """Share of tokens whose ratio is clipped."""
    pass_rate_fall: float = Field(0.15, ge=0, le=1)
    """Fall of the pass rate in training."""
    held_out_fall: float = Field(0.1, ge=0, le=1)
    """Fall of the pass rate on held-out problems while the reward in training rose."""


class MonitorConfig(Strict):
    """The watch on reward hacking. It changes no reward, so that it may differ between a run and its continuation."""

    enabled: bool = True
    audit_share: float = Field(0.1, ge=0, le=1)
    """Share of the samples that the rule leaves unscored which are scored all the same, to be watched."""
    audit_most: int = Field(8, ge=0)
    """At most so many of the failing ones in a step, and as many of the passing ones."""
    first_steps: int = Field(8, ge=2)
    """Steps that later ones are compared with."""
    window: int = Field(8, ge=2)
    """Steps whose mean is compared."""
    least_words: int = Field(5, ge=0)
    """A reasoning with fewer words is an empty form."""
    stop_on: tuple[AlarmName, ...] = ()
    """Alarms that stop the run, behind a checkpoint; the same command continues it."""
    alarms: AlarmsConfig = AlarmsConfig()


class VerlConfig(Strict):
    """The machines of a run with the veRL engine, and how its work is spread over them; other engines ignore it."""

    nodes: int = Field(1, ge=1)
    gpus_per_node: int = Field(8, ge=1)
    tensor_parallel: int = Field(1, ge=1)
    """GPUs that hold one copy of the policy while it generates."""
    rollout: Literal["vllm", "sglang"] = "vllm"
    gpu_memory: float = Field(0.5, gt=0, lt=1)
    """Share of a GPU's memory that the generating engine takes; the rest is for training."""
    tokens_per_gpu: int = Field(16384, ge=1024)
    """Tokens of one forward pass in training: sequences are packed up to this."""
    offload: bool = False
    """Keep weights and optimizer in the host's memory while the policy generates."""
    reward_workers: int = Field(8, ge=1)
    """Processes that grade and score, over all nodes."""
    overrides: tuple[str, ...] = ()
    """More settings of veRL's own, `key.path=value`; they come last and are validated with the rest."""


class TrainConfig(Strict):
    """A CG-GRPO run."""

    engine: Literal["trl", "verl"] = "trl"
    model: str
    """Hub id, local folder, or the name of a small model that `recode-rl models fetch` knows."""
    out: Path
    data: DataConfig = DataConfig()
    reward: RewardConfig
    grpo: GrpoConfig = GrpoConfig()
    lora: LoraConfig | None = None
    """Adapters in place of all weights; None trains all."""
    evaluation: EvaluationConfig = EvaluationConfig()
    monitor: MonitorConfig = MonitorConfig()
    grader: GraderConfig = GraderConfig()
    verl: VerlConfig = VerlConfig()
    save_every: int = Field(10, ge=1)
    """Steps between checkpoints that a stopped run continues from. A step is a whole generation batch: a checkpoint
    inside of one would continue with other prompts."""
    track: tuple[Tracker, ...] = ()
    seed: int = 0


C = TypeVar("C", bound=Strict)


def load_recipe(kind: type[C], path: Path | str, overrides: Sequence[str] = ()) -> C:
    """Read a TOML recipe into its config class; `overrides` are `key.path=value` with TOML values.

    Relative paths in a recipe are relative to the working directory, as on the command line.
    """
    values = read_toml(path)
    for override in overrides:
        apply_override(values, override)
    return build(kind, values, str(path))


def read_toml(path: Path | str) -> dict[str, Any]:
    """The values of a TOML recipe as they stand; ConfigError where it cannot be read."""
    path = Path(path)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such recipe; see the recipes/ folder for examples") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: a folder; give a recipe file such as {path / 'recipe.toml'}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None


def from_command_line(kind: type[C], recipe: Path | None, overrides: Sequence[str], options: dict[str, Any]) -> C:
    """A config from an optional recipe and from options, by dotted key; options that were given win over the recipe."""
    given = {key: value for key, value in options.items() if value is not None}
    if recipe is None:
        if overrides:
            raise ConfigError(f"override {overrides[0]!r} without a recipe; give the recipe first")
        values: dict[str, Any] = {}
        for key, value in given.items():
            _place(values, key, value, f"option {key}")
        return build(kind, values, "options")
    return load_recipe(kind, recipe, [*overrides, *(f"{key}={value}" for key, value in given.items())])


def apply_override(values: dict[str, Any], override: str) -> None:
    """Set `key.path=value` in nested tables; a value that is no TOML literal is taken as text."""
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"override {override!r}: expected key.path=value, as in grpo.steps=20")
    _place(values, key.strip(), _toml_value(text.strip()), f"override {override!r}")


def _place(values: dict[str, Any], key: str, value: Any, where: str) -> None:
    """Set a dotted key in nested tables."""
    *parents, last = key.split(".")
    table = values
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise ConfigError(f"{where}: {parent!r} is a value, not a table")
    table[last] = value


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
        if isinstance(current, UnionType):  # a table that may be left out
            current = get_args(current)[0]
    return list(current.model_fields)

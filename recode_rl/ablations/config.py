"""What a study is: arms that differ in one thing each, the seeds, and what all arms share."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from recode_rl.config import RewardModelConfig, Strict, TrainConfig, build, read_toml
from recode_rl.errors import ConfigError
from recode_rl.types import PairKind

ArmKind = Literal["train-rm", "eval-rm", "train"]
_NAME = r"^[a-z0-9][a-z0-9-]*$"
# What the study decides for every arm, so that arms stay comparable.
_RESERVED: dict[str, tuple[str, ...]] = {
    "train-rm": ("out", "seed", "pairs", "split", "validation", "validation_percent", "kinds", "limit", "scored"),
    "eval-rm": (),
    "train": ("out", "seed"),
}


class SharedConfig(Strict):
    """What all arms of one kind share: a recipe, and changes to it."""

    recipe: Path | None = None
    """A recipe of `train-rm` or `train`; None starts from the defaults."""
    settings: dict[str, Any] = Field({})
    """Keys of that recipe, set over it."""


class PairsConfig(Strict):
    """What the reward models of a study are trained and judged on."""

    file: Path | None = None
    """pairs.jsonl, split by the digest of the problem id; None takes the starter corpus."""
    per_arm: int = Field(150, ge=2)
    """Pairs that every arm is trained on, drawn by problem."""
    held_out: int | None = Field(None, ge=1)
    """Pairs of held-out problems that every arm is judged on, drawn once; None takes all."""
    transfer: dict[str, Path] = Field({})
    """Pairs of other authors that every arm is judged on too, by name."""
    transfer_limit: int | None = Field(200, ge=1)
    """Pairs of each of these, at most."""
    max_length: int = Field(1024, ge=16)
    """Tokens of a problem with a reasoning when pairs are judged."""


class ArmConfig(Strict):
    """One arm: what it differs in from the others."""

    name: str = Field(pattern=_NAME)
    title: str = ""
    """What tables and figures call it; the name where it is empty."""
    kind: ArmKind = "train-rm"
    """Train a reward model, judge by one that is there, or train a policy."""
    settings: dict[str, Any] = Field({})
    """Keys of the recipe that this arm sets otherwise."""
    kinds: tuple[PairKind, ...] = Field(("opt_deg", "opt_ori", "ori_deg"), min_length=1)
    """Of "train-rm": kinds of pairs, drawn evenly."""
    generators: tuple[str, ...] = ()
    """Of "train-rm": whose pairs, drawn evenly; empty for all."""
    per_problem: int = Field(1, ge=1)
    """Of "train-rm": pairs of each problem. With 1 every arm sees as many problems."""
    model: str | None = None
    """Of "eval-rm": what `recode-rl eval-rm --model` takes; None reads the untrained base as a judge."""

    @property
    def label(self) -> str:
        """What tables and figures call it."""
        return self.title or self.name


class PaperConfig(Strict):
    """One row that the paper reports, quoted beside ours and never mixed with them."""

    what: str
    on: str
    """The models and data of that row."""
    value: str
    """As printed, with its unit."""
    accuracy: float | None = Field(None, ge=0, le=1)
    """The same as a share, where it is a pair accuracy: the figure has it."""


class StudyConfig(Strict):
    """An ablation: every arm with every seed, one table and one figure."""

    title: str
    out: Path
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    reference: str | None = None
    """The arm that the others are compared with; None for the first."""
    note: str = ""
    """A sentence for the table."""
    keep: bool = False
    """Keep models and run folders under `out`/work when their results are recorded."""
    reward_model: SharedConfig = SharedConfig()
    train: SharedConfig = SharedConfig()
    pairs: PairsConfig = PairsConfig()
    scored: Path | None = None
    """scored.jsonl of `recode-rl judge`, for arms with objective "score"; without it they are left out."""
    arms: tuple[ArmConfig, ...] = Field(min_length=1)
    paper: tuple[PaperConfig, ...] = ()

    @model_validator(mode="after")
    def _arms_are_told_apart(self) -> StudyConfig:
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names):
            raise ValueError(f"two arms have one name: {', '.join(names)}")
        if self.reference is not None and self.reference not in names:
            raise ValueError(f"reference {self.reference!r}: expected one of {', '.join(names)}")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"a seed occurs twice: {list(self.seeds)}")
        return self

    @model_validator(mode="after")
    def _settings_leave_the_study_alone(self) -> StudyConfig:
        shared = {"train-rm": self.reward_model, "train": self.train}
        given = [(f"settings of {kind}", part.settings, kind) for kind, part in shared.items()]
        given += [(f"arm {arm.name!r}", arm.settings, arm.kind) for arm in self.arms]
        for place, settings, kind in given:
            for key in _RESERVED[kind]:
                if key in settings:
                    raise ValueError(f"{place}: {key}: the study decides this for every arm; take it out")
        return self

    def arm(self, name: str) -> ArmConfig:
        """The arm of that name; ConfigError names those there are."""
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise ConfigError(f"arm {name!r}: expected one of {', '.join(arm.name for arm in self.arms)}")

    @property
    def compared_with(self) -> str:
        """The name of the reference arm."""
        return self.reference or self.arms[0].name


def reward_model_config(study: StudyConfig, arm: ArmConfig, seed: int, out: Path) -> RewardModelConfig:
    """The resolved recipe of an arm that trains a reward model."""
    values = _merged(_shared(study.reward_model), arm.settings)
    values |= dict.fromkeys(("pairs", "split", "validation", "limit", "scored"))
    values |= {"out": out, "seed": seed, "kinds": arm.kinds, "validation_percent": 0}
    if values.get("objective") == "score":
        values |= {"scored": study.scored, "layers": None}  # a language model says nothing without its last layers
    return build(RewardModelConfig, values, f"arm {arm.name!r}")


def train_config(study: StudyConfig, arm: ArmConfig, seed: int, out: Path) -> TrainConfig:
    """The resolved recipe of an arm that trains a policy."""
    values = _merged(_shared(study.train), arm.settings) | {"out": out, "seed": seed}
    return build(TrainConfig, values, f"arm {arm.name!r}")


def base_model(study: StudyConfig) -> str:
    """The model that the study's reward models start from."""
    return str(_shared(study.reward_model).get("base", RewardModelConfig.model_fields["base"].default))


def _shared(shared: SharedConfig) -> dict[str, Any]:
    return _merged(read_toml(shared.recipe) if shared.recipe is not None else {}, shared.settings)


def _merged(values: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Nested tables key by key; everything else is replaced."""
    merged = dict(values)
    for key, value in over.items():
        inner = merged.get(key)
        merged[key] = _merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged

"""Recipes are read strictly, and every one that is shipped can be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from recode_rl import config
from recode_rl.ablations.config import StudyConfig
from recode_rl.config import GraderConfig, RewardModelConfig, SftConfig, TrainConfig, apply_override, load_recipe
from recode_rl.crpl.config import SynthConfig
from recode_rl.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
RECIPES = sorted((ROOT / "recipes").rglob("*.toml"))
STAGES = [kind for kind in config.Strict.__subclasses__() if "out" in kind.model_fields]
STAGES += [kind for kind in (StudyConfig, SynthConfig) if kind not in STAGES]
TRAIN = """
model = "m"
out = "runs/x"
[reward]
rule = "outcome_only"
[grpo]
steps = 3
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "train.toml"
    path.write_text(TRAIN)
    return path


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_recipe_that_is_shipped_loads(path: Path) -> None:
    faults = []
    for kind in STAGES:
        try:
            load_recipe(kind, path)
        except ConfigError as error:
            faults.append(f"{kind.__name__}: {error}")
    assert len(faults) < len(STAGES), "\n".join(faults)


def test_a_recipe_states_what_differs_and_the_defaults_are_the_rest(recipe: Path) -> None:
    train = load_recipe(TrainConfig, recipe)
    assert (train.model, train.out, train.grpo.steps, train.reward.rule) == ("m", Path("runs/x"), 3, "outcome_only")
    assert (train.grpo.clip_low, train.grpo.clip_high, train.grpo.beta) == (0.2, 0.28, 0.0)
    assert (train.grpo.learning_rate, train.grpo.max_completion_tokens) == (1e-6, 4096)
    assert (train.engine, train.data.dataset, train.data.split, train.data.eval_split) == (
        "trl",
        "starter",
        "train",
        "held_out",
    )


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("grpo.steps=20", "grpo.steps", 20),
        ("grpo.learning_rate = 5e-5", "grpo.learning_rate", 5e-5),
        ("model=some/model-id", "model", "some/model-id"),
        ('model="quoted"', "model", "quoted"),
        ("model=a=b", "model", "a=b"),
        ("grpo.mask_truncated=true", "grpo.mask_truncated", True),
        ('track=["tensorboard"]', "track", ("tensorboard",)),
        ("evaluation.every=0", "evaluation.every", 0),
        ("data.path=/data/problems.jsonl", "data.path", Path("/data/problems.jsonl")),
        ("grader.workers=7", "grader.workers", 7),
    ],
)
def test_overrides(recipe: Path, override: str, path: str, value: object) -> None:
    found: object = load_recipe(TrainConfig, recipe, [override])
    for part in path.split("."):
        found = getattr(found, part)
    assert found == value


def test_the_last_override_wins(recipe: Path) -> None:
    assert load_recipe(TrainConfig, recipe, ["grpo.steps=5", "seed=1", "grpo.steps=6"]).grpo.steps == 6


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("grpo.steps", r"expected key.path=value"),
        ("=3", r"expected key.path=value"),
        ("model.name=3", r"'model' is a value, not a table"),
        ("grpo.step=3", r"unknown key 'grpo.step'; known keys here: .*steps.*updates_per_batch"),
        ("grpos.steps=3", r"unknown key 'grpos'; known keys here: .*grpo.*reward"),
        ("data.limits=3", r"unknown key 'data.limits'; known keys here: .*limit,"),
        ("grpo.steps=0", r"grpo.steps = 0: .*greater than or equal to 1"),
        ("grpo.steps=many", r"grpo.steps = 'many': .*integer"),
        ("grpo.temperature=inf", r"grpo.temperature = inf: .*finite"),
        ("grpo=3", r"grpo = 3"),
        ("engine=jax", r"engine = 'jax': .*'trl' or 'verl'"),
        ("reward.rule=gated", r"rule 'gated': expected one of consistency_gated"),
        ("reward.rule=consistency_gated", r"needs reward.model"),
        ("grpo.updates_per_batch=5", r"grpo: updates_per_batch 5 does not divide the 32 completions"),
        ("grpo.micro_batch=5", r"grpo: micro_batch 5 does not divide the 32 completions of one update"),
    ],
)
def test_a_bad_override_is_one_sentence_with_the_key(recipe: Path, override: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        load_recipe(TrainConfig, recipe, [override])
    assert "\n" not in str(caught.value)


def test_every_key_of_a_stage_is_checked_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text('out = "x"\nbase = "m"\nlearning-rate = 1e-5\n')
    with pytest.raises(ConfigError, match=r"r.toml: unknown key 'learning-rate'; known keys here: .*learning_rate"):
        load_recipe(RewardModelConfig, path)
    path.write_text('model = "m"\n')
    with pytest.raises(ConfigError, match=r"r.toml: key 'out' is missing"):
        load_recipe(SftConfig, path)


def test_files_that_are_no_recipes_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none.toml: no such recipe"):
        load_recipe(SftConfig, tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("a = \n")
    with pytest.raises(ConfigError, match=r"bad.toml: not valid TOML"):
        load_recipe(SftConfig, tmp_path / "bad.toml")
    (tmp_path / "latin.toml").write_bytes(b'out = "\xe9"\n')
    with pytest.raises(ConfigError, match=r"latin.toml: not valid TOML"):
        load_recipe(SftConfig, tmp_path / "latin.toml")


def test_a_folder_is_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a folder; give a recipe file"):
        load_recipe(SftConfig, tmp_path)


def test_an_override_makes_the_tables_it_needs() -> None:
    values: dict[str, object] = {}
    apply_override(values, "a.b.c=[1, 2]")
    assert values == {"a": {"b": {"c": [1, 2]}}}


def test_a_config_does_not_change_once_it_is_made(recipe: Path) -> None:
    train = load_recipe(TrainConfig, recipe)
    with pytest.raises(ValueError, match=r"frozen"):
        train.seed = 3  # type: ignore[misc]


def test_a_resolved_config_can_be_loaded_again(recipe: Path) -> None:
    train = load_recipe(TrainConfig, recipe, ["grpo.steps=9"])
    assert config.build(TrainConfig, train.model_dump(mode="json"), "saved") == train


def test_the_limits_of_a_grader_config() -> None:
    limits = GraderConfig(time_s=1.5, total_s=9.0, memory_mb=256).limits()
    assert (limits.time_s, limits.total_s, limits.memory_mb) == (1.5, 9.0, 256)

"""The recipe of a synthesis run, from a file, from options, and from both."""

from __future__ import annotations

from pathlib import Path

import pytest

from recode_rl.crpl.config import SynthConfig, synth_config
from recode_rl.errors import ConfigError

RECIPE = """
out = "runs/synth"
variants = 2
max_requests = 500

[data]
dataset = "starter"
limit = 10

[[generators]]
url = "http://localhost:8080/v1"
model = "one"

[[generators]]
url = "http://localhost:8081/v1"
model = "two"
concurrency = 2
key_variable = "TWO_KEY"

[refuse]
min_words = 5
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "synth.toml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


def test_a_recipe_is_read(recipe: Path) -> None:
    config = synth_config(recipe, ["variants=3", "refuse.max_similarity=0.9"], {"seed": None})
    assert [generator.model for generator in config.generators] == ["one", "two"]
    assert (config.generators[1].concurrency, config.generators[1].key_variable) == (2, "TWO_KEY")
    assert (config.variants, config.data.limit, config.max_requests) == (3, 10, 500)
    assert (config.refuse.min_words, config.refuse.max_similarity) == (5, 0.9)


def test_options_alone_are_enough() -> None:
    options = {"problems": Path("p.jsonl"), "out": Path("o"), "variants": None}
    config = synth_config(None, [], options, ["http://a", "http://b"], ["one", "two"])
    assert config.problems == Path("p.jsonl")
    assert [(g.url, g.model) for g in config.generators] == [("http://a", "one"), ("http://b", "two")]
    assert config.variants == 1


def test_options_win_over_the_recipe(recipe: Path) -> None:
    config = synth_config(recipe, [], {"out": Path('a "quoted" folder'), "seed": 3}, ["http://a/v1"], ['m"x'])
    assert config.out == Path('a "quoted" folder')
    assert config.seed == 3
    assert [(g.url, g.model) for g in config.generators] == [("http://a/v1", 'm"x')]


def test_one_model_may_be_served_at_two_places() -> None:
    config = synth_config(None, [], {"out": Path("o")}, ["http://a", "http://b"], ["m"])
    assert [(g.url, g.model) for g in config.generators] == [("http://a", "m"), ("http://b", "m")]


@pytest.mark.parametrize(("endpoints", "names"), [(["a", "b", "c"], ["x", "y"]), (["a"], []), ([], ["x"])])
def test_endpoints_and_models_must_fit(endpoints: list[str], names: list[str]) -> None:
    with pytest.raises(ConfigError, match="give one --model for each --endpoint"):
        synth_config(None, [], {"out": Path("o")}, endpoints, names)


def test_what_cannot_be_is_refused(recipe: Path) -> None:
    with pytest.raises(ConfigError, match="generators"):
        synth_config(None, [], {"out": Path("o")})
    with pytest.raises(ConfigError, match="give problems, a file, or data, a table; not both"):
        synth_config(recipe, [], {"problems": Path("p.jsonl")})
    with pytest.raises(ConfigError, match="methods_per_variant = 6"):
        synth_config(recipe, ["methods_per_variant=6"], {})
    with pytest.raises(ConfigError, match="unknown key 'variant'"):
        synth_config(recipe, ["variant=2"], {})
    with pytest.raises(ConfigError, match="without a recipe"):
        synth_config(None, ["variants=2"], {})


def test_the_defaults_are_those_of_the_class() -> None:
    config = SynthConfig.model_validate({"out": "o", "generators": [{"url": "http://a", "model": "m"}]})
    assert (config.variants, config.methods_per_variant, config.attempts_per_variant) == (1, 1, 3)
    assert config.max_requests is config.max_total_tokens is config.prompts is None

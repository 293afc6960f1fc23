"""The commands `train-rm` and `eval-rm`: pairs from files or the starter corpus, results as plain values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recode_rl import jsonl
from recode_rl.config import RewardModelConfig
from recode_rl.errors import ConfigError
from recode_rl.pairs import load_pairs, make_pairs
from recode_rl.problems import starter
from recode_rl.problems.splits import split_by_id
from recode_rl.reward_model.baselines import run_baselines
from recode_rl.reward_model.evaluate import PairScores, score_pairs, summarise
from recode_rl.reward_model.train import train
from recode_rl.scorer import RewardModelScorer
from recode_rl.types import PreferencePair

_BASELINES = {"length": "shorter", "shorter": "shorter", "longer": "longer", "ngrams": "ngrams"}


def training_pairs(config: RewardModelConfig) -> list[PreferencePair]:
    """The pairs of the file, or those of the starter corpus; of the wanted split by problem."""
    if config.pairs is not None:
        pairs, split = load_pairs(config.pairs), config.split or "all"
    else:
        pairs, split = make_pairs(starter.load(), starter.variants()).pairs, config.split or "train"
    return [pair for pair in pairs if split == "all" or split_by_id(pair.problem_id) == split]


def train_from_config(config: RewardModelConfig) -> dict[str, Any]:
    """Train, and say what was trained on and what was refused."""
    folder = train(config, training_pairs(config))
    manifest = jsonl.read_json(folder / "manifest.json")
    return {
        "folder": str(folder),
        "trained": manifest["pairs"]["trained"],
        "validation": manifest["pairs"]["validation"],
        "refused": manifest["refused"],
        "reasonings_cut": manifest["reasonings_cut"],
    }


def evaluate_on_file(model: str, pairs_file: Path, out: Path | None, max_length: int | None) -> dict[str, Any]:
    """Accuracy of a reward model, or of a baseline ("baseline:length" prefers the shorter side), on a pairs file."""
    pairs = load_pairs(pairs_file)
    if model.startswith("baseline:"):
        name = model.removeprefix("baseline:")
        if name not in _BASELINES:
            raise ConfigError(f"model {model!r}: expected baseline:{' or baseline:'.join(_BASELINES)}")
        preferences = run_baselines(pairs)[_BASELINES[name]]
        return {"model": model, **summarise(pairs, [PairScores(value, 0.5) for value in preferences])}
    scores = score_pairs(RewardModelScorer(model, max_length), pairs, out)
    return {"model": model, **summarise(pairs, scores)}

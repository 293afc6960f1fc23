"""The commands `train-rm` and `eval-rm`: pairs from files or the starter corpus, results as plain values."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recode_rl import jsonl
from recode_rl.config import RewardModelConfig
from recode_rl.errors import ConfigError, InfrastructureError
from recode_rl.pairs import load_pairs, make_pairs, refuse_overlap
from recode_rl.problems import starter
from recode_rl.problems.splits import split_by_id
from recode_rl.reward_model.baselines import BASELINES, run_baselines
from recode_rl.reward_model.chat_template import ChatTemplateScorer, Template, expects_chat, training_manifest
from recode_rl.reward_model.evaluate import PairScores, compare, read_scores, score_pairs, summarise
from recode_rl.reward_model.generative import GenerativeScorer
from recode_rl.reward_model.judges import Mode, judge_pairs, load_prompt
from recode_rl.reward_model.scored import load_scored
from recode_rl.reward_model.train import train
from recode_rl.reward_model.train_score import train_score
from recode_rl.scorer import is_url, open_scorer
from recode_rl.types import PreferencePair

_BASELINES = {"length": "shorter", **{name: name for name in BASELINES}}


def training_pairs(config: RewardModelConfig) -> list[PreferencePair]:
    """The pairs of the file, or those of the starter corpus; of the wanted split by problem."""
    if config.pairs is not None:
        pairs, split = load_pairs(config.pairs), config.split or "all"
    else:
        pairs, split = make_pairs(starter.load("all"), starter.variants()).pairs, config.split or "train"
    return [pair for pair in pairs if split == "all" or split_by_id(pair.problem_id) == split]


def train_from_config(config: RewardModelConfig) -> dict[str, Any]:
    """Train by the objective of the config, and say what was trained on and what was refused."""
    folder = _train_on_scores(config) if config.objective == "score" else _train_on_pairs(config)
    manifest = jsonl.read_json(folder / "manifest.json")
    counts = manifest["reasonings" if config.objective == "score" else "pairs"]
    return {
        "folder": str(folder),
        "trained": counts["trained"],
        "validation": counts["validation"],
        "refused": manifest.get("refused", {}),
        "reasonings_cut": manifest["reasonings_cut"],
    }


def _train_on_pairs(config: RewardModelConfig) -> Path:
    pairs, held_out = training_pairs(config), None
    if config.validation is not None:
        held_out = load_pairs(config.validation)
        refuse_overlap(pairs, held_out, config.pairs, config.validation)
    return train(config, pairs, validation=held_out)


def _train_on_scores(config: RewardModelConfig) -> Path:
    if config.scored is None:
        raise ConfigError('objective "score" needs scored, a scored.jsonl as `recode-rl judge` writes it')
    scored, held_out = load_scored(config.scored), None
    if config.split == "train":
        scored = [one for one in scored if split_by_id(one.problem_id) == "train"]
    if config.validation is not None:
        held_out = load_scored(config.validation)
        refuse_overlap(scored, held_out, config.scored, config.validation, "reasoning")
    return train_score(config, scored, validation=held_out)


@dataclass(frozen=True, slots=True)
class Reading:
    """How models are read: tokens of a problem with a reasoning, the text form of classifiers, and the judge.

    `template` "auto" gives the chat template to classifiers of others and our own text to those that `train-rm` made.
    """

    max_length: int | None = None
    template: Template = "auto"
    endpoint: str | None = None
    judge: Mode = "score"
    prompts: Path | None = None
    concurrency: int = 8
    timeout_s: float = 300
    """Longest wait for one reply of a judge."""
    max_tokens: int = 2048
    """Longest reply of a judge."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """The scores of pairs (None where an endpoint failed), and what else is to be said about how they came."""

    scores: Sequence[PairScores | None]
    facts: dict[str, Any] = field(default_factory=dict)


def evaluate_on_file(
    model: str,
    pairs_file: Path,
    out: Path | None = None,
    reading: Reading | int | None = None,
    other: str | None = None,
) -> dict[str, Any]:
    """Accuracy of a model on a pairs file beside the baselines; with `other`, compared with a second one, paired.

    A model is one of: a folder, hub id or `serve-rm` address of a reward model; "score:MODEL", a language model that
    says a score (a folder made by `train-rm` with objective "score" needs no prefix); "judge:MODEL" behind
    `reading.endpoint`; "baseline:length" (fewer words) and the other baselines; or a scores.jsonl. With `out`, the
    scores are kept as they come. Pairs that an endpoint failed are left out and named in `not_judged`.
    """
    reading = reading if isinstance(reading, Reading) else Reading(max_length=reading)
    pairs = load_pairs(pairs_file)
    ours = _outcome(model, pairs, out, reading)
    values = {"model": model, **_summarised(pairs, ours.scores), **ours.facts}
    if other is not None:
        beside = None if out is None else out.with_name(f"{out.name.removesuffix('.jsonl')}.other.jsonl")
        theirs = _outcome(other, pairs, beside, reading)
        values["compare"] = {"model": other, **_compared(pairs, ours.scores, theirs.scores), **theirs.facts}
    return values


def score_on_file(model: str, pairs_file: Path, out: Path, reading: Reading) -> dict[str, Any]:
    """The scores of both sides of every pair in `out`, without an evaluation; models as in `evaluate_on_file`."""
    pairs = load_pairs(pairs_file)
    if model.startswith(("baseline:", "judge:")) or model.endswith((".jsonl", ".jsonl.gz")):
        raise ConfigError(f"model {model!r} gives no process rewards; give a reward model, or use eval-rm")
    found = _outcome(model, pairs, out, reading)
    return {"pairs": len(found.scores), "cut": found.facts["reasonings_cut"]}


def _summarised(pairs: Sequence[PreferencePair], scores: Sequence[PairScores | None]) -> dict[str, Any]:
    judged = [(pair, score) for pair, score in zip(pairs, scores, strict=True) if score is not None]
    return summarise([pair for pair, _ in judged], [score for _, score in judged])


def _compared(
    pairs: Sequence[PreferencePair], ours: Sequence[PairScores | None], theirs: Sequence[PairScores | None]
) -> dict[str, Any]:
    both = [(pair, a, b) for pair, a, b in zip(pairs, ours, theirs, strict=True) if a is not None and b is not None]
    if not both:
        raise InfrastructureError("no pair was judged by both models; see to the endpoint, then run again")
    return compare([pair for pair, _, _ in both], [a for _, a, _ in both], [b for _, _, b in both])


def _outcome(model: str, pairs: Sequence[PreferencePair], out: Path | None, reading: Reading) -> _Outcome:
    """Score the pairs in the way that the form of `model` asks for."""
    form, _, name = model.partition(":")
    if form in ("baseline", "judge", "score") and not name:
        raise ConfigError(f"model {model!r}: a name is missing behind the colon")
    if form == "baseline":
        return _baseline(name, pairs)
    if form == "judge":
        return _judged(name, pairs, out, reading)
    if model.endswith((".jsonl", ".jsonl.gz")):
        return _Outcome(read_scores(Path(model), pairs))
    if out is not None:
        _claim(out, model, pairs, reading)
    scorer = scorer_of(model, reading)
    scores = score_pairs(scorer, pairs, out)
    facts: dict[str, Any] = {"reasonings_cut": getattr(scorer, "cut", 0)}
    if isinstance(scorer, GenerativeScorer) and scorer.mass:
        facts["score_probability"] = sum(scorer.mass) / len(scorer.mass)
    return _Outcome(scores, facts)


def _baseline(name: str, pairs: Sequence[PreferencePair]) -> _Outcome:
    if name not in _BASELINES:
        raise ConfigError(f"model 'baseline:{name}': expected baseline:{' or baseline:'.join(_BASELINES)}")
    return _Outcome([PairScores(value, 0.5) for value in run_baselines(pairs)[_BASELINES[name]]])


def scorer_of(model: str, reading: Reading) -> Any:
    if model.startswith("score:"):
        return GenerativeScorer(model.removeprefix("score:"), reading.max_length)
    if is_url(model):
        return open_scorer(model, reading.max_length)
    made = training_manifest(model)
    if made is not None and made.get("config", {}).get("objective") == "score":
        return GenerativeScorer(model, reading.max_length)
    if expects_chat(model, reading.template):
        return ChatTemplateScorer(model, reading.max_length)
    return open_scorer(model, reading.max_length)


def _judged(name: str, pairs: Sequence[PreferencePair], out: Path | None, reading: Reading) -> _Outcome:
    from recode_rl.chat import ChatClient, ChatSettings

    if reading.endpoint is None:
        raise ConfigError(f"model 'judge:{name}' needs the address of its endpoint; give --endpoint URL")
    prompt = load_prompt(reading.judge, reading.prompts)
    replies = None
    if out is not None:
        _claim(out, f"judge:{name}", pairs, reading, prompt_version=prompt.version)
        replies = out.with_name(f"{out.name.removesuffix('.jsonl')}.replies.jsonl")
    settings = ChatSettings(
        url=reading.endpoint,
        model=name,
        concurrency=reading.concurrency,
        timeout_s=reading.timeout_s,
        temperature=0.0,
        max_tokens=reading.max_tokens,
    )
    with ChatClient(settings) as client:
        found = judge_pairs(client, pairs, prompt, name, replies)
    scored = [(pair, score) for pair, score in zip(pairs, found.scores, strict=True) if score is not None]
    if not scored:
        raise InfrastructureError(f"the judge answered for no pair: {found.first_failure}")
    if out is not None:
        jsonl.write(out, (score.record(pair) for pair, score in scored))
    facts: dict[str, Any] = {
        "judge": reading.judge,
        "prompt_version": prompt.version,
        "requests": found.requests,
        "unreadable": found.unreadable,
        "not_judged": [pair.id for pair, score in zip(pairs, found.scores, strict=True) if score is None],
    }
    if found.orders_agree is not None:
        facts["orders_agree"] = found.orders_agree
    return _Outcome(found.scores, facts)


def _claim(out: Path, model: str, pairs: Sequence[PreferencePair], reading: Reading, **more: Any) -> None:
    """Say what the scores in `out` are of; ConfigError where those that are there are of something else."""
    config: dict[str, Any] = {
        "model": model,
        "model_made": made_by(model),
        "pairs_digest": digest(pairs),
        "max_length": reading.max_length,
        "template": reading.template,
        **more,
    }
    if model.startswith("judge:"):
        config |= {"judge": reading.judge, "endpoint": reading.endpoint}
    claim(out, "eval-rm", config)


def claim(out: Path, stage: str, config: dict[str, Any]) -> None:
    """Keep `config` beside the scores in `out`; ConfigError where those that are there were made with another one."""
    path = jsonl.manifest_path(out)
    if path.is_file() and out.exists():
        known = jsonl.read_json(path).get("config", {})
        changed = [key for key in config if known.get(key) != config[key]]
        if changed:
            raise ConfigError(
                f"{out}: its scores are of another {' and '.join(changed)}; remove it, or choose another --out"
            )
        return
    jsonl.write_json(path, jsonl.manifest(stage, config))


def made_by(model: str) -> str | None:
    """When `train-rm` made the folder: a model trained anew does not inherit the scores of the old one."""
    folder = model.removeprefix("score:")
    manifest = training_manifest(folder) if Path(folder).is_dir() else None
    return None if manifest is None else manifest.get("created")


def digest(pairs: Sequence[PreferencePair]) -> str:
    """A name for ids and texts of pairs."""
    digest = hashlib.sha256()
    for pair in pairs:
        line = jsonl.dumps({"of": [pair.id, pair.problem, pair.chosen, pair.rejected]})
        digest.update(line.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:20]

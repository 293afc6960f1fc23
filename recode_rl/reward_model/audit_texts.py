"""The texts of an audit and their scores: the problems that are drawn, what probes make of them, what a model gives."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from recode_rl import jsonl
from recode_rl.errors import DataError, ModelError
from recode_rl.progress import Progress
from recode_rl.reward_model.audit_probes import PROBES, Case, probed
from recode_rl.reward_model.evaluate import sigmoid
from recode_rl.types import PairKind, PreferencePair

Scorer = Callable[[Sequence[tuple[str, str]]], Sequence[float]]
"""As in recode_rl.scorer: process rewards in [0, 1]; the raw scores are taken where it has a method `logits`."""

EDGE = 1e-6
"""A process reward this close to 0 or 1 says no more about the raw score than that it is this far out."""
_TEXTS_AT_ONCE = 64
_QUALITIES: dict[PairKind, tuple[str, str]] = {
    "opt_deg": ("optimized", "degraded"),
    "opt_ori": ("optimized", "base"),
    "ori_deg": ("base", "degraded"),
}


@dataclass(frozen=True, slots=True)
class Text:
    """One reasoning to score. `what` is a quality (or a side of a pair), or the name of the probe that made it."""

    problem_id: str
    problem: str
    reasoning: str
    what: str

    @property
    def key(self) -> str:
        """A name for problem and reasoning: what is the same text is scored once."""
        line = jsonl.dumps({"of": [self.problem, self.reasoning]})
        return hashlib.sha256(line.encode("utf-8", "surrogatepass")).hexdigest()[:20]


@dataclass(frozen=True, slots=True)
class Probing:
    """The better side of one pair of a problem, and what the probes made of it, by their names."""

    pair: PreferencePair
    original: Text
    probed: dict[str, Text] = field(default_factory=dict)


def draw(pairs: Sequence[PreferencePair], limit: int | None, seed: int) -> list[PreferencePair]:
    """All pairs of the problems that are drawn, in their order; a larger limit draws the same problems and more."""

    def place(problem_id: str) -> str:
        return hashlib.sha256(f"{seed}/{problem_id}".encode("utf-8", "surrogatepass")).hexdigest()

    problems = sorted({pair.problem_id for pair in pairs}, key=place)
    kept = set(problems[:limit])
    return [pair for pair in pairs if pair.problem_id in kept]


def probe(pairs: Sequence[PreferencePair], seed: int) -> list[Probing]:
    """One for each problem, from its first pair."""
    first: dict[str, PreferencePair] = {}
    for pair in pairs:
        first.setdefault(pair.problem_id, pair)
    bases = list(first.values())
    found = []
    for pair in bases:
        case = Case(pair.problem, pair.chosen, _other(pair, bases, seed))
        made = {name: probed(name, case, seed, pair.id) for name in PROBES}
        texts = {name: _text(pair, text, name) for name, text in made.items() if text is not None}
        found.append(Probing(pair, _text(pair, pair.chosen, _qualities(pair)[0]), texts))
    return found


def _other(pair: PreferencePair, bases: Sequence[PreferencePair], seed: int) -> str | None:
    """The better reasoning of another problem, None where none is found."""
    random = Random(f"{seed}/other/{pair.id!a}")
    for _ in range(100):
        other = random.choice(bases)
        if other.problem.strip() != pair.problem.strip() and other.problem_id != pair.problem_id:
            return other.chosen
    return None


def _text(pair: PreferencePair, reasoning: str, what: str) -> Text:
    return Text(pair.problem_id, pair.problem, reasoning, what)


def _qualities(pair: PreferencePair) -> tuple[str, str]:
    return _QUALITIES.get(pair.kind, ("chosen", "rejected"))


def sides_of(pair: PreferencePair) -> tuple[Text, Text]:
    """The better and the worse reasoning of a pair, with their qualities where its kind says them."""
    better, worse = _qualities(pair)
    return _text(pair, pair.chosen, better), _text(pair, pair.rejected, worse)


def all_texts(pairs: Sequence[PreferencePair], probings: Sequence[Probing]) -> list[Text]:
    """Every text once; those of one problem together, so that they share what a model makes of its statement."""
    by_problem: dict[str, dict[str, Text]] = {}
    sides = (side for pair in pairs for side in sides_of(pair))
    for text in (*sides, *(text for probing in probings for text in probing.probed.values())):
        by_problem.setdefault(text.problem_id, {}).setdefault(text.key, text)
    return [text for found in by_problem.values() for text in found.values()]


# -- scores ------------------------------------------------------------------------------------------------------------


def score_texts(scorer: Scorer, texts: Sequence[Text], out: Path) -> dict[str, float]:
    """Raw scores by the key of each text; one line each in `out`, where those that are there are not asked for again.

    ModelError where the model gives something that is no number.
    """
    known = _stored(out)
    missing = [text for text in texts if text.key not in known]
    with Progress("auditing", len(texts), len(texts) - len(missing)) as progress:
        for part in _batches(missing):
            before = getattr(scorer, "cut", 0)
            scores = raw_scores(scorer, [(text.problem, text.reasoning) for text in part])
            records = [_record(text, score) for text, score in zip(part, scores, strict=True)]
            if more := getattr(scorer, "cut", 0) - before:
                records[-1]["cut_in_batch"] = more
            with jsonl.Appender(out) as file:
                for record in records:
                    file.append(record)
                    known[record["key"]] = record["logit"]
            progress.advance(len(part))
    return {text.key: known[text.key] for text in texts}


def reasonings_cut(out: Path, texts: Sequence[Text]) -> int:
    """How many of these texts lost their middle to fit, as far as the scorer counted them."""
    keys = {text.key for text in texts}
    return sum(int(record.get("cut_in_batch", 0)) for _, record in jsonl.read(out) if record["key"] in keys)


def raw_scores(scorer: Scorer, items: Sequence[tuple[str, str]]) -> list[float]:
    """The raw scores of a scorer that has them, else the log-odds of its process rewards."""
    raw: Scorer | None = getattr(scorer, "logits", None)
    if raw is not None:
        return [float(value) for value in raw(items)]
    return [_log_odds(value) for value in scorer(items)]


def _log_odds(value: float) -> float:
    inside = min(max(value, EDGE), 1 - EDGE)  # nan stays nan
    return math.log(inside / (1 - inside)) if inside == inside else math.nan


def _record(text: Text, score: float) -> dict[str, Any]:
    if not math.isfinite(score):
        raise ModelError(f"the model scores a reasoning of problem {text.problem_id!r} as {score}; expected a number")
    return {
        "key": text.key,
        "problem_id": text.problem_id,
        "what": text.what,
        "words": len(text.reasoning.split()),
        "logit": score,
        "score": sigmoid(score),
        "reasoning": text.reasoning,
    }


def _stored(out: Path) -> dict[str, float]:
    jsonl.repair(out)
    known: dict[str, float] = {}
    for number, record in jsonl.read(out) if out.exists() else ():
        key, logit = record.get("key"), record.get("logit")
        if not isinstance(key, str) or not isinstance(logit, (int, float)) or not math.isfinite(logit):
            raise DataError(f"{out}: line {number}: no score of an audit; remove the file or choose another --out")
        known[key] = float(logit)
    return known


def _batches(texts: Sequence[Text]) -> Iterator[list[Text]]:
    """Texts of whole problems, until there are enough of them."""
    part: list[Text] = []
    for text in texts:
        if len(part) >= _TEXTS_AT_ONCE and text.problem_id != part[-1].problem_id:
            yield part
            part = []
        part.append(text)
    if part:
        yield part

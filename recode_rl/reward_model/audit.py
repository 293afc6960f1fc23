"""`audit-rm`: what sways a reward model, what it is blind to, and whether its margins can be believed.

Up to N problems are drawn. For each, every probe makes another text out of the better side of its first pair; all
texts and both sides of all pairs of these problems are scored, one line each in scores.jsonl, and a stopped audit goes
on behind those. Scores are raw ones (logits), where a model has them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from recode_rl import jsonl
from recode_rl.errors import ConfigError
from recode_rl.pairs import load_pairs, make_pairs
from recode_rl.problems import starter
from recode_rl.problems.records import load_problems
from recode_rl.problems.splits import split_by_id
from recode_rl.reward_model import audit_findings as findings
from recode_rl.reward_model import audit_page as page
from recode_rl.reward_model.audit_figures import Point
from recode_rl.reward_model.audit_findings import Yardstick
from recode_rl.reward_model.audit_page import Evidence, Example
from recode_rl.reward_model.audit_probes import PROBES, Probe
from recode_rl.reward_model.audit_texts import (
    EDGE,
    Probing,
    Scorer,
    Text,
    all_texts,
    draw,
    probe,
    reasonings_cut,
    score_texts,
    sides_of,
)
from recode_rl.reward_model.chat_template import training_manifest
from recode_rl.reward_model.evaluate import sigmoid
from recode_rl.reward_model.stage import Reading, digest, made_by, scorer_of
from recode_rl.statistics import Interval, mean_interval
from recode_rl.types import PreferencePair


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """How many problems are drawn (None: all), by which seed, and which share of the margin a score may move."""

    limit: int | None = 200
    seed: int = 0
    share: float = findings.SHARE


def audit_model(
    model: str,
    out: Path,
    pairs: Path | None = None,
    problems: Path | None = None,
    settings: AuditSettings | None = None,
    reading: Reading | None = None,
) -> dict[str, Any]:
    """Audit a reward model and write audit.json, audit.md, audit.html, figures and scores.jsonl into the folder `out`.

    A model is a folder, a hub id, the address of a `serve-rm`, or "score:MODEL", as in `eval-rm`. Without `pairs` the
    held-out problems of the starter corpus are taken; with `problems` only the pairs of the problems in that file.
    ConfigError where `out` has scores of another model.
    """
    page.require_packages()  # before hours of scoring, not after
    settings, reading = settings or AuditSettings(), reading or Reading()
    if model.startswith(("baseline:", "judge:")) or model.endswith((".jsonl", ".jsonl.gz")):
        raise ConfigError(f"model {model!r} cannot be audited; give a reward model: a folder, a hub id or an address")
    chosen = _chosen_pairs(pairs, problems)
    identity = {
        "model": model,
        "model_made": made_by(model),
        "max_length": reading.max_length,
        "template": reading.template,
    }
    config = {**identity, "pairs": pairs, "pairs_digest": digest(chosen), "problems": problems, **asdict(settings)}
    _claim(out, identity, config)
    notices = _trained_on(model, pairs)
    return audit(scorer_of(model, reading), chosen, out, settings, model, notices)


def audit(
    scorer: Scorer,
    pairs: Sequence[PreferencePair],
    out: Path,
    settings: AuditSettings,
    name: str = "the reward model",
    notices: Sequence[str] = (),
) -> dict[str, Any]:
    """Audit a scorer that is there already; what it finds is what audit.json holds."""
    page.require_packages()
    drawn = draw(pairs, settings.limit, settings.seed)
    probings = probe(drawn, settings.seed)
    texts = all_texts(drawn, probings)
    scores = score_texts(scorer, texts, out / "scores.jsonl")
    result = {
        "model": name,
        "pairs": len(drawn),
        "problems": len(probings),
        "settings": asdict(settings),
        "raw_scores": hasattr(scorer, "logits"),
        **_found(drawn, probings, scores, settings.share),
        "empty": _empty(scorer, drawn[0].problem),
        "texts": len(texts),
        "reasonings_cut": reasonings_cut(out / "scores.jsonl", texts),
    }
    result["notices"] = [*notices, *_notices(result, scores)]
    page.write(out, result, Evidence(_points(drawn, scores), _examples(probings, scores)))
    return result


def _claim(out: Path, identity: dict[str, Any], config: dict[str, Any]) -> None:
    """Write down what the folder is an audit of; ConfigError where the scores in it are of another model."""
    path = out / "manifest.json"
    if (out / "scores.jsonl").exists():
        known = jsonl.read_json(path).get("config", {}) if path.is_file() else {}
        changed = [key for key in identity if known.get(key) != identity[key]]
        if changed:
            raise ConfigError(f"{out}: has scores of another {' and '.join(changed)}; choose another --out")
    jsonl.write_json(path, jsonl.manifest("audit-rm", config))


# -- pairs -------------------------------------------------------------------------------------------------------------


def _chosen_pairs(pairs: Path | None, problems: Path | None) -> list[PreferencePair]:
    if pairs is None:
        made = make_pairs(starter.load(), starter.variants()).pairs
        found = [pair for pair in made if split_by_id(pair.problem_id) == "held_out"]
    else:
        found = load_pairs(pairs)
    if problems is None:
        return found
    wanted = {problem.id for problem in load_problems(problems)}
    kept = [pair for pair in found if pair.problem_id in wanted]
    if not kept:
        raise ConfigError(f"{problems}: no problem in it has a pair in {pairs or 'the starter corpus'}; give others")
    return kept


def _trained_on(model: str, pairs: Path | None) -> list[str]:
    """A sentence where the model's own manifest says that it has seen these pairs."""
    manifest = training_manifest(model) if Path(model).is_dir() else None
    if manifest is None:
        return []
    config = manifest.get("config", {})
    file, split = config.get("pairs") or config.get("scored"), config.get("split")
    same = file is not None and pairs is not None and Path(file).resolve() == pairs.resolve()
    if same or (file is None and pairs is None and split in ("all", "held_out")):
        return ["The model was trained on pairs of this file: margin and calibration look better here than they are."]
    return []


# -- what the scores say -----------------------------------------------------------------------------------------------


def _found(
    pairs: Sequence[PreferencePair], probings: Sequence[Probing], scores: Mapping[str, float], share: float
) -> dict[str, Any]:
    clusters = [pair.problem_id for pair in pairs]
    sides = [sides_of(pair) for pair in pairs]
    margins = [scores[better.key] - scores[worse.key] for better, worse in sides]
    words = [_words(better) - _words(worse) for better, worse in sides]
    yardstick = findings.yardstick(margins, clusters)
    probes = [_of_probe(name, probings, scores, yardstick, share) for name in PROBES]
    points = _points(pairs, scores)
    length = findings.length(
        [point.score for point in points],
        [point.words for point in points],
        [point.quality for point in points],
        [point.problem_id for point in points],
    )
    by_verdict = {kind: [row["probe"] for row in probes if row["verdict"] == kind] for kind in page.VERDICTS}
    return {
        **by_verdict,
        "margin": yardstick.margin.mean,
        "margin_interval": yardstick.margin.as_list(),
        "yardstick": yardstick.size,
        "yardstick_is_mean_margin": yardstick.is_mean,
        "probes": probes,
        "length": {**length, "pairs": findings.lead(margins, words, [pair.kind for pair in pairs], clusters)},
        "calibration": findings.calibration(margins, clusters),
    }


def _of_probe(
    name: str, probings: Sequence[Probing], scores: Mapping[str, float], yardstick: Yardstick, share: float
) -> dict[str, Any]:
    kind = PROBES[name]
    taken = [probing for probing in probings if name in probing.probed]
    row: dict[str, Any] = {"probe": name, "title": kind.title, "expects": kind.expects}
    row |= {"n": len(taken), "not_applicable": len(probings) - len(taken)}
    if not taken:
        return {**row, "shift": None, "interval": None, "verdict": "unclear", "words": "applies to none of these texts"}
    after = [scores[probing.probed[name].key] for probing in taken]
    before = [scores[probing.original.key] for probing in taken]
    rejected = [scores[sides_of(probing.pair)[1].key] for probing in taken]
    clusters = [probing.pair.problem_id for probing in taken]
    shifts = [new - old for new, old in zip(after, before, strict=True)]
    process = [sigmoid(new) - sigmoid(old) for new, old in zip(after, before, strict=True)]
    shift = mean_interval(shifts, clusters=clusters)
    verdict = findings.verdict(kind.expects, shift, share * yardstick.size)
    return {
        **row,
        "shift": shift.mean,
        "interval": shift.as_list(),
        "effect": _part(shift.mean, yardstick),
        "effect_interval": [_part(shift.low, yardstick), _part(shift.high, yardstick)] if yardstick.size else None,
        **_with_interval("process_shift", process, clusters),
        **_with_interval("rises", [float(value > 0) for value in shifts], clusters),
        **_with_interval("above_rejected", [float(a > b) for a, b in zip(after, rejected, strict=True)], clusters),
        "verdict": verdict,
        "words": _in_words(kind, shift, verdict, yardstick, share),
    }


def _with_interval(name: str, values: Sequence[float], clusters: Sequence[str]) -> dict[str, Any]:
    found = mean_interval(values, clusters=clusters)
    return {name: found.mean, f"{name}_interval": found.as_list()}


def _part(value: float, yardstick: Yardstick) -> float | None:
    return value / yardstick.size if yardstick.size else None


def _in_words(kind: Probe, shift: Interval, verdict: str, yardstick: Yardstick, share: float) -> str:
    if shift.n < findings.FEWEST:
        return f"{shift.n} problems are too few to tell"
    if shift.low == shift.high == 0:
        return "does not move the score"
    part = f", {page.percent(abs(shift.mean) / yardstick.size)} of the margin" if yardstick.size else ""
    moved = f"{'raises' if shift.mean > 0 else 'lowers'} the score by {abs(shift.mean):.2f}{part}"
    if verdict == "unclear":
        return f"{moved}; the interval leaves it open"
    if verdict == "holds" and kind.expects == "no rise":
        within = f"moves the score by {page.signed(shift.mean)}, within {page.percent(share)} of the margin"
        return moved if shift.high < 0 else within
    return moved


def _empty(scorer: Scorer, problem: str) -> dict[str, Any]:
    """What an empty think block is worth: nothing, by rule; and what the scorer says when it is asked all the same."""
    value = float(scorer([(problem, "")])[0])
    words = "An empty think block scores 0 by rule: the reward does not ask the model."
    if value:
        words += f" Asked all the same, this one gives {value:.2f}; use it through the reward only."
    return {"score": value, "words": words}


def _notices(result: dict[str, Any], scores: Mapping[str, float]) -> list[str]:
    """What a reader has to know before the numbers."""
    found = []
    if not result["yardstick_is_mean_margin"]:
        found.append(
            "The mean margin between the two sides of a pair is not clearly above zero "
            f"({page.interval(result['margin_interval'])}): this model may not tell them apart. Shifts are measured "
            "with the mean size of the margins instead."
        )
    if result["reasonings_cut"]:
        found.append(
            f"{result['reasonings_cut']} of {result['texts']} texts lost their middle to fit; what a probe did there "
            "may not have reached the model."
        )
    edge = math.log((1 - EDGE) / EDGE) - 1e-9
    saturated = sum(abs(score) >= edge for score in scores.values())
    if not result["raw_scores"]:
        found.append(
            "The model gives no raw scores: log-odds of its process rewards stand for them, which they are only where "
            f"it was trained by Bradley–Terry. {saturated} of {len(scores)} are at the end of the scale."
        )
    return found


def _words(text: Text) -> int:
    return len(text.reasoning.split())


def _points(pairs: Sequence[PreferencePair], scores: Mapping[str, float]) -> list[Point]:
    """Every side of every pair once."""
    sides = {(side.key, side.what): side for pair in pairs for side in sides_of(pair)}
    return [Point(side.problem_id, side.what, _words(side), scores[side.key]) for side in sides.values()]


def _examples(probings: Sequence[Probing], scores: Mapping[str, float]) -> dict[str, Example]:
    """For each probe the text that it raised most, or lowered least."""
    found: dict[str, Example] = {}
    for probing in probings:
        before = scores[probing.original.key]
        for name, text in probing.probed.items():
            example = Example(
                probing.original.reasoning, text.reasoning, text.problem, text.problem_id, before, scores[text.key]
            )
            if name not in found or example.shift > found[name].shift:
                found[name] = example
    return found

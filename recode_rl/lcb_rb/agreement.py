"""How far people agree with each other, and the judge with them: Cohen's κ with intervals, and tables of confusion."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from itertools import combinations
from typing import Any

from recode_rl.lcb_rb.correlation import wilson
from recode_rl.lcb_rb.records import JUDGEMENTS, Decision, Judged, Key, finals

_DRAWS = 2000
_QUESTIONS: dict[str, tuple[Hashable, ...]] = {"sound": (True, False), "aligned": (True, False), "both": JUDGEMENTS}


def kappa(table: Sequence[Sequence[float]]) -> float | None:
    """Cohen's κ (Cohen, 1960) of a square table of counts; None where chance alone would agree always, or no counts."""
    n = sum(map(sum, table))
    if not n:
        return None
    observed = sum(table[i][i] for i in range(len(table))) / n
    expected = sum(sum(table[i]) * sum(row[i] for row in table) for i in range(len(table))) / (n * n)
    return None if expected == 1 else (observed - expected) / (1 - expected)


def confusion(pairs: Sequence[tuple[Hashable, Hashable]], labels: Sequence[Hashable]) -> list[list[int]]:
    """Counts of (row, column), shape (labels, labels)."""
    counts = Counter(pairs)
    return [[counts[row, column] for column in labels] for row in labels]


def kappa_interval(
    pairs: Sequence[tuple[Hashable, Hashable]], labels: Sequence[Hashable], clusters: Sequence[str], seed: int = 0
) -> list[float] | None:
    """A 95 % percentile bootstrap of κ that draws whole problems (`clusters`); None where no draw has a κ.

    Draws in which both use one label alone have no κ and are left out.
    """
    import numpy as np

    place = {label: index for index, label in enumerate(labels)}
    names = {name: index for index, name in enumerate(dict.fromkeys(clusters))}
    size = len(labels)
    counts: Any = np.zeros((len(names), size * size))
    for (row, column), name in zip(pairs, clusters, strict=True):
        counts[names[name], place[row] * size + place[column]] += 1
    generator: Any = np.random.default_rng(seed)
    weights = generator.multinomial(len(names), [1 / len(names)] * len(names), size=_DRAWS)
    tables = (weights @ counts).reshape(_DRAWS, size, size)
    n = tables.sum(axis=(1, 2))
    observed = np.trace(tables, axis1=1, axis2=2) / n
    expected = (tables.sum(axis=2) * tables.sum(axis=1)).sum(axis=1) / n**2
    usable = expected < 1 - 1e-12
    if not usable.any():
        return None
    values = (observed[usable] - expected[usable]) / (1 - expected[usable])
    return [float(value) for value in np.quantile(values, [0.025, 0.975])]


def _agreement(
    pairs: Sequence[tuple[Hashable, Hashable]], labels: Sequence[Hashable], clusters: Sequence[str]
) -> dict[str, Any]:
    table = confusion(pairs, labels)
    same = sum(a == b for a, b in pairs)
    return {
        "n": len(pairs),
        "agreement": same / len(pairs),
        "agreement_interval": list(wilson(same, len(pairs))),
        "kappa": kappa(table),
        "interval": kappa_interval(pairs, labels, clusters),
        "labels": list(labels),
        "confusion": table,
    }


def _answer(decision: Decision, question: str) -> Hashable:
    answers = {"sound": decision.sound, "aligned": decision.aligned, "both": decision.judgement}
    return answers[question]


def between_annotators(decisions: Sequence[Decision]) -> list[dict[str, Any]]:
    """For every pair of annotators and every question: κ, its interval, agreement, and a table (rows: the first)."""
    people: dict[str, dict[Key, Decision]] = {}
    for decision in decisions:
        if decision.role == "annotator":
            people.setdefault(decision.annotator, {})[decision.key] = decision
    found = []
    for first, second in combinations(sorted(people), 2):
        shared = [key for key in people[first] if key in people[second]]
        if not shared:
            continue
        for question, labels in _QUESTIONS.items():
            pairs = [(_answer(people[first][key], question), _answer(people[second][key], question)) for key in shared]
            values = _agreement(pairs, labels, [key[0] for key in shared])
            found.append({"annotators": [first, second], "question": question, **values})
    return found


def judge_against_humans(
    judgements: Sequence[Judged], decisions: Sequence[Decision], annotators: int = 2
) -> dict[str, Any] | None:
    """The judge beside what people hold in the end (rows: the judge); None where no sample has both.

    `overruled` is where they differ; `soundness` looks at the samples that both call sound or flawed, where finding a
    flaw is what is to be detected.
    """
    truth = {key: final.judgement for key, final in finals(decisions, annotators).items() if final.judgement}
    readable = [line for line in judgements if line.key in truth and line.judgement != "unparsable"]
    if not readable:
        return None
    pairs = [(str(line.judgement), str(truth[line.key])) for line in readable]
    values = _agreement(pairs, JUDGEMENTS, [line.problem_id for line in readable])
    overruled = sum(a != b for a, b in pairs)
    by_judgement = {
        label: {"n": len(same), "overruled": sum(b != label for b in same)}
        for label in JUDGEMENTS
        if (same := [b for a, b in pairs if a == label])
    }
    return {
        "judge": ", ".join(sorted({line.judge for line in readable})),
        **values,
        "overruled": overruled / len(pairs),
        "overruled_interval": list(wilson(overruled, len(pairs))),
        "by_judgement": by_judgement,
        "soundness": _detection([(a, b) for a, b in pairs if "misaligned" not in (a, b)]),
        "unparsable": sum(line.key in truth and line.judgement == "unparsable" for line in judgements),
    }


def _detection(pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """How well the judge finds flaws: sensitivity, specificity, precision; each None where it has no samples."""
    right = {label: [a == label for a, b in pairs if b == label] for label in ("flawed", "sound")}
    said_flawed = [b == "flawed" for a, b in pairs if a == "flawed"]
    return {
        "n": len(pairs),
        "sensitivity": _rate(right["flawed"]),
        "specificity": _rate(right["sound"]),
        "precision": _rate(said_flawed),
        "kappa": kappa(confusion(pairs, ("sound", "flawed"))),
    }


def _rate(hits: Sequence[bool]) -> dict[str, Any] | None:
    if not hits:
        return None
    return {"mean": sum(hits) / len(hits), "interval": list(wilson(sum(hits), len(hits))), "n": len(hits)}


def summarise(
    decisions: Sequence[Decision], judgements: Sequence[Judged] | None, annotators: int = 2
) -> dict[str, Any]:
    """What `lcb-rb stats` reports."""
    ends = finals(decisions, annotators)
    return {
        "decisions": len(decisions),
        "samples": len(ends),
        "annotators": dict(Counter(d.annotator for d in decisions if d.role == "annotator")),
        "resolved": sum(d.role == "resolver" for d in decisions),
        "final": dict(Counter(end.judgement or end.reason for end in ends.values())),
        "between_annotators": between_annotators(decisions),
        "judge": None if judgements is None else judge_against_humans(judgements, decisions, annotators),
    }

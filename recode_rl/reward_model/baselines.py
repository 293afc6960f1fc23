"""Baselines that see nothing of the problem and little of the reasoning: what a reward model has to beat.

`shorter` and `longer` choose a side by its number of words, `shorter_characters` and `longer_characters` by its number
of characters, which leaves fewer ties; `ngrams` is a logistic regression on the differences of word 1–2-grams and
length, trained and tested over folds by problem. (On all 6,051 rows of PRMBench the right side has strictly fewer
characters in 71.5 %.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recode_rl.extras import need
from recode_rl.problems.splits import fold_of
from recode_rl.types import PreferencePair

BASELINES = ("shorter", "longer", "shorter_characters", "longer_characters", "ngrams")


def run_baselines(pairs: Sequence[PreferencePair], folds: int = 5) -> dict[str, list[float]]:
    """Per baseline and pair: 1.0 where it prefers the chosen side, 0.5 at a tie, 0.0 otherwise."""
    words = [len(pair.chosen.split()) - len(pair.rejected.split()) for pair in pairs]
    characters = [len(pair.chosen) - len(pair.rejected) for pair in pairs]
    return {
        "shorter": [_preference(-more) for more in words],
        "longer": [_preference(more) for more in words],
        "shorter_characters": [_preference(-more) for more in characters],
        "longer_characters": [_preference(more) for more in characters],
        "ngrams": _ngrams(pairs, folds),
    }


def _preference(margin: float) -> float:
    return 0.5 if margin == 0 else float(margin > 0)


def _ngrams(pairs: Sequence[PreferencePair], folds: int) -> list[float]:
    """Out-of-fold choices of the logistic regression; ties (0.5) where a fold leaves nothing to train on."""
    numpy = need("numpy", "train")
    linear = need("sklearn.linear_model", "train")
    sparse = need("scipy.sparse", "train")
    fold = numpy.array([fold_of(pair.problem_id, folds) for pair in pairs])
    correct = numpy.full(len(pairs), 0.5)
    if len(set(fold.tolist())) < 2:
        return [0.5] * len(pairs)
    differences = _differences(pairs)
    for held_out in range(folds):
        train, test = numpy.flatnonzero(fold != held_out), numpy.flatnonzero(fold == held_out)
        if not len(train) or not len(test):
            continue
        x = differences[train]
        # Each pair enters in both directions, so that the two classes are even and the intercept is zero.
        model = linear.LogisticRegression(C=1.0, fit_intercept=False, max_iter=2000)
        model.fit(sparse.vstack([x, -x]), numpy.r_[numpy.ones(len(train)), numpy.zeros(len(train))])
        margin = model.decision_function(differences[test])
        correct[test] = numpy.where(margin == 0, 0.5, margin > 0)
    return [float(value) for value in correct]


def _differences(pairs: Sequence[PreferencePair]) -> Any:
    """Chosen less rejected, sparse, shape (pairs, n-grams + 1); the last column is length in hundreds of characters.

    The n-grams are those of all pairs: one that no training pair has keeps a weight of zero, so nothing leaks.
    """
    text = need("sklearn.feature_extraction.text", "train")
    sparse = need("scipy.sparse", "train")
    vectorizer = text.CountVectorizer(ngram_range=(1, 2), binary=True, token_pattern=r"(?u)\w+|[^\w\s]")
    counts = vectorizer.fit_transform([side for pair in pairs for side in (pair.chosen, pair.rejected)]).astype(float)
    length = [[(len(pair.chosen) - len(pair.rejected)) / 100] for pair in pairs]
    return sparse.hstack([counts[::2] - counts[1::2], sparse.csr_matrix(length)]).tocsr()

"""Baselines that see nothing of the problem and little of the reasoning: what a reward model has to beat.

`shorter` and `longer` choose a side by its number of words; `ngrams` is a logistic regression on the differences of
word 1–2-grams and length, trained and tested over folds by problem. (On PRMBench "shorter" alone scores 71.5 %.)
"""

from __future__ import annotations

from collections.abc import Sequence

from recode_rl.extras import need
from recode_rl.problems.splits import fold_of
from recode_rl.types import PreferencePair


def run_baselines(pairs: Sequence[PreferencePair], folds: int = 5) -> dict[str, list[float]]:
    """Per baseline and pair: 1.0 where it prefers the chosen side, 0.5 at a tie, 0.0 otherwise."""
    lengths = [(len(pair.chosen.split()), len(pair.rejected.split())) for pair in pairs]
    return {
        "shorter": [_preference(rejected - chosen) for chosen, rejected in lengths],
        "longer": [_preference(chosen - rejected) for chosen, rejected in lengths],
        "ngrams": _ngrams(pairs, folds),
    }


def _preference(margin: float) -> float:
    return 0.5 if margin == 0 else float(margin > 0)


def _ngrams(pairs: Sequence[PreferencePair], folds: int) -> list[float]:
    """Out-of-fold choices of the logistic regression; ties (0.5) where a fold leaves nothing to train on."""
    numpy = need("numpy", "train")
    text = need("sklearn.feature_extraction.text", "train")
    linear = need("sklearn.linear_model", "train")
    sparse = need("scipy.sparse", "train")
    fold = numpy.array([fold_of(pair.problem_id, folds) for pair in pairs])
    correct = numpy.full(len(pairs), 0.5)
    for held_out in range(folds):
        train, test = numpy.flatnonzero(fold != held_out), numpy.flatnonzero(fold == held_out)
        if not len(train) or not len(test):
            continue
        vectorizer = text.CountVectorizer(ngram_range=(1, 2), binary=True, token_pattern=r"(?u)\w+|[^\w\s]")
        vectorizer.fit([side for i in train for side in (pairs[i].chosen, pairs[i].rejected)])

        def differences(rows: object, vectorizer: object = vectorizer) -> object:
            chosen = vectorizer.transform([pairs[i].chosen for i in rows])  # type: ignore[attr-defined]
            rejected = vectorizer.transform([pairs[i].rejected for i in rows])  # type: ignore[attr-defined]
            length = [[(len(pairs[i].chosen) - len(pairs[i].rejected)) / 100] for i in rows]  # type: ignore[attr-defined]
            return sparse.hstack([chosen.astype(float) - rejected.astype(float), sparse.csr_matrix(length)]).tocsr()

        x = differences(train)
        # Each pair enters in both directions, so that the two classes are even and the intercept is zero.
        model = linear.LogisticRegression(C=1.0, fit_intercept=False, max_iter=2000)
        model.fit(sparse.vstack([x, -x]), numpy.r_[numpy.ones(len(train)), numpy.zeros(len(train))])  # type: ignore[operator]
        margin = model.decision_function(differences(test))
        correct[test] = numpy.where(margin == 0, 0.5, margin > 0)
    return [float(value) for value in correct]

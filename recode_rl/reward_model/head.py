"""The head of a reward model fitted to the base as it is: Bradley–Terry by convex optimisation, on frozen states.

A linear probe, which needs one forward pass over the data and no gradient of the base. Training that starts from it
keeps what the base can tell already (Kumar et al. 2022: probe, then fine-tune); with no epochs, it is the training.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from recode_rl import jsonl, training
from recode_rl.extras import need
from recode_rl.problems.splits import fold_of
from recode_rl.progress import Progress
from recode_rl.scorer import TOKENS_PER_BATCH, Encoded
from recode_rl.scorer.classifier import CannotShare, Classifier
from recode_rl.scorer.groups import batches, shared_groups
from recode_rl.scorer.reading import Before, Reading, Spans, note

PENALTIES = (0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001)
"""Weights of the squared norm; the one with the best cross-validated loss is taken."""
_FOLDS = 5
_GROUPS_AT_A_TIME = 8


@dataclass(frozen=True, slots=True)
class Sides:
    """Pairs as rows of features: the better ones, the worse ones, and the problem of each pair."""

    chosen: list[int]
    rejected: list[int]
    problems: list[str]


@dataclass(frozen=True, slots=True)
class FittedHead:
    """A head on features as they are: weights [width], offset, and how it did in cross-validation by problem."""

    weights: Any
    offset: float
    penalty: float
    accuracy: float
    loss: float


class _Features(Classifier):
    """The classifier with what its head reads as output, [width + 1]: states, then the mean log-probability."""

    def __init__(self, model: Any, pad: int, max_length: int, reading: Reading) -> None:
        super().__init__(model, pad, max_length)
        self._reading = reading
        self.whole_reasonings = True

    def _read_spans(self, hidden: Any, ids: Any, spans: Spans, before: Before) -> Any:
        pooled, likely = self._reading.features(self._model, hidden, ids, spans, before)
        return self._torch.cat([pooled, likely[:, None]], dim=1)


def give(
    model: Any, reading: Reading, rows: Sequence[Encoded], sides: Sides, tokenizer: Any, name: str, work: Path
) -> dict[str, float]:
    """Fit the model's head on frozen states and note how it is read; gives what the manifest says about it.

    `rows` are the distinct reasonings that `sides` names by number. The fit is kept in `work`, so that a training that
    was stopped goes on from the same head. ModelError where the model, called `name`, cannot be read so.
    """
    np = need("numpy", "train")
    torch = need("torch", "train")
    kept = work / "head.npz"

    def compute() -> None:
        values = _features(model, reading, rows, tokenizer.pad_token_id)
        # The likelihood is added to a head that was fitted without it. Fitted around it, the head learns to undo it.
        fitted = fit(values[:, :-1], sides)
        fitted = replace(fitted, offset=fitted.offset + reading.likelihood * float(values[:, -1].mean()))
        content = io.BytesIO()
        np.savez(content, **{key: getattr(fitted, key) for key in FittedHead.__slots__})
        jsonl.write_bytes(kept, content.getvalue())

    training.once(lambda: None if kept.exists() else compute())
    with np.load(kept) as stored:
        numbers = (float(stored[key]) for key in ("offset", "penalty", "accuracy", "loss"))
        fitted = FittedHead(stored["weights"], *numbers)
    with torch.no_grad():
        model.score.weight.copy_(torch.tensor(fitted.weights)[None])
    note(model, replace(reading, offset=fitted.offset), name)
    return {"penalty": fitted.penalty, "cross_validated_accuracy": fitted.accuracy, "cross_validated_loss": fitted.loss}


def _features(model: Any, reading: Reading, rows: Sequence[Encoded], pad: int) -> Any:
    """What the head reads of each row, [rows, width + 1], in fp64; the reasonings of a problem share its prompt."""
    np = need("numpy", "train")
    torch = need("torch", "train")
    model.eval()
    reader = _Features(model, pad, max(len(row.ids) for row in rows), reading)
    groups = shared_groups(rows, whole_reasonings=True)
    found: dict[int, Any] = {}
    with torch.autocast(model.device.type, dtype=torch.bfloat16), Progress("head: reasonings read", len(rows)) as bar:
        try:
            reader.check()
            for first in range(0, len(groups), _GROUPS_AT_A_TIME):
                new = reader.shared(rows, groups[first : first + _GROUPS_AT_A_TIME], TOKENS_PER_BATCH)
                found |= new
                bar.advance(len(new))
        except CannotShare:
            pass  # row by row then
        alone = [index for index in range(len(rows)) if index not in found]
        for batch in batches([len(rows[index].ids) for index in alone], TOKENS_PER_BATCH):
            chosen = [alone[number] for number in batch]
            found |= dict(zip(chosen, reader.plain([rows[index] for index in chosen]), strict=True))
            bar.advance(len(chosen))
    return np.array([found[index] for index in range(len(rows))], dtype=np.float64)


def fit(states: Any, sides: Sides) -> FittedHead:
    """The head that minimises -log sigmoid(s(chosen) - s(rejected)) + penalty/2 · |v|², where s = states · v.

    `states` [rows, width] are standardised and divided by the root of their width for the penalty, and the result is
    for states as they are. The offset is the average score.
    """
    np = need("numpy", "train")
    center, scale = states.mean(0), states.std(0) * np.sqrt(states.shape[1])
    scale[scale == 0] = 1.0
    scaled = (states - center) / scale
    apart = scaled[sides.chosen] - scaled[sides.rejected]
    folds = np.array([fold_of(problem, _FOLDS) for problem in sides.problems])
    tried = [(*_cross_validated(apart, folds, penalty), penalty) for penalty in PENALTIES]
    loss, accuracy, penalty = min(tried)
    weights = _minimum(apart, penalty) / scale
    return FittedHead(weights, float((states @ weights).mean()), penalty, accuracy, loss)


def _cross_validated(apart: Any, folds: Any, penalty: float) -> tuple[float, float]:
    """Held-out loss and accuracy over folds of problems; over the training pairs where there is one fold only."""
    np = need("numpy", "train")
    margins = np.zeros(len(apart))
    for fold in set(folds.tolist()):
        held = folds == fold
        rest = ~held if not held.all() else held
        margins[held] = apart[held] @ _minimum(apart[rest], penalty)
    return float(np.logaddexp(0, -margins).mean()), float((margins > 0).mean() + (margins == 0).mean() / 2)


def _minimum(apart: Any, penalty: float) -> Any:
    np = need("numpy", "train")
    special = need("scipy.special", "train")

    def loss(weights: Any) -> tuple[float, Any]:
        margins = apart @ weights
        slope = -special.expit(-margins)
        value = np.logaddexp(0, -margins).mean() + penalty / 2 * (weights @ weights)
        return float(value), apart.T @ slope / len(apart) + penalty * weights

    start = np.zeros(apart.shape[1])
    return need("scipy.optimize", "train").minimize(loss, start, jac=True, method="L-BFGS-B").x

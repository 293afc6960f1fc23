"""How a score is read off a model: from the last token, as sequence classifiers do, or from the whole reasoning.

    s(x, t) = head(pool(h)) + w · 1/|t| Σ_i log p(t_i | x, t_<i) - offset

Two things help a small model that sees a few hundred pairs. The head may read the mean of the reasoning's states, of a
middle layer where those tell more, in place of one state at the end, so that a flaw need not be carried through all
that follows. And the likelihood of the reasoning under the model's own backbone may be a part of the score: a language
model finds many mistakes unlikely before it has learned to name them. Its mean is the length-normalised reward of SimPO
(Meng et al. 2024, equation 4). p reads the input embedding as the output layer, so the backbone has to tie the two, as
small models do. What has been copied is likely whatever it says: the problem's own words, or the reasoning said twice.
So tokens that end a run of `copy_length` which stood before can be left out of the mean. The end token belongs to
neither mean. The offset keeps scores around zero, where the sigmoid is not saturated. The paper's reward model is the
plain one: the last token, w = 0, no offset.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from recode_rl.errors import ModelError
from recode_rl.extras import need

_KEY = "recode_reading"  # in config.json; absent where the reading is plain
_LEAST = 8  # tokens that are no copies; what a reasoning has too few of them counts as guesses
_POSITIONS = 128  # projected onto the vocabulary at a time: 80 MB of logits for 152k tokens

Spans = Sequence[tuple[int, int]]
"""The first token of each reasoning, and the one behind its last, which is the end token."""

Before = Sequence[Sequence[int]] | None
"""The tokens of each row that stood before its ids, in a state that rows share; None where there are none."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Where the score of a model is read."""

    pooling: Literal["last", "mean"] = "last"
    layer: int | None = None
    """The head reads the states behind this layer, counted from 1; None: the last, behind the final norm."""
    likelihood: float = 0.0
    """w, for nats a token."""
    offset: float = 0.0
    copy_length: int = 0
    """Tokens in a row that make a copy of what stood before, which the likelihood leaves out; 0 leaves out nothing."""

    @property
    def plain(self) -> bool:
        """Whether the model's own forward gives the score."""
        return self == Reading()

    @property
    def asked(self) -> dict[str, bool]:
        """What the backbone is asked for besides its last states."""
        return {} if self.layer is None else {"output_hidden_states": True}

    def features(self, model: Any, hidden: Any, ids: Any, spans: Spans, before: Before = None) -> tuple[Any, Any]:
        """What the head reads, [rows, width], and the mean log-probability, [rows]; both in fp32.

        `hidden` is what the backbone gave, with what is `asked` of it; `ids` [rows, tokens], of each row those behind
        `before`.
        """
        torch = need("torch", "train")
        last = hidden.last_hidden_state
        states = last if self.layer is None else hidden.hidden_states[self.layer]
        pooled = _mean(states, spans) if self.pooling == "mean" else _at_end(states, spans)
        if not self.likelihood:
            return pooled, torch.zeros(len(spans), device=last.device)
        own = no_copies(ids.tolist(), spans, before, self.copy_length) if self.copy_length else None
        return pooled, mean_log_probability(model, last, ids, spans, own)

    def scores(self, model: Any, hidden: Any, ids: Any, spans: Spans, before: Before = None) -> Any:
        """The score of each row, [rows], in fp32; arguments as of `features`."""
        torch = need("torch", "train")
        pooled, likely = self.features(model, hidden, ids, spans, before)
        with torch.autocast(pooled.device.type, enabled=False):
            head = model.score(pooled.to(next(model.score.parameters()).dtype)).squeeze(-1).float()
        return head + self.likelihood * likely - self.offset


def of(model: Any) -> Reading:
    """The reading that a model's config names, the plain one where it names none."""
    return Reading(**(getattr(model.config, _KEY, None) or {}))


def note(model: Any, reading: Reading, name: str) -> None:
    """Put the reading into the config that is saved with the model.

    ModelError where the model, called `name`, cannot tell likelihoods and has to.
    """
    if reading.likelihood and not getattr(model.config.get_text_config(), "tie_word_embeddings", False):
        raise ModelError(
            f"base {name!r}: its output layer is not its embedding, and a classifier has no other; set likelihood = 0"
        )
    if not reading.plain:
        setattr(model.config, _KEY, asdict(reading))


def no_copies(ids: Sequence[list[int]], spans: Spans, before: Before, length: int) -> list[list[int]]:
    """The places of each row's span that do not end `length` tokens which stood before them, prompt and all."""
    kept: list[list[int]] = []
    for row, (start, end) in enumerate(spans):
        front = list(before[row]) if before is not None else []
        tokens = front + ids[row][:end]
        seen: set[tuple[int, ...]] = set()
        new: list[int] = []
        for place in range(len(tokens)):
            run = tuple(tokens[max(0, place + 1 - length) : place + 1])
            if place >= len(front) + start and run not in seen:
                new.append(place - len(front))
            seen.add(run)
        kept.append(new)
    return kept


def mean_log_probability(
    model: Any, last: Any, ids: Any, spans: Spans, own: Sequence[Sequence[int]] | None = None
) -> Any:
    """1/|t| Σ log p(t_i | …), in nats, of each row of a batch, [rows], in fp32.

    Shapes: `last` [rows, tokens, width], the backbone's states behind its final norm; `ids` [rows, tokens]. A first
    token needs the state before it: a span begins at 1 or later. An empty one counts as a guess among all, -log |V|.
    With `own`, of each row the places that are no copies, these alone count, and where they are fewer than `_LEAST` the
    missing ones are guesses: else a copy with one new word would be as good as that word.
    """
    torch = need("torch", "train")
    embedding = model.get_input_embeddings().weight
    chosen = _all_places(spans) if own is None else own
    rows, places = _flat(chosen, last.device)
    states, targets = last[rows, places - 1], ids[rows, places]
    found = [
        _log_probabilities(states[first : first + _POSITIONS], embedding, targets[first : first + _POSITIONS])
        for first in range(0, len(rows), _POSITIONS)
    ]
    sums = torch.zeros(len(spans), device=last.device)
    if found:
        sums = sums.index_add(0, rows, torch.cat(found))
    counts = _counts(chosen, last.device)
    least = 1 if own is None else _LEAST
    guesses = (least - counts).clamp(min=0) * math.log(len(embedding))
    return (sums - guesses) / counts.clamp(min=least)


def _log_probabilities(states: Any, embedding: Any, targets: Any) -> Any:
    """log p of `targets`, [positions], in fp32; with gradients, logits are computed again on the way back."""
    torch = need("torch", "train")

    def compute(states: Any, embedding: Any) -> Any:
        logits = torch.nn.functional.linear(states, embedding)
        wanted = logits.gather(-1, targets[:, None]).squeeze(-1)
        return wanted.float() - torch.logsumexp(logits.float(), -1)

    if not torch.is_grad_enabled():
        return compute(states, embedding)
    checkpoint = need("torch.utils.checkpoint", "train").checkpoint
    return checkpoint(compute, states, embedding, use_reentrant=False)


def _mean(states: Any, spans: Spans) -> Any:
    """The mean state of each reasoning, [rows, width], in fp32; zeros for an empty one."""
    torch = need("torch", "train")
    chosen = _all_places(spans)
    rows, places = _flat(chosen, states.device)
    sums = torch.zeros(len(spans), states.shape[-1], device=states.device)
    sums = sums.index_add(0, rows, states[rows, places].float())
    return sums / _counts(chosen, states.device).clamp(min=1)[:, None]


def _at_end(states: Any, spans: Spans) -> Any:
    """The state of each row's end token, [rows, width], in fp32."""
    torch = need("torch", "train")
    ends = torch.tensor([end for _, end in spans], device=states.device)
    return states[torch.arange(len(spans), device=states.device), ends].float()


def _flat(places: Sequence[Sequence[int]], device: Any) -> tuple[Any, Any]:
    """Row and place of every token of all rows, one behind the other."""
    torch = need("torch", "train")
    pairs = [(row, place) for row, of_row in enumerate(places) for place in of_row]
    both = torch.tensor(pairs, dtype=torch.long, device=device).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def _all_places(spans: Spans) -> list[range]:
    return [range(start, end) for start, end in spans]


def _counts(places: Sequence[Sequence[int]], device: Any) -> Any:
    return need("torch", "train").tensor([len(of_row) for of_row in places], device=device)

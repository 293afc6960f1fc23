"""The score-based baseline: a language model says a score, read as the expected value over its eleven score texts.

The text is `Problem:…Reasoning:…Score of the reasoning from 0.0 to 1.0:` and then one of " 0.0", " 0.1" … " 1.0".
Training (`train-rm --objective score`) and reading build it with the same functions of this module. With p_i the
probability of text i as the continuation, token by token, the score is Σ p_i·s_i / Σ p_i. A model that was never
trained for it is read in the same way.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from recode_rl import models
from recode_rl.errors import DataError, ModelError
from recode_rl.extras import need
from recode_rl.progress import console
from recode_rl.reward_model.fitting import Fitted, Frame, as_text, fit, length_limit
from recode_rl.scorer import DEFAULT_LENGTH, TOKENS_PER_BATCH, Encoded
from recode_rl.scorer.classifier import CannotShare, Classifier
from recode_rl.scorer.groups import Group, batches, shared_groups
from recode_rl.scorer.local import PROBE

SCORES = tuple(tenth / 10 for tenth in range(11))
IGNORED = -100  # the label of tokens that give no loss
_SAME = 1e-4  # log-probabilities of both ways of reading a model, at most apart
_HEAD, _MIDDLE, _TAIL = "Problem:\n", "\n\nReasoning:\n", "\n\nScore of the reasoning from 0.0 to 1.0:"


@dataclass(frozen=True, slots=True)
class ScoreExample:
    """One training sequence: `labels` are the score's tokens, and IGNORED before them."""

    input_ids: list[int]
    labels: list[int]
    cut: bool


def score_text(score: float) -> str:
    """What follows the prompt for a score in [0, 1]: the nearest tenth, behind a blank."""
    if not 0 <= score <= 1:
        raise DataError(f"score {score}: expected a number from 0 to 1")
    return f" {round(score, 1):.1f}"


def score_choices(tokenizer: Any) -> list[list[int]]:
    """Token ids of the eleven score texts. ModelError where the tokenizer cannot tell them apart."""
    choices = [as_text(tokenizer, score_text(score)) for score in SCORES]
    if any(a != b and a == b[: len(a)] for a in choices for b in choices) or len(set(map(tuple, choices))) < 11:
        raise ModelError("the tokenizer of the model does not tell the scores 0.0 to 1.0 apart; choose another model")
    return choices


def encode_prompt(tokenizer: Any, problem: str, reasoning: str, max_length: int) -> Fitted:
    """Token ids of the prompt; with the longest score behind it, it is at most `max_length` tokens."""
    begin = [tokenizer.bos_token_id] if tokenizer.bos_token_id in tokenizer("")["input_ids"] else []
    frame = Frame(begin + as_text(tokenizer, _HEAD), as_text(tokenizer, _MIDDLE), as_text(tokenizer, _TAIL))
    room = max_length - max(len(choice) for choice in score_choices(tokenizer))
    return fit(frame, as_text(tokenizer, problem.strip()), as_text(tokenizer, reasoning.strip()), room)


def encode_example(tokenizer: Any, problem: str, reasoning: str, score: float, max_length: int) -> ScoreExample:
    """The prompt with its score, for training; at most `max_length` tokens."""
    prompt = encode_prompt(tokenizer, problem, reasoning, max_length)
    said = as_text(tokenizer, score_text(score))
    return ScoreExample([*prompt.ids, *said], [IGNORED] * len(prompt.ids) + said, prompt.cut)


@dataclass(frozen=True, slots=True)
class _Plan:
    """How eleven continuations are read from few rows.

    `contexts` are continuations without their last token, none of which begins another: for " 0.0" … " 1.0" mostly two,
    " 0." and " 1.". Choice i is read from row `row_of[i]`.
    """

    choices: list[list[int]]
    contexts: list[tuple[int, ...]]
    row_of: list[int]

    def read_from(self, row: int) -> list[tuple[int, list[int]]]:
        """The choices that are read from a row, by number."""
        return [(index, choice) for index, choice in enumerate(self.choices) if self.row_of[index] == row]


def _plan(choices: list[list[int]]) -> _Plan:
    every = {tuple(choice[:-1]) for choice in choices}
    contexts = sorted(c for c in every if not any(c != other and other[: len(c)] == c for other in every))
    row_of = [
        next(i for i, context in enumerate(contexts) if context[: len(choice) - 1] == tuple(choice[:-1]))
        for choice in choices
    ]
    return _Plan(choices, contexts, row_of)


class _Continuations(Classifier):
    """A language model with shared prefixes, whose rows give the log-probabilities of the eleven scores."""

    _head = "lm_head"

    def __init__(self, model: Any, pad: int, max_length: int, plan: _Plan) -> None:
        super().__init__(model, pad, max_length)
        self._plan = plan

    def _tails(self, held: Any, of_group: Any, prefix_mask: Any, tails: Sequence[Encoded]) -> list[Any]:
        """Rows go on from the prefixes whose numbers are in `of_group`, and every context goes on from each row."""
        torch = self._torch
        ids, mask = self._padded([tail.ids for tail in tails])
        hidden = self._go_on(held, of_group, prefix_mask, ids, mask)
        before = torch.cat([prefix_mask, mask], dim=1)
        every = torch.arange(len(tails), device=ids.device)
        first = self._logs(self._last(hidden, mask).unsqueeze(1))
        table = torch.empty(len(tails), len(SCORES))
        for number, context in enumerate(self._plan.contexts):
            logs = first
            if context:
                said = torch.tensor([context] * len(tails), device=ids.device)
                behind = self._go_on(hidden.past_key_values, every, before, said, torch.ones_like(said))
                logs = torch.cat([first, self._logs(behind.last_hidden_state)], dim=1)
            for index, choice in self._plan.read_from(number):
                table[:, index] = logs[:, list(range(len(choice))), choice].sum(-1)
        found: list[Any] = table.tolist()
        return found

    def _logs(self, states: Any) -> Any:
        return self._torch.log_softmax(self._model.lm_head(states).float(), dim=-1).cpu()


class GenerativeScorer:
    """A language model in this process, read as a scorer; safe to call from several threads, one batch at a time.

    The reasonings of one problem run on one prefix, and the scores on one reasoning, as far as the model can do that.
    """

    def __init__(self, model: str, max_length: int | None = None) -> None:
        """Load a causal language model in fp32. `max_length` None takes 1024, or less where the model takes less."""
        self._torch: Any = need("torch", "train")
        self.name = model
        self._tokenizer = models.load_tokenizer(model)
        self._model = models.load_causal(model).eval().to(models.device())
        self._max_length = length_limit(self._model, model, max_length, DEFAULT_LENGTH)
        self._plan = _plan(score_choices(self._tokenizer))
        self._lock = threading.Lock()
        self._shares: bool | None = None
        self.cut = 0
        """How many reasonings lost their middle so far."""
        self.mass: list[float] = []
        """Per item, the probability that the model says one of the eleven scores at all."""
        self.plain_because: str | None = None
        """Why this model reads every row from its start; None where it shares prefixes, or was not asked to yet."""

    def __call__(self, items: Sequence[tuple[str, str]]) -> list[float]:
        """The expected score of each `(problem, reasoning)`, in [0, 1]."""
        torch = self._torch
        table = torch.tensor(self.log_probabilities(items), dtype=torch.float64).reshape(-1, len(SCORES))
        self.mass.extend(float(value) for value in table.exp().sum(dim=-1))
        expected = torch.softmax(table, dim=-1) @ torch.tensor(SCORES, dtype=torch.float64)
        return [float(value) for value in expected]

    def log_probabilities(self, items: Sequence[tuple[str, str]]) -> list[list[float]]:
        """Per item, the log-probability of each of the eleven score texts as the continuation."""
        with self._lock:
            prompts = [encode_prompt(self._tokenizer, *item, self._max_length) for item in items]
            self.cut += sum(prompt.cut for prompt in prompts)
            distinct = {tuple(prompt.ids): prompt for prompt in prompts}  # equal ones are read once
            read = self._shared if distinct and self._can_share() else self._plain
            found = dict(zip(distinct, read(list(distinct.values())), strict=True))
            return [list(found[tuple(prompt.ids)]) for prompt in prompts]

    def _can_share(self) -> bool:
        """Whether the model reads a few short prompts alike both ways; asked once."""
        if self._shares is None:
            try:
                self._continuations().check()
                prompts = [encode_prompt(self._tokenizer, *item, self._max_length) for item in PROBE]
                both = zip(self._shared(prompts), self._plain(prompts), strict=True)
                apart = max(abs(a - b) for one, other in both for a, b in zip(one, other, strict=True))
                if not apart <= _SAME:
                    raise CannotShare(f"log-probabilities differ by {apart:.3g} where the prompt is shared")
            except CannotShare as reason:
                self.plain_because = str(reason)
                console.print(f"{self.name}: prompts are not shared between reasonings: {reason}", soft_wrap=True)
            self._shares = self.plain_because is None
        return self._shares

    def _continuations(self) -> _Continuations:
        return _Continuations(self._model, self._tokenizer.pad_token_id, self._max_length, self._plan)

    def _shared(self, prompts: Sequence[Fitted]) -> list[list[float]]:
        """The beginnings that prompts share first, then what is left of them, then the scores behind each."""
        rows = [Encoded(prompt.ids, prompt.cut, prompt.prompt) for prompt in prompts]
        groups = shared_groups(rows)
        shared = {row for group in groups for row in group.rows}
        groups += [Group(row.ids[: row.prompt], [index]) for index, row in enumerate(rows) if index not in shared]
        found: dict[int, Any] = self._continuations().shared(rows, groups, TOKENS_PER_BATCH)
        return [found[index] for index in range(len(rows))]

    def _plain(self, prompts: Sequence[Fitted]) -> list[list[float]]:
        """Every prompt with every context from its start, in padded batches."""
        contexts = self._plan.contexts
        rows = [(item, row) for item in range(len(prompts)) for row in range(len(contexts))]
        table = [[0.0] * len(SCORES) for _ in prompts]
        for batch in batches([len(prompts[i].ids) + len(contexts[c]) for i, c in rows], TOKENS_PER_BATCH):
            part = [rows[index] for index in batch]
            read = self._forward([(prompts[item].ids, contexts[row]) for item, row in part])
            for (item, row), logs in zip(part, read, strict=True):
                self._fill(table[item], row, logs)
        return table

    def _fill(self, into: list[float], row: int, logs: Any) -> None:
        """Write the choices that are read from `row`; `logs` has a line of log-probabilities for each token."""
        for index, choice in self._plan.read_from(row):
            into[index] = sum(float(logs[place, token]) for place, token in enumerate(choice))

    def _forward(self, rows: list[tuple[list[int], tuple[int, ...]]]) -> list[Any]:
        """Per row, log-probabilities of what follows the prompt and each token of the context.

        Padded on the left, so that the logits which are wanted are the last ones of every row, and no others are made.
        """
        torch, place = self._torch, self._model.device
        lines = [[*prompt, *context] for prompt, context in rows]
        width, pad = max(len(line) for line in lines), self._tokenizer.pad_token_id
        ids = torch.tensor([[pad] * (width - len(line)) + line for line in lines], device=place)
        mask = torch.tensor([[0] * (width - len(line)) + [1] * len(line) for line in lines], device=place)
        kept = max(len(context) for _, context in rows) + 1
        with torch.no_grad():
            logits = self._model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=(mask.cumsum(dim=-1) - 1).clamp(min=0),
                logits_to_keep=kept,
                use_cache=False,
            ).logits
        logs = torch.log_softmax(logits.float(), dim=-1).cpu()
        return [logs[index, -(len(context) + 1) :] for index, (_, context) in enumerate(rows)]

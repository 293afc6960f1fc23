"""Reward models that expect a chat: classifiers of others (Skywork and the like) read through their own template.

The problem is the user's message and the reasoning the assistant's. The template is rendered once with marks in their
place, so that a text which spells a special token cannot open another turn.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from recode_rl import jsonl, models
from recode_rl.errors import ModelError
from recode_rl.extras import need
from recode_rl.reward_model.fitting import Fitted, Frame, as_text, fit, length_limit
from recode_rl.scorer import TOKENS_PER_BATCH, Score, distinct_pad_token
from recode_rl.scorer.groups import batches

Template = Literal["auto", "recode", "chat"]
DEFAULT_LENGTH = 4096  # what such models are trained on, several times our own reasonings
_MARKS = ("\ue000problem\ue000", "\ue000reasoning\ue000")


def training_manifest(model: str) -> dict[str, Any] | None:
    """The manifest that `train-rm` leaves in a model's folder, None for the models of others."""
    path = Path(models.resolve(model)) / "manifest.json"
    manifest = jsonl.read_json(path) if path.is_file() else None
    return manifest if isinstance(manifest, dict) and manifest.get("stage") == "train-rm" else None


def expects_chat(model: str, template: Template = "auto") -> bool:
    """Whether the model is read through its chat template.

    "auto" says so where the tokenizer has a template and the folder is not one that `train-rm` made.
    """
    if template != "auto":
        return template == "chat"
    return training_manifest(model) is None and bool(models.load_tokenizer(model).chat_template)


class ChatTemplate:
    """Turns a problem and a reasoning into the token ids of a chat of two messages."""

    def __init__(self, tokenizer: Any, name: str = "") -> None:
        """ModelError where there is no template, or where it does not show both messages once, in their order."""
        if not tokenizer.chat_template:
            raise ModelError(f"model {name!r}: its tokenizer has no chat template; read it with --template recode")
        messages = [{"role": role, "content": mark} for role, mark in zip(("user", "assistant"), _MARKS, strict=True)]
        head, *rest = tokenizer.apply_chat_template(messages, tokenize=False).split(_MARKS[0])
        middle, *tail = rest[0].split(_MARKS[1]) if len(rest) == 1 else ("",)
        if len(tail) != 1:
            raise ModelError(f"model {name!r}: its chat template does not show a user's and an assistant's text once")
        self._tokenizer = tokenizer
        self._text = (head, middle, tail[0])
        self._frame = Frame(*(self._ids(part) for part in self._text))
        added = tokenizer.added_tokens_decoder.values()
        self._special = [str(token) for token in added if token.special]

    def encode(self, problem: str, reasoning: str, max_length: int) -> Fitted:
        """Token ids of the chat, at most `max_length`, as `apply_chat_template` gives them where the whole fits.

        A text that is too long or spells a special token is tokenized apart from what is around it.
        """
        problem, reasoning = problem.strip(), reasoning.strip()
        if not any(token in text for token in self._special for text in (problem, reasoning)):
            head, middle, tail = self._text
            whole = self._ids(f"{head}{problem}{middle}{reasoning}{tail}")
            if len(whole) <= max_length:
                return Fitted(whole, cut=False)
        return fit(self._frame, as_text(self._tokenizer, problem), as_text(self._tokenizer, reasoning), max_length)

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])  # the template has the BOS


class ChatTemplateScorer:
    """A sequence classifier that reads chats, in this process; safe to call from several threads."""

    def __init__(self, model: str, max_length: int | None = None) -> None:
        """Load a folder or hub id in fp32. `max_length` None takes 4096 tokens, or less where the model takes less."""
        self._torch: Any = need("torch", "train")
        self._tokenizer = models.load_tokenizer(model)
        distinct_pad_token(self._tokenizer)
        self._template = ChatTemplate(self._tokenizer, model)
        self._model = models.load_sequence_classifier(model).eval().to(models.device())
        self._model.config.get_text_config().pad_token_id = self._tokenizer.pad_token_id
        self.name = model
        self.max_length = length_limit(self._model, model, max_length, DEFAULT_LENGTH)
        self._lock = threading.Lock()
        self.cut = 0
        """How many reasonings lost their middle so far."""

    def __call__(self, items: Sequence[tuple[str, str]]) -> list[float]:
        """The sigmoid of each score, in [0, 1]."""
        return [score.value for score in self.scores(items)]

    def scores(self, items: Sequence[tuple[str, str]]) -> list[Score]:
        """The same, each with whether its reasoning was cut."""
        torch = self._torch
        cut: list[bool] = []
        values = torch.sigmoid(torch.tensor(self.logits(items, cut), dtype=torch.float64)).tolist()
        return [Score(value, was) for value, was in zip(values, cut, strict=True)]

    def logits(self, items: Sequence[tuple[str, str]], cut: list[bool] | None = None) -> list[float]:
        """The raw scores; such models give tens, which a sigmoid no longer tells apart."""
        scores = [0.0] * len(items)
        with self._lock:
            encoded = [self._template.encode(problem, reasoning, self.max_length) for problem, reasoning in items]
            self.cut += sum(item.cut for item in encoded)
            if cut is not None:
                cut += [item.cut for item in encoded]
            for batch in batches([len(item.ids) for item in encoded], TOKENS_PER_BATCH):
                for index, score in zip(batch, self._forward([encoded[i].ids for i in batch]), strict=True):
                    scores[index] = score
        return scores

    def _forward(self, rows: list[list[int]]) -> list[float]:
        torch, place = self._torch, self._model.device
        width = max(len(row) for row in rows)
        pad = self._tokenizer.pad_token_id
        ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows], device=place)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=place)
        with torch.no_grad():
            logits = self._model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        return [float(value) for value in logits.squeeze(-1).float().cpu()]

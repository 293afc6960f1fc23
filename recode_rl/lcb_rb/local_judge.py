"""A judge in this process, for small models without a server: the same questions in batches of similar length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType

from recode_rl.sampling import Generated, LocalModel, SamplingSettings, chat_ids

Messages = list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class LocalReply:
    """What the judge wrote; the same names as those of a reply of an endpoint."""

    text: str
    finish_reason: str


class LocalJudge:
    """Answers like `chat.ChatClient.ask_all`, one batch at a time."""

    def __init__(self, model: LocalModel, settings: SamplingSettings, seed: int) -> None:
        self._model, self._settings, self._seed = model, settings, seed

    def ask_all(self, jobs: Iterable[tuple[str, Messages]]) -> Iterator[tuple[str, LocalReply]]:
        """Replies by key; prompts of similar length are answered together."""
        rows = [(key, chat_ids(self._model.tokenizer, messages)) for key, messages in jobs]
        rows.sort(key=lambda row: len(row[1]))
        for start in range(0, len(rows), self._settings.batch):
            batch = rows[start : start + self._settings.batch]
            made = self._model.generate([ids for _, ids in batch], self._settings, self._seed + start)
            yield from ((key, _reply(one)) for (key, _), one in zip(batch, made, strict=True))

    def __enter__(self) -> LocalJudge:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


def _reply(made: Generated) -> LocalReply:
    return LocalReply(made.text, made.finish_reason)

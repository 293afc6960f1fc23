"""A judge model behind an endpoint, asked about pairs of reasonings: one score each, or both together in both orders.

A verdict counts 1 where the judge prefers the chosen side, 0.5 at a tie, 0 otherwise; of two orders the mean counts, so
that a judge which always takes the first reasoning has an accuracy of 0.5. A reply that cannot be read is no
preference: 0.5 stands in its place, and it is counted.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from recode_rl import jsonl, prompts
from recode_rl.errors import BudgetSpent, ConfigError, DataError, ReCodeError
from recode_rl.progress import Progress
from recode_rl.reward_model.evaluate import PairScores
from recode_rl.types import PreferencePair

Mode = Literal["score", "pair"]
Messages = list[dict[str, str]]

_GIVE_UP_AFTER = 10
_FIELDS = {"score": ("{problem}", "{reasoning}"), "pair": ("{problem}", "{first}", "{second}")}
_VERSION = re.compile(r"version:\s*(\S+)\s*\n+")
_THOUGHT = re.compile(r".*</think>", re.DOTALL)
# "0.7", "**0.7**" and "0.7/1.0", but neither "7", "0.7/10", "70 %" nor the first digits of another number
_SCORE = re.compile(r"[\s*_`]*([01](?:\.\d+)?|\.\d+)(?:\s*/\s*1(?:\.0+)?)?(?!\s*[/%]|\.?\d)")
_BETTER = re.compile(r"[\s*_`]*(?:reasoning[\s_]*)?(1|2|tie)\b(?!\s*[/%]|\.?\d)", re.IGNORECASE)
_SCORE_MARK = re.compile(  # "Score:", and "the score of this reasoning is" before a number
    r"\bscore\b(?:(?:\s*\([^)\n]*\))?[\s*_`]*[:=]|[^.:=\n]{0,40}?\bis\b(?=[\s*_`]*[01.]))", re.IGNORECASE
)
_BETTER_MARK = re.compile(r"\bbetter\b[\s*_`]*[:=]", re.IGNORECASE)


class Judge(Protocol):
    """What is needed of `chat.ChatClient`."""

    def ask_all(self, jobs: Iterable[tuple[str, Messages]]) -> Iterator[tuple[str, Any]]:
        """Replies (`text`, `finish_reason`) or errors by key, in any order."""
        ...


@dataclass(frozen=True, slots=True)
class JudgePrompt:
    """The text a judge gets, and its version."""

    mode: Mode
    text: str
    version: str


@dataclass(frozen=True, slots=True)
class Judged:
    """Scores of pairs in their order, None where the endpoint failed; and what happened to the requests.

    `orders_agree` is the share of pairs with the same preference in both orders, of those where both were read; None
    without such pairs.
    """

    scores: list[PairScores | None]
    requests: int
    unreadable: int
    failed: int
    first_failure: str = ""
    orders_agree: float | None = None


def load_prompt(mode: Mode, folder: Path | None = None) -> JudgePrompt:
    """`judge_score.txt` or `judge_pair.txt`, from the user's folder where it has one.

    The version is the first line of the file ("version: NAME"); a text without one is named by its digest.
    """
    text = prompts.load(f"judge_{mode}", folder)
    for field in _FIELDS[mode]:
        if field not in text:
            raise ConfigError(f"prompt judge_{mode}.txt has no {field}; put it where that text belongs")
    stated = _VERSION.match(text)
    if stated is None:
        return JudgePrompt(mode, text, f"sha256:{_digest(text)}")
    return JudgePrompt(mode, text[stated.end() :], stated.group(1))


def read_score(text: str) -> float | None:
    """The number behind the last "Score:" (or "score is") of a reply, or the reply where it is nothing but a number.

    In [0, 1]; None where it is another thing.
    """
    answer = _THOUGHT.sub("", text)
    alone = _SCORE.fullmatch(answer.strip().strip("*_`."))
    found = alone.group(1) if alone else _last(_SCORE_MARK, _SCORE, answer)
    score = float(found) if found is not None else None
    return score if score is not None and 0 <= score <= 1 else None


def read_better(text: str) -> float | None:
    """1.0 where the last "Better:" of a reply names the first reasoning, 0.0 the second, 0.5 a tie; else None."""
    found = _last(_BETTER_MARK, _BETTER, _THOUGHT.sub("", text))
    return None if found is None else {"1": 1.0, "2": 0.0, "tie": 0.5}[found.lower()]


_READERS: dict[Mode, Callable[[str], float | None]] = {"score": read_score, "pair": read_better}


def _last(mark: re.Pattern[str], value: re.Pattern[str], text: str) -> str | None:
    """What the last mark of a reply says. An earlier one does not stand in for a last one that cannot be read."""
    marks = [match.end() for match in mark.finditer(text)]
    found = value.match(text, marks[-1]) if marks else None
    return found.group(1) if found else None


@dataclass(frozen=True, slots=True)
class _View:
    """One thing to ask about a pair; `flipped` says that the chosen side is shown second."""

    key: str
    messages: Messages
    flipped: bool


def judge_pairs(
    judge: Judge, pairs: Sequence[PreferencePair], prompt: JudgePrompt, model: str, replies: Path | None = None
) -> Judged:
    """Ask for every pair, two questions each; the same reasoning of the same problem is scored once.

    With `replies`, every reply is kept there as it comes, one line each, and what is there is not asked again. Requests
    that fail (`ask_all` gives an error in place of a reply) leave their pairs without a score; after ten in a row the
    rest is not asked. What is too long for the judge cannot be read by it, and is counted as that.
    """
    views = {pair.id: _views(pair, prompt, model) for pair in pairs}
    jobs = {view.key: view.messages for pair in pairs for view in views[pair.id]}
    said = ask_judge(judge, jobs, prompt, model, replies)
    verdict = _by_scores if prompt.mode == "score" else _by_orders
    scores = [verdict(views[pair.id], said.values) for pair in pairs]
    agree = _agreement([views[pair.id] for pair in pairs], said.values) if prompt.mode == "pair" else None
    first_failure = said.failures[0] if said.failures else ""
    return Judged(scores, len(jobs), said.unreadable, len(said.failures), first_failure, agree)


@dataclass(frozen=True, slots=True)
class Said:
    """What a judge said to each question, None where it cannot be read; and what went wrong with the rest."""

    values: dict[str, float | None]
    failures: list[str]
    """What the endpoint answered in place of a reply, for each question that it failed."""
    stopped: str | None = None
    """Why not everything was asked: the budget, or too many failures in a row."""

    @property
    def unreadable(self) -> int:
        """How many replies could not be read."""
        return sum(value is None for value in self.values.values())


def ask_judge(
    judge: Judge, jobs: Mapping[str, Messages], prompt: JudgePrompt, model: str, replies: Path | None = None
) -> Said:
    """Ask all questions, by key, that `replies` has no answer to; every reply is kept there as it comes."""
    known = {key: value for key, value in _kept(replies).items() if key in jobs}
    failures: list[str] = []
    missing = [(key, messages) for key, messages in jobs.items() if key not in known]
    in_a_row, stopped = 0, None
    try:
        for key, reply in _asked(judge, missing, len(jobs), len(known)):
            if isinstance(reply, ReCodeError) and not getattr(reply, "overlong", False):
                failures.append(str(reply))
                in_a_row += 1
                if in_a_row == _GIVE_UP_AFTER:
                    stopped = f"{in_a_row} requests in a row failed: {failures[-1]}"
                    break
                continue
            in_a_row = 0
            said = _read(reply, prompt.mode)
            known[key] = said["value"]
            if replies is not None:
                with jsonl.Appender(replies) as file:
                    file.append({"request": key, "model": model, "prompt_version": prompt.version, **said})
    except BudgetSpent as spent:
        stopped = str(spent)
    return Said(known, failures, stopped)


def _read(reply: Any, mode: Mode) -> dict[str, Any]:
    """What is kept of a reply; one that was cut off, or of a question that was too long, says nothing."""
    text, ending = ("", "overlong") if isinstance(reply, ReCodeError) else (reply.text, reply.finish_reason)
    value = _READERS[mode](text) if ending not in ("length", "overlong") else None
    return {"value": value, "finish_reason": ending, "reply": text}


def _asked(judge: Judge, jobs: list[tuple[str, Messages]], total: int, done: int) -> Iterator[tuple[str, Any]]:
    with Progress("asking the judge", total, done) as progress:
        if jobs:
            for key, reply in judge.ask_all(jobs):
                yield key, reply
                progress.advance()


def _views(pair: PreferencePair, prompt: JudgePrompt, model: str) -> tuple[_View, _View]:
    return _view(pair, prompt, model, flipped=False), _view(pair, prompt, model, flipped=True)


def _view(pair: PreferencePair, prompt: JudgePrompt, model: str, flipped: bool) -> _View:
    one, other = (pair.rejected, pair.chosen) if flipped else (pair.chosen, pair.rejected)
    texts = {"{problem}": pair.problem, "{reasoning}": one, "{first}": one, "{second}": other}
    return _View(*question(prompt, model, texts), flipped)


def question(prompt: JudgePrompt, model: str, texts: Mapping[str, str]) -> tuple[str, Messages]:
    """What a judge is asked, with a key that is the same for the same text and model; `texts` by place, "{problem}"."""
    # All at once, so that braces in one text are not taken for the place of another.
    places = re.compile("|".join(re.escape(field) for field in _FIELDS[prompt.mode]))
    content = places.sub(lambda match: texts[match.group()].strip(), prompt.text)
    return _digest(f"{model}\n{content}"), [{"role": "user", "content": content}]


def _by_scores(views: tuple[_View, _View], known: dict[str, float | None]) -> PairScores | None:
    """A pair from the scores of its sides."""
    if any(view.key not in known for view in views):
        return None
    chosen, rejected = (known[view.key] for view in views)
    unread = chosen is None or rejected is None
    return PairScores(chosen, rejected, 0.5 if unread else None)


def _by_orders(views: tuple[_View, _View], known: dict[str, float | None]) -> PairScores | None:
    """A pair from the preferences in both orders: their mean is what it counts, and what its sides are given."""
    if any(view.key not in known for view in views):
        return None
    values = [_preferred(view, known) for view in views]
    mean = sum(0.5 if value is None else value for value in values) / len(values)
    return PairScores(mean, 1 - mean, mean)


def _preferred(view: _View, known: dict[str, float | None]) -> float | None:
    value = known[view.key]
    return None if value is None else 1 - value if view.flipped else value


def _agreement(views: Sequence[tuple[_View, _View]], known: dict[str, float | None]) -> float | None:
    both = [[_preferred(view, known) for view in two if view.key in known] for two in views]
    read = [values for values in both if len(values) == 2 and None not in values]
    return sum(values[0] == values[1] for values in read) / len(read) if read else None


def _kept(replies: Path | None) -> dict[str, float | None]:
    """What the replies that are in the file said, by request."""
    if replies is None or not replies.exists():
        return {}
    jsonl.repair(replies)
    return dict(jsonl.load(replies, _reply))


def _reply(record: dict[str, Any]) -> tuple[str, float | None]:
    value = record.get("value")
    if not isinstance(record.get("request"), str) or not (value is None or isinstance(value, (int, float))):
        raise DataError("not a reply of a judge; remove the file or choose another --out")
    return record["request"], value


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:20]

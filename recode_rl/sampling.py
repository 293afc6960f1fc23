"""Problems × model → samples: in this process, in batches of similar length, or through an endpoint; resumable."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from recode_rl import asking, jsonl, models
from recode_rl.chat import ChatClient, ChatSettings, Reply
from recode_rl.errors import ConfigError, DataError, EndpointError, InfrastructureError
from recode_rl.extras import need
from recode_rl.progress import Progress
from recode_rl.quick import quick_generation
from recode_rl.types import Problem, Sample


@dataclass(frozen=True, slots=True)
class SamplingSettings:
    """How completions are drawn; temperature 0 is greedy. `batch` is sequences (or requests) at a time.

    `prompt` is a style of `asking`; a completion ends at the first of its stop strings and of those in `stop`.
    """

    samples: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 512
    batch: int = 64
    seed: int = 0
    prompt: str = "think_answer"
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.prompt not in asking.STYLES:
            raise ConfigError(f"prompt {self.prompt!r}: expected one of {', '.join(asking.STYLES)}")
        if self.temperature == 0 and self.samples > 1:
            raise ConfigError(f"{self.samples} samples at temperature 0 are all the same; set a temperature or n = 1")

    @property
    def stops(self) -> tuple[str, ...]:
        """All strings that a completion ends at."""
        return (*asking.stops(self.prompt), *self.stop)


@dataclass(frozen=True, slots=True)
class Generated:
    """One completion: its text without special tokens, its length in tokens, and why it ended."""

    text: str
    tokens: int
    finish_reason: str


class LocalModel:
    """A causal language model in this process that answers chat prompts."""

    def __init__(self, model: Any, tokenizer: Any, name: str) -> None:
        self.model, self.tokenizer, self.name = model, tokenizer, name

    @classmethod
    def load(cls, model: str) -> LocalModel:
        """Load in bf16, which generates two to three times as fast as fp32 on a CPU with AMX."""
        loaded = models.load_causal(model, dtype="bfloat16").eval().to(models.device())
        return cls(loaded, models.load_tokenizer(model), model)

    def prompt_ids(self, problem: Problem, style: str = "think_answer") -> list[int]:
        """Token ids of the prompt in a style, ready for an answer."""
        asked = asking.ask(style, problem)
        if asked.raw:
            return list(self.tokenizer(asked.text)["input_ids"])
        return chat_ids(self.tokenizer, asked.messages())

    def generate(self, rows: Sequence[list[int]], settings: SamplingSettings, seed: int) -> list[Generated]:
        """Complete each row of prompt ids; rows are padded on the left."""
        torch = need("torch", "train")
        width = max(len(row) for row in rows)
        pad = self.tokenizer.pad_token_id
        place = self.model.device
        ids = torch.tensor([[pad] * (width - len(row)) + row for row in rows], device=place)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=place)
        # What a model's own generation_config asks for would make another distribution than the one that is trained.
        drawn: dict[str, Any] = {"do_sample": False, "repetition_penalty": 1.0}
        if settings.temperature > 0:
            torch.manual_seed(seed)
            drawn |= {"do_sample": True, "temperature": settings.temperature, "top_p": settings.top_p, "top_k": 0}
        if settings.stops:
            drawn |= {"stop_strings": list(settings.stops), "tokenizer": self.tokenizer}
        with torch.no_grad(), quick_generation():
            out = self.model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=settings.max_tokens,
                pad_token_id=pad,
                eos_token_id=self.tokenizer.eos_token_id,
                **drawn,
            )
        return [self._generated(row, settings.stops) for row in out[:, width:].tolist()]

    def _generated(self, ids: list[int], stops: tuple[str, ...]) -> Generated:
        eos, pad = self.tokenizer.eos_token_id, self.tokenizer.pad_token_id
        ended = eos in ids
        kept = ids[: ids.index(eos)] if ended else ids
        while stops and kept and kept[-1] == pad:  # a row that a stop string ended is filled up
            kept = kept[:-1]
        text, stopped = asking.cut(self.tokenizer.decode(kept, skip_special_tokens=True), stops)
        return Generated(text, len(kept) + ended, "stop" if ended or stopped else "length")


def chat_ids(tokenizer: Any, messages: list[dict[str, str]]) -> list[int]:
    """Token ids of chat messages with the opening of an answer; base models without a chat template get plain text.

    Where the last message is the assistant's, it is the beginning of the answer.
    """
    begun = messages[-1]["content"] if messages[-1]["role"] == "assistant" else ""
    messages = messages[:-1] if begun else messages
    if tokenizer.chat_template:
        encoded = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)
        ids = list(encoded["input_ids"])
        return ids + list(tokenizer(begun, add_special_tokens=False)["input_ids"]) if begun else ids
    text = "\n\n".join(message["content"] for message in messages) + f"\n\n{begun}"
    return list(tokenizer(text)["input_ids"])


class EndpointModel:
    """A model behind an OpenAI-compatible endpoint, as llama-server, vLLM and others offer it.

    `transport` (an httpx2.AsyncBaseTransport) stands in for the network.
    """

    def __init__(self, chat: ChatSettings, transport: Any = None) -> None:
        self.chat, self.name, self._transport = chat, chat.model, transport

    def open(self, settings: SamplingSettings) -> ChatClient:
        """A client that asks as these settings say."""
        if settings.prompt == "complete":
            raise ConfigError("prompt 'complete' continues text, which no chat endpoint does; leave the endpoint out")
        if len(settings.stops) > _MOST_STOPS:
            raise ConfigError(f"{len(settings.stops)} stop strings: an endpoint takes at most {_MOST_STOPS}")
        drawn = {"temperature": settings.temperature, "top_p": settings.top_p, "max_tokens": settings.max_tokens}
        return ChatClient(replace(self.chat, **drawn, stop=settings.stops), self._transport)  # type: ignore[arg-type]


def open_model(model: str, endpoint: str | None, settings: SamplingSettings) -> LocalModel | EndpointModel:
    """A model in this process, or the one that has this name behind an endpoint, asked `settings.batch` at a time."""
    if endpoint is None:
        return LocalModel.load(model)
    return EndpointModel(ChatSettings(endpoint, model, concurrency=settings.batch, timeout_s=_ANSWER_S))


_MOST_STOPS = 4
_ANSWER_S = 900.0  # a small machine may take minutes for a long completion
Task = tuple[Problem, str]


class _Drawn:
    """The samples of one file: those that are there, those that are missing, and room for more."""

    def __init__(self, problems: Sequence[Problem], settings: SamplingSettings, out: Path, model: str) -> None:
        self.tasks = [(problem, str(index)) for problem in problems for index in range(settings.samples)]
        jsonl.repair(out)
        there = load_samples(out) if out.exists() else []
        self.have = {(found.problem_id, found.sample_id): found for found in there}
        self.missing = [task for task in self.tasks if (task[0].id, task[1]) not in self.have]
        self._style, self._model = settings.prompt, model

    def keep(self, file: jsonl.Appender, task: Task, made: Generated) -> None:
        """Write a completion down, with its program where the prompt has a rule of its own for it."""
        problem, sample_id = task
        text = asking.answer(self._style, problem, made.text)
        program = asking.program(self._style, problem, text)
        record = {
            "problem_id": problem.id,
            "sample_id": sample_id,
            "completion": text,
            **({} if program is None else {"program": program}),
            "model": self._model,
            "tokens": made.tokens,
            "finish_reason": made.finish_reason,
        }
        file.append(record)
        self.have[problem.id, sample_id] = sample_from_record(record)

    def in_order(self) -> list[Sample]:
        """All samples in the order of the problems."""
        return [self.have[problem.id, sample_id] for problem, sample_id in self.tasks]


def draw(
    load: Callable[[], LocalModel | EndpointModel],
    problems: Sequence[Problem],
    settings: SamplingSettings,
    out: Path,
    title: str,
    model: str | None = None,
) -> list[Sample]:
    """samples.jsonl in the order of the problems, with its manifest; what is there is kept.

    Where all of them are there, no model is loaded. A file belongs to one model (where its name is given) and one way
    of drawing: ConfigError where it has another, since its samples are kept and would be taken for these. What `sample`
    raises.
    """
    jsonl.repair(out)
    kept = {(one.problem_id, one.sample_id): one for one in (load_samples(out) if out.exists() else ())}
    config = json.loads(json.dumps({"model": model, **asdict(settings)}))
    if kept:
        _same_drawing(config, kept.values(), out)
    wanted = dict.fromkeys((problem.id, str(index)) for problem in problems for index in range(settings.samples))
    if kept.keys() >= wanted.keys():
        return [kept[key] for key in wanted]
    opened = load()  # a model that is none leaves nothing behind
    jsonl.write_json(jsonl.manifest_path(out), jsonl.manifest("sample", config))
    drawn = sample(opened, problems, settings, out, title)
    # They come in the order of the batches, or of the answers; the file is put in order once it is whole.
    write_samples(out, [*drawn, *(one for key, one in kept.items() if key not in wanted)])
    return drawn


def _same_drawing(config: dict[str, Any], there: Iterable[Sample], out: Path) -> None:
    """Compare with the manifest beside the file, which was written before the first sample, and with the samples."""
    path = jsonl.manifest_path(out)
    found = jsonl.read_json(path)["config"] if path.exists() else {}
    if names := {one.model for one in there if one.model}:
        found = {**found, "model": ", ".join(sorted(names))}
    free = {"samples", "batch", *(["model"] if config["model"] is None else [])}  # more of the same, at any pace
    other = [key for key in config if key not in free and found.get(key, config[key]) != config[key]]
    if other:
        said = ", ".join(f"{key} {found[key]!r}" for key in other)
        raise ConfigError(f"{out} holds samples drawn with {said}; choose another --out or remove it")


def sample(
    model: LocalModel | EndpointModel,
    problems: Sequence[Problem],
    settings: SamplingSettings,
    out: Path,
    title: str,
) -> list[Sample]:
    """Draw `settings.samples` completions of every problem into samples.jsonl; what is there already is kept.

    InfrastructureError, with names, where an endpoint gave no answer to some: the others are kept.
    """
    drawn = _Drawn(problems, settings, out, model.name)
    done = len(drawn.tasks) - len(drawn.missing)
    with Progress(title, len(drawn.tasks), done) as progress, jsonl.Appender(out) as file:
        if isinstance(model, EndpointModel):
            failed = _from_endpoint(model, settings, drawn, file, progress)
            if failed:
                names = ", ".join(f"{problem.id}/{number}" for (problem, number), _ in failed[:5])
                raise InfrastructureError(
                    f"{out}: {len(failed)} samples were not drawn ({names}{' …' if len(failed) > 5 else ''}): "
                    f"{failed[0][1]}"
                )
            return drawn.in_order()
        for batch in _batches(model, drawn.missing, settings):
            key = f"{settings.seed}/{batch[0][0].id}/{batch[0][1]}/{len(batch)}"
            rows = [ids for _, _, ids in batch]
            for (problem, number, _), made in zip(batch, model.generate(rows, settings, _seed(key)), strict=True):
                drawn.keep(file, (problem, number), made)
            progress.advance(len(batch))
    return drawn.in_order()


def _from_endpoint(
    model: EndpointModel, settings: SamplingSettings, drawn: _Drawn, file: jsonl.Appender, progress: Progress
) -> list[tuple[Task, EndpointError]]:
    """Ask for all that is missing, so many at a time; each completion is written as it comes. What failed, and why."""
    failed: list[tuple[Task, EndpointError]] = []
    tasks = iter(drawn.missing)
    waiting: dict[Future[Reply], Task] = {}
    with model.open(settings) as client:
        try:
            while True:
                while len(waiting) < client.settings.concurrency and len(failed) < _MOST_FAILED:
                    task = next(tasks, None)
                    if task is None:
                        break
                    waiting[_submit(client, settings, task)] = task
                if not waiting:
                    failed += [(task, EndpointError("not asked, after so many failures")) for task in tasks]
                    return failed
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    task = waiting.pop(future)
                    try:
                        reply = future.result()
                    except EndpointError as error:
                        failed.append((task, error))
                        continue
                    drawn.keep(file, task, Generated(reply.text, reply.completion_tokens, reply.finish_reason))
                    progress.advance(1)
        finally:
            for future in waiting:
                future.cancel()


_MOST_FAILED = 20  # an endpoint that is down answers no other request either


def _submit(client: ChatClient, settings: SamplingSettings, task: Task) -> Future[Reply]:
    """Ask for one sample; each has a seed of its own, since equal seeds give equal completions."""
    problem, number = task
    seed = _seed(f"{settings.seed}/{problem.id}/{number}") >> 1  # what fits a signed number of 32 bits
    return client.submit(asking.ask(settings.prompt, problem).messages(), seed=seed)


def _batches(
    model: LocalModel, tasks: Sequence[Task], settings: SamplingSettings
) -> Iterator[list[tuple[Problem, str, list[int]]]]:
    """Tasks with their prompt ids, grouped by similar prompt length."""
    distinct = {problem.id: problem for problem, _ in tasks}
    encoded = {identifier: model.prompt_ids(problem, settings.prompt) for identifier, problem in distinct.items()}
    rows = [(problem, sample_id, encoded[problem.id]) for problem, sample_id in tasks]
    rows.sort(key=lambda row: len(row[2]))
    for start in range(0, len(rows), settings.batch):
        yield rows[start : start + settings.batch]


def _seed(key: str) -> int:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big")


def load_samples(path: Path | str) -> list[Sample]:
    """Read samples.jsonl; an id that occurs twice is an error that names it."""
    samples = jsonl.load(path, sample_from_record)
    seen: set[tuple[str, str]] = set()
    for found in samples:
        key = (found.problem_id, found.sample_id)
        if key in seen:
            raise DataError(f"{path}: sample {found.sample_id!r} of problem {found.problem_id!r} occurs twice")
        seen.add(key)
    return samples


def write_samples(path: Path | str, samples: Iterable[Sample]) -> int:
    """Replace samples.jsonl, without the keys that a sample has nothing for; returns the number of lines."""
    return jsonl.write(path, ({k: v for k, v in asdict(one).items() if v is not None} for one in samples))


def sample_from_record(record: dict[str, Any]) -> Sample:
    """One line of samples.jsonl: a completion, or a program already extracted from one."""
    for key in ("problem_id", "sample_id"):
        if not isinstance(record.get(key), (str, int)):
            raise DataError(f"key {key!r}: {record.get(key)!r}; expected text")
    completion, program = record.get("completion"), record.get("program")
    if not isinstance(completion, str) and not isinstance(program, str):
        raise DataError(f"sample {record['sample_id']!r}: needs 'completion' or 'program' with text")
    return Sample(
        problem_id=str(record["problem_id"]),
        sample_id=str(record["sample_id"]),
        completion=completion if isinstance(completion, str) else None,
        program=program if isinstance(program, str) else None,
        model=record.get("model"),
        tokens=record.get("tokens"),
        finish_reason=record.get("finish_reason"),
    )

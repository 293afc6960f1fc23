"""The command `synth`: base reasonings, optimized and degraded variants, and the pairs that they make.

Each problem goes its own way: its base first, then its variants one after the other; many problems are on their way
at a time. Every reply leaves one record as soon as it is judged, a variant or a refusal, so that a run that was stopped
at any moment continues with the next request. When all is done both files are put into the order of the problems: what
is in them depends on the replies alone, not on when they came.
"""

from __future__ import annotations

import dataclasses
import fcntl
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recode_rl import jsonl, problems
from recode_rl.chat import Budget, ChatClient, ChatSettings, Patience, Reply
from recode_rl.crpl.asking import METHODS, Prompts
from recode_rl.crpl.config import GeneratorConfig, SynthConfig
from recode_rl.crpl.parsing import parse_base, parse_reply
from recode_rl.crpl.plan import Slot, draw, plan_methods, seed_of, share_of, slots
from recode_rl.crpl.refusals import Refusal, refuse_base, refuse_reply, refuse_variant
from recode_rl.errors import BudgetSpent, ConfigError, DataError, EndpointError
from recode_rl.pairs import make_pairs, write_pairs
from recode_rl.problems.records import load_problems, write_problems
from recode_rl.problems.splits import select
from recode_rl.progress import Progress
from recode_rl.types import Problem, Quality, Variant

Record = dict[str, Any]
_GIVE_UP_AFTER = 10  # problems in a row that an endpoint failed
# What must stay as it is for a folder to be continued; the rest (budgets, patience, which problems) may change.
_FIXED = ("seed", "variants", "methods_per_variant", "temperature", "top_p", "max_tokens", "refuse")


@dataclass(slots=True)
class Work:
    """One problem on its way: the records of what was made and what was refused, by slot."""

    problem: Problem
    generator: int
    made: dict[Slot, Record] = field(default_factory=dict)
    refused: dict[Slot, list[Record]] = field(default_factory=dict)
    failed: str | None = None

    def lost(self, slot: Slot, attempts: int) -> bool:
        """Whether a slot is given up: too many refusals, one that no other attempt can change, or no base."""
        refused = self.refused.get(slot, [])
        if slot not in self.made and (len(refused) >= attempts or any(record["final"] for record in refused)):
            return True
        return slot[0] != "base" and self.lost(("base", 0), attempts)

    def done(self, order: Sequence[Slot], attempts: int) -> int:
        """Slots that are made or lost."""
        return sum(slot in self.made or self.lost(slot, attempts) for slot in order)

    def next_slot(self, order: Sequence[Slot], attempts: int) -> Slot | None:
        """What is to be asked for next, None where nothing is left."""
        return next((slot for slot in order if slot not in self.made and not self.lost(slot, attempts)), None)


def synthesise(config: SynthConfig, patience: Patience | None = None) -> dict[str, Any]:
    """Make variants.jsonl, refusals.jsonl and pairs.jsonl in `config.out`, or go on with them; returns the summary.

    A run that stops early (its budget, endpoints that fail) leaves the pairs of what is there; the summary then has
    `complete` false and says in `stopped` why, and how to go on. ConfigError where the folder holds another run.
    """
    chosen = choose_problems(config)
    asking = Prompts(config.prompts)
    with _alone(config.out):
        _check_folder(config, asking)
        run = Run(config, chosen, asking)
        _write_manifest(run, {"complete": False})
        with ExitStack() as stack:
            budget = Budget(config.max_requests, config.max_total_tokens)
            clients = [
                stack.enter_context(ChatClient(chat_settings(config, generator), patience=patience, budget=budget))
                for generator in config.generators
            ]
            run.go(clients)
        return _finish(run, budget)


def choose_problems(config: SynthConfig) -> list[Problem]:
    """All problems of the file, or those that `data` asks for: its split, drawn by the seed up to its limit."""
    if config.problems is not None:
        return load_problems(config.problems)
    data = config.data
    chosen = select(problems.load(data.dataset, data.path), data.split)
    if data.limit is not None:
        drawn = draw([problem.id for problem in chosen], data.limit, config.seed)
        chosen = [problem for problem in chosen if problem.id in drawn]
    if not chosen:
        raise DataError(f"data: no problems in split {data.split!r} of {data.dataset!r}; choose another split")
    return chosen


def chat_settings(config: SynthConfig, generator: GeneratorConfig) -> ChatSettings:
    """How one generator is asked."""
    return ChatSettings(
        url=generator.url,
        model=generator.model,
        concurrency=generator.concurrency,
        temperature=config.temperature,
        top_p=config.top_p,
        max_tokens=config.max_tokens,
        timeout_s=config.timeout_s,
        attempts=config.attempts,
        key_variable=generator.key_variable,
    )


class Run:
    """A run over a folder: what is there, what is asked for, and what became of it."""

    def __init__(self, config: SynthConfig, chosen: Sequence[Problem], asking: Prompts) -> None:
        self.config, self.asking = config, asking
        self.problems = list(chosen)
        self.order = slots(config.variants)
        shares = len(config.generators)
        self.works = {p.id: Work(p, share_of(p.id, shares)) for p in self.problems}
        self.methods = plan_methods(self.works, config.variants, config.methods_per_variant, shares, config.seed)
        self.strangers: list[Record] = []  # records of problems that are not asked for now
        self.strange_refusals: list[Record] = []
        self.stopped: str | None = None
        self._failures = [0] * shares
        self._given_up: set[int] = set()  # generators whose endpoint has failed too often
        self._refusals_now = 0
        self._load()

    def _load(self) -> None:
        for path, parse in ((self.variants_file, self._load_variant), (self.refusals_file, self._load_refusal)):
            jsonl.repair(path)
            if path.exists():
                for number, record in jsonl.read(path):
                    try:
                        parse(record)
                    except (LookupError, TypeError, ValueError) as error:
                        what = f"key {error} is missing" if isinstance(error, KeyError) else str(error)
                        raise DataError(
                            f"{path}: line {number}: {what}; restore the line, or remove it to make it again"
                        ) from None

    def _load_variant(self, record: Record) -> None:
        work, slot = self._place_of(record)
        if not isinstance(record["reasoning"], str):
            raise DataError("key 'reasoning': expected text")
        _variant(record)
        if work is None or slot not in self.order:
            self.strangers.append(record)
        elif slot in work.made:
            raise DataError(f"problem {record['problem_id']!r}: {slot[0]} {slot[1]} occurs twice")
        else:
            work.made[slot] = record

    def _load_refusal(self, record: Record) -> None:
        work, slot = self._place_of(record)
        if not isinstance(record["final"], bool) or not isinstance(record["reason"], str):
            raise DataError("keys 'final' and 'reason': expected true or false, and text")
        if work is None or slot not in self.order:
            self.strange_refusals.append(record)
        else:
            work.refused.setdefault(slot, []).append(record)

    def _place_of(self, record: Record) -> tuple[Work | None, Slot]:
        """Whose record it is; the keys that both files have must be there."""
        if not isinstance(record["methods"], list) or not isinstance(record["problem_id"], str):
            raise DataError("keys 'methods' and 'problem_id': expected a list and text")
        if not all(isinstance(record["tokens"][key], int) for key in ("prompt", "completion")):
            raise DataError("key 'tokens': expected numbers of prompt and completion")
        return self.works.get(record["problem_id"]), (record["variant"], int(record["index"]))

    @property
    def variants_file(self) -> Path:
        """Where the variants are."""
        return self.config.out / "variants.jsonl"

    @property
    def refusals_file(self) -> Path:
        """Where the refused replies are, with their reasons."""
        return self.config.out / "refusals.jsonl"

    def lost(self) -> list[tuple[Work, Slot]]:
        """The variants that were given up."""
        attempts = self.config.attempts_per_variant
        return [(w, slot) for w in self.works.values() for slot in self.order if w.lost(slot, attempts)]

    def done(self) -> int:
        """Variants that are made or lost."""
        return sum(work.done(self.order, self.config.attempts_per_variant) for work in self.works.values())

    def go(self, clients: Sequence[ChatClient]) -> None:
        """Ask until nothing is left, the budget is spent, or the endpoints fail."""
        ready: list[deque[Work]] = [deque() for _ in clients]
        for work in self.works.values():
            ready[work.generator].append(work)
        waiting: dict[Future[Reply], tuple[Work, Slot]] = {}
        attempts = self.config.attempts_per_variant
        with (
            Progress("synth", len(self.works) * len(self.order), self.done()) as progress,
            jsonl.Appender(self.variants_file) as self._variants,
            jsonl.Appender(self.refusals_file) as self._refusals,
        ):
            while True:
                if self.stopped is None:
                    self._fill(clients, ready, waiting)
                if not waiting:
                    break
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    work, slot = waiting.pop(future)
                    before = work.done(self.order, attempts)
                    self._take(work, slot, future)
                    ready[work.generator].appendleft(work)  # a problem that has begun goes on first
                    note = f"{self._refusals_now} refused" if self._refusals_now else ""
                    progress.advance(work.done(self.order, attempts) - before, note)

    def _fill(
        self, clients: Sequence[ChatClient], ready: list[deque[Work]], waiting: dict[Future[Reply], tuple[Work, Slot]]
    ) -> None:
        """Give every generator as many requests as it takes at a time."""
        busy = Counter(work.generator for work, _ in waiting.values())
        for place, client in enumerate(clients):
            while ready[place] and place not in self._given_up and busy[place] < client.settings.concurrency:
                work = ready[place].popleft()
                slot = None if work.failed else work.next_slot(self.order, self.config.attempts_per_variant)
                if slot is not None:
                    waiting[client.submit(self._messages(work, slot), seed=self._seed(work, slot))] = work, slot
                    busy[place] += 1

    def _messages(self, work: Work, slot: Slot) -> list[dict[str, str]]:
        if slot[0] == "base":
            return self.asking.base(work.problem)
        base = work.made["base", 0]["reasoning"]
        return self.asking.variant(work.problem, base, slot[0], self._methods(work, slot))

    def _methods(self, work: Work, slot: Slot) -> tuple[str, ...]:
        """The methods of a variant; those of an attempt that was refused stay."""
        if slot[0] == "base":
            return ()
        refused = work.refused.get(slot)
        return tuple(refused[0]["methods"]) if refused else self.methods[work.problem.id, slot[0], slot[1]]

    def _seed(self, work: Work, slot: Slot) -> int:
        return seed_of(self.config.seed, work.problem.id, slot, len(work.refused.get(slot, [])))

    def _take(self, work: Work, slot: Slot, future: Future[Reply]) -> None:
        """What a reply becomes: a variant, a refusal, or a failure that is not the generator's."""
        try:
            reply = future.result()
        except BudgetSpent as spent:
            self.stopped = str(spent)
            return
        except EndpointError as error:
            if error.overlong:
                self._failures[work.generator] = 0
                self._refuse(work, slot, Reply("", "", 0, 0), Refusal("prompt_too_long", str(error)[:300]), final=True)
            else:
                self._fail(work, error)
            return
        self._failures[work.generator] = 0
        text, explanation = _read(slot[0], reply.text)
        refusal = refuse_reply(text, reply.finish_reason) or self._judge(work, slot, text or "", explanation)
        if refusal is not None:
            self._refuse(work, slot, reply, refusal)
            return
        methods = self._methods(work, slot)
        variant = Variant(
            problem_id=work.problem.id,
            variant=slot[0],
            reasoning=text or "",
            methods=methods,
            explanation=explanation,
            generator=self.config.generators[work.generator].model,
            prompt_version=self.asking.version(slot[0], methods),
        )
        record = {**dataclasses.asdict(variant), **self._about(work, slot, reply)}
        self._variants.append(record)
        work.made[slot] = record

    def _judge(self, work: Work, slot: Slot, text: str, explanation: str) -> Refusal | None:
        if slot[0] == "base":
            return refuse_base(text, self.config.refuse)
        base = work.made["base", 0]["reasoning"]
        others = [record["reasoning"] for made, record in work.made.items() if made[0] != "base"]
        return refuse_variant(text, explanation, base, others, self.config.refuse)

    def _refuse(self, work: Work, slot: Slot, reply: Reply, refusal: Refusal, final: bool = False) -> None:
        record = {
            "problem_id": work.problem.id,
            "variant": slot[0],
            "reason": refusal.reason,
            "detail": refusal.detail,
            "final": final,
            "methods": self._methods(work, slot),
            "generator": self.config.generators[work.generator].model,
            **self._about(work, slot, reply),
            "finish_reason": reply.finish_reason,
            "reply": reply.text,
        }
        self._refusals.append(record)
        self._refusals_now += 1
        work.refused.setdefault(slot, []).append(record)

    def _about(self, work: Work, slot: Slot, reply: Reply) -> Record:
        return {
            "index": slot[1],
            "attempt": len(work.refused.get(slot, [])),
            "seed": self._seed(work, slot),
            "tokens": {"prompt": reply.prompt_tokens, "completion": reply.completion_tokens},
        }

    def _fail(self, work: Work, error: EndpointError) -> None:
        """An endpoint that failed a problem; after many in a row the rest is not tried."""
        work.failed = str(error)
        self._failures[work.generator] += 1
        if self._failures[work.generator] >= _GIVE_UP_AFTER:
            self._given_up.add(work.generator)

    def all_variants(self) -> list[Record]:
        """Every record of variants.jsonl in the order of the problems."""
        return [w.made[slot] for w in self.works.values() for slot in self.order if slot in w.made] + self.strangers

    def all_refusals(self) -> list[Record]:
        """Every record of refusals.jsonl in the order of the problems."""
        found = (record for w in self.works.values() for slot in self.order for record in w.refused.get(slot, ()))
        return [*found, *self.strange_refusals]


def _read(quality: Quality, text: str) -> tuple[str | None, str]:
    """The reasoning in a reply, None where it cannot be told, and the explanation."""
    if quality == "base":
        return parse_base(text), ""
    parts = parse_reply(text)
    return parts.reasoning, parts.explanation


def _finish(run: Run, budget: Budget) -> dict[str, Any]:
    """Put the files in order, make the pairs, and say how it went."""
    out = run.config.out
    jsonl.write(run.variants_file, run.all_variants())
    jsonl.write(run.refusals_file, run.all_refusals())
    write_problems(out / "problems.jsonl", run.problems)
    made = make_pairs(run.problems, [_variant(w.made[s]) for w in run.works.values() for s in run.order if s in w.made])
    write_pairs(out / "pairs.jsonl", made.pairs)
    failed = [work for work in run.works.values() if work.failed]
    total, stopped = len(run.works) * len(run.order), run.stopped
    if stopped is None and failed:
        first = failed[0]
        stopped = f"an endpoint failed {len(failed)} problems, the first ({first.problem.id}) with: {first.failed}"
    if stopped is not None:
        stopped += f"; {run.done()} of {total} variants are done, run the same command again to go on"
    summary = {
        "out": str(out),
        "complete": stopped is None,
        "stopped": stopped,
        "problems": len(run.works),
        **counts(run),
        "pairs": len(made.pairs),
        "pairs_by_kind": dict(Counter(pair.kind for pair in made.pairs)),
        "pairs_refused": dict(sorted(made.refused.items())),
    }
    _write_manifest(run, summary)
    return {**summary, "requests": budget.used.requests}


def _variant(record: Record) -> Variant:
    known = {item.name: record[item.name] for item in dataclasses.fields(Variant)}
    return Variant(**{**known, "methods": tuple(known["methods"])})


def counts(run: Run) -> dict[str, Any]:
    """What was made, refused and lost, by which methods and by whom; over all calls of the command together."""
    made = [record for work in run.works.values() for record in work.made.values()]
    refused = [record for work in run.works.values() for records in work.refused.values() for record in records]
    attempts = run.config.attempts_per_variant
    generators: dict[str, Any] = {}
    for place, generator in enumerate(run.config.generators):
        works = [work for work in run.works.values() if work.generator == place]
        mine = [record for w in works for record in (*w.made.values(), *(r for rs in w.refused.values() for r in rs))]
        generators[f"{place}: {generator.model}"] = {
            "problems": len(works),
            "variants": sum(len(work.made) for work in works),
            "prompt_tokens": sum(record["tokens"]["prompt"] for record in mine),
            "completion_tokens": sum(record["tokens"]["completion"] for record in mine),
        }
    return {
        "variants": dict(Counter(record["variant"] for record in made)),
        "without_explanation": sum(r["variant"] != "base" and not r["explanation"] for r in made),
        "methods": {
            quality: {name: sum(name in r["methods"] for r in made if r["variant"] == quality) for name in names}
            for quality, names in METHODS.items()
        },
        "refused": dict(Counter(r["reason"] for r in refused).most_common()),
        "refused_by_variant": dict(Counter(f"{r['variant']}: {r['reason']}" for r in refused).most_common()),
        "lost": dict(Counter(slot[0] for _, slot in run.lost())),
        "lost_without_base": sum(slot[0] != "base" and w.lost(("base", 0), attempts) for w, slot in run.lost()),
        "generators": generators,
    }


def _identity(config: SynthConfig, asking: Prompts) -> dict[str, Any]:
    """What a folder belongs to."""
    values = config.model_dump(mode="json")
    return {
        **{key: values[key] for key in _FIXED},
        "generators": [generator.model for generator in config.generators],
        "prompts": {name: prompt.digest for name, prompt in asking.by_name.items()},
    }


def _check_folder(config: SynthConfig, asking: Prompts) -> None:
    """ConfigError where the folder holds what was made in another way."""
    path = config.out / "manifest.json"
    if not path.exists():
        if (config.out / "variants.jsonl").exists():
            raise ConfigError(f"{config.out}: variants.jsonl without a manifest; choose another folder for out")
        return
    before, now = jsonl.read_json(path).get("identity"), _identity(config, asking)
    if not isinstance(before, dict):
        raise ConfigError(f"{path}: of another stage; choose another folder for out")
    for key in now:
        if before.get(key) != now[key]:
            was = "" if key in ("prompts", "refuse") else f" ({before.get(key)}, now {now[key]})"
            raise ConfigError(
                f"{config.out}: holds variants made with other {key}{was}; choose another folder for out, or go back"
            )


def _write_manifest(run: Run, results: dict[str, Any]) -> None:
    asked = {n: {"version": p.version, "digest": p.digest} for n, p in run.asking.by_name.items()}
    manifest = jsonl.manifest(
        "synth",
        run.config.model_dump(mode="json"),
        identity=_identity(run.config, run.asking),
        prompts=asked,
        results=results,
    )
    jsonl.write_json(run.config.out / "manifest.json", manifest)


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Keep a second run out of the folder; the lock goes with the process, however it ends."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"{out}: another run works in this folder; wait for it or choose another folder"
            ) from None
        yield

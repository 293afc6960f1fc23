"""The command `adjudicate`: samples into the store, decisions in and out of it, and the page until Ctrl-C."""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recode_rl import completion
from recode_rl.errors import ConfigError, DataError
from recode_rl.extras import need
from recode_rl.lcb_rb.records import Key, load_decisions, write_decisions
from recode_rl.lcb_rb.server import door, link, make_app
from recode_rl.lcb_rb.store import Store
from recode_rl.serving import listen, run, url_of
from recode_rl.types import Problem, Sample


@dataclass(frozen=True, slots=True)
class Opening:
    """Where the page is, and who comes; with `token` people need their link on loopback too."""

    host: str = "127.0.0.1"
    port: int = 8400
    token: bool = False
    annotators: tuple[str, ...] = ()
    resolver: str | None = None


def add_samples(
    store: Store, problems: Sequence[Problem], samples: Sequence[Sample], wanted: Iterable[Key] | None = None
) -> Counter[str]:
    """Put samples (those of `wanted`, else all) into the store; counts what was added and what was left out.

    Problems keep their order, and the samples of one stand in an order drawn by their ids: no place in a row tells what
    a judge said.
    """
    by_problem: dict[str, list[Sample]] = {problem.id: [] for problem in problems}
    keys = None if wanted is None else set(wanted)
    found: Counter[str] = Counter()
    for sample in samples:
        key = (sample.problem_id, sample.sample_id)
        if keys is not None and key not in keys:
            continue
        if sample.problem_id not in by_problem:
            raise DataError(
                f"sample {sample.sample_id!r} is for problem {sample.problem_id!r}, which is not among the problems; "
                "give the problems file the samples were made from"
            )
        by_problem[sample.problem_id].append(sample)
    rows = []
    for problem in problems:
        for sample in sorted(by_problem[problem.id], key=_shuffled):
            parsed = completion.parse(sample.completion or "")
            if not parsed.reasoning or not parsed.program:
                found["without reasoning or program"] += 1
                continue
            key = (sample.problem_id, sample.sample_id)
            rows.append((key, problem.prompt, parsed.reasoning, parsed.program))
    if keys is not None and (missing := keys - {(s.problem_id, s.sample_id) for s in samples}):
        name = "/".join(sorted(missing)[0])
        raise DataError(f"candidate {name} is not among the samples ({len(missing)} are not); give their samples file")
    found["added"] = store.add_items(rows)
    found["there already"] = len(rows) - found["added"]
    return found


def _shuffled(sample: Sample) -> bytes:
    return hashlib.sha256(f"place/{sample.problem_id}/{sample.sample_id}".encode()).digest()


def take_decisions(store: Store, paths: Sequence[Path], replace: bool) -> Counter[str]:
    """Import decisions.jsonl files; counts those taken and those that were there already."""
    found: Counter[str] = Counter()
    for path in paths:
        try:
            imported = store.take(load_decisions(path), replace)
        except DataError as error:
            raise error if str(error).startswith(str(path)) else DataError(f"{path}: {error}") from None
        found["taken"] += imported.taken
        found["there already"] += imported.same
    return found


def give_decisions(store: Store, path: Path) -> int:
    """Export every whole decision as decisions.jsonl."""
    return write_decisions(path, store.decisions())


def serve(store: Store, opening: Opening) -> dict[str, Any]:
    """Show the page until SIGINT or SIGTERM. ConfigError where nobody decides, or there is nothing to decide about."""
    need("uvicorn", "adjudicate")
    for name in opening.annotators:
        store.add_person(name, "annotator")
    if opening.resolver:
        store.add_person(opening.resolver, "resolver")
    people = store.people()
    if not people:
        raise ConfigError("nobody decides yet; give --annotator NAME for each annotator")
    if not store.count():
        raise ConfigError(f"{store.path}: nothing to decide about; give --problems and --samples")
    site = door(opening.host, opening.token, store)
    app = make_app(site)
    listener = listen(opening.host, opening.port)
    url = url_of(listener)
    print(f"{store.count()} items at {url} (Ctrl-C ends it; every decision is stored at once)", file=sys.stderr)
    if not site.open_door:
        for person in people:
            print(f"  {person.name} ({person.role}): {link(store, person, url)}", file=sys.stderr)
    sys.stderr.flush()
    run(app, listener)
    return {"url": url, **overview(store)}


def overview(store: Store) -> dict[str, Any]:
    """How far everyone is."""
    people = {}
    for person in store.people():
        done, total = store.progress(person)
        people[person.name] = {"role": person.role, "decided": done, "of": total}
    return {"items": store.count(), "people": people}

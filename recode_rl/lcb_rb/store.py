"""The state of an adjudication in one SQLite file: what is to be decided, who decides, what they said, and a log of it.

Nothing of the judge or of the verdicts enters this file, so that no page made from it can show them. A change is on the
disk when `change` returns (a write-ahead log, synchronous=FULL): a kill at any moment takes nothing that was confirmed.
Each person has an own row for each item. A change names the version that it was made on and is refused where another
window was faster; one that is sent again, because its answer was lost, is known by its id and done once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import hmac
import json
import os
import re
import secrets
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from recode_rl.errors import DataError
from recode_rl.lcb_rb.records import Decision, Key, Role

Show = Literal["all", "open", "done", "noted"]
FORMAT = "recode-rl adjudication 1"
LONGEST_NOTE = 20_000
_NAME = re.compile(r"[\w][\w .@-]{0,39}")
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE items (
  place INTEGER PRIMARY KEY, problem_id TEXT NOT NULL, sample_id TEXT NOT NULL, problem TEXT NOT NULL,
  reasoning TEXT NOT NULL, program TEXT NOT NULL, UNIQUE (problem_id, sample_id)
);
CREATE TABLE people (name TEXT PRIMARY KEY, role TEXT NOT NULL);
CREATE TABLE decisions (
  place INTEGER NOT NULL REFERENCES items, person TEXT NOT NULL REFERENCES people, sound INTEGER, aligned INTEGER,
  note TEXT NOT NULL DEFAULT '', at TEXT NOT NULL, version INTEGER NOT NULL, PRIMARY KEY (place, person)
);
CREATE INDEX decisions_of_person ON decisions (person, place);
CREATE INDEX whole_decisions ON decisions (person) WHERE sound IS NOT NULL AND aligned IS NOT NULL;
CREATE TABLE log (
  id INTEGER PRIMARY KEY, at TEXT NOT NULL, person TEXT NOT NULL, place INTEGER NOT NULL, kind TEXT NOT NULL,
  change TEXT UNIQUE, before TEXT NOT NULL, after TEXT NOT NULL, undone INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX log_of_person ON log (person, id);
"""
# A whole decision as one word, as in records.judgement_of; NULL while a question is open.
_SAID = (
    "CASE WHEN sound IS NULL OR aligned IS NULL THEN NULL WHEN aligned = 0 THEN 'misaligned' "
    "WHEN sound = 1 THEN 'sound' ELSE 'flawed' END"
)
_DISAGREED = (
    f"SELECT d.place FROM decisions d JOIN people p ON p.name = d.person WHERE p.role = 'annotator' "
    f"GROUP BY d.place HAVING COUNT(DISTINCT {_SAID}) > 1"
)
_SHOWN: dict[Show, str] = {
    "all": "1",
    "open": "(mine.sound IS NULL OR mine.aligned IS NULL)",
    "done": "(mine.sound IS NOT NULL AND mine.aligned IS NOT NULL)",
    "noted": "COALESCE(mine.note, '') <> ''",
}


@dataclass(frozen=True, slots=True)
class Item:
    """One sample as people see it; `place` counts from 1."""

    place: int
    problem_id: str
    sample_id: str
    problem: str
    reasoning: str
    program: str


@dataclass(frozen=True, slots=True)
class State:
    """What one person has said of one item; `version` counts the changes."""

    sound: bool | None = None
    aligned: bool | None = None
    note: str = ""
    version: int = 0
    at: str = ""

    @property
    def complete(self) -> bool:
        """Whether both questions are answered."""
        return self.sound is not None and self.aligned is not None


@dataclass(frozen=True, slots=True)
class Person:
    """Someone who decides; a resolver sees only what annotators disagree about, and what they said."""

    name: str
    role: Role


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a listing."""

    place: int
    problem_id: str
    sample_id: str
    state: State


@dataclass(frozen=True, slots=True)
class Imported:
    """Decisions that were taken over, and those that were there already."""

    taken: int
    same: int


class Conflict(Exception):
    """A change that was made on an older version; `state` is what is stored now."""

    def __init__(self, state: State) -> None:
        super().__init__("changed in another window")
        self.state = state


class Store:
    """An open file; safe to use from several threads, and beside other processes."""

    def __init__(self, path: Path) -> None:
        """Open a file, or make one. DataError where it is of another kind."""
        self.path, self._lock = path, threading.RLock()
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # it holds the key that sessions are signed with
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA foreign_keys = ON")
            self._secret = self._prepare()
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise DataError(f"{path}: not a file of lcb-rb adjudicate ({error}); choose another --db") from None

    def _prepare(self) -> bytes:
        """Make the tables where there are none; the secret of the file."""
        with self._transaction():
            if not self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
                if self._db.execute("SELECT 1 FROM sqlite_master").fetchone():
                    raise sqlite3.DatabaseError("a database of something else")
                for statement in _SCHEMA.split(";\n"):
                    self._db.execute(statement)
                values = {"format": FORMAT, "secret": secrets.token_hex(32), "created": _now()}
                self._db.executemany("INSERT INTO meta VALUES (?, ?)", values.items())
        found = self._db.execute("SELECT value FROM meta WHERE key = 'format'").fetchone()
        if found != (FORMAT,):
            raise sqlite3.DatabaseError(f"its format is {found!r}")
        return bytes.fromhex(self._db.execute("SELECT value FROM meta WHERE key = 'secret'").fetchone()[0])

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """All or nothing, and on the disk at the end."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def _rows(self, query: str, *values: Any) -> list[Any]:
        with self._lock:
            return self._db.execute(query, values).fetchall()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- items and people ------------------------------------------------------------------------------------------

    def add_items(self, items: Iterable[tuple[Key, str, str, str]]) -> int:
        """Add samples (key, problem, reasoning, program) behind those that are there; returns how many were new.

        DataError where a sample is there with another text: decisions about it would be about something else.
        """
        added = 0
        with self._transaction():
            for (problem_id, sample_id), *texts in items:
                clean = [text.encode("utf-8", "replace").decode() for text in texts]
                there = self._db.execute(
                    "SELECT problem, reasoning, program FROM items WHERE problem_id = ? AND sample_id = ?",
                    (problem_id, sample_id),
                ).fetchone()
                if there is None:
                    self._db.execute(
                        "INSERT INTO items (problem_id, sample_id, problem, reasoning, program) VALUES (?, ?, ?, ?, ?)",
                        (problem_id, sample_id, *clean),
                    )
                    added += 1
                elif list(there) != clean:
                    raise DataError(
                        f"{self.path}: sample {sample_id!r} of problem {problem_id!r} is there with other texts; "
                        "choose another --db, or give the files that it was made from"
                    )
        return added

    def count(self) -> int:
        """How many items there are: places count from 1 without a gap, and the last one is found at once."""
        return int(self._rows("SELECT COALESCE(MAX(place), 0) FROM items")[0][0])

    def item(self, place: int) -> Item | None:
        """The item of a place."""
        rows = self._rows(
            "SELECT place, problem_id, sample_id, problem, reasoning, program FROM items WHERE place = ?", place
        )
        return Item(*rows[0]) if rows else None

    def add_person(self, name: str, role: Role) -> None:
        """Add someone, or find them with the same role. DataError on a name that cannot be used."""
        if not _NAME.fullmatch(name) or name != name.strip():
            raise DataError(f"name {name!r}: expected up to 40 letters, digits, blanks or any of . @ - _")
        with self._transaction():
            there = self._db.execute("SELECT role FROM people WHERE name = ?", (name,)).fetchone()
            if there is None:
                self._db.execute("INSERT INTO people VALUES (?, ?)", (name, role))
            elif there[0] != role:
                raise DataError(f"{name!r} is {_article(there[0])} in {self.path}, not {_article(role)}; choose a name")

    def people(self) -> list[Person]:
        """Everyone who decides, annotators first."""
        return [Person(*row) for row in self._rows("SELECT name, role FROM people ORDER BY role, name")]

    def person(self, name: str) -> Person | None:
        """Someone by name."""
        rows = self._rows("SELECT name, role FROM people WHERE name = ?", name)
        return Person(*rows[0]) if rows else None

    def sign(self, purpose: str, name: str) -> str:
        """A word that only this file can have made: for links, sessions and forms of one person."""
        return hmac.new(self._secret, f"{purpose}/{name}".encode(), hashlib.sha256).hexdigest()[:40]

    # -- what one person sees --------------------------------------------------------------------------------------

    def _from(self, person: Person) -> str:
        """What a person decides about, joined with what they said: all items, or those that others disagree about."""
        scope = f"JOIN ({_DISAGREED}) open ON open.place = i.place " if person.role == "resolver" else ""
        return f"FROM items i {scope}LEFT JOIN decisions mine ON mine.place = i.place AND mine.person = ? "

    def progress(self, person: Person) -> tuple[int, int]:
        """How many items a person has decided, and how many there are for them."""
        if person.role == "annotator":
            whole = "SELECT COUNT(*) FROM decisions WHERE person = ? AND sound IS NOT NULL AND aligned IS NOT NULL"
            return int(self._rows(whole, person.name)[0][0]), self.count()
        query = f"SELECT COALESCE(SUM({_SHOWN['done']}), 0), COUNT(*) {self._from(person)}"
        done, total = self._rows(query, person.name)[0]
        return int(done), int(total)

    def state(self, person: Person, place: int) -> State:
        """What a person has said of an item."""
        with self._lock:
            return self._state(person.name, place)

    def _state(self, name: str, place: int) -> State:
        row = self._db.execute(
            "SELECT sound, aligned, note, version, at FROM decisions WHERE place = ? AND person = ?", (place, name)
        ).fetchone()
        return State(_bool(row[0]), _bool(row[1]), *row[2:]) if row else State()

    def sees(self, person: Person, place: int) -> bool:
        """Whether an item is a person's to decide."""
        return bool(self._rows(f"SELECT 1 {self._from(person)} WHERE i.place = ?", person.name, place))

    def rank(self, person: Person, place: int) -> int:
        """The number of an item among those of a person, from 1."""
        if person.role == "annotator":
            return place
        return int(self._rows(f"SELECT COUNT(*) {self._from(person)} WHERE i.place <= ?", person.name, place)[0][0])

    def at_rank(self, person: Person, rank: int) -> int | None:
        """The place of a person's item with that number."""
        if person.role == "annotator":
            return rank if 1 <= rank <= self.count() else None
        query = f"SELECT i.place {self._from(person)} ORDER BY i.place LIMIT 1 OFFSET ?"
        rows = self._rows(query, person.name, max(0, rank - 1))
        return int(rows[0][0]) if rows else None

    def neighbour(self, person: Person, place: int, step: Literal[-1, 1], show: Show = "all") -> int | None:
        """The nearest item before or behind a place, None at the end."""
        sign, order = ("<", "DESC") if step < 0 else (">", "ASC")
        query = f"SELECT i.place {self._from(person)} WHERE i.place {sign} ? AND {_SHOWN[show]} "
        rows = self._rows(f"{query} ORDER BY i.place {order} LIMIT 1", person.name, place)
        return int(rows[0][0]) if rows else None

    def next_open(self, person: Person, place: int) -> int | None:
        """The next item without both answers, from the beginning again behind the last; None where all is decided."""
        behind = self.neighbour(person, place, 1, "open")
        return behind if behind is not None else self.neighbour(person, 0, 1, "open")

    def listing(self, person: Person, show: Show, start: int, count: int) -> tuple[list[Line], int]:
        """Some lines of a person's items, and how many there are of the kind."""
        base = f"{self._from(person)} WHERE {_SHOWN[show]}"
        columns = "i.place, i.problem_id, i.sample_id, mine.sound, mine.aligned, mine.note, mine.version, mine.at"
        rows = self._rows(f"SELECT {columns} {base} ORDER BY i.place LIMIT ? OFFSET ?", person.name, count, start)
        total = self._rows(f"SELECT COUNT(*) {base}", person.name)[0][0]
        return [_line(row) for row in rows], int(total)

    def said(self, place: int) -> list[tuple[str, State]]:
        """What annotators have said of an item, whole decisions only: for resolvers alone."""
        rows = self._rows(
            "SELECT d.person, d.sound, d.aligned, d.note, d.version, d.at FROM decisions d "
            "JOIN people p ON p.name = d.person AND p.role = 'annotator' "
            "WHERE d.place = ? AND d.sound IS NOT NULL AND d.aligned IS NOT NULL ORDER BY d.person",
            place,
        )
        return [(row[0], State(_bool(row[1]), _bool(row[2]), *row[3:])) for row in rows]

    # -- changes ---------------------------------------------------------------------------------------------------

    def change(self, person: Person, place: int, version: int, change: str, values: Mapping[str, Any]) -> State:
        """Store answers (`sound`, `aligned`: true, false or None) or a `note`, and log it; returns what holds now.

        Conflict where `version` is not the stored one. A `change` (an id of the client's) is stored once.
        """
        with self._transaction():
            before = self._state(person.name, place)
            if self._db.execute("SELECT 1 FROM log WHERE change = ?", (change,)).fetchone():
                return before
            if before.version != version:
                raise Conflict(before)
            after = dataclasses.replace(before, **values, version=version + 1, at=_now())
            answered = (before.sound, before.aligned) != (after.sound, after.aligned)
            if not answered and before.note == after.note:
                return before
            self._put(person.name, place, before, after, "answer" if answered else "note", change)
            return after

    def _put(self, name: str, place: int, before: State, after: State, kind: str, change: str | None) -> None:
        self._db.execute(
            "INSERT INTO decisions (place, person, sound, aligned, note, at, version) VALUES (?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (place, person) DO UPDATE SET sound = excluded.sound, aligned = excluded.aligned, "
            "note = excluded.note, at = excluded.at, version = excluded.version",
            (place, name, after.sound, after.aligned, after.note, after.at, after.version),
        )
        self._db.execute(
            "INSERT INTO log (at, person, place, kind, change, before, after) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (after.at, name, place, kind, change, _json(before), _json(after)),
        )

    def undo(self, person: Person) -> tuple[int, State] | None:
        """Take back a person's last change of an answer that was not taken back yet; its item, and what holds now.

        Notes stay as they are: their text field has its own undo. None where there is nothing to take back.
        """
        with self._transaction():
            row = self._db.execute(
                "SELECT id, place, before, after FROM log WHERE person = ? AND kind = 'answer' AND undone = 0 "
                "ORDER BY id DESC LIMIT 1",
                (person.name,),
            ).fetchone()
            if row is None:
                return None
            now, before, after = self._state(person.name, row[1]), json.loads(row[2]), json.loads(row[3])
            if (now.sound, now.aligned) != (after["sound"], after["aligned"]):
                return None  # an import came between
            restored = dataclasses.replace(
                now, sound=before["sound"], aligned=before["aligned"], version=now.version + 1, at=_now()
            )
            self._db.execute("UPDATE log SET undone = 1 WHERE id = ?", (row[0],))
            self._put(person.name, row[1], now, restored, "undo", None)
            return int(row[1]), restored

    def log(self, person: str | None = None) -> list[dict[str, Any]]:
        """Every change in its order: who, when, what of, and what held before and after."""
        where, values = ("", ()) if person is None else (" WHERE person = ?", (person,))
        rows = self._rows(
            f"SELECT id, at, person, place, kind, before, after, undone FROM log{where} ORDER BY id", *values
        )
        names = ("id", "at", "person", "place", "kind", "before", "after", "undone")
        return [
            {**dict(zip(names, row, strict=True)), "before": json.loads(row[5]), "after": json.loads(row[6])}
            for row in rows
        ]

    # -- in and out ------------------------------------------------------------------------------------------------

    def decisions(self, person: str | None = None) -> list[Decision]:
        """Whole decisions, of everyone or of one person, in the order of the items."""
        where, values = ("", ()) if person is None else (" AND d.person = ?", (person,))
        rows = self._rows(
            "SELECT i.problem_id, i.sample_id, d.person, d.sound, d.aligned, d.note, d.at, p.role FROM decisions d "
            "JOIN items i ON i.place = d.place JOIN people p ON p.name = d.person "
            f"WHERE d.sound IS NOT NULL AND d.aligned IS NOT NULL{where} ORDER BY i.place, p.role, d.person",
            *values,
        )
        return [_decision(row) for row in rows]

    def take(self, decisions: Sequence[Decision], replace: bool = False) -> Imported:
        """Take over decisions that were made elsewhere, all or none, and log them; people are added as they come.

        DataError where a sample is not among the items, or where another decision of the same person is there and
        `replace` is not set.
        """
        for name, role in dict.fromkeys((decision.annotator, decision.role) for decision in decisions):
            self.add_person(name, role)
        taken = same = 0
        with self._transaction():
            for decision in decisions:
                row = self._db.execute(
                    "SELECT place FROM items WHERE problem_id = ? AND sample_id = ?", decision.key
                ).fetchone()
                if row is None:
                    raise DataError(
                        f"sample {decision.sample_id!r} of problem {decision.problem_id!r} is not in {self.path}; give "
                        "--problems and --samples with it"
                    )
                before = self._state(decision.annotator, row[0])
                if (before.sound, before.aligned, before.note) == (decision.sound, decision.aligned, decision.note):
                    same += 1
                    continue
                if before.version and not replace:
                    raise DataError(
                        f"{decision.annotator} has decided about sample {decision.sample_id!r} of problem "
                        f"{decision.problem_id!r} otherwise in {self.path}; give --replace to take the file's decisions"
                    )
                at, version = decision.at or _now(), before.version + 1
                after = State(decision.sound, decision.aligned, decision.note, version, at)
                self._put(decision.annotator, row[0], before, after, "import", None)
                taken += 1
        return Imported(taken, same)


def _line(row: Sequence[Any]) -> Line:
    state = State(_bool(row[3]), _bool(row[4]), row[5] or "", row[6] or 0, row[7] or "")
    return Line(row[0], row[1], row[2], state)


def _decision(row: Sequence[Any]) -> Decision:
    problem_id, sample_id, person, sound, aligned, note, at, role = row
    return Decision(problem_id, sample_id, person, bool(sound), bool(aligned), note, at, role)


def _json(state: State) -> str:
    return json.dumps({"sound": state.sound, "aligned": state.aligned, "note": state.note}, ensure_ascii=False)


def _bool(value: int | None) -> bool | None:
    return None if value is None else bool(value)


def _article(role: str) -> str:
    return f"{'an' if role == 'annotator' else 'a'} {role}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")

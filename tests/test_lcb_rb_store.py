"""The state of an adjudication: nothing is lost, nobody sees another's answers, everything can be taken back."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from lcb_rb_data import decision

from recode_rl.errors import DataError
from recode_rl.lcb_rb.store import Conflict, Item, Person, State, Store

ADA, BO, TEAM = Person("ada", "annotator"), Person("bo", "annotator"), Person("team", "resolver")


def filled(path: Path, items: int = 4) -> Store:
    store = Store(path)
    store.add_items([((f"p{i // 2}", str(i)), "problem", f"reasoning {i}", f"program {i}") for i in range(items)])
    for person in (ADA, BO, TEAM):
        store.add_person(person.name, person.role)
    return store


def say(store: Store, person: Person, place: int, said: str, note: str = "") -> State:
    values = {"sound": said != "flawed", "aligned": said != "misaligned", "note": note}
    return store.change(person, place, store.state(person, place).version, os.urandom(8).hex(), values)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with filled(tmp_path / "a.sqlite") as store:
        yield store


def test_items_keep_their_places_and_come_once(store: Store) -> None:
    assert store.count() == 4
    assert store.item(2) == Item(2, "p0", "1", "problem", "reasoning 1", "program 1")
    assert store.item(9) is None
    row = (("p0", "1"), "problem", "reasoning 1", "program 1")
    assert store.add_items([row, (("p9", "0"), "x", "y\udc80", "z")]) == 1
    assert store.item(5) == Item(5, "p9", "0", "x", "y?", "z")
    with pytest.raises(DataError, match="is there with other texts"):
        store.add_items([(("p7", "0"), "a", "b", "c"), (("p0", "1"), "problem", "another reasoning", "program 1")])
    assert store.count() == 5  # all or none


def test_names_have_one_role(store: Store) -> None:
    store.add_person("ada", "annotator")
    with pytest.raises(DataError, match=r"'ada' is an annotator in .*, not a resolver"):
        store.add_person("ada", "resolver")
    for wrong in ("", " ada", "a" * 41, "<b>", "a\nb"):
        with pytest.raises(DataError, match="expected up to 40 letters"):
            store.add_person(wrong, "annotator")


def test_answers_come_one_by_one_and_notes_with_them(store: Store) -> None:
    state = store.change(ADA, 1, 0, "change-1", {"sound": True})
    assert (state.sound, state.aligned, state.complete, state.version) == (True, None, False, 1)
    state = store.change(ADA, 1, 1, "change-2", {"aligned": False})
    assert state.complete
    assert store.change(ADA, 1, 2, "change-3", {"note": "why"}).note == "why"
    assert store.progress(ADA) == (1, 4)
    assert store.state(BO, 1) == State()
    assert store.progress(BO) == (0, 4)


def test_a_change_on_an_old_version_is_refused_with_what_holds(store: Store) -> None:
    store.change(ADA, 1, 0, "change-1", {"sound": True})
    with pytest.raises(Conflict) as refused:
        store.change(ADA, 1, 0, "change-2", {"sound": False})
    assert refused.value.state.sound is True
    assert store.state(ADA, 1).sound is True


def test_a_change_that_is_sent_again_is_done_once(store: Store) -> None:
    first = store.change(ADA, 1, 0, "change-1", {"sound": True})
    assert store.change(ADA, 1, 0, "change-1", {"sound": True}) == first
    store.change(ADA, 1, 1, "change-2", {"sound": False})
    assert store.change(ADA, 1, 0, "change-1", {"sound": True}).sound is False
    assert len(store.log()) == 2


def test_undo_takes_back_answers_one_after_the_other_and_leaves_notes(store: Store) -> None:
    store.change(ADA, 1, 0, "change-1", {"sound": True})
    store.change(ADA, 1, 1, "change-2", {"note": "mine"})
    store.change(ADA, 3, 0, "change-3", {"aligned": True})
    store.change(BO, 3, 0, "change-4", {"aligned": False})
    undone = store.undo(ADA)
    assert undone is not None
    assert (undone[0], undone[1].aligned) == (3, None)
    undone = store.undo(ADA)
    assert undone is not None
    assert (undone[0], undone[1].sound, undone[1].note) == (1, None, "mine")
    assert store.undo(ADA) is None
    assert store.state(BO, 3).aligned is False
    store.change(ADA, 1, store.state(ADA, 1).version, "change-5", {"sound": False})
    assert store.undo(ADA) is not None


def test_the_log_has_every_change(store: Store) -> None:
    say(store, ADA, 1, "sound")
    say(store, ADA, 1, "flawed", "note")
    store.undo(ADA)
    say(store, BO, 2, "sound")
    assert [(line["person"], line["kind"], line["undone"]) for line in store.log()] == [
        ("ada", "answer", 0),
        ("ada", "answer", 1),
        ("ada", "undo", 0),
        ("bo", "answer", 0),
    ]
    second = store.log("ada")[1]
    assert second["before"] == {"sound": True, "aligned": True, "note": ""}
    assert second["after"] == {"sound": False, "aligned": True, "note": "note"}


def test_the_next_open_item_begins_again_behind_the_last(store: Store) -> None:
    assert store.next_open(ADA, 2) == 3
    for place in (2, 3, 4):
        say(store, ADA, place, "sound")
    assert store.next_open(ADA, 2) == 1
    say(store, ADA, 1, "sound")
    assert store.next_open(ADA, 1) is None
    assert store.neighbour(ADA, 1, -1) is None
    assert store.neighbour(ADA, 1, 1) == 2


def test_lists_by_kind_and_by_pages(store: Store) -> None:
    say(store, ADA, 2, "flawed", "a note")
    store.change(ADA, 3, 0, "change-1", {"sound": True})
    assert [line.place for line in store.listing(ADA, "open", 0, 10)[0]] == [1, 3, 4]
    assert [line.place for line in store.listing(ADA, "done", 0, 10)[0]] == [2]
    assert [line.place for line in store.listing(ADA, "noted", 0, 10)[0]] == [2]
    lines, total = store.listing(ADA, "all", 2, 1)
    assert ([line.place for line in lines], total) == ([3], 4)
    assert store.listing(BO, "done", 0, 10) == ([], 0)


def test_a_resolver_sees_disagreements_alone(store: Store) -> None:
    for place, (one, other) in enumerate([("sound", "sound"), ("sound", "flawed"), ("flawed", "misaligned")], start=1):
        say(store, ADA, place, one)
        say(store, BO, place, other, "bo's note")
    say(store, ADA, 4, "sound")
    assert store.progress(TEAM) == (0, 2)
    assert [line.place for line in store.listing(TEAM, "all", 0, 10)[0]] == [2, 3]
    assert store.sees(TEAM, 2)
    assert not store.sees(TEAM, 1)
    assert not store.sees(TEAM, 4)
    assert [store.rank(TEAM, 3), store.at_rank(TEAM, 2), store.at_rank(TEAM, 3)] == [2, 3, None]
    assert [(name, state.sound, state.note) for name, state in store.said(2)] == [
        ("ada", True, ""),
        ("bo", False, "bo's note"),
    ]
    say(store, TEAM, 2, "flawed")
    assert store.progress(TEAM) == (1, 2)
    assert store.next_open(TEAM, 2) == 3


def test_decisions_go_out_and_come_in(store: Store, tmp_path: Path) -> None:
    say(store, ADA, 1, "sound", "n")
    store.change(ADA, 2, 0, "change-1", {"sound": True})  # half a decision is none
    say(store, BO, 1, "flawed")
    say(store, TEAM, 1, "flawed")
    found = store.decisions()
    assert [(d.annotator, d.judgement, d.role) for d in found] == [
        ("ada", "sound", "annotator"),
        ("bo", "flawed", "annotator"),
        ("team", "flawed", "resolver"),
    ]
    assert [d.annotator for d in store.decisions("bo")] == ["bo"]
    other = filled(tmp_path / "b.sqlite")
    assert other.take(found).taken == 3
    assert other.take(found).same == 3
    assert other.decisions() == found
    assert {line["kind"] for line in other.log()} == {"import"}


def test_an_import_takes_all_or_nothing_and_wins_only_when_told(store: Store) -> None:
    say(store, ADA, 1, "sound")
    new = [decision(("p0", "1"), "ada", "flawed"), decision(("p0", "0"), "ada", "flawed")]
    with pytest.raises(DataError, match="give --replace"):
        store.take(new)
    assert store.state(ADA, 2) == State()
    assert store.take(new, replace=True).taken == 2
    assert store.state(ADA, 1).sound is False
    assert store.undo(ADA) is None  # an import came between
    with pytest.raises(DataError, match="'7' of problem 'p0' is not in"):
        store.take([decision(("p0", "7"), "ada", "flawed")])


def test_two_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    stores = [filled(path, items=40), Store(path)]

    def work(store: Store, person: Person) -> None:
        for place in range(1, 41):
            say(store, person, place, "sound" if place % 3 else "flawed")

    threads = [
        threading.Thread(target=work, args=(one, person))
        for one in stores
        for person in (Person(f"{id(one)}", "annotator"),)
    ]
    for one in stores:
        stores[0].add_person(f"{id(one)}", "annotator")
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stores[0].decisions()) == 80
    assert len(stores[1].log()) == 80


def test_a_kill_takes_nothing_that_was_confirmed(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    filled(path, items=200).close()
    code = f"""
import os
from pathlib import Path
from recode_rl.lcb_rb.store import Person, Store
store, ada = Store(Path({str(path)!r})), Person("ada", "annotator")
for place in range(1, 201):
    store.change(ada, place, 0, os.urandom(8).hex(), {{"sound": True, "aligned": True}})
    print(place, flush=True)
"""
    confirmed = 0
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            confirmed = int(line)
            if confirmed == 50:
                process.send_signal(signal.SIGKILL)
    with Store(path) as store:
        done, total = store.progress(ADA)
        assert total == 200
        assert confirmed <= done <= confirmed + 1
        assert [line.place for line in store.listing(ADA, "done", 0, 300)[0]] == list(range(1, done + 1))


def test_the_file_is_private_and_of_its_kind(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    filled(path)
    assert path.stat().st_mode & 0o077 == 0
    again = sqlite3.connect(path)
    assert again.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    again.close()
    (tmp_path / "text").write_text(
        "this is no database, but it is long enough to be looked at\n" * 99, encoding="utf-8"
    )
    other = sqlite3.connect(tmp_path / "other")
    other.execute("CREATE TABLE x (y)")
    other.commit()
    other.close()
    for name in ("text", "other"):
        with pytest.raises(DataError, match="not a file of lcb-rb adjudicate"):
            Store(tmp_path / name)


def test_signatures_are_of_one_purpose_person_and_file(tmp_path: Path) -> None:
    store, other = filled(tmp_path / "a.sqlite"), filled(tmp_path / "b.sqlite")
    words = {
        store.sign("link", "ada"),
        store.sign("link", "bo"),
        store.sign("session", "ada"),
        other.sign("link", "ada"),
    }
    assert len(words) == 4
    assert Store(tmp_path / "a.sqlite").sign("link", "ada") == store.sign("link", "ada")

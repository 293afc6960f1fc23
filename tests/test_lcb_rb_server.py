"""The adjudication server over real sockets: who is let in, what each sees, and what is refused."""

from __future__ import annotations

import http.client
import json
import re
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from recode_rl.errors import ConfigError
from recode_rl.lcb_rb.adjudication import Opening, serve
from recode_rl.lcb_rb.server import Site, door, link, make_app
from recode_rl.lcb_rb.store import LONGEST_NOTE, Person, Store
from recode_rl.serving import listen, make_server

for module in ("starlette", "uvicorn", "jinja2", "markdown_it", "latex2mathml", "pygments"):
    pytest.importorskip(module, reason="needs the extra [adjudicate]")

HOSTILE = "<script>document.title = 'taken'</script> \"><img src=x onerror=alert(1)>"
SECRET = "a note that only bo may see"


@dataclass
class Visitor:
    """A browser without a screen: it keeps cookies, sends its origin, and knows the token of the form."""

    host: str
    port: int
    cookies: dict[str, str] = field(default_factory=dict)
    form: str = ""
    token: str = ""

    @property
    def origin(self) -> str:
        return f"http://{self.host}:{self.port}"

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, str, http.client.HTTPMessage]:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        sent = {"Cookie": "; ".join(f"{k}={v}" for k, v in self.cookies.items())} if self.cookies else {}
        if method == "POST":
            sent |= {"Origin": self.origin, "X-Form": self.form}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {name: value for name, value in sent.items() if value != "none"}
        try:
            data = body if body is None or isinstance(body, (bytes, str)) else json.dumps(body)
            connection.request(method, path, data, sent)
            response = connection.getresponse()
            text = response.read().decode()
            for line in response.headers.get_all("Set-Cookie") or []:
                name, _, value = line.partition(";")[0].partition("=")
                self.cookies[name] = value
            return response.status, text, response.headers
        finally:
            connection.close()

    def page(self, path: str) -> str:
        status, text, headers = self.ask("GET", path)
        while status == 303:
            status, text, headers = self.ask("GET", headers["Location"])
        assert status == 200, text
        if found := re.search(r'data-form="(\w+)"', text):
            self.form = found[1]
        return text

    def enter(self, name: str) -> str:
        status, _, _ = self.ask("POST", "/enter", urllib.parse.urlencode({"name": name}))
        assert status == 303
        return self.page("/")

    def change(self, place: int, version: int, **values: Any) -> tuple[int, Any]:
        body = {"version": version, "change": f"change-{place}-{version}-{values}"[:60], **values}
        status, text, _ = self.ask("POST", f"/api/item/{place}", body)
        return status, json.loads(text)


@contextmanager
def running(site: Site, host: str = "127.0.0.1") -> Iterator[Visitor]:
    listener = listen(host, 0)
    server = make_server(make_app(site))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield Visitor(host, listener.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "a.sqlite") as store:
        store.add_items(
            [(("p", str(i)), f"Problem {HOSTILE}", f"Reasoning {i} {HOSTILE}", f"# {HOSTILE}") for i in range(3)]
        )
        for name in ("ada", "bo"):
            store.add_person(name, "annotator")
        store.add_person("team", "resolver")
        yield store


@pytest.fixture
def visitor(store: Store) -> Iterator[Visitor]:
    with running(door("127.0.0.1", False, store)) as found:
        yield found


def another(visitor: Visitor) -> Visitor:
    return Visitor(visitor.host, visitor.port)


def test_a_person_chooses_a_name_and_decides(visitor: Visitor, store: Store) -> None:
    assert "Who are you?" in visitor.page("/")
    assert "Reasoning 0" in visitor.enter("ada")
    assert visitor.change(1, 0, sound=True)[1]["done"] == 0
    status, facts = visitor.change(1, 1, aligned=False, note="n")
    assert (status, facts["done"], facts["total"], facts["version"]) == (200, 1, 3, 2)
    assert [(d.judgement, d.note) for d in store.decisions()] == [("misaligned", "n")]
    assert "Reasoning 1" in visitor.page("/?from=1")
    status, text, _ = visitor.ask("POST", "/api/undo", {})
    assert json.loads(text)["aligned"] is None
    assert visitor.ask("GET", "/api/item/1")[1].count('"sound":true') == 1


def test_texts_of_models_are_escaped_and_the_policy_forbids_the_rest(visitor: Visitor) -> None:
    page = visitor.enter("ada")
    assert "<img" not in page
    assert page.count("<script") == 2  # the page's own script, and its data
    assert "&lt;script&gt;document.title" in page
    _, _, headers = visitor.ask("GET", "/item/1")
    policy = headers["Content-Security-Policy"]
    for rule in (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    ):
        assert rule in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", page)  # nothing from outside


def test_annotators_are_blind_to_each_other_in_every_answer(visitor: Visitor) -> None:
    bo = another(visitor)
    bo.enter("bo")
    bo.change(1, 0, sound=False, aligned=False, note=SECRET)
    visitor.enter("ada")
    visitor.change(1, 0, sound=True, aligned=True)
    seen = [visitor.page(path) for path in ("/item/1", "/items", "/items?show=noted", "/item/2")]
    seen += [visitor.ask("GET", path)[1] for path in ("/api/item/1", "/decisions.jsonl", "/static/page.js")]
    seen.append(visitor.ask("POST", "/api/undo", {})[1])
    for text in seen:
        assert SECRET not in text
        assert "bo" not in re.findall(r"\w+", text.replace("bo'", ""))
    words = "".join(seen).lower()
    assert not any(word in words for word in ("wrong_answer", "verdict", "judgement"))
    assert [json.loads(line)["annotator"] for line in visitor.ask("GET", "/decisions.jsonl")[1].splitlines()] == []


def test_a_resolver_sees_disagreements_with_what_was_said(visitor: Visitor, store: Store) -> None:
    bo, team = another(visitor), another(visitor)
    visitor.enter("ada")
    bo.enter("bo")
    for place, said in ((1, True), (2, False)):
        visitor.change(place, 0, sound=True, aligned=True)
        bo.change(place, 0, sound=said, aligned=True, note=SECRET)
    page = team.enter("team")
    assert SECRET in page
    assert ">2 · Adjudication<" not in page
    assert team.ask("GET", "/item/1")[0] == 404
    assert team.ask("GET", "/api/item/1")[0] == 404
    assert team.change(1, 0, sound=True, aligned=True)[0] == 404
    assert team.change(2, 0, sound=False, aligned=True)[1]["done"] == 1
    assert len(team.ask("GET", "/decisions.jsonl")[1].splitlines()) == 5
    assert [d.role for d in store.decisions()][-1] == "resolver"
    assert visitor.ask("GET", "/item/2")[1].count(SECRET) == 0


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://example.com"},
        {"Origin": "null"},
        {"Origin": "none"},
        {"X_Form": "none"},
        {"X_Form": "0" * 40},
        {"Cookie": "none"},
        {"Cookie": "a=b"},
    ],
)
def test_changes_from_elsewhere_are_refused(visitor: Visitor, store: Store, headers: dict[str, str]) -> None:
    visitor.enter("ada")
    body = {"version": 0, "change": "change-1", "sound": True}
    status, text, _ = visitor.ask("POST", "/api/item/1", body, **headers)
    assert status in (401, 403)
    assert "error" in json.loads(text)
    assert visitor.ask("POST", "/api/undo", {}, **headers)[0] in (401, 403)
    assert not store.log()


def test_forms_of_other_sites_cannot_enter_or_leave(visitor: Visitor) -> None:
    body = urllib.parse.urlencode({"name": "ada"})
    assert visitor.ask("POST", "/enter", body, Origin="http://example.com")[0] == 403
    assert visitor.ask("POST", "/leave", "", Origin="http://example.com")[0] == 403
    assert visitor.ask("POST", "/enter", urllib.parse.urlencode({"name": "eve"}))[0] == 404


def test_the_token_of_one_person_is_none_of_another(visitor: Visitor) -> None:
    bo = another(visitor)
    bo.enter("bo")
    visitor.enter("ada")
    visitor.form = bo.form
    assert visitor.change(1, 0, sound=True)[0] == 403


def test_a_cookie_that_was_made_up_is_no_session(visitor: Visitor) -> None:
    visitor.enter("ada")
    (name,) = visitor.cookies
    value = visitor.cookies[name]
    for wrong in (
        value[:-1] + ("0" if value[-1] != "0" else "1"),
        "YWRh.",
        "YWRh",
        "///.x",
        "Ym8=." + value.split(".")[1],
    ):
        visitor.cookies[name] = wrong
        assert visitor.ask("GET", "/item/1")[0] == 401


def test_a_foreign_name_for_this_machine_is_not_served(visitor: Visitor) -> None:
    assert visitor.ask("GET", "/", Host="attacker.example")[0] == 403
    assert visitor.ask("GET", "/", Host=f"localhost:{visitor.port}")[0] == 200


def test_elsewhere_everyone_needs_their_link(store: Store) -> None:
    assert not door("0.0.0.0", False, store).open_door
    assert not door("127.0.0.1", True, store).open_door
    with running(door("0.0.0.0", False, store)) as visitor:
        assert "Open your link" in visitor.page("/")
        assert "ada" not in visitor.page("/")
        assert visitor.ask("POST", "/enter", urllib.parse.urlencode({"name": "ada"}))[0] == 403
        assert visitor.ask("GET", "/enter?name=ada&token=" + "0" * 40)[0] == 403
        bad = link(store, Person("bo", "annotator"), "").replace("name=bo", "name=ada")
        assert visitor.ask("GET", bad)[0] == 403
        status, _, headers = visitor.ask("GET", link(store, Person("ada", "annotator"), ""))
        assert status == 303
        cookie = headers["Set-Cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=lax" in cookie
        assert "Reasoning 0" in visitor.page("/")


def test_an_old_version_gets_what_is_stored(visitor: Visitor) -> None:
    visitor.enter("ada")
    visitor.change(1, 0, sound=True, note="first")
    status, facts = visitor.change(1, 0, sound=False)
    assert status == 409
    assert (facts["sound"], facts["note"], facts["version"]) == (True, "first", 1)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("no json", 400),
        ("[]", 400),
        ({"change": "change-1", "sound": True}, 422),
        ({"version": 0, "change": "short", "sound": True}, 422),
        ({"version": True, "change": "change-1", "sound": True}, 422),
        ({"version": 0, "change": "change-1"}, 422),
        ({"version": 0, "change": "change-1", "sound": "yes"}, 422),
        ({"version": 0, "change": "change-1", "note": None}, 422),
        ({"version": 0, "change": "change-1", "note": "x" * (LONGEST_NOTE + 1)}, 413),
        ("x" * 1_000_000, 413),
        ("[" * 50_000, 400),
    ],
)
def test_bodies_of_another_form_are_refused(visitor: Visitor, store: Store, body: Any, status: int) -> None:
    visitor.enter("ada")
    found, text, _ = visitor.ask("POST", "/api/item/1", body)
    assert found == status, text
    assert not store.log()


def test_a_note_with_half_a_character_is_kept_as_far_as_it_can_be(visitor: Visitor, store: Store) -> None:
    visitor.enter("ada")
    assert visitor.change(1, 0, note="half \udc80 of it, and 🎈")[0] == 200
    assert store.state(Person("ada", "annotator"), 1).note == "half ? of it, and 🎈"


@pytest.mark.parametrize(
    "path", ["/item/99", "/item/0", "/number?of=0x", "/items?show=judge", "/static/../server.py", "/x"]
)
def test_what_is_not_there_is_said(visitor: Visitor, path: str) -> None:
    visitor.enter("ada")
    assert visitor.ask("GET", path)[0] in (303, 404)


def test_numbers_lead_to_items(visitor: Visitor) -> None:
    visitor.enter("ada")
    assert "Reasoning 2" in visitor.page("/number?of=3")
    assert visitor.ask("GET", "/number?of=4")[0] == 404


def test_lists_have_pages(tmp_path: Path) -> None:
    with Store(tmp_path / "b.sqlite") as store:
        store.add_items([(("p", str(i)), "a", "b", "c") for i in range(250)])
        store.add_person("ada", "annotator")
        with running(door("127.0.0.1", False, store)) as visitor:
            visitor.enter("ada")
            page = visitor.page("/items?page=3")
            assert page.count("/item/") == 50
            assert "page 3 of 3, 250 items" in page


def test_a_server_without_people_or_items_does_not_start(tmp_path: Path) -> None:
    with Store(tmp_path / "b.sqlite") as store:
        with pytest.raises(ConfigError, match="--annotator NAME"):
            serve(store, Opening())
        with pytest.raises(ConfigError, match="nothing to decide about"):
            serve(store, Opening(annotators=("ada",)))

"""The adjudication page: every person sees their own decisions alone, and a resolver what annotators disagree about.

Pages are made here, one item at a time; the browser gets a small script and sends changes as JSON. A request that
changes something must come from this page: its Origin is this host, its session is signed, and it carries the token of
the form. On loopback a person chooses their name; elsewhere everyone needs the link that the server prints for them.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import dataclasses
import functools
import hashlib
import hmac
import json
import urllib.parse
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from recode_rl.extras import need
from recode_rl.jsonl import dumps
from recode_rl.lcb_rb import texts
from recode_rl.lcb_rb.store import LONGEST_NOTE, Conflict, Item, Person, Show, State, Store
from recode_rl.serving import is_loopback, read_body

_FOLDER = Path(__file__).parent / "page"
_PER_PAGE = 100
_LONGEST_BODY = 4 * LONGEST_NOTE + 10_000
_STATIC = {"page.css": "text/css", "page.js": "text/javascript"}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with no-referrer, browsers send "Origin: null" with forms
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, slots=True)
class Site:
    """What the page runs on. With `open_door` people choose their name; else they need a link made by `link`."""

    store: Store
    open_door: bool = True
    hosts: tuple[str, ...] = ("127.0.0.1", "localhost", "::1")


class Refused(Exception):
    """A request that is not answered: an HTTP status and one sentence."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def link(store: Store, person: Person, url: str) -> str:
    """The address that lets one person in."""
    return f"{url}/enter?{urllib.parse.urlencode({'name': person.name, 'token': store.sign('link', person.name)})}"


def make_app(site: Site) -> Any:
    """The application."""
    applications, routing = need("starlette.applications", texts.EXTRA), need("starlette.routing", texts.EXTRA)
    handlers = Handlers(site)

    def route(path: str, handler: Callable[[Any], Awaitable[Any]], method: str = "GET") -> Any:
        return routing.Route(path, functools.partial(handlers.answer, handler), methods=[method])

    return applications.Starlette(
        routes=[
            route("/", handlers.home),
            route("/enter", handlers.enter_by_link),
            route("/enter", handlers.enter_by_name, "POST"),
            route("/leave", handlers.leave, "POST"),
            route("/items", handlers.items),
            route("/item/{place:int}", handlers.item),
            route("/number", handlers.number),
            route("/api/item/{place:int}", handlers.state),
            route("/api/item/{place:int}", handlers.change, "POST"),
            route("/api/undo", handlers.undo, "POST"),
            route("/decisions.jsonl", handlers.export),
            route("/static/{name}", handlers.static),
        ]
    )


class Handlers:
    """What is answered to whom."""

    def __init__(self, site: Site) -> None:
        self.site, self.store = site, site.store
        self._responses: Any = need("starlette.responses", texts.EXTRA)
        self._templates = _templates()
        self._static = {name: (_FOLDER / name).read_bytes() for name in _STATIC}
        self._stamp = hashlib.sha256(b"".join(self._static.values())).hexdigest()[:12]
        self._cookie = f"adjudication-{self.store.sign('cookie', '')[:10]}"  # two servers on one host keep apart

    async def answer(self, handler: Callable[[Any], Awaitable[Any]], request: Any) -> Any:
        """One request: its checks, its answer, and the headers that all answers have."""
        try:
            self._check_host(request)
            response = await handler(request)
        except Refused as refusal:
            if request.url.path.startswith("/api/"):
                response = self._responses.JSONResponse({"error": str(refusal)}, refusal.status)
            else:
                person = self._person(request)
                response = self._page("refused.html.j2", person, {"reason": str(refusal)}, refusal.status)
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    # -- who asks --------------------------------------------------------------------------------------------------

    def _check_host(self, request: Any) -> None:
        """On loopback: a name of another site that leads here (DNS rebinding) is not served."""
        name = urllib.parse.urlsplit(f"//{request.headers.get('host', '')}").hostname
        if self.site.open_door and name not in self.site.hosts:
            raise Refused(403, f"this server does not answer for {name!r}; open it by its own address")

    def _check_origin(self, request: Any) -> None:
        """A form or a script of another site is refused."""
        origin, host = request.headers.get("origin"), request.headers.get("host", "")
        if origin is None or urllib.parse.urlsplit(origin).netloc.lower() != host.lower():
            raise Refused(403, "this request came from another site, or does not say where it came from")

    def _person(self, request: Any) -> Person | None:
        """Who the session is of; None without one, or with one that this file did not sign."""
        encoded, _, signature = request.cookies.get(self._cookie, "").partition(".")
        try:
            name = base64.urlsafe_b64decode(encoded.encode()).decode()
        except (binascii.Error, ValueError):
            return None
        person = self.store.person(name)
        if person is None or not hmac.compare_digest(signature, self.store.sign("session", name)):
            return None
        return person

    def _known(self, request: Any) -> Person:
        person = self._person(request)
        if person is None:
            raise Refused(401, "your session is not known here; open the link that you were given, or the first page")
        return person

    def _let_in(self, name: str) -> Any:
        response = self._responses.RedirectResponse("/", 303)
        encoded = base64.urlsafe_b64encode(name.encode()).decode()
        value = f"{encoded}.{self.store.sign('session', name)}"
        response.set_cookie(self._cookie, value, httponly=True, samesite="lax", path="/", max_age=180 * 86400)
        return response

    # -- pages -----------------------------------------------------------------------------------------------------

    def _page(self, template: str, person: Person | None, values: Mapping[str, Any], status: int = 200) -> Any:
        form = self.store.sign("form", person.name) if person else ""
        done, total = self.store.progress(person) if person else (0, 0)
        text = self._templates.get_template(template).render(
            person=person, form=form, done=done, total=total, stamp=self._stamp, open_door=self.site.open_door, **values
        )
        return self._responses.HTMLResponse(text.encode("utf-8", "replace"), status)

    async def home(self, request: Any) -> Any:
        """The next open item (behind `from`), or the choice of a name."""
        person = self._person(request)
        if person is None:
            people = self.store.people() if self.site.open_door else []
            return self._page("enter.html.j2", None, {"people": people})
        place = self.store.next_open(person, _number(request.query_params.get("from", "")))
        return self._responses.RedirectResponse("/items" if place is None else f"/item/{place}", 303)

    async def enter_by_link(self, request: Any) -> Any:
        """A link of `link` opens a session."""
        name, token = request.query_params.get("name", ""), request.query_params.get("token", "")
        if self.store.person(name) is None or not hmac.compare_digest(
            token.encode(), self.store.sign("link", name).encode()
        ):
            raise Refused(403, "this link is not valid; ask for yours where the server runs")
        return self._let_in(name)

    async def enter_by_name(self, request: Any) -> Any:
        """On loopback, a name opens a session."""
        self._check_origin(request)
        if not self.site.open_door:
            raise Refused(403, "open the link that you were given")
        fields = urllib.parse.parse_qs((await _body(request)).decode("utf-8", "replace"))
        name = fields.get("name", [""])[0]
        if self.store.person(name) is None:
            raise Refused(404, f"nobody has the name {name!r}; the server is started with --annotator NAME")
        return self._let_in(name)

    async def leave(self, request: Any) -> Any:
        """Close the session of this browser."""
        self._check_origin(request)
        response = self._responses.RedirectResponse("/", 303)
        response.delete_cookie(self._cookie, path="/")
        return response

    async def items(self, request: Any) -> Any:
        """A person's items, a hundred on a page."""
        person = self._known(request)
        show: Any = request.query_params.get("show", "all")
        if show not in get_args(Show):
            raise Refused(404, f"there is no list {show!r}")
        page = max(1, _number(request.query_params.get("page", "1")))
        lines, total = self.store.listing(person, show, (page - 1) * _PER_PAGE, _PER_PAGE)
        values = {"lines": lines, "count": total, "page": page, "pages": max(1, -(-total // _PER_PAGE)), "show": show}
        return self._page("items.html.j2", person, values)

    async def item(self, request: Any) -> Any:
        """One item with the person's own answers; for a resolver, with those of the annotators."""
        person, place = self._known(request), request.path_params["place"]
        item = self.store.item(place) if self.store.sees(person, place) else None
        if item is None:
            raise Refused(404, f"there is no item {place} for you" + _MORE.get(person.role, ""))
        shown = await asyncio.to_thread(_shown, item)
        values = {
            "item": item,
            "shown": shown,
            "rank": self.store.rank(person, place),
            "said": self.store.said(place) if person.role == "resolver" else [],
            "before": self.store.neighbour(person, place, -1),
            "after": self.store.neighbour(person, place, 1),
            "keep": f"adjudication-{self.store.sign('keep', person.name)[:16]}",
            "facts": self._facts(person, place, self.store.state(person, place)),
        }
        return self._page("item.html.j2", person, values)

    async def number(self, request: Any) -> Any:
        """The item with a number, as a person counts them."""
        person = self._known(request)
        place = self.store.at_rank(person, _number(request.query_params.get("of", "")))
        if place is None:
            raise Refused(404, "there is no item with that number")
        return self._responses.RedirectResponse(f"/item/{place}", 303)

    async def static(self, request: Any) -> Any:
        """The style sheet and the script; their address has their digest, so that they can be kept."""
        name = request.path_params["name"]
        if name not in self._static:
            raise Refused(404, f"there is no file {name!r}")
        kept = {"Cache-Control": "public, max-age=31536000, immutable"}
        return self._responses.Response(self._static[name], media_type=_STATIC[name], headers=kept)

    # -- data ------------------------------------------------------------------------------------------------------

    def _facts(self, person: Person, place: int, state: State) -> dict[str, Any]:
        """What the script knows of an item: the person's own answers, and how far they are."""
        done, total = self.store.progress(person)
        return {"place": place, **dataclasses.asdict(state), "done": done, "total": total}

    def _check_form(self, request: Any) -> Person:
        """A change must come from a page of this server, in a session, with the session's token."""
        self._check_origin(request)
        person = self._known(request)
        given = request.headers.get("x-form", "")
        if not hmac.compare_digest(given.encode(), self.store.sign("form", person.name).encode()):
            raise Refused(403, "the form's token is missing or of another session; load the page again")
        return person

    def _own(self, person: Person, place: int) -> None:
        if not self.store.sees(person, place):
            raise Refused(404, f"there is no item {place} for you")

    async def state(self, request: Any) -> Any:
        """A person's own answers to one item."""
        person, place = self._known(request), request.path_params["place"]
        self._own(person, place)
        return self._responses.JSONResponse(self._facts(person, place, self.store.state(person, place)))

    async def change(self, request: Any) -> Any:
        """Store answers or a note; 409 with what is stored where another window was faster."""
        person, place = self._check_form(request), request.path_params["place"]
        version, change, values = read_change(await _body(request))
        self._own(person, place)
        try:
            # Here and not in another thread: the way there and back takes longer than the write.
            state = self.store.change(person, place, version, change, values)
        except Conflict as conflict:
            return self._responses.JSONResponse(self._facts(person, place, conflict.state), 409)
        return self._responses.JSONResponse(self._facts(person, place, state))

    async def undo(self, request: Any) -> Any:
        """Take back the last answer; the body says which item it was of, null where there is none."""
        person = self._check_form(request)
        undone = self.store.undo(person)
        return self._responses.JSONResponse(None if undone is None else self._facts(person, *undone))

    async def export(self, request: Any) -> Any:
        """decisions.jsonl: a person's own; for a resolver, those of everyone."""
        person = self._known(request)
        found = self.store.decisions(None if person.role == "resolver" else person.name)
        text = "".join(dumps(dataclasses.asdict(decision)) + "\n" for decision in found)
        headers = {"Content-Disposition": 'attachment; filename="decisions.jsonl"'}
        return self._responses.Response(text, media_type="application/jsonl", headers=headers)


_MORE = {"resolver": "; resolvers see what annotators disagree about"}


def read_change(body: bytes) -> tuple[int, str, dict[str, Any]]:
    """Version, id and values of a change; Refused where it is none."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise Refused(400, "the body is no JSON") from None
    if not isinstance(found, dict):
        raise Refused(400, "the body is no object")
    version, change = found.get("version"), found.get("change")
    if type(version) is not int or not isinstance(change, str) or not 8 <= len(change) <= 64:
        raise Refused(422, "version and change: expected a number and an id of 8 to 64 characters")
    values = {name: found[name] for name in ("sound", "aligned", "note") if name in found}
    if not values or any(not (value is None or isinstance(value, bool)) for k, value in values.items() if k != "note"):
        raise Refused(422, "sound, aligned: expected true, false or null")
    note = values.get("note", "")
    if not isinstance(note, str):
        raise Refused(422, "note: expected text")
    if len(note) > LONGEST_NOTE:
        raise Refused(413, f"note: {len(note)} characters; at most {LONGEST_NOTE} are kept")
    if "note" in values:
        values["note"] = note.encode("utf-8", "replace").decode()
    return version, change, values


async def _body(request: Any) -> bytes:
    found = await read_body(request, _LONGEST_BODY)
    if found is None:
        raise Refused(413, f"the request has more than {_LONGEST_BODY} bytes")
    return found


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def _shown(item: Item) -> dict[str, str]:
    """The texts of an item as HTML."""
    return {
        "problem": texts.prose(item.problem),
        "reasoning": texts.prose(item.reasoning),
        "program": texts.program(item.program),
    }


def _templates() -> Any:
    jinja2: Any = need("jinja2", texts.EXTRA)
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def door(host: str, token: bool, store: Store) -> Site:
    """Who is let in: on loopback everyone who chooses a name, elsewhere (or with `token`) those with a link."""
    names = ("127.0.0.1", "localhost", "::1", host)
    return Site(store, open_door=is_loopback(host) and not token, hosts=names)

"""The adjudication page in a real browser: two people, keys alone, a reload, a killed server, hostile texts."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import webdriver
from lcb_rb_data import PROGRAM, problem, sample, write_samples
from webdriver import Browser, Driver, until

from recode_rl.lcb_rb.records import finals, load_decisions
from recode_rl.problems.records import write_problems

for module in ("starlette", "uvicorn", "jinja2", "markdown_it", "latex2mathml", "pygments"):
    pytest.importorskip(module, reason="needs the extra [adjudicate]")
if reason := webdriver.missing():
    pytest.skip(reason, allow_module_level=True)

LONG = "Word $x_1$ **bold** `code`.\n" * 1800  # about 50,000 characters
HOSTILE = (
    "<script>document.title = 'taken'; window.taken = 1</script>\n\n<img src=x onerror='window.taken = 1'>\n\n"
    "[a](javascript:window.taken=1) $\\text{<script>window.taken = 1</script>}$ </script></pre>"
)


@dataclass
class Page:
    """A server of the command in a process of its own, which can be killed and started again on the same port."""

    folder: Path
    options: list[str] = field(default_factory=list)
    process: Any = None
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        if not self.port:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = probe.getsockname()[1]
        command = [sys.executable, "-m", "recode_rl", "lcb-rb", "adjudicate", "--db", str(self.folder / "a.sqlite")]
        command += ["--port", str(self.port), *self.options]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(self.up)

    def up(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def command(self, *options: str) -> dict[str, Any]:
        """The command without a page."""
        command = [sys.executable, "-m", "recode_rl", "lcb-rb", "adjudicate", "--db", str(self.folder / "a.sqlite")]
        done = subprocess.run([*command, *options, "--json"], capture_output=True, text=True, timeout=120, check=True)
        found: dict[str, Any] = json.loads(done.stdout)
        return found


@pytest.fixture(scope="module")
def driver() -> Iterator[Driver]:
    with webdriver.driving() as driver:
        yield driver


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    write_problems(tmp_path / "p.jsonl", [problem("first"), problem("second", prompt=HOSTILE)])
    samples = [
        sample("first", 0, LONG),
        sample("first", 1, "A short one."),
        sample("second", 0, HOSTILE, PROGRAM + "# </pre>"),
    ]
    write_samples(tmp_path / "s.jsonl", samples)
    options = ["--problems", str(tmp_path / "p.jsonl"), "--samples", str(tmp_path / "s.jsonl")]
    page = Page(tmp_path, [*options, "--annotator", "ada", "--annotator", "bo", "--resolver", "team"])
    page.start()
    yield page
    page.kill()


@pytest.fixture
def ada(page: Page, driver: Driver) -> Iterator[Browser]:
    """A browser in which ada has entered."""
    with visiting(driver, page, "ada") as browser:
        yield browser


@contextlib.contextmanager
def visiting(driver: Driver, page: Page, name: str, profile: str = "") -> Iterator[Browser]:
    """A browser with cookies of its own, in which somebody has entered."""
    browser = Browser(driver, page.folder / f"profile-{profile or name}")
    try:
        enter(browser, page, name)
        yield browser
    finally:
        browser.close()


def enter(browser: Browser, page: Page, name: str) -> None:
    """Choose a name with the keyboard."""
    browser.open(page.url)
    browser.press(*["Tab"] * (["ada", "bo", "team"].index(name) + 1), "Enter")
    ready(browser)
    until(lambda: name in browser.text(".who"))


def ready(browser: Browser) -> None:
    until(lambda: browser.script("return document.documentElement.dataset.ready === 'yes'"))


def place(browser: Browser) -> str:
    return browser.url.rpartition("/")[2]


def saved(browser: Browser) -> None:
    until(lambda: browser.text("#status") == "saved")


def pressed(browser: Browser) -> list[str]:
    """The answers that are shown as given."""
    code = "return [...document.querySelectorAll('[aria-pressed=true]')].map(b => b.dataset.key).join('')"
    return list(browser.script(code))


def move(browser: Browser, key: str) -> str:
    """Press a key that leads to another page; the place where it leads."""
    before = browser.url
    browser.press(key)
    until(lambda: browser.url != before)
    ready(browser)
    return place(browser)


def test_two_people_decide_with_keys_and_a_third_resolves(page: Page, ada: Browser, driver: Driver) -> None:
    with visiting(driver, page, "bo") as bo:
        for browser, answers in ((ada, ("sa", "fa", "sm")), (bo, ("sa", "sa", "fm"))):
            for number, keys in enumerate(answers, start=1):
                assert place(browser) == str(number)
                browser.press(*keys)
                until(lambda browser=browser, number=number: browser.text("#count") == f"{number} of 3 decided")
                assert pressed(browser) == list(keys)
                move(browser, "Enter")
            assert place(browser) == "items"
            assert "All 3 items are decided" in browser.text("main")
        for browser, other in ((ada, "bo"), (bo, "ada")):
            browser.open(f"{page.url}/item/2")
            ready(browser)
            assert f">{other}<" not in browser.source()
    with visiting(driver, page, "team") as team:
        assert place(team) == "2"  # both say that the third is misaligned
        assert team.text("#count") == "0 of 1 decided"
        assert "ada: flawed, aligned" in team.text(".said")
        assert "bo: sound, aligned" in team.text(".said")
        team.press("f", "a")
        saved(team)
        assert not team.console()
    values = page.command("--export", str(page.folder / "d.jsonl"))
    assert values["exported"] == 7
    ends = finals(load_decisions(page.folder / "d.jsonl"))
    assert sorted(str(end.judgement) for end in ends.values()) == ["flawed", "misaligned", "sound"]


def test_hostile_and_long_texts_do_nothing(page: Page, ada: Browser) -> None:
    lengths = []
    for number in (1, 2, 3):
        ada.open(f"{page.url}/item/{number}")
        ready(ada)
        lengths.append(len(ada.text("#reasoning .text")))
        assert ada.script("return window.taken === undefined && !document.title.includes('taken')")
        assert ada.script("return document.querySelectorAll('.panel script, .panel img, .panel a').length") == 0
        assert ada.script("return document.documentElement.scrollHeight <= innerHeight")
        ada.press("s")  # the keys work beside them
        saved(ada)
    assert max(lengths) > 20_000
    assert "<script>document.title = 'taken'" in ada.text("#problem .text")
    ada.press("r")
    assert "</script></pre>" in ada.text("#reasoning .raw")
    assert not ada.console()  # the content security policy was never asked to stop anything


def test_notes_save_themselves_and_a_reload_in_the_middle_loses_nothing(page: Page, ada: Browser) -> None:
    ada.press("f", "e", *"the bound")
    saved(ada)
    ada.press(*" is wrong")
    ada.reload()  # without leaving the field
    ready(ada)
    assert ada.script("return document.querySelector('#note').value") == "the bound is wrong"
    assert pressed(ada) == ["f"]
    ada.press("m")
    saved(ada)
    ada.press("e", *"; sm?")  # letters are no answers while a note is written
    ada.press("Escape")
    saved(ada)
    assert pressed(ada) == ["f", "m"]
    page.command("--export", str(page.folder / "d.jsonl"))
    (decision,) = load_decisions(page.folder / "d.jsonl")
    assert (decision.sound, decision.aligned) == (False, False)
    assert sorted(decision.note) == sorted("the bound is wrong; sm?")  # where the field is entered is the browser's


def test_a_killed_server_loses_nothing(page: Page, ada: Browser) -> None:
    ada.press("s")
    saved(ada)
    page.kill()
    ada.press("m", "e", *"kept here", "Escape")
    until(lambda: "no answer from the server" in ada.text("#status"))
    assert pressed(ada) == ["s", "m"]
    before = ada.url
    ada.press("j")  # stays, because what is here is not stored yet
    assert ada.url == before
    page.start()
    saved(ada)
    assert ada.text("#count") == "1 of 3 decided"
    page.kill()
    page.start()
    ada.reload()
    ready(ada)
    assert pressed(ada) == ["s", "m"]
    assert ada.script("return document.querySelector('#note').value") == "kept here"


def test_a_browser_that_was_closed_before_the_server_came_back_sends_what_it_kept(
    page: Page, ada: Browser, driver: Driver
) -> None:
    page.kill()
    ada.press("f", "a")
    until(lambda: "kept here" in ada.text("#status"))
    ada.close()
    page.start()
    again = Browser(driver, page.folder / "profile-ada")
    try:
        again.open(f"{page.url}/item/3")
        ready(again)
        until(lambda: again.text("#count") == "1 of 3 decided")
        again.open(f"{page.url}/item/1")
        ready(again)
        assert pressed(again) == ["f", "a"]
    finally:
        again.close()


def test_undo_and_two_windows_of_one_person(page: Page, ada: Browser, driver: Driver) -> None:
    ada.press("s", "a")
    saved(ada)
    assert move(ada, "Enter") == "2"
    ada.press("u")  # the last answer was elsewhere
    until(lambda: place(ada) == "1")
    ready(ada)
    until(lambda: pressed(ada) == ["s"])
    ada.press("u")
    until(lambda: pressed(ada) == [])
    ada.press("u")
    until(lambda: ada.text("#status") == "nothing to undo")
    with visiting(driver, page, "ada", "other") as other:
        other.press("f")
        saved(other)
        ada.press("s")
        until(lambda: "another window" in ada.text("#status"))
        assert pressed(ada) == ["f"]
        ada.press("s")
        saved(ada)
        assert pressed(ada) == ["s"]


def test_every_part_is_reached_with_keys(page: Page, ada: Browser) -> None:
    for key, name in (("1", "problem"), ("2", "reasoning"), ("3", "program")):
        ada.press(key)
        assert ada.script("return document.activeElement.closest('.panel').id") == name
        ada.press("z")
        width = ada.script(f"return document.querySelector('#{name}').offsetWidth")
        assert width > 1000
        ada.press("z")
    ada.press("?")
    until(lambda: ada.script("return document.querySelector('#help').open"))
    ada.press("s")  # no answer while the help is open
    assert pressed(ada) == []
    ada.press("Escape")
    until(lambda: not ada.script("return document.querySelector('#help').open"))
    ada.press("t")
    first = ada.script("return document.documentElement.dataset.theme")
    ada.reload()
    ready(ada)
    assert ada.script("return document.documentElement.dataset.theme") == first
    ada.press("t")
    assert {first, ada.script("return document.documentElement.dataset.theme")} == {"light", "dark"}
    ada.press("g", "3", "Enter")
    until(lambda: place(ada) == "3")
    ready(ada)
    assert move(ada, "k") == "2"
    assert move(ada, "l") == "items"
    ada.press("j", "j", "Enter")
    until(lambda: place(ada) == "2")
    ready(ada)
    move(ada, "l")
    assert "show=open" in move(ada, "2")


def test_all_of_it_fits_on_a_small_screen(page: Page, ada: Browser) -> None:
    assert ada.script("return [innerWidth, innerHeight]") == [1280, 800]
    hidden = ada.script(
        "return [...document.querySelectorAll('button, .button, textarea, .panel')].filter(e => { const b = "
        "e.getBoundingClientRect(); return b.width && (b.left < 0 || b.top < 0 || b.right > innerWidth || "
        "b.bottom > innerHeight) }).map(e => e.outerHTML.slice(0, 80))"
    )
    assert hidden == []
    sizes = ada.script("return ['problem', 'reasoning', 'program'].map(n => document.getElementById(n).offsetHeight)")
    assert min(sizes) > 450

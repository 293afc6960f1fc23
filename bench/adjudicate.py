"""The adjudication page with many items: how soon a page opens, how soon a decision is stored.

    python bench/adjudicate.py --items 10000 --json

`open_ms` is from the request to the last byte, over HTTP, of the first page of a person (the next open item), of items
at random and of a page of the list. `store_ms` is from a decision's request to its confirmation, when it is on the
disk; decisions of two people at once are among them. `ratio` compares our store with one that keeps all decisions in
one JSON file and writes it anew for each, with a flush to the disk (`json_ms` over `sqlite_ms`, both without HTTP):
medians of the same decisions in the same run, with all items decided. `within` says whether both limits hold: a page in
under a second, a decision in 50 ms (95th percentiles). `server_cpu_ms` is what the server computed for a decision on
average, which other work on the machine disturbs less than the clock.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from pathlib import Path
from typing import Any

from recode_rl.lcb_rb.store import Person, Store

WORDS = ("the", "sum", "of", "all", "$a_i$", "with", "**care**", "and", "`code`", "each", "value", "is", "read", "once")
PROGRAM = "def solve(values):\n    return sum(value for value in values if value > 0)\n" * 12
OPEN_MS, STORE_MS = 1000, 50


def fill(path: Path, items: int) -> None:
    """A database of items with reasonings of some hundred words."""
    draw = random.Random(0)
    texts = [" ".join(draw.choices(WORDS, k=400)) for _ in range(50)]
    with Store(path) as store:
        store.add_items(
            ((f"problem{i // 8}", str(i % 8)), texts[i // 8 % 50], f"{texts[i % 50]} {i}", PROGRAM)
            for i in range(items)
        )
        for name in ("ada", "bo"):
            store.add_person(name, "annotator")


class Client:
    """One person's browser: a kept connection, a session, the token of the form."""

    def __init__(self, port: int, name: str) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self.origin = {"Origin": f"http://127.0.0.1:{port}"}
        response, _ = self.ask("POST", "/enter", urllib.parse.urlencode({"name": name}), self.origin)
        self.session = {"Cookie": response.headers["Set-Cookie"].partition(";")[0]}
        _, text = self.ask("GET", "/items", None, self.session)
        found = re.search(r'data-form="(\w+)"', text)
        assert found, "the page has no form token"
        self.form = {**self.session, **self.origin, "X-Form": found[1]}

    def ask(self, method: str, path: str, body: str | None, headers: dict[str, str]) -> tuple[Any, str]:
        self.connection.request(method, path, body, headers)
        response = self.connection.getresponse()
        return response, response.read().decode()

    def open(self, path: str) -> float:
        """Milliseconds until a page is there, redirects and all."""
        start = time.perf_counter()
        response, _ = self.ask("GET", path, None, self.session)
        while response.status == 303:
            response, _ = self.ask("GET", response.headers["Location"], None, self.session)
        assert response.status == 200, response.status
        return 1000 * (time.perf_counter() - start)

    def decide(self, place: int) -> float:
        """Milliseconds until a decision is confirmed."""
        values = {"version": 0, "change": os.urandom(8).hex(), "sound": place % 3 > 0, "aligned": place % 5 > 0}
        start = time.perf_counter()
        response, text = self.ask("POST", f"/api/item/{place}", json.dumps(values), self.form)
        assert response.status == 200, text
        return 1000 * (time.perf_counter() - start)


def serve(path: Path) -> tuple[subprocess.Popen[str], int]:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "recode_rl", "lcb-rb", "adjudicate", "--db", str(path), "--port", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    line = server.stderr.readline()
    found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
    assert found, f"the server does not start: {line}{server.stderr.read()}"
    return server, int(found[1])


def measure_pages(pid: int, port: int, items: int, times: int) -> tuple[dict[str, list[float]], list[float], float]:
    """Milliseconds by kind of page, of decisions (some while another person decides too), and computed for each."""
    ada = Client(port, "ada")
    draw = random.Random(1)
    pages = {
        "first": [ada.open("/") for _ in range(times)],
        "item": [ada.open(f"/item/{draw.randint(1, items)}") for _ in range(times)],
        "list": [ada.open(f"/items?page={draw.randint(1, -(-items // 100))}") for _ in range(times)],
    }
    before = cpu_ms(pid)
    stored = [ada.decide(place) for place in range(1, times + 1)]
    bo = Client(port, "bo")
    other = threading.Thread(target=lambda: stored.extend([bo.decide(place) for place in range(1, times + 1)]))
    other.start()
    stored += [ada.decide(place) for place in range(times + 1, 2 * times + 1)]
    other.join()
    return pages, stored, (cpu_ms(pid) - before) / len(stored)


def cpu_ms(pid: int) -> float:
    """Milliseconds that a process has computed."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return 1000 * (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure_stores(folder: Path, items: int, times: int) -> tuple[list[float], list[float]]:
    """Milliseconds of the same decisions by our store and by one JSON file, all items decided before."""
    ours, theirs = [], []
    store, person = Store(folder / "alone.sqlite"), Person("ada", "annotator")
    store.add_items(((f"p{i}", "0"), "problem", "reasoning", "program") for i in range(items))
    store.add_person("ada", "annotator")
    answers = {"sound": True, "aligned": True}
    everything = {str(place): {**answers, "note": ""} for place in range(1, items + 1)}
    for place in range(1, times + 1):
        start = time.perf_counter()
        store.change(person, place, 0, os.urandom(8).hex(), answers)
        ours.append(1000 * (time.perf_counter() - start))
        start = time.perf_counter()
        everything[str(place)] = {**answers, "note": "changed"}
        write_whole(folder / "decisions.json", everything)
        theirs.append(1000 * (time.perf_counter() - start))
    store.close()
    return ours, theirs


def write_whole(path: Path, values: dict[str, Any]) -> None:
    """Replace a JSON file in one rename, on the disk when it returns."""
    scratch = path.with_suffix(".new")
    with scratch.open("w", encoding="utf-8") as file:
        json.dump(values, file)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)


def spread(values: list[float]) -> dict[str, float]:
    """Median, 95th percentile and worst."""
    ordered = sorted(values)
    return {
        "median": round(statistics.median(ordered), 2),
        "p95": round(ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))], 2),
        "worst": round(ordered[-1], 2),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--times", type=int, default=100, help="pages and decisions of each kind")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    times = min(options.times, options.items // 2)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        fill(folder / "a.sqlite", options.items)
        server, port = serve(folder / "a.sqlite")
        try:
            pages, stored, computed = measure_pages(server.pid, port, options.items, times)
        finally:
            server.terminate()
            server.communicate()
        ours, theirs = measure_stores(folder, options.items, times)
    found: dict[str, Any] = {
        "items": options.items,
        "open_ms": {name: spread(values) for name, values in pages.items()},
        "store_ms": spread(stored),
        "server_cpu_ms": round(computed, 2),
        "sqlite_ms": spread(ours),
        "json_ms": spread(theirs),
        "ratio": round(statistics.median(theirs) / statistics.median(ours), 2),
    }
    slowest = max(one["p95"] for one in found["open_ms"].values())
    found["within"] = {"open": slowest < OPEN_MS, "store": found["store_ms"]["p95"] < STORE_MS}
    if not options.json:
        for name, value in found.items():
            print(f"{name:>10}  {value}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()

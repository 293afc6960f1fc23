"""The pictures of docs/lcb-rb.md: the adjudication page with texts of our own, in a real browser.

    python tools/adjudication_pictures.py

Needs chromium and chromedriver.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from webdriver import Browser, driving, until  # noqa: E402

from recode_rl.lcb_rb.server import door, make_app  # noqa: E402
from recode_rl.lcb_rb.store import Person, Store  # noqa: E402
from recode_rl.serving import listen, make_server, url_of  # noqa: E402

PROBLEM = r"""You are given an array $a$ of $n$ integers and a number $k$
($1 \le k \le n \le 2 \cdot 10^5$, $|a_i| \le 10^9$). Among all runs of exactly $k$
neighbouring elements find the largest sum:

$$ \max_{1 \le i \le n-k+1} \; \sum_{j=i}^{i+k-1} a_j $$

Print that sum.

**Input.** The first line holds $n$ and $k$, the second line the array.

| input | output |
|:------|-------:|
| `5 2` | `9`    |
| `1 4 5 -3 2` |  |

Here the run `4 5` is the best."""
REASONING = r"""**What is asked.**
For every start $i$ there is one run of $k$ elements, so there are $n - k + 1$ sums to compare.

**A first way.** Adding up each run anew costs $O(nk)$, which for $n = 2 \cdot 10^5$ is $10^{10}$ steps: too many.

**A better way.** Two runs that follow each other share $k - 1$ elements:

$$ s_{i+1} = s_i - a_i + a_{i+k} $$

So I go on in these steps:

1. add up the first $k$ elements;
2. for each further one, add it and take away the one that leaves;
3. keep the largest sum, *beginning from 0*.

On `1 4 5 -3 2` with $k = 2$ the sums are 5, 9, 2 and −1, and the largest is 9, as in the example.

Each element enters and leaves once, so this takes $O(n)$ time and $O(1)$ memory beside the array."""
PROGRAM = """\
import sys


def main():
    data = list(map(int, sys.stdin.read().split()))
    n, k = data[0], data[1]
    values = data[2:2 + n]
    window = sum(values[:k])
    best = max(0, window)
    for i in range(k, n):
        # one enters, one leaves
        window += values[i] - values[i - k]
        best = max(best, window)
    print(best)


main()
"""


def fill(store: Store) -> None:
    """Some items, two annotators, a resolver, and what they said of the fourth."""
    store.add_items(
        ((f"windows/{i // 4}", str(i % 4)), PROBLEM, REASONING + "\n" * (i % 4), PROGRAM) for i in range(48)
    )
    for name, role in (("ada", "annotator"), ("bo", "annotator"), ("team", "resolver")):
        store.add_person(name, role)  # type: ignore[arg-type]
    ada, bo = Person("ada", "annotator"), Person("bo", "annotator")
    for place in range(1, 17):
        answers = {"sound": place % 3 > 0, "aligned": True}
        store.change(ada, place, 0, f"picture-a{place}", answers)
        store.change(bo, place, 0, f"picture-b{place}", answers | ({"sound": True} if place == 9 else {}))
    note = "Step 3 is wrong when all numbers are negative: the largest sum is below 0 then."
    store.change(ada, 9, 1, "picture-note-a", {"note": note})
    store.change(bo, 9, 1, "picture-note-b", {"note": "The recurrence holds, the example is right."})


def take(url: str, folder: Path, scratch: Path) -> None:
    """Both pictures."""
    with driving() as driver:
        for name, keys, file, dark in (
            ("ada", ["f", "a", "e", *"Step 3: sums may be negative.", "Escape"], "adjudicate.png", False),
            ("team", ["t"], "adjudicate-resolve.png", True),
        ):
            browser = Browser(driver, scratch / name)
            browser.open(url)
            browser.script(
                "for (const b of document.querySelectorAll('button')) if (b.value === arguments[0]) b.click()", name
            )
            until(
                lambda browser=browser: browser.script(
                    "return document.documentElement.dataset.ready && !!document.querySelector('footer')"
                )
            )
            browser.press(*keys)
            if dark:
                until(
                    lambda browser=browser: browser.script("return document.documentElement.dataset.theme === 'dark'")
                )
            time.sleep(1)
            browser.picture(folder / file)
            browser.close()


def main() -> None:
    """Serve, visit, save."""
    with tempfile.TemporaryDirectory() as scratch, Store(Path(scratch) / "a.sqlite") as store:
        fill(store)
        listener = listen("127.0.0.1", 0)
        server = make_server(make_app(door("127.0.0.1", False, store)))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            take(url_of(listener), ROOT / "docs" / "images", Path(scratch))
        finally:
            server.should_exit = True
            thread.join()


if __name__ == "__main__":
    main()

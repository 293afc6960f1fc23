"""The function under test with what it needs: what EvalPlus's own clean-up leaves of the same text."""

from __future__ import annotations

import pytest

from recode_rl import cleaning

FUNCTION = "def add(a, b):\n    return a + b"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (FUNCTION, FUNCTION),
        (f"{FUNCTION}\n\nassert add(1, 2) == 4\nprint(add(1, 2))\n", FUNCTION),
        (f"{FUNCTION}\n\n# Tests\nassert add(1, 2) == 3\nassert add(1,", FUNCTION),  # cut off
        (f"Here is the function:\n{FUNCTION}\nIt adds two numbers.", FUNCTION),
        (f"import math\n{FUNCTION}\nfrom os import path", f"import math\n{FUNCTION}\nfrom os import path"),
        (f"{FUNCTION}\n\nresult = add([], 1)", FUNCTION),
        (f"if __name__ == '__main__':\n    add(1, '')\n\n{FUNCTION}", FUNCTION),
        (f"{FUNCTION}\n\ndef add(a, b):\n    return a - b", FUNCTION),  # the first counts
    ],
)
def test_what_runs_beside_the_function_is_left_out(text: str, left: str) -> None:
    assert cleaning.needed(text, "add") == left + "\n"


def test_what_the_function_uses_is_kept_however_far_away() -> None:
    text = (
        "ZERO = 0\nBASE: int = ZERO + 1\nother = open('x')\n\n"
        "class Box:\n    value = BASE\n\n\n@staticmethod\ndef helper():\n    return Box()\n\n\n"
        "def unused():\n    return 1\n\n\nasync def f(x, y=helper):\n    return [y for _ in x]\n"
    )
    kept = cleaning.needed(text, "f")
    assert all(
        part in kept for part in ("ZERO = 0", "BASE: int", "class Box", "@staticmethod\ndef helper", "async def f")
    )
    assert "other" not in kept
    assert "unused" not in kept
    assert kept.index("ZERO") < kept.index("Box") < kept.index("async")


def test_a_text_without_the_function_stays() -> None:
    assert cleaning.needed("x = 1\nprint(x)", "f") == "x = 1\nprint(x)"
    assert cleaning.needed("¿no, nothing!", "f") == "¿no, nothing!"
    assert cleaning.needed("def f(:\n", "f") == "def f(:\n"


@pytest.mark.parametrize("text", ["a\0b", "(" * 5000, "-" * 100_000 + "1", "x = '\\d'\n" * 3, "\n" * 50])
def test_odd_texts_raise_nothing(text: str) -> None:
    cleaning.needed(text, "f")


def test_the_longest_run_of_lines_that_is_python() -> None:
    assert cleaning.longest_run("a = 1\nno python here\nb = 2\n\nc = 3\n!") == "b = 2\n\nc = 3"
    assert cleaning.longest_run("Use it so:\n    x = 1") == ""

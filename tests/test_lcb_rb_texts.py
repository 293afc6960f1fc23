"""Texts as HTML: laid out where they can be, harmless whatever they are."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser

import pytest

from recode_rl.lcb_rb import texts

for module in ("markdown_it", "latex2mathml", "pygments"):
    pytest.importorskip(module, reason="needs the extra [adjudicate]")

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[a](javascript:alert(1)) ![b](http://example.com/x.png) <http://example.com>",
    "[a]: http://example.com 'x'\n\n[a]",
    r"$\text{<script>alert(1)</script>}$",
    r"\(\href{javascript:alert(1)}{x}\)",
    r"$$\class{x}{y} \style{background:url(http://example.com)}{z}$$",
    "```python onclick=alert(1)\n<b>\n```",
    '```"><script>alert(1)</script>\n<b>\n```',
    "| a |\n|:-:|\n| <svg onload=alert(1)> |",
    "`<script>`",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
]


class Reader(HTMLParser):
    """What elements and attributes a browser would find."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[tuple[str, str | None]] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found |= {(tag, None), *((tag, name) for name, _ in attrs)}


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("made", [texts.prose, texts.program, texts.plain])
def test_nothing_that_is_written_becomes_an_element_that_acts(text: str, made: type) -> None:
    reader = Reader()
    reader.feed(str(made(text)))
    tags = {tag for tag, _ in reader.found}
    assert not tags & {"script", "img", "a", "svg", "iframe", "style", "link", "b", "form", "object"}
    attributes = {name for _, name in reader.found if name}
    assert not {name for name in attributes if name.startswith("on")}
    assert not attributes & {"href", "src", "style", "xlink:href", "id"}


def test_markdown_is_laid_out() -> None:
    made = texts.prose("# Title\n\n1. **one** `x`\n2. two\n\n| a | b |\n|--:|:-:|\n| 1 | 2 |\n\nline\nbreak")
    for part in (
        "<h1>",
        "<ol>",
        "<strong>one</strong>",
        "<code>x</code>",
        'class="to-right"',
        'class="to-center"',
        "<br",
    ):
        assert part in made
    assert "style=" not in made


@pytest.mark.parametrize(
    "text",
    [
        r"so $a_i \le 10^5$.",
        r"so \(a_i \le 10^5\).",
        r"so \[a_i \le 10^5\] it is",
        "words\n$$\na_i \\le 10^5\n$$\nwords",
        "$$a_i \\le 10^5$$",
        "\\[\na_i \\le\n- 10^5\n\\]",
        "- item $$a_i \\le 10^5$$",
    ],
)
def test_mathematics_becomes_mathml(text: str) -> None:
    made = texts.prose(text)
    assert "<math" in made
    assert "≤" in made
    assert "<msub>" in made
    assert "$" not in made


@pytest.mark.parametrize("text", ["costs $5 and $6", "a $ b $ c", "$", "$$", r"\(", "`$x$`", "price$5$more", "$$$$"])
def test_other_dollars_stay_as_they_are(text: str) -> None:
    made = texts.prose(text)
    assert "<math" not in made
    assert made.count("$") == text.count("$")


@pytest.mark.parametrize("tex", [r"\frac", "x^2^3", "{" * 300, r"\begin{cases}", r"\unknowncommandthatis{", "x" * 3000])
def test_mathematics_that_cannot_be_read_is_shown_as_its_source(tex: str) -> None:
    made = texts.math(tex, block=False)
    assert made.startswith(('<code class="tex">', "<math"))
    assert texts.math(r"\frac", block=True) == r'<code class="tex">\frac</code>'


def test_programs_have_numbered_lines_with_colours_none_over_two_lines() -> None:
    source = 'def f(x):\n    """a\n    <b>"""\n    return x < 1\n\n'
    made = texts.program(source)
    assert made.count("<li>") == 4
    assert all(part.count("<span") == part.count("</span>") for part in made.split("</li>"))
    assert '<span class="k">def</span>' in made
    assert re.sub(r"<[^>]+>", "", made).replace("&lt;", "<").replace("&quot;", '"').replace("&gt;", ">") == (
        'def f(x):\n    """a\n    <b>"""\n    return x < 1\n'
    )
    assert texts.program("") == '<ol class="code"><li><code>\n</code></li></ol>'


def test_what_is_nested_too_deep_to_be_laid_out_is_not_left_out() -> None:
    assert "inmost" in texts.prose(">" * 300 + " inmost")
    assert "inmost" in texts.prose("\n".join(" " * 2 * i + "- a" for i in range(60)) + "\n" + " " * 120 + "- inmost")


@pytest.mark.parametrize(
    "part", ["[", "$", r"\(", "*a ", "`a", "<", "_a_", "- ", "![", "$a", "\\[\n", "|a", "a  \n", "&lt;", "{$"]
)
@pytest.mark.timeout(120)  # a rule that looks at the rest of the text from every place takes longer
def test_50000_characters_are_laid_out(part: str) -> None:
    text = part * (50_000 // len(part))
    written = html.unescape(re.sub(r"<[^>]+>", "", texts.prose(text)))
    assert written.strip() or part in ("- ", "\\[\n")  # a rule across the page; the beginning of no formula


def test_longer_texts_are_shown_as_they_are() -> None:
    made = texts.prose("**x** <b>" * 30_000)
    assert made.startswith('<pre class="plain">**x** &lt;b&gt;')

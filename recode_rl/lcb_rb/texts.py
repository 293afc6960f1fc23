"""Texts of models and data sets as HTML that can do nothing: markdown, mathematics and programs, all of it escaped.

Markdown is CommonMark with tables, without HTML, links and pictures, which stay as the characters that were written.
Mathematics becomes MathML of elements and attributes that are listed here; what cannot be read is shown as its source.
"""

from __future__ import annotations

import functools
import html
from typing import Any
from xml.etree.ElementTree import Element

from recode_rl.extras import need

EXTRA = "adjudicate"
_LONGEST_MARKDOWN = 200_000  # longer texts are shown as they are: nobody reads them, and laying them out takes seconds
_LONGEST_MATH = 2_000
_DEEPEST_MARKDOWN = 20
_DEEPEST_MATH = 60
_ELEMENTS = frozenset(
    (
        *("math", "mrow", "mi", "mn", "mo", "mtext", "mspace", "mfrac", "msqrt", "mroot", "msub", "msup", "msubsup"),
        *("munder", "mover", "munderover", "mmultiscripts", "mprescripts", "none", "mtable", "mtr", "mtd", "mstyle"),
        *("mpadded", "mphantom", "menclose", "merror"),
    )
)
_ATTRIBUTES = frozenset(
    (
        *("display", "displaystyle", "scriptlevel", "mathvariant", "stretchy", "fence", "separator", "form", "accent"),
        *("accentunder", "movablelimits", "largeop", "symmetric", "lspace", "rspace", "minsize", "maxsize"),
        *("linethickness", "columnalign", "rowalign", "columnspacing", "rowspacing", "columnlines", "rowlines"),
        *("width", "height", "depth", "voffset", "notation"),
    )
)
_MATH = {"$$": "$$", "$": "$", "\\(": "\\)", "\\[": "\\]"}  # what begins mathematics, and what ends it
_OFF = ("html_block", "html_inline", "link", "image", "autolink", "reference", "lheading")


class _Unreadable(Exception):
    """Mathematics that cannot be shown as such."""


@functools.lru_cache(maxsize=1)
def _markdown() -> Any:
    """The reader of markdown, which is slow to make and safe to share."""
    markdown_it = need("markdown_it", EXTRA)
    reader = markdown_it.MarkdownIt(
        "commonmark", {"html": False, "breaks": True, "highlight": _highlight, "maxNesting": _DEEPEST_MARKDOWN}
    )
    reader.enable("table").disable(list(_OFF))
    reader.inline.ruler.before("escape", "math", _read_inline_math)
    reader.block.ruler.before("fence", "math", _read_block_math, {"alt": ["paragraph", "blockquote", "list"]})
    reader.add_render_rule("math", _write_math)
    return reader


def _read_inline_math(state: Any, silent: bool) -> bool:
    """A rule of the reader: $x$, $$x$$, \\(x\\) and \\[x\\] within a line. $5 and $6 is no mathematics."""
    source, start = state.src, state.pos
    opening = next((mark for mark in _MATH if source.startswith(mark, start)), None)
    if opening is None:
        return False
    begin, closing = start + len(opening), _MATH[opening]
    end = source.find(closing, begin, min(state.posMax, begin + _LONGEST_MATH))
    if end <= begin or not source[begin:end].strip():
        return False
    if opening == "$":
        beside = source[start - 1 : start] + source[end + 1 : end + 2]
        spaced = source[begin].isspace() or source[end - 1].isspace()
        if spaced or any(char.isalnum() or char == "$" for char in beside):
            return False
    if not silent:
        token = state.push("math", "", 0)
        token.content, token.info = source[begin:end], "block" if opening in ("$$", "\\[") else ""
    state.pos = end + len(closing)
    return True


def _read_block_math(state: Any, first: int, last: int, silent: bool) -> bool:
    """A rule of the reader: from a line that begins with $$ or \\[ to the one that ends it, whatever is between."""
    begin = state.bMarks[first] + state.tShift[first]
    opening = state.src[begin : begin + 2]
    if opening not in ("$$", "\\[") or state.is_code_block(first):
        return False
    end = state.src.find(_MATH[opening], begin + 2, begin + _LONGEST_MATH)
    if end < 0 or not state.src[begin + 2 : end].strip():
        return False
    line = first
    while line < last and state.eMarks[line] < end + 2:
        line += 1
    if line >= last or state.src[end + 2 : state.eMarks[line]].strip(" \t.,;"):
        return False  # it ends outside of this block, or words follow in the line
    if not silent:
        token = state.push("math", "", 0)
        token.content, token.info, token.map = state.src[begin + 2 : end], "block", [first, line + 1]
        state.line = line + 1
    return True


def _write_math(_: Any, tokens: Any, index: int, *__: Any) -> str:
    made = math(tokens[index].content, block=tokens[index].info == "block")
    return f'<span class="formula">{made}</span>' if tokens[index].info == "block" else made


@functools.lru_cache(maxsize=512)
def prose(text: str) -> str:
    """Markdown with mathematics as HTML."""
    if len(text) > _LONGEST_MARKDOWN:
        return plain(text)
    reader = _markdown()
    try:
        tokens = reader.parse(text)
    except RecursionError:
        return plain(text)
    if any(token.level >= _DEEPEST_MARKDOWN - 2 for token in tokens):
        return plain(text)  # the reader leaves out what is nested deeper
    for token in tokens:
        if token.type in ("th_open", "td_open"):
            token.attrs = {"class": f"to-{str(token.attrs['style'])[11:]}"} if "style" in token.attrs else {}
    made: str = reader.renderer.render(tokens, reader.options, {})
    return made


def plain(text: str) -> str:
    """Text as it was written, in a box."""
    return f'<pre class="plain">{html.escape(text)}</pre>'


def math(tex: str, block: bool) -> str:
    """TeX as MathML, or as its source where that is not possible."""
    try:
        return _mathml(tex.strip(), block)
    except _Unreadable:
        return f'<code class="tex">{html.escape(tex.strip())}</code>'


@functools.lru_cache(maxsize=2048)
def _mathml(tex: str, block: bool) -> str:
    converter, errors = need("latex2mathml.converter", EXTRA), need("latex2mathml.exceptions", EXTRA)
    known: Any = tuple(kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception))
    if not tex or len(tex) > _LONGEST_MATH:
        raise _Unreadable
    try:
        # The element, not the text: the library's text has no escapes, so that \text{<script>} would become a script.
        tree = converter.convert_to_element(tex, display="block" if block else "inline")
        return _written(tree, 0)
    except (*known, ValueError, LookupError, TypeError, AttributeError, StopIteration, RecursionError):
        raise _Unreadable from None


def _written(element: Element, depth: int) -> str:
    """An element of the list with attributes of the list; _Unreadable where it is another one."""
    if element.tag not in _ELEMENTS or depth > _DEEPEST_MATH:
        raise _Unreadable
    attributes = "".join(
        f' {name}="{html.escape(value)}"' for name, value in element.attrib.items() if name in _ATTRIBUTES
    )
    inner = "".join(_written(child, depth + 1) + _escaped(child.tail) for child in element)
    return f"<{element.tag}{attributes}>{_escaped(element.text)}{inner}</{element.tag}>"


def _escaped(text: str | None) -> str:
    return html.escape(html.unescape(text or ""))  # the library has characters as references


@functools.lru_cache(maxsize=512)
def program(source: str) -> str:
    """A Python program as lines with colours: a list item for each line, whose numbers the style sheet makes."""
    lines = _coloured(source.rstrip("\n"), "python").split("\n")
    return '<ol class="code">' + "".join(f"<li><code>{line}\n</code></li>" for line in lines) + "</ol>"


def _highlight(source: str, language: str, _: str) -> str:
    """The inside of a fenced block, for the reader of markdown."""
    return _coloured(source, language)


def _coloured(source: str, language: str) -> str:
    """Spans of classes around escaped text, none of them over more than one line."""
    lexers, formatter = need("pygments.lexers", EXTRA), need("pygments.formatters.html", EXTRA)
    if not language or len(source) > _LONGEST_MARKDOWN:
        return html.escape(source)
    try:
        lexer = lexers.get_lexer_by_name(language.lower(), stripnl=False, ensurenl=False)
    except need("pygments.util", EXTRA).ClassNotFound:
        return html.escape(source)
    made: str = need("pygments", EXTRA).highlight(source, lexer, formatter.HtmlFormatter(nowrap=True))
    return made if source.endswith("\n") else made.removesuffix("\n")

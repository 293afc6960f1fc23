"""The only parser of a generator's reply: a reasoning, and what was changed in it.

Headings may be markdown, bold, in capitals, numbered, tags, or the keys of a JSON object, and come in either order.
Two decisions: a reply without a second part is taken, with an empty explanation; a reply without any heading is a
reasoning as a whole. What is written before the heading of the reasoning ("Sure, here it is") is dropped, and so is a
think block.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Literal

Part = Literal["reasoning", "explanation"]

_KIND = (
    r"(?:new|full|final|improved|optimi[sz]ed|enhanced|refined|corrected|better|degraded|flawed|faulty|worse|worsened"
    r"|modified|altered|changed|revised|rewritten|updated)"
)
_EDITS = (
    r"(?:changes?|modifications?|edits?|alterations?|improvements?|corrections?|differences?|faults?|flaws?|errors?)"
)
_NAMES: dict[Part, str] = {
    "reasoning": rf"(?:the )?(?:{_KIND} )?(?:version of the )?"
    r"(?:reasoning|thought process|(?:chain|train) of thought)(?: process| trace| text)?",
    "explanation": r"(?:the )?(?:"
    rf"(?:an? |brief |short )*explanations?(?: (?:of|for) (?:the |my )?(?:\w+ )?{_EDITS})?"
    rf"|(?:summary|list|description|overview|rationale) (?:of|for) (?:the |my )?{_EDITS}"
    rf"|(?:\w+ )?{_EDITS} (?:made|introduced|applied|explained)"
    r"|(?:key |main )?(?:changes?|modifications?|edits?|alterations?)(?: and (?:why|reasons?|rationale))?"
    r"|change ?log|what (?:i |has |have |was |were |is |been )*changed(?: and why)?|what changes"
    r")",
}
_ORDINAL = r"(?:(?:part|section|step)\s*)?(?:\d+|[ivab]+|one|two)\s*[.):–—-]\s*"
# Decoration before a heading and after it; its name; then nothing, or a colon and the first line of the part.
_HEADING = re.compile(
    rf"^(?P<before>[ \t]{{0,8}}(?:[#>*_\[\-=~][#>*_\[\]\-=~ \t]{{0,20}})?(?:{_ORDINAL})?[*_]{{0,3}})"
    rf"(?:(?P<reasoning>{_NAMES['reasoning']})|(?P<explanation>{_NAMES['explanation']}))"
    r"(?P<after>[ \t]*[*_\]]*[ \t]*)(?P<colon>[:：]?)[ \t]*(?P<closed>[*_\]=\-~]*)[ \t]*(?P<rest>.*)$",
    re.IGNORECASE | re.MULTILINE,
)
_TAG = re.compile(r"<[ ]?(/?)[ ]?([a-z][a-z _-]{2,40})>", re.IGNORECASE)
_THINK_END = re.compile(r"</(?:think|thinking|thought)>", re.IGNORECASE)
_THINK_START = re.compile(r"\s*<(?:think|thinking|thought)>", re.IGNORECASE)
_FENCE = re.compile(r"\A(`{3,}|~{3,})[ \t]*(?:text|txt|markdown|md|plaintext|json)?[ \t]*\n(.*)\n\1\s*\Z", re.DOTALL)
_INTRO = re.compile(
    r"\A(?:sure|certainly|of course|okay|ok|absolutely|alright|here(?:'s| is| are|’s)|below is|the following)\b"
    r"[^\n]*[:!.][ \t]*\n+",
    re.IGNORECASE,
)
_MARKS = " \t-*_=#~"  # a line of these alone is a rule, or what is left of a heading


@dataclass(frozen=True, slots=True)
class Parts:
    """The two parts of a reply. `reasoning` is None where no part can be told to be one."""

    reasoning: str | None
    explanation: str = ""


@dataclass(frozen=True, slots=True)
class _Found:
    """A heading: which part, where it begins and ends, and whether it stands out from running text."""

    part: Part
    start: int
    end: int
    strong: bool


def parse_base(text: str) -> str:
    """The reasoning in the reply to the base prompt."""
    text = _bare(without_thinking(text))
    found = [heading for heading in _headings(text) if heading.part == "reasoning" and heading.strong]
    if found and not _INTRO.sub("", text[: found[0].start] + "\n").strip():
        text = text[found[0].end :]
    return _tidy(_INTRO.sub("", text))


def parse_reply(text: str) -> Parts:
    """The parts of the reply to an optimize or degrade prompt."""
    text = _bare(without_thinking(text))
    if parts := _from_json(text):
        return parts
    text = _TAG.sub(_tag_as_heading, text)
    headings = _headings(text)
    first = next((h for h in headings if h.part == "reasoning" and h.strong), None)
    first = first or next((h for h in headings if h.part == "reasoning"), None)
    change = _explanation(text, headings, first)
    if first is None and change is None:
        return Parts(_tidy(_INTRO.sub("", text)))
    if first is None:
        assert change is not None
        before = _tidy(_INTRO.sub("", text[: change.start] + "\n"))
        return Parts(before or None, _tidy(text[change.end :]))
    if change is None:
        return Parts(_tidy(text[first.end :]))
    if change.start < first.start:
        return Parts(_tidy(text[first.end :]), _tidy(text[change.end : first.start]))
    if any(h.part == "reasoning" and h.strong and h.start > change.start for h in headings):
        return Parts(None)  # both parts more than once: which is the answer cannot be told
    return Parts(_tidy(text[first.end : change.start]), _tidy(text[change.end :]))


def without_thinking(text: str) -> str:
    """A reply without the think block that some models write before it; one that never ends leaves nothing."""
    if ends := list(_THINK_END.finditer(text)):
        return text[ends[-1].end() :]
    return "" if _THINK_START.match(text) else text


def _bare(text: str) -> str:
    """Text out of a fence that holds all of it."""
    text = text.replace("\r\n", "\n").strip()
    inside = _FENCE.match(text)
    return inside[2].strip() if inside and inside[1] not in inside[2] else text


def _from_json(text: str) -> Parts | None:
    if not text.startswith("{"):
        return None
    try:
        values = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None
    found: dict[str, str] = {}
    for key, value in values.items():
        heading = _HEADING.match(key.replace("_", " "))
        if heading and isinstance(value, str):
            found.setdefault("reasoning" if heading["reasoning"] else "explanation", value)
    return Parts(_tidy(found["reasoning"]), _tidy(found.get("explanation", ""))) if "reasoning" in found else None


def _tag_as_heading(tag: re.Match[str]) -> str:
    """<reasoning> as a heading of its own line; other things in angle brackets stay as they are."""
    name = re.sub(r"[_-]", " ", tag[2])
    if not any(re.fullmatch(pattern, name, re.IGNORECASE) for pattern in _NAMES.values()):
        return tag[0]
    return "\n" if tag[1] else f"\n### {name}\n"


def _headings(text: str) -> list[_Found]:
    found = []
    for match in _HEADING.finditer(text):
        part: Part = "reasoning" if match["reasoning"] else "explanation"
        name = match[part]
        alone = not match["rest"].strip()
        decorated = bool(re.search(r"[#*_\[=]|\d|part", match["before"], re.IGNORECASE)) or name.isupper()
        if not alone and not match["colon"]:
            continue  # a sentence that begins with the word
        start_of_part = match.start("rest") if not alone else match.end()
        found.append(_Found(part, match.start(), start_of_part, alone or decorated))
    return found


def _explanation(text: str, headings: list[_Found], first: _Found | None) -> _Found | None:
    """The heading of the explanation: the first that stands out, else the last one within the last paragraph.

    A reasoning may have a line such as "Explanation: 3 is odd" out of an example.
    """
    found = [heading for heading in headings if heading.part == "explanation"]
    strong = [heading for heading in found if heading.strong]
    after = [heading for heading in strong if first is None or heading.start > first.start]
    weak = [heading for heading in found if "\n\n" not in text[heading.end :].strip()]
    return next(iter([*after, *strong, *reversed(weak)]), None)


def _tidy(text: str) -> str:
    """Text without the rules and marks around it, and out of a fence that holds all of it."""
    lines = text.strip().split("\n")
    while lines and not lines[0].strip(_MARKS):
        lines.pop(0)
    while lines and not lines[-1].strip(_MARKS):
        lines.pop()
    return _bare("\n".join(lines))

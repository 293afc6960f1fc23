"""The only parser of what a policy writes: think and answer blocks, code fences, boxed answers.

Training, LCB-RB and evaluation all call `parse`; what it decides is the same everywhere (DESIGN: y = (t, o)).
"""

from __future__ import annotations

import re

from recode_rl.types import Completion, Tests

_TAGS = ("<think>", "</think>", "<answer>", "</answer>")
_WELL_FORMED = re.compile(r"\s*<think>(.*?)</think>\s*<answer>(.*?)</answer>\s*", re.DOTALL)
_THINK = re.compile(r"<think>(.*?)</think>", re.DOTALL)
_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
# A brace behind a backslash is printed, as in a set, and closes nothing.
_BRACES = re.compile(r"(?P<box>\\{1,4}boxed\s*\{)|\\[\\{}]|(?P<open>\{)|(?P<close>\})")
_FENCE = re.compile(r"(?P<indent>[ \t]*)(?P<marks>`{3,}|~{3,})(?P<info>[^`]*)")


def parse(text: str) -> Completion:
    """Split a completion into reasoning, answer and program.

    `format_ok` is R_fmt: exactly one think block followed by exactly one answer block, only white space around them.
    Without it the parts are still found as far as they can be, so that the outcome of the program stays known:
    the reasoning is the only think block, the answer the only answer block, and without a well-formed answer block the
    program is the last fenced block of the whole text.
    """
    # Counted first: with many tags the expression would try every pair of them.
    format_ok = all(text.count(tag) == 1 for tag in _TAGS) and _WELL_FORMED.fullmatch(text) is not None
    reasoning = _only(_THINK, text, "<think>", "</think>")
    answer = _only(_ANSWER, text, "<answer>", "</answer>")
    return Completion(
        text=text, reasoning=reasoning, answer=answer, program=extract_program(text, answer), format_ok=format_ok
    )


def _only(pattern: re.Pattern[str], text: str, opening: str, closing: str) -> str | None:
    """The stripped content of a block that is there exactly once, None otherwise."""
    if text.count(opening) != 1 or text.count(closing) != 1:
        return None
    match = pattern.search(text)
    return match.group(1).strip() if match else None


def extract_program(text: str, answer: str | None) -> str | None:
    """The program of a completion, None where there is none.

    With a well-formed answer block it is the block's last fenced code block, or the whole block when it has no fence;
    without one, the last fenced block of the text.
    """
    if answer is None:
        blocks = fenced_blocks(text)
        program = blocks[-1] if blocks else ""
    else:
        blocks = fenced_blocks(answer)
        program = blocks[-1] if blocks else answer
    return program if program.strip() else None


def fenced_blocks(text: str) -> list[str]:
    """The contents of fenced code blocks, in order, as CommonMark reads them.

    A fence that is never closed runs to the end of the text (a cut-off completion), and the indentation of the opening
    fence is taken off every line of its block.
    """
    blocks: list[str] = []
    lines: list[str] = []
    opening: re.Match[str] | None = None
    for line in text.split("\n"):  # not splitlines(): a form feed or U+2028 belongs to the program
        fence = _FENCE.fullmatch(line.rstrip())
        if opening is None:
            opening = fence
            lines = []
        elif fence is not None and _closes(fence, opening):
            blocks.append("\n".join(lines) + "\n")
            opening = None
        else:
            lines.append(_dedent(line, len(opening["indent"])))
    if opening is not None:
        blocks.append("\n".join(lines) + "\n")
    return blocks


def _closes(fence: re.Match[str], opening: re.Match[str]) -> bool:
    """A closing fence has the same marks, at least as many, nothing behind them, and at most 3 more spaces before."""
    marks = opening["marks"]
    near = len(fence["indent"]) <= len(opening["indent"]) + 3
    return near and fence["marks"][0] == marks[0] and len(fence["marks"]) >= len(marks) and not fence["info"].strip()


def _dedent(line: str, width: int) -> str:
    kept = line.lstrip(" \t")
    return line[min(width, len(line) - len(kept)) :]


def render(reasoning: str, program: str) -> str:
    """Write a completion in the form that `parse` calls well-formed (training targets of the warm start)."""
    return f"<think>\n{reasoning.strip()}\n</think>\n<answer>\n```python\n{program.strip()}\n```\n</answer>"


def render_answer(reasoning: str, answer: str) -> str:
    """The same for a problem of mathematics, whose answer stands in a box."""
    return f"<think>\n{reasoning.strip()}\n</think>\n<answer>\n\\boxed{{{answer.strip()}}}\n</answer>"


def submission(parsed: Completion, tests: Tests) -> str | None:
    """What of a completion is graded: its program, or for tests of kind "answer" its answer; None where it has none."""
    if tests.kind != "answer":
        return parsed.program
    if not parsed.text and parsed.program is not None:  # it was given without a completion
        return extract_boxed(parsed.program) or parsed.program
    return final_answer(parsed)


def final_answer(parsed: Completion) -> str | None:
    """The answer to a problem of mathematics, None where there is none.

    With a well-formed answer block it is the content of the block's last box, or the whole block when it has no box;
    without one, the last box of the text.
    """
    boxed = extract_boxed(parsed.text if parsed.answer is None else parsed.answer)
    return (parsed.answer if boxed is None else boxed) or None


def extract_boxed(text: str) -> str | None:
    r"""The content of the last complete `\boxed{…}` (braces balanced), None where there is none."""
    found: tuple[int, int] | None = None
    open_braces: list[tuple[bool, int]] = []  # whether a box begins there, and where its content begins
    for token in _BRACES.finditer(text):
        if token["box"] or token["open"]:
            open_braces.append((bool(token["box"]), token.end()))
        elif token["close"] and open_braces:
            boxed, start = open_braces.pop()
            if boxed and (found is None or start > found[0]):
                found = start, token.start()
    return None if found is None else text[slice(*found)].strip()

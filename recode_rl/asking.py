"""How a problem is put to a model, by name: the think/answer prompt, and the forms that the field's evaluations use.

`think_answer`  the prompt that the policy is trained with (prompts/policy.txt)
`think_answer_shown`
                the same, behind another problem that was asked and answered in this way (prompts/shown_*.txt), for
                small models, which rarely keep a form that they were not trained on
`instruct`      the statement alone, and one code block (a boxed answer of mathematics) is asked for: for
                instruction-tuned models
`evalplus`      the wording of EvalPlus (Liu et al., 2023; evalplus/provider), which published HumanEval(+) and MBPP(+)
                numbers of open instruction-tuned models come from: the beginning of the program in a code block, and
                the answer begun for the model up to the opening of its code block
`evalplus_chat` the same, with nothing of the answer begun, as EvalPlus asks chat endpoints that continue no answer
`complete`      no words at all: a base model continues the beginning of the program (Chen et al., 2021), and ends at
                one of the stop strings
`bigcodebench`  the statement of BigCodeBench's "instruct" part
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from recode_rl import cleaning, completion, prompts
from recode_rl.errors import ConfigError
from recode_rl.types import Problem

# Where a function that a base model continues is over (Chen et al., 2021).
STOP_COMPLETION = ("\nclass ", "\ndef ", "\n#", "\nif ", "\nprint(", "\n@", "\nassert ", "\n```")
# EvalPlus's words and stop strings (evalplus/codegen.py and provider/utility.py, 0.3.1): other words are another test.
_EVALPLUS = "Please provide a self-contained Python script that solves the following problem in a markdown code block:"
_EVALPLUS_OPENING = (
    "Below is a Python script with a self-contained function that solves the problem and passes corresponding tests:"
    "\n```python\n"
)
STOP_EVALPLUS = ("\n```\n", "\nif __name__", "\ndef main(", "\nprint(")
_INSTRUCT = "{statement}\n\nAnswer with the whole program as one Python code block."
_INSTRUCT_ANSWER = "{statement}\n\nReason step by step, and put the final answer within \\boxed{}."
_LANGUAGE = re.compile(r"\A\s*(?:python3?|py)[ \t]*\n", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a model is given for a problem: words of a user, or (`raw`) text that it continues.

    `shown` are messages before it, of a problem with its answer; `opening` is what the model's answer begins with.
    """

    text: str
    raw: bool = False
    shown: tuple[dict[str, str], ...] = ()
    opening: str = ""

    def messages(self) -> list[dict[str, str]]:
        """As chat messages; the last is the assistant's where its answer is begun."""
        begun = [{"role": "assistant", "content": self.opening}] if self.opening else []
        return [*self.shown, {"role": "user", "content": self.text}, *begun]


def _think_answer(problem: Problem) -> Asked:
    return Asked(prompts.policy(problem)[0]["content"])


def _think_answer_shown(problem: Problem) -> Asked:
    name = problem.tests.kind if problem.tests.kind in ("stdio", "answer") else "calls"
    statement, opening, answer = prompts.load(f"shown_{name}").partition("<think>")
    asked = prompts.policy(replace(problem, prompt=statement, starter_code=None))
    return Asked(_think_answer(problem).text, shown=(*asked, {"role": "assistant", "content": opening + answer}))


def _instruct(problem: Problem) -> Asked:
    wording = _INSTRUCT_ANSWER if problem.tests.kind == "answer" else _INSTRUCT
    return Asked(wording.replace("{statement}", problem.prompt.strip()))


def _evalplus(problem: Problem) -> Asked:
    return Asked(f"{_EVALPLUS}\n```\n{_beginning(problem).strip()}\n```\n", opening=_EVALPLUS_OPENING)


def _evalplus_chat(problem: Problem) -> Asked:
    return Asked(f"{_EVALPLUS}\n```python\n{_beginning(problem).strip()}\n```")


def _complete(problem: Problem) -> Asked:
    return Asked(_beginning(problem), raw=True)


def _bigcodebench(problem: Problem) -> Asked:
    return Asked(_stated(problem, "instruct_prompt"))


STYLES: dict[str, Callable[[Problem], Asked]] = {
    "think_answer": _think_answer,
    "think_answer_shown": _think_answer_shown,
    "instruct": _instruct,
    "evalplus": _evalplus,
    "evalplus_chat": _evalplus_chat,
    "complete": _complete,
    "bigcodebench": _bigcodebench,
}


def ask(style: str, problem: Problem) -> Asked:
    """The problem in a style. ConfigError where the style is unknown, or the problem has not what it needs."""
    if style not in STYLES:
        raise ConfigError(f"prompt {style!r}: expected one of {', '.join(STYLES)}")
    return STYLES[style](problem)


def _beginning(problem: Problem) -> str:
    return _stated(problem, "beginning")


def _stated(problem: Problem, key: str) -> str:
    text = problem.metadata.get(key)
    if not isinstance(text, str) or not text.strip():
        raise ConfigError(
            f"problem {problem.id!r} has no metadata.{key}, which this prompt is made of; make the problems file anew "
            "with `recode-rl problems`, or choose the prompt think_answer or instruct"
        )
    return text


def stops(style: str) -> tuple[str, ...]:
    """The strings that a completion ends at in a style."""
    return {"complete": STOP_COMPLETION, "evalplus": STOP_EVALPLUS}.get(style, ())


def answer(style: str, problem: Problem, text: str) -> str:
    """The whole answer, of which a model was given the beginning; some endpoints repeat it with what they add."""
    opening = ask(style, problem).opening
    return text if text.startswith(opening) else opening + text


def program(style: str, problem: Problem, text: str) -> str | None:
    """The program in a completion, where the style has a rule of its own: None leaves it to the parser.

    A continuation is put behind its beginning. Of several code blocks (a program and how to use it, say) the last that
    defines the function under test counts, where there is one; without any block the whole text, where it defines it.
    A first line of a block that only names the language is none of the program: asked in a block without a language,
    small models put it there. In EvalPlus's styles the block is cleaned up as there (`cleaning`).
    """
    if style.startswith("think_answer") or problem.tests.kind == "answer":
        return None
    if style == "complete":
        return _beginning(problem) + text
    name = (problem.tests.entry_point or "").rpartition("().")[2]
    if not name:
        return None
    defines = re.compile(rf"^\s*(?:async\s+)?def\s+{re.escape(name)}\b", re.MULTILINE)
    blocks = [_LANGUAGE.sub("", block) for block in completion.fenced_blocks(text)] or [text]
    found = next((block for block in reversed(blocks) if defines.search(block)), None)
    return cleaning.needed(found, name) if found and style.startswith("evalplus") else found


def cut(text: str, stop: tuple[str, ...]) -> tuple[str, bool]:
    """The text up to the first stop string, and whether there was one."""
    places = [place for place in map(text.find, stop) if place >= 0]
    return (text[: min(places)], True) if places else (text, False)

"""Answers of mathematics: what is the same and what is not, and answers that are made to hang, grow, crash or run."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from recode_rl import completion
from recode_rl.errors import DataError, MissingExtraError, SandboxError
from recode_rl.grading import Grader, answers
from recode_rl.grading.answers import overlooked, plain, same_text
from recode_rl.grading.session import UnusableTestsError
from recode_rl.reward import Reward
from recode_rl.types import Limits, Problem, Verdict
from recode_rl.types import Tests as Given

pytest.importorskip("math_verify", reason="needs the extra [math]")

TOWER = r"10^{10^{10}}"  # hangs where it is worked out
SQUARE = Problem("p/square", "x²", Given("calls", entry_point="f", cases=({"args": [3], "expected": 9},)))


def asked(answer: str, limits: Limits | None = None) -> Problem:
    return Problem("p/answer", "How much?", Given("answer", answer=answer), limits=limits)


@pytest.fixture(scope="module")
def one() -> Iterator[Grader]:
    """One worker, so that the process that compares is the same from test to test until it is replaced."""
    with Grader(workers=1) as grader:
        yield grader


def pid_of(grader: Grader) -> int:
    """The first process of the cell in which answers are compared."""
    return grader._places[0]._cells["answers"].pid


# -- what is the same --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "given"),
    [
        ("18", "18.0"),
        ("18", r"\$18"),
        ("18", r"18\text{ dollars}"),
        ("18", "x = 18"),
        ("1234567", "1,234,567"),
        ("1,234", "1234"),
        (r"\frac{1}{2}", "0.5"),
        (r"\frac{1}{2}", "1/2"),
        (r"\frac12", r"\dfrac{2}{4}"),
        (r"\left( 3, \frac{\pi}{2} \right)", r"(3, \pi/2)"),
        ("1, 2", "2,1"),
        (r"x^2 + 2x + 1", r"(x+1)^2"),
        (r"3\sqrt{2}", r"\sqrt{18}"),
        (r"\text{Evelyn}", "Evelyn"),
        (r"(-\infty, 2)", "(−∞,2)"),
        ("4.5e33", r"4.5 \times 10^{33}"),
        ("6.7e-11", "6.70e-11"),
        ("50", r"50\%"),
        ("90", "90°"),
        ("2516_8", "2516_{8}"),
        ("2516_8", "2516"),
        ("073", r"\textbf{(073)}"),
    ],
)
def test_the_same_in_other_words_passes(one: Grader, expected: str, given: str) -> None:
    verdict = one.grade(asked(expected), given)
    assert (verdict.status, verdict.tests_passed, verdict.tests_total, verdict.isolation) == ("passed", 1, 1, "none")


@pytest.mark.parametrize(
    ("expected", "given"),
    [
        ("18", "19"),
        ("18", "-18"),
        ("18", "1 8"),
        ("18", r"18\text{ or }19"),
        ("18", r"18\text{ cm}, 19\text{ cm}"),
        ("18", r"18\text{ maybe or }19\text{ cm}"),
        ("1", "1/2"),
        ("1", "1, 2"),
        ("1, 2", "1"),
        (r"\frac{1}{2}", "0.51"),
        ("6.7e-11", "6.8e-11"),  # the same once rounded to six decimals
        ("[1, 2)", "(1, 2)"),
        ("(1, 2)", "(2, 1)"),
        ("x + 1", "x + 2"),
        ("40_9", "40_{10}"),
        (r"\frac{1}{3}E_1 + \frac{2}{3}E_2", r"\frac{1}{3}E_1 + \frac{2}{3}E_3"),
        (r"\text{east}", "west"),
        ("18", "I do not know"),
        ("18", "no number is 18 or 19"),
        ("2", "２3"),
        ("3", "\u202e3"),
        ("3", "\ud800"),
        ("3", "3\x004"),
    ],
)
def test_another_value_is_a_wrong_answer(one: Grader, expected: str, given: str) -> None:
    verdict = one.grade(asked(expected), given)
    assert (verdict.status, verdict.tests_passed, verdict.tests_total) == ("wrong_answer", 0, 1)
    assert verdict.detail is not None and "expected" in verdict.detail


@pytest.mark.parametrize("given", [None, "", "  \n"])
def test_no_answer_is_no_code(one: Grader, given: str | None) -> None:
    verdict = one.grade(asked("18"), given)
    assert (verdict.status, verdict.isolation) == ("no_code", "none")


def test_the_same_text_needs_no_process() -> None:
    with Grader(workers=1) as grader:
        assert grader.grade(asked(r"\frac{1}{2}"), r"$\frac{1}{2}$.").passed
        assert "answers" not in grader._places[0]._cells


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("$18$", "18"),
        ("$$18$$", "18"),
        (r"\( 18 \).", "18"),
        (r"\[18\]", "18"),
        ("The final answer is $18$.", "18"),
        ("**Answer: 18**", "18"),
        ("Answer:18", "18"),
        ("$a$ or $b$", "$a$ or $b$"),
        ("answers", "answers"),
        ("3.", "3"),
        ("...", ""),
        ("$$", ""),
        ("−5", "-5"),
        ("1e5", r"1 \times 10^{5}"),
        ("2e", "2e"),
        ("x1e5", "x1e5"),
        ("$", ""),
    ],
)
def test_what_stands_around_an_answer_is_taken_off(text: str, inside: str) -> None:
    assert plain(text) == inside


def test_white_space_counts_between_digits_alone() -> None:
    assert same_text(r"\left( 3, \pi \right)", r"\left(3,\pi\right)")
    assert same_text("a  b", "a b")
    assert not same_text("1 2", "12")


def test_bases_are_compared_where_both_are_stated() -> None:
    assert overlooked("40_9", "40_{10}")
    assert not overlooked("40_9", "40_{9}")
    assert not overlooked("40_9", "40")
    assert not overlooked("x_1", "x_2")


def test_what_follows_a_unit_is_compared() -> None:
    assert overlooked("18", r"18\text{ cm}, 19\text{ cm}")
    assert overlooked(r"5\text{ feet } 4\text{ inches}", r"5\text{ feet } 7\text{ inches}")
    assert not overlooked(r"15\mbox{ cm}^2", "15")
    assert not overlooked(r"1 \text{ and } 2", "1, 2")
    assert not overlooked(r"\text{Area} = 18", "18")


# -- answers that are up to something ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        "{" * 900 + "}" * 900,
        r"\frac{" * 300,
        "(" * 900 + "1" + ")" * 900,
        "9" * 1900,
        "18 " * 600,
        r"\left" * 300,
        "\\" * 1900,
        "$" * 1900,
        "18" + "\u0301" * 1900,
        "10**10**10",
        "__import__('os').system('touch /box/x')",
        "exec(open(1))",
        r"\text{__import__('os').abort()}",
        r"\boxed{" * 250,
        "}{",
        r"\def\a{\a\a}\a",
        r"\newcommand{\x}{18}\x",
        r"\input{/etc/passwd}",
    ],
)
def test_odd_texts_are_wrong_and_leave_the_process_as_it_is(one: Grader, given: str) -> None:
    assert one.grade(asked("18"), "18.0").passed
    before = pid_of(one)
    verdict = one.grade(asked("18", Limits(time_s=0.3, total_s=10)), given)
    assert verdict.status in ("wrong_answer", "timeout")
    assert one.grade(asked("18"), "18.0").passed
    assert pid_of(one) == before


def test_a_huge_text_is_not_looked_at(one: Grader) -> None:
    verdict = one.grade(asked("18"), "1+" * 2_000_000)
    assert verdict.status == "wrong_answer" and verdict.detail is not None
    assert len(verdict.detail) < 200


@pytest.mark.parametrize("given", [TOWER, "100000000!", r"\binom{10^9}{5 \cdot 10^8}", "(a+b+c+d+e)^{2000}"])
def test_a_hang_is_ended_at_its_limit_and_the_next_answer_is_compared(one: Grader, given: str) -> None:
    verdict = one.grade(asked("18", Limits(time_s=0.3, total_s=10)), given)
    assert verdict.status == "timeout"
    assert verdict.detail is not None and "CPU time" in verdict.detail
    assert one.grade(asked("18"), r"\frac{36}{2}").passed


def test_an_answer_that_grows_is_ended_at_its_limit(one: Grader) -> None:
    assert one.grade(asked("18"), "18.0").passed
    place = one._places[0]
    checker = place.checker
    checker.close()
    # Below what the library itself takes: whatever is asked, the process has grown too large.
    verdict = one.grade(asked("18", Limits(memory_mb=1, time_s=5)), TOWER)
    assert verdict.status == "memory_limit"
    assert one.grade(asked("18"), "18.0").passed


def test_a_batch_is_not_stopped_by_those_that_hang() -> None:
    limits = Limits(time_s=0.3, total_s=10)
    jobs = [(asked(str(n), limits), TOWER if n % 4 == 0 else f"{n}.0") for n in range(1, 17)]
    with Grader(workers=2) as grader:
        statuses = [v.status for v in grader.grade_many(jobs) if isinstance(v, Verdict)]
    assert statuses == ["timeout" if n % 4 == 0 else "passed" for n in range(1, 17)]


def test_a_crash_of_the_symbolic_code_is_the_answers_doing(one: Grader) -> None:
    verdict = _while_it_hangs(one, signal.SIGSEGV)
    assert isinstance(verdict, Verdict)
    assert verdict.status == "runtime_error"
    assert one.grade(asked("18"), "18.0").passed


def test_a_process_that_somebody_else_ends_is_no_verdict(one: Grader) -> None:
    assert isinstance(_while_it_hangs(one, signal.SIGKILL), SandboxError)
    assert one.grade(asked("18"), "18.0").passed


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _while_it_hangs(grader: Grader, number: int) -> Verdict | SandboxError:
    """What a tower comes to when the process that works it out gets this signal."""
    assert grader.grade(asked("18"), "18.0").passed
    stop = threading.Event()

    def end() -> None:
        while not stop.wait(0.05):
            with contextlib.suppress(OSError, KeyError):  # it is being made anew
                for child in (child for init in children(pid_of(grader)) for child in children(init)):
                    if time.clock_gettime((~child << 3) | 2) > 0.2:  # it is at the tower
                        os.kill(child, number)

    killer = threading.Thread(target=end)
    killer.start()
    try:
        (found,) = grader.grade_many([(asked("18", Limits(time_s=5, total_s=60)), TOWER)])
        return found
    finally:
        stop.set()
        killer.join()


def test_a_killed_launcher_is_retried(one: Grader) -> None:
    assert one.grade(asked("18"), "18.0").passed
    os.kill(pid_of(one), signal.SIGKILL)
    assert one.grade(asked("18"), "18.0").passed


# -- references that are no good ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [None, "", " ", "$$", "9" * 5000])
def test_a_problem_without_a_usable_answer_is_an_error(one: Grader, answer: str | None) -> None:
    problem = Problem("the/problem", "", Given("answer", answer=answer))
    with pytest.raises(DataError, match=r"the/problem.*answer of 1 to"):
        one.grade(problem, "1")
    with pytest.raises(DataError, match="the/problem"):
        one.grade_many([(problem, "1")])


def test_a_reference_that_cannot_be_read_in_time_is_no_verdict(one: Grader, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise answers.Over("timeout", "used more than 1 s of CPU time")

    with monkeypatch.context() as patch:
        patch.setattr(answers, "_exchange", fail)
        with pytest.raises(UnusableTestsError, match=r"p/answer.*'19'.*cannot be read"):
            one.grade(asked("19"), "19.0")
    assert one.grade(asked("19"), "19.0").passed


def test_without_the_library_it_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers.importlib.util, "find_spec", lambda name: None)
    answers.need_library.cache_clear()
    with pytest.raises(MissingExtraError, match=r'pip install "recode-rl\[math\]"'), Grader(workers=1) as grader:
        grader.grade(asked("1"), "1")


# -- with programs, and in the reward ----------------------------------------------------------------------------------


def test_programs_and_answers_in_one_batch(grader: Grader) -> None:
    jobs = [
        (SQUARE, "def f(x): return x * x"),
        (asked("18"), "18.0"),
        (SQUARE, "def f(x): return x"),
        (asked("18"), "17"),
        (asked("18"), None),
        (SQUARE, None),
    ]
    found = [(v.status, v.isolation) for v in grader.grade_many(jobs) if isinstance(v, Verdict)]
    assert found == [
        ("passed", "proxied"),
        ("passed", "none"),
        ("wrong_answer", "proxied"),
        ("wrong_answer", "none"),
        ("no_code", "none"),
        ("no_code", "none"),
    ]


def test_the_reward_of_answers_and_programs_together(grader: Grader) -> None:
    right = completion.render_answer("Half of 36.", r"\frac{36}{2}")
    reward = Reward("consistency_gated", grader, lambda items: [0.25] * len(items))
    batch = [
        (asked("18"), right),
        (asked("18"), right.replace("36", "35")),
        (asked("18"), r"The answer is \boxed{18}."),
        (SQUARE, completion.render("Square it.", "def f(x): return x * x")),
    ]
    found = [outcome.reward for outcome in reward.score(batch) if not isinstance(outcome, Exception)]
    assert [(r.format, r.outcome, r.process, r.total) for r in found] == [
        (1.0, 1.0, 0.25, 2.25),
        (1.0, 0.0, None, 1.0),
        (0.0, 1.0, 0.0, 1.0),
        (1.0, 1.0, 0.25, 2.25),
    ]


def test_the_manifest_names_what_decides(grader: Grader) -> None:
    assert grader.describe()["mathematics"]["math-verify"] == "0.9.0"

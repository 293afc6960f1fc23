"""Grades programs, one or many at a time, with cells that stay warm between them."""

from __future__ import annotations

import dataclasses
import functools
import os
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, Literal, TypeVar

from recode_rl import sandbox
from recode_rl.errors import SandboxError
from recode_rl.grading import answers, code, outputs
from recode_rl.grading.session import UnusableTestsError
from recode_rl.types import Limits, Problem, Verdict

RETRIES = 2
MAX_FAILURES = 10  # in a row: then the sandbox is broken, and every further program would wait for it in vain

T = TypeVar("T")
Job = tuple[Problem, str | None]
_DEFAULTS = Limits()
Done = Callable[[int, Verdict | SandboxError], None]


class _Streak:
    """How many programs in a row the sandbox has failed, over all workers."""

    def __init__(self) -> None:
        self.length = 0
        self._lock = threading.Lock()

    def count(self, *, failed: bool) -> None:
        """One more program."""
        with self._lock:
            self.length = self.length + 1 if failed else 0


def grade_all(
    workers: int,
    jobs: Sequence[Job],
    attempt: Callable[[Job], T],
    on_done: Callable[[int, T], None] | None,
    close: Callable[[], None],
) -> list[T]:
    """What `attempt` gives for each job, in their order; `close` ends what runs where this is interrupted."""
    for problem in {id(problem): problem for problem, _ in jobs}.values():
        code.check_problem(problem)
    results: dict[int, T] = {}
    with ThreadPoolExecutor(workers, thread_name_prefix="grader") as pool:
        futures = {pool.submit(attempt, job): index for index, job in enumerate(jobs)}
        try:
            for future in as_completed(futures):
                index = futures.pop(future)
                results[index] = future.result()
                if on_done is not None:
                    on_done(index, results[index])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            close()  # a Ctrl-C does not wait for the programs that run
            raise
    return [results[index] for index in range(len(jobs))]


class Grader:
    """A context manager; `grade` may be called from many threads, at most `workers` programs run at a time.

    `defaults` are the limits of problems that set none. `require="full"` refuses to work behind weak walls
    (SandboxError with the names of those that are missing). `isolation="shared"` runs tests beside the program always.
    `interpreter` is the Python, or the folder of its environment, for programs that run beside their tests.
    """

    def __init__(
        self,
        workers: int | None = None,
        defaults: Limits = _DEFAULTS,
        require: Literal["any", "full"] = "any",
        isolation: Literal["proxied", "shared"] = "proxied",
        engine: Literal["local", "bwrap"] = "local",
        interpreter: Path | None = None,
    ) -> None:
        self.workers = workers or os.cpu_count() or 1
        self.defaults = defaults
        self._beside = isolation == "shared"
        self._engine = engine
        self._level = sandbox.level(bubblewrap=engine == "bwrap")
        if require == "full" and self._level.name != "full":
            missing = ", ".join(self._level.missing)
            raise SandboxError(
                f"the sandbox is only {self._level.name!r} on this machine (missing: {missing}); "
                'allow user namespaces, or say require = "any" to grade all the same'
            )
        _say_what_is_missing(engine, self._level)
        walls: sandbox.Walls | None = "bwrap" if engine == "bwrap" else None
        self._interpreter = interpreter
        python = None if interpreter is None else sandbox.interpreter_at(interpreter)
        self._places = [code.Workplace(walls, core, python) for core in _cores(self.workers)]
        self._free: queue.LifoQueue[code.Workplace] = queue.LifoQueue()
        for place in self._places:
            self._free.put(place)

    def grade(self, problem: Problem, program: str | None) -> Verdict:
        """The verdict on one program.

        DataError where the problem has no usable tests. SandboxError where nothing was learnt about the program, after
        two more attempts in new cells.
        """
        return self._in_a_place(problem, lambda at: code.grade(problem, program, self.defaults, at, self._beside))

    def _in_a_place(self, problem: Problem, action: Callable[[code.Workplace], T]) -> T:
        """Do something in the next place that is free, tried again in new cells where the sandbox fails."""
        place = self._free.get()
        try:
            for attempt in range(RETRIES + 1):
                try:
                    return action(place)
                except SandboxError as error:
                    place.close()
                    if attempt == RETRIES or isinstance(error, UnusableTestsError):
                        raise code.as_sandbox_error(error, problem.id) from error
            raise AssertionError("unreachable")
        except BaseException:
            place.close()  # whatever it was, what runs in there is in the middle of something
            raise
        finally:
            self._free.put(place)

    def grade_many(self, jobs: Sequence[Job], on_done: Done | None = None) -> list[Verdict | SandboxError]:
        """A verdict for each job in the order of the jobs, or the SandboxError where there is none.

        `on_done(index, result)` is called in this thread as results come in. DataError, before anything runs, where a
        problem has no usable tests.
        """
        streak = _Streak()
        return grade_all(
            self.workers, jobs, lambda job: self._attempt(job, streak, lambda: self.grade(*job)), on_done, self.close
        )

    def answers_many(
        self, jobs: Sequence[Job], inputs: int, on_done: Callable[[int, outputs.Answer], None] | None = None
    ) -> list[outputs.Answer]:
        """For each job the digest of the program's answers to the first inputs of its problem's tests.

        None for a program that answers none, and for problems whose tests have no inputs; the SandboxError where
        nothing was learnt. Programs with equal digests agree on all of these inputs; nothing expected is looked at.
        """
        streak = _Streak()

        def answer(job: Job) -> outputs.Answer:
            problem, program = job
            run = functools.partial(outputs.answers, problem, program, inputs, self.defaults)
            return self._attempt(job, streak, lambda: self._in_a_place(problem, run))

        return grade_all(self.workers, jobs, answer, on_done, self.close)

    def _attempt(self, job: Job, streak: _Streak, action: Callable[[], T]) -> T | SandboxError:
        if streak.length >= MAX_FAILURES:
            return SandboxError(f"{job[0].id}: not tried, after {MAX_FAILURES} failures of the sandbox in a row")
        try:
            found = action()
        except UnusableTestsError as error:
            return error
        except SandboxError as error:
            streak.count(failed=True)
            return error
        streak.count(failed=False)
        return found

    def describe(self) -> dict[str, Any]:
        """What a manifest says: engine, level and the walls that are missing, workers, default limits."""
        return {
            "engine": self._engine,
            "level": self._level.name,
            "missing": list(self._level.missing),
            "isolation": "shared" if self._beside else "proxied",
            "workers": self.workers,
            "limits": dataclasses.asdict(self.defaults),
            "mathematics": answers.versions(),
            "interpreter": None if self._interpreter is None else str(self._interpreter),
        }

    def close(self) -> None:
        """End all cells."""
        for place in self._places:
            place.close()

    def __enter__(self) -> Grader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _cores(workers: int) -> list[int | None]:
    """A processor for each worker; graders of several processes do not all begin with the first."""
    if not hasattr(os, "sched_getaffinity"):
        return [None] * workers
    allowed = sorted(os.sched_getaffinity(0))
    return [allowed[(os.getpid() + place) % len(allowed)] for place in range(workers)]


@functools.cache  # once per process: a run opens several graders
def _say_what_is_missing(engine: str, level: sandbox.SandboxLevel) -> None:
    if level.missing:
        from recode_rl.progress import say  # here, since grading itself needs the standard library only

        say(f"sandbox ({engine}): weak, missing: {', '.join(level.missing)} (see recode-rl doctor, docs/sandbox.md)")

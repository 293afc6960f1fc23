"""Grades programs, one or many at a time, with cells that stay warm between them."""

from __future__ import annotations

import os
import queue
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Literal

from recode_rl import sandbox
from recode_rl.errors import SandboxError
from recode_rl.grading import code
from recode_rl.grading.session import UnusableTestsError
from recode_rl.types import Limits, Problem, Verdict

RETRIES = 2

Job = tuple[Problem, str | None]
_DEFAULTS = Limits()
Done = Callable[[int, Verdict | SandboxError], None]


class Grader:
    """A context manager; `grade` may be called from many threads, at most `workers` programs run at a time.

    `defaults` are the limits of problems that set none. `require="full"` refuses to work behind weak walls
    (SandboxError with the names of those that are missing). `isolation="shared"` runs tests beside the program always.
    """

    def __init__(
        self,
        workers: int | None = None,
        defaults: Limits = _DEFAULTS,
        require: Literal["any", "full"] = "any",
        isolation: Literal["proxied", "shared"] = "proxied",
    ) -> None:
        self.workers = workers or os.cpu_count() or 1
        self.defaults = defaults
        self._beside = isolation == "shared"
        found = sandbox.level()
        if require == "full" and found.name != "full":
            raise SandboxError(
                f"the sandbox is only {found.name!r} on this machine (missing: {', '.join(found.missing)}); "
                'allow user namespaces, or say require = "any" to grade all the same'
            )
        self._places = [code.Workplace() for _ in range(self.workers)]
        self._free: queue.LifoQueue[code.Workplace] = queue.LifoQueue()
        for place in self._places:
            self._free.put(place)

    def grade(self, problem: Problem, program: str | None) -> Verdict:
        """The verdict on one program.

        DataError where the problem has no usable tests. SandboxError where nothing was learnt about the program, after
        two more attempts in new cells.
        """
        place = self._free.get()
        try:
            for attempt in range(RETRIES + 1):
                try:
                    return code.grade(problem, program, self.defaults, place, self._beside)
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
        for problem in {id(problem): problem for problem, _ in jobs}.values():
            code.check_problem(problem)
        results: dict[int, Verdict | SandboxError] = {}
        with ThreadPoolExecutor(self.workers, thread_name_prefix="grader") as pool:
            futures = {pool.submit(self._attempt, job): index for index, job in enumerate(jobs)}
            try:
                for future in as_completed(futures):
                    index = futures.pop(future)
                    results[index] = future.result()
                    if on_done is not None:
                        on_done(index, results[index])
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self.close()  # a Ctrl-C does not wait for the programs that run
                raise
        return [results[index] for index in range(len(jobs))]

    def _attempt(self, job: Job) -> Verdict | SandboxError:
        try:
            return self.grade(*job)
        except SandboxError as error:
            return error

    def close(self) -> None:
        """End all cells."""
        for place in self._places:
            place.close()

    def __enter__(self) -> Grader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

"""Every exception the package raises on purpose.

ReCodeError                     anything we can explain in one sentence
├── ConfigError                 a recipe or an option that cannot be used
├── DataError                   a file, line or record that cannot be read
├── MissingExtraError           an optional dependency that is not installed
├── ModelError                  a model folder or file that cannot be used
├── InfrastructureError         something of ours failed, not the program and not the policy
│   ├── SandboxError            a program could not be run or its outcome could not be learnt
│   └── EndpointError           a server gave no answer that can be used
│       └── UnreachableError    it was waited for as long as was allowed, in vain
└── Interrupted                 a stage was stopped and can be continued
    ├── BudgetSpent             the requests or tokens that were allowed are used up
    └── TimeOver                the time that was allowed is over

A verdict is about the program, an exception is about us. The command line prints the message of a ReCodeError as one
sentence and exits with status 1; every other exception is a defect and keeps its traceback.
"""

from __future__ import annotations


class ReCodeError(Exception):
    """Base of all errors that carry a sentence for the user: the thing, the value and the fix."""


class ConfigError(ReCodeError, ValueError):
    """A recipe or an option that cannot be used."""


class DataError(ReCodeError, ValueError):
    """A file, a line or a record that cannot be read."""


class MissingExtraError(ReCodeError, ImportError):
    """An optional dependency is not installed; the message has the command that installs it."""


class ModelError(ReCodeError, OSError):
    """A model folder or file that cannot be used."""


class InfrastructureError(ReCodeError, RuntimeError):
    """Something of ours failed. Nothing may be learnt about the program or the policy from it."""


class SandboxError(InfrastructureError):
    """A program could not be run, or its outcome could not be learnt. Never a verdict."""


class EndpointError(InfrastructureError):
    """A server gave no answer that can be used; `overlong` says that what it was asked does not fit its model."""

    def __init__(self, message: str, *, overlong: bool = False) -> None:
        super().__init__(message)
        self.overlong = overlong


class UnreachableError(EndpointError):
    """A server was waited for as long as was allowed, in vain: the next request would wait as long."""


class Interrupted(ReCodeError):
    """A stage was stopped before it was complete; running the same command again continues it."""


class BudgetSpent(Interrupted):
    """The requests or tokens that were allowed are used up."""


class TimeOver(Interrupted):
    """The time that was allowed is over."""

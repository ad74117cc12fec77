"""
Every error a user can cause or meet.

    TensoryardError
    ├── UsageError            wrong use: exit code 2
    │   └── JobError          a job that cannot be run as written
    │       └── LayoutError   tasks that do not add up
    ├── NotFoundError         a run, model, file or key that is not there
    ├── StoreError            the store refused: read-only, no space
    │   ├── AlreadyExistsError
    │   └── CorruptRecordError
    ├── EnvironmentBuildError
    ├── SchedulerError
    └── VerificationError     bytes that differ from what was recorded

The library raises these; only ``cli/main.py`` turns them into an exit code.
"""


class TensoryardError(Exception):
    """
    What was wrong and where, in one paragraph, and optionally what to do next.

    message: place, what was given, what is allowed; hint: the next step, a sentence or a command. As text it is
    both, so that a stack trace tells the next step too.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n\nhint: {self.hint}" if self.hint else self.message


class UsageError(TensoryardError):
    """The command or the call was used wrongly."""


class JobError(UsageError):
    """The job cannot be run as it is written."""


class LayoutError(JobError):
    """The tasks asked for do not fit the nodes or each other."""


class NotFoundError(TensoryardError):
    """The run, model, file or key named is not there."""


class StoreError(TensoryardError):
    """
    The store could not do what was asked.

    maybe_written: the key that was written all the same, or may have been, as the answer got lost; "" for none.
    """

    maybe_written: str = ""


class AlreadyExistsError(StoreError):
    """A key that may be written once was written before."""


class CorruptRecordError(StoreError):
    """A record in the store cannot be read."""


class EnvironmentBuildError(TensoryardError):
    """The environment of a job could not be resolved or built."""


class SchedulerError(TensoryardError):
    """The scheduler could not place, watch or stop the tasks of a run."""


class VerificationError(TensoryardError):
    """Stored bytes are not the ones that were recorded."""

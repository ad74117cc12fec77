"""The exceptions that scripts for Azure ML catch by name; all are TensoryardErrors."""

from tensoryard.errors import NotFoundError, TensoryardError

__all__ = ["ActivityFailedException", "ComputeTargetException"]


class ActivityFailedException(TensoryardError):  # noqa: N818 - the name that scripts catch
    """A run that was waited for failed. The message holds the reason and the end of the failing task's log."""


class ComputeTargetException(NotFoundError):  # noqa: N818
    """The workspace has no such compute target."""

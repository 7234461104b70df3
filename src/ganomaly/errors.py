"""What can go wrong, in words for the person in front of the screen.

Every error says what was found, what was expected and what to do, in one sentence.
The command line catches `GANomalyError` once, prints the sentence and exits with `exit_status`.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class GANomalyError(Exception):
    """The run failed; the message is one sentence for the user."""

    exit_status = 1


class UsageError(GANomalyError, ValueError):
    """What was asked cannot be: an unknown preset, a missing folder, a size the network cannot take."""

    exit_status = 2


class DataError(GANomalyError):
    """The images as a whole cannot be used: none there, too few, channels that differ."""


class ImageError(GANomalyError):
    """One image cannot be read or used; the others can."""


class TrainingError(GANomalyError):
    """Training went wrong: NaN, collapse, a checkpoint of another run."""


class ModelFileError(GANomalyError):
    """A model file is truncated, foreign, newer than this package, or was changed after it was saved."""


class OutputError(GANomalyError):
    """A result cannot be written: no such folder, no permission, a full disk."""


@contextmanager
def package_needed(what: str) -> Iterator[None]:
    """Import in this block what not every install has; `what` needs it.

    Raises
    ------
    UsageError
        That says which package is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{what} needs {error.name}, which is not installed here; pip install {error.name}"
        ) from error

"""What can go wrong, in words for the person in front of the screen.

Every error says what was found, what was expected and what to do, in one sentence.
The command line catches `GANomalyError` once, prints the sentence and exits with `exit_status`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution

_PACKAGE_OF = {"sklearn": "scikit-learn", "PIL": "pillow"}
"""What to install for a module that is called otherwise."""


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
        That says which package is missing, and what to install.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = _PACKAGE_OF.get(error.name or "", error.name)
        way_out = (
            "install ganomaly in the place of ganomaly-inference, which judges with exported models alone"
            if _is_installed("ganomaly-inference") and not _is_installed("ganomaly")
            else f"pip install {package}"
        )
        raise UsageError(f"{what} needs {package}, which is not installed here; {way_out}") from error


def _is_installed(package: str) -> bool:
    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True

"""The exceptions; each message is one sentence for the user: what is wrong, what was expected, what to do.

The command line catches `GANomalyError` in one place, prints the sentence and exits with `exit_status`.
"""

import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager

_PACKAGE_OF = {"sklearn": "scikit-learn", "PIL": "pillow"}
"""Packages whose name differs from that of their module."""


class GANomalyError(Exception):
    """The run failed; the message is one sentence for the user."""

    exit_status = 1


class UsageError(GANomalyError, ValueError):
    """A wrong argument: an unknown preset, a missing folder, a size the network does not support."""

    exit_status = 2


class DataError(GANomalyError):
    """The images as a whole cannot be used: none, too few, different channels."""


class ImageError(GANomalyError):
    """One image cannot be read or used."""


class TrainingError(GANomalyError):
    """Training failed: NaN, collapse, a checkpoint of another run."""


class ModelFileError(GANomalyError):
    """A model file is truncated, not a model, newer than this package, or was changed after it was saved."""


class OutputError(GANomalyError):
    """A result cannot be written: no such folder, no permission, a full disk."""


class EngineError(GANomalyError):
    """What runs the work on other processes or machines does not start."""


class StoreError(GANomalyError):
    """A store such as s3:// does not answer after several tries."""


class StoreRefusalError(StoreError):
    """A store answers that something may not be read or written."""


def printable(text: str) -> str:
    """A text for a terminal: control characters of file names, which could move its cursor, are shown escaped.

    >>> printable("\x1b[31mred.png")
    '\\\\x1b[31mred.png'
    """
    return "".join(
        _escaped(character) if unicodedata.category(character)[0] == "C" else character for character in text
    )


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


@contextmanager
def package_needed(what: str, extra: str | None = None) -> Iterator[None]:
    """Import optional packages in this block.

    Parameters
    ----------
    what : str
        What needs the packages, for the message.
    extra : str, optional
        The extra of this package that installs them.

    Raises
    ------
    UsageError
        If a package is missing; it says which, and what to install.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "ganomaly":
            raise  # a broken installation of this package itself
        package = _PACKAGE_OF.get(error.name or "", error.name)
        remedy = (
            "install ganomaly instead of ganomaly-inference, which predicts with exported models only"
            if _is_installed("ganomaly-inference") and not _is_installed("ganomaly")
            else f"pip install {package if extra is None else repr(f'ganomaly[{extra}]')}"
        )
        raise UsageError(f"{what} needs {package}, which is not installed here; {remedy}") from error


def _is_installed(package: str) -> bool:
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True

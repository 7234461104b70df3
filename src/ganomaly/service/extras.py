"""One sentence where a package of an extra is missing."""

from collections.abc import Iterator
from contextlib import contextmanager

from ganomaly.errors import UsageError


@contextmanager
def extra_needed(what: str, extra: str) -> Iterator[None]:
    """Import the packages of an extra in this block.

    Parameters
    ----------
    what : str
        What needs them, for the message.
    extra : str
        Name of the extra.

    Raises
    ------
    UsageError
        If one is missing; it says what to install.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package == "ganomaly":
            raise  # a broken installation of this package itself
        raise UsageError(
            f"{what} needs {package}, which is not installed here; pip install 'ganomaly[{extra}]'"
        ) from error

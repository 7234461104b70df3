"""The URL of a database, as `--store` and `--storage` take it."""

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from ganomaly.errors import UsageError


def parse_database_url(option: str, url: str) -> URL:
    """Parse the URL of SQLite or PostgreSQL; the latter's driver need not be named.

    Parameters
    ----------
    option : str
        What was given, for errors.
    url : str
        `sqlite:///station.db` or `postgresql://user@host/database`.

    Raises
    ------
    UsageError
        If it is no URL, or that of another database.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise UsageError(
            f"{option} takes the URL of a database, such as sqlite:///a.db or postgresql://user@host/database"
        ) from error
    backend = parsed.get_backend_name()
    if backend not in ("sqlite", "postgresql"):
        raise UsageError(f"{option} can be SQLite or PostgreSQL, not {backend}")
    return parsed.set(drivername="postgresql+psycopg") if parsed.drivername == "postgresql" else parsed

"""Connections to stores, one for each in a process; credentials come from the environment alone.

Arrow's own clients serve `s3://`, `gs://` and `az://`, since every installation has them; they read the variables and
files that the store's own tools read. fsspec serves `https://` and `hf://`.
"""

import os
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from ganomaly.errors import UsageError, package_needed
from ganomaly.remote.location import RemoteFile

CONNECT_SECONDS = 5.0
READ_SECONDS = 20.0
"""Without a byte, after which a request is tried again."""

REQUEST_TRIES = 3
"""Of a single request, by the store's own client, with growing pauses."""


def store_of(file: RemoteFile) -> tuple[Any, str]:
    """The `pyarrow.fs.FileSystem` that a file is in, and its path there; not for a web server.

    Raises
    ------
    UsageError
        If a package is missing.
    """
    path = f"{file.host}/{file.path}".rstrip("/")
    return _CONNECTIONS[file.scheme](), path


@cache
def _s3() -> Any:
    fs = arrow_stores()
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    own: dict[str, Any] = {}
    if endpoint:
        parts = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
        own = {"endpoint_override": parts.netloc, "scheme": parts.scheme}
    return fs.S3FileSystem(
        region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"),
        anonymous=os.environ.get("AWS_NO_SIGN_REQUEST", "").lower() in ("1", "true", "yes"),
        connect_timeout=CONNECT_SECONDS,
        request_timeout=READ_SECONDS,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=REQUEST_TRIES),
        allow_delayed_open=True,  # a small file is one request instead of three
        **own,
    )


@cache
def _gs() -> Any:
    from datetime import timedelta

    return arrow_stores().GcsFileSystem(
        anonymous=os.environ.get("GOOGLE_NO_SIGN_REQUEST", "").lower() in ("1", "true", "yes"),
        retry_time_limit=timedelta(seconds=READ_SECONDS),
    )


@cache
def _az() -> Any:
    account = os.environ.get("AZURE_STORAGE_ACCOUNT") or os.environ.get("AZURE_STORAGE_ACCOUNT_NAME")
    if not account:
        raise UsageError("az:// needs the name of the storage account in AZURE_STORAGE_ACCOUNT; set it")
    key = os.environ.get("AZURE_STORAGE_KEY") or os.environ.get("AZURE_STORAGE_ACCOUNT_KEY")
    token = None if key else os.environ.get("AZURE_STORAGE_SAS_TOKEN")
    return arrow_stores().AzureFileSystem(account, account_key=key, sas_token=token)


def arrow_stores() -> Any:
    """The module `pyarrow.fs`.

    Raises
    ------
    UsageError
        If it is not installed.
    """
    with package_needed("a store"):
        from pyarrow import fs

    return fs


def fsspec_store_of(file: RemoteFile) -> tuple[Any, str] | None:
    """The `fsspec.AbstractFileSystem` that a file is in, and its path there; None if Arrow has a client of its own.

    By Arrow's interface to such a store, each error would be a missing file.

    Raises
    ------
    UsageError
        If a package is missing.
    """
    if file.is_web:
        return _web(), file.url
    return (_hub(), f"{file.host}/{file.path}") if file.scheme == "hf" else None


@cache
def _hf() -> Any:
    fs = arrow_stores()
    return fs.PyFileSystem(fs.FSSpecHandler(_hub()))


@cache
def _hub() -> Any:
    with package_needed("hf://", "remote"):
        from huggingface_hub import HfFileSystem

    return HfFileSystem(endpoint=os.environ.get("HF_ENDPOINT") or None)


@cache
def _web() -> Any:
    with package_needed("https://", "remote"):
        from aiohttp import ClientTimeout
        from fsspec.implementations.http import HTTPFileSystem

    timeout = ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS)
    return HTTPFileSystem(client_kwargs={"timeout": timeout})


_CONNECTIONS = {"s3": _s3, "gs": _gs, "az": _az, "hf": _hf}

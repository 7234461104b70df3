"""A bucket behind a proxy that counts and injects faults."""

from collections.abc import Iterator

import pytest

from faulty_store import BUCKET, FaultyStore, environment, faulty_proxy, s3_server
from ganomaly.remote import stores


@pytest.fixture(scope="package")
def server() -> Iterator[str]:
    """Address of an S3 server on this machine."""
    with s3_server() as address:
        yield address


@pytest.fixture(scope="package")
def proxy(server: str) -> Iterator[FaultyStore]:
    """The proxy before the server."""
    with faulty_proxy(server) as store:
        yield store


@pytest.fixture
def store(proxy: FaultyStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyStore]:
    """The environment as for any S3 server, with an empty bucket."""
    import boto3

    for name, value in environment(proxy.url).items():
        monkeypatch.setenv(name, value)
    stores._s3.cache_clear()
    client = boto3.client("s3", region_name="us-east-1")
    proxy.reset()
    client.create_bucket(Bucket=BUCKET)
    proxy.reset()
    yield proxy
    proxy.reset()
    for item in client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        client.delete_object(Bucket=BUCKET, Key=item["Key"])
    stores._s3.cache_clear()

"""A bucket behind a proxy that counts and injects faults."""

import logging
from collections.abc import Iterator

import pytest

from faulty_store import KEY, SECRET, FaultyStore, faulty_proxy
from ganomaly.remote import stores


@pytest.fixture(scope="package")
def server() -> Iterator[str]:
    """Address of an S3 server on this machine."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    started = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    started.start()
    host, port = started.get_host_and_port()
    yield f"{host}:{port}"
    started.stop()


@pytest.fixture(scope="package")
def proxy(server: str) -> Iterator[FaultyStore]:
    """The proxy before the server."""
    with faulty_proxy(server) as store:
        yield store


@pytest.fixture
def store(proxy: FaultyStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyStore]:
    """The environment as for any S3 server, with an empty bucket called `parts`."""
    import boto3

    for name, value in {
        "AWS_ENDPOINT_URL": proxy.url,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    stores._s3.cache_clear()
    client = boto3.client("s3", region_name="us-east-1")
    proxy.reset()
    client.create_bucket(Bucket="parts")
    proxy.reset()
    yield proxy
    proxy.reset()
    for item in client.list_objects_v2(Bucket="parts").get("Contents", []):
        client.delete_object(Bucket="parts", Key=item["Key"])
    stores._s3.cache_clear()

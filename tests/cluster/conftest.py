"""Ray on this machine, started once for all tests here."""

from collections.abc import Iterator

import pytest

from ganomaly.cluster.session import ray_session


@pytest.fixture(scope="package", autouse=True)
def _ray() -> Iterator[None]:
    with ray_session():
        yield

"""What tests of the service share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from databases import postgresql, store_url
from ganomaly.service.station import Station
from service.stations import client_of, settings

__all__ = ["postgresql", "store_url"]


@pytest.fixture
def station(model_path: Path, tmp_path: Path) -> Iterator[tuple[TestClient, Station]]:
    """A client of a station with the small model, and the station."""
    with client_of(settings(model_path, tmp_path)) as opened:
        yield opened


@pytest.fixture
def any_station(model_path: Path, store_url: str, tmp_path: Path) -> Iterator[tuple[TestClient, Station]]:
    """The same on each kind of database."""
    with client_of(settings(model_path, tmp_path, store=store_url)) as opened:
        yield opened

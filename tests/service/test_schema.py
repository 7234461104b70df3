"""The API answers as /openapi.json says, whatever is sent to it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, seed, settings, strategies
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.core.parameters import ParameterLocation
from schemathesis.specs.openapi.checks import positive_data_acceptance

from service.server_process import MODEL, NAME, image

EXAMPLES = 30
OPERATIONS = (
    "POST /v1/models/{model}/predictions",
    "GET /v1/predictions",
    "GET /v1/predictions/{id}",
    "GET /v1/predictions/{id}/image",
    "GET /v1/predictions/{id}/map",
    "GET /v1/predictions/{id}/overlay",
    "PUT /v1/predictions/{id}/review",
    "DELETE /v1/predictions/{id}/review",
    "GET /v1/models",
    "GET /v1/models/{model}/drift",
    "POST /v1/models/{model}/recalibrations",
    "PUT /v1/models/{model}/version",
    "GET /health/live",
    "GET /health/ready",
    "GET /metrics",
)

ANY_VALUE = {name for name in OPERATIONS if name.startswith("GET")}
"""Operations that take whatever has the right types; the others need an image, a name of a folder, or a sample."""


@pytest.fixture(scope="module")
def operations(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The operations of a station with some predictions, one of them reviewed."""
    from fastapi.testclient import TestClient

    from ganomaly.service.app import make_app
    from ganomaly.service.settings import Settings
    from ganomaly.service.station import Station

    folder: Path = tmp_path_factory.mktemp("station")
    app = make_app(Station(Settings(MODEL, store=str(folder / "station.db"), requests_per_minute=10**6)))
    with TestClient(app, base_url="http://localhost") as client:
        for number in range(3):
            client.post(f"/v1/models/{NAME}/predictions", content=image(number)).raise_for_status()
        client.put("/v1/predictions/1/review", json={"label": "normal"}).raise_for_status()
        schema = schemathesis.openapi.from_asgi("/openapi.json", app)
        yield {operation.ok().label: operation.ok() for operation in schema.get_all_operations()}


def test_all_operations_are_tested(operations: dict[str, Any]) -> None:
    assert set(operations) == set(OPERATIONS)


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("name", OPERATIONS)
def test_the_api_keeps_to_its_description(
    operations: dict[str, Any], name: str, mode: GenerationMode
) -> None:
    @seed(0)
    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(
        case=operations[name].as_strategy(generation_mode=mode),
        known=strategies.none() | strategies.integers(1, 3),
    )
    def check(case: Any, known: int | None) -> None:
        path = case.meta.components.get(ParameterLocation.PATH)
        if known is not None and path is not None and path.mode.is_positive:
            case.path_parameters = {key: {"model": NAME, "id": known}[key] for key in case.path_parameters}
        is_free = name in ANY_VALUE and "cursor" not in (case.query or {})
        case.call_and_validate(
            base_url="http://localhost", excluded_checks=[] if is_free else [positive_data_acceptance]
        )

    try:
        check()
    except Unsatisfiable:
        assert mode.is_negative
        pytest.skip("nothing of it can be wrong")

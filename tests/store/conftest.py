"""What tests of the store share."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from databases import postgresql, store_url
from ganomaly.calibration import Calibration
from ganomaly.store import Store, open_store
from ganomaly.store.predictions import add_predictions
from ganomaly.store.versions import NewVersion, add_version, register_model

__all__ = ["postgresql", "store_url"]


@pytest.fixture
def store(store_url: str, tmp_path: Path) -> Iterator[Store]:
    """A store with a model and its first version."""
    opened = open_store(store_url, tmp_path / "files")
    with opened.writing() as session:
        calibration = Calibration(np.linspace(0.1, 1, 19), 0.1)
        add_version(
            session, register_model(session, "parts"), NewVersion("0.onnx", calibration, "file", "test")
        )
    yield opened
    opened.close()


def row(number: int, **changes: Any) -> dict[str, Any]:
    """Columns of a prediction."""
    score = 0.1 + (number * 7919 % 1000) / 500
    return {
        "model_id": 1,
        "version": 1,
        "key": f"key {number}",
        "name": f"part {number}",
        "source": "test",
        "digest": f"{number:064x}",
        "media_type": "image/png",
        "n_bytes": 100,
        "height": 32,
        "width": 32,
        "score": score,
        "normalized_score": score / (1 + score),
        "p_value": max(0.05, 1 - score / 2),
        "threshold": 0.95,
        "is_anomaly": score > 0.95,
        "in_sample": number % 3 == 0,
        "has_image": False,
        "has_map": False,
        "created": datetime.now(UTC),
        "label": None,
        "disagrees": False,
        **changes,
    }


def add(store: Store, *rows: dict[str, Any]) -> list[int]:
    """Store predictions; return their numbers."""
    with store.writing() as session:
        return [each.id for each in add_predictions(session, rows)]

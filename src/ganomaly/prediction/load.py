"""Load a predictor from its file: a trained model, or an exported graph."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ganomaly.calibration import Calibration, ProductCalibration
from ganomaly.config import GRAPH_ENDINGS
from ganomaly.errors import UsageError, package_needed
from ganomaly.prediction.exported import load_exported
from ganomaly.prediction.predictor import Predictor
from ganomaly.remote import Location, RemoteFile, local_copy, location


def load_predictor(path: str | Location) -> Predictor:
    """Read a model from `.safetensors`, or an exported graph from `.onnx` or `.xml`, which needs no PyTorch.

    It may be in a store, as ``s3://bucket/part.safetensors``.

    A process that is forked from one in which a model was loaded cannot compute with it, and says so. Start processes
    with ``multiprocessing.get_context("spawn")``, and load the model in each.

    Raises
    ------
    UsageError
        If there is no such file, a package that it needs is missing, or this process was forked from one in which
        PyTorch or OpenVINO computes.
    ModelFileError
        If it is truncated, foreign, newer than this package, or was changed.
    """
    path = location(path)
    if isinstance(path, RemoteFile):
        with model_copy(path) as copy:
            return load_predictor(copy)
    if path.suffix.lower() in GRAPH_ENDINGS:
        return load_exported(path)
    with package_needed(f"a model that is not exported, as {path},"):
        from ganomaly.prediction.model_file import load_model
    return load_model(path)


@contextmanager
def model_copy(path: Location) -> Iterator[Path]:
    """A model or graph on this machine: its own file, or a copy of one in a store while the block runs.

    Raises
    ------
    UsageError
        If a store has no such file.
    """
    try:
        with local_copy(path, *([".bin"] if path.suffix.lower() == ".xml" else [])) as copy:
            yield copy
    except FileNotFoundError:
        raise UsageError(f"there is no model file {path}; check the path") from None


def describe_model(path: str | Location) -> dict[str, Any]:
    """Method, options, preprocessing, calibration and provenance of a model or an exported graph.

    Raises as `load_predictor` does.
    """
    model = load_predictor(path)
    calibration = model.calibration
    return {
        "file": str(path),
        "method": model.method_name,
        "preset": model.preset,
        "options": dict(model.method_options),
        "preprocessing": model.preprocessing.model_dump(),
        "calibration": {
            "false_alarm_rate": calibration.false_alarm_rate,
            "attained_rate": calibration.attained_rate,
            "threshold": calibration.threshold,
            "images": len(calibration.scores),
        },
        **_products(calibration),
        "parameters": model.parameters,
        "provenance": dict(model.provenance),
    }


def _products(calibration: Calibration) -> dict[str, Any]:
    """The products of a model of several; scores are relative to the threshold of each."""
    if not isinstance(calibration, ProductCalibration):
        return {}
    counts = {
        name: {"attained_rate": part.attained_rate, "images": len(part.scores)}
        for name, part in calibration.products.items()
    }
    return {"products": counts}

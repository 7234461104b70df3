"""Load whatever predicts: a trained model, or an exported graph."""

from pathlib import Path
from typing import Any

from ganomaly.config import GRAPH_ENDINGS
from ganomaly.errors import package_needed
from ganomaly.prediction.exported import load_exported
from ganomaly.prediction.predictor import Predictor


def load_predictor(path: str | Path) -> Predictor:
    """Read a `.safetensors` model, or an exported `.onnx` or `.xml` one, for which PyTorch is not imported.

    Raises
    ------
    UsageError
        If there is no such file, or a package is missing that it needs.
    ModelFileError
        If it is truncated, foreign, newer than this package, or was changed.
    """
    if Path(path).suffix.lower() in GRAPH_ENDINGS:
        return load_exported(path)
    with package_needed(f"a model that is not exported, as {path},"):
        from ganomaly.prediction.model_file import load_model
    return load_model(path)


def describe_model(path: str | Path) -> dict[str, Any]:
    """Tell what a model, exported or not, holds: method, options, preprocessing, calibration and provenance.

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
        "parameters": model.parameters,
        "provenance": dict(model.provenance),
    }

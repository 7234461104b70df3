"""The networks of a graph in 8-bit integers, which processors compute faster; the rest stays as it is.

The ranges of the numbers are taken on the calibration images, and so is the threshold once more: scores of a graph in
8 bits differ a little, and a threshold means something for the scores it was taken from only.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ganomaly.data import ImageDataset, Subset, read_batches
from ganomaly.errors import package_needed
from ganomaly.export.write import quietly
from ganomaly.prediction.calibrate import calibrate
from ganomaly.prediction.exported import IMAGE, ONNX, THRESHOLD, ExportedModel, load_exported
from ganomaly.prediction.model import Model

if TYPE_CHECKING:
    import onnx

IMAGES_FOR_RANGES = 32
CALIBRATION_SCORES = "calibration_scores"
NETWORKS = ["Conv", "ConvTranspose"]


def in_8_bits(proto: "onnx.ModelProto", model: Model, images: ImageDataset) -> "onnx.ModelProto":
    """A graph whose networks compute in 8 bits, calibrated anew.

    Parameters
    ----------
    proto : onnx.ModelProto
        As `as_onnx` gives it.
    model : Model
        What it was made from.
    images : ImageDataset
        The calibration images: normal, and not trained on.

    Raises
    ------
    DataError
        If no image can be read.
    UsageError
        If ONNX Runtime is missing.
    """
    with package_needed("exporting in 8 bits"):
        import onnx
        import onnxruntime
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Images(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime is not typed
        def __init__(self) -> None:
            some = np.linspace(0, len(images) - 1, min(IMAGES_FOR_RANGES, len(images))).astype(np.int64)
            self._pixels = _pixels(model, Subset(images, some))

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            pixels = next(self._pixels, None)
            return None if pixels is None else {IMAGE: pixels}

    with TemporaryDirectory() as folder:
        whole, quantised = Path(folder) / f"whole{ONNX}", Path(folder) / f"int8{ONNX}"
        onnx.save(proto, whole)
        with quietly("root"):
            onnxruntime.set_default_logger_severity(3)
            quantize_static(
                whole,
                quantised,
                Images(),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=NETWORKS,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                # weights in 7 bits: processors without VNNI add two products in 16 bits, which must not overflow
                reduce_range=True,
            )
        made = onnx.load(quantised)
        onnx.helper.set_model_props(made, {entry.key: entry.value for entry in proto.metadata_props})
        onnx.save(made, quantised)
        graph = load_exported(quantised)
        return _calibrated(made, graph, images)


def _pixels(model: Model, images: ImageDataset) -> Iterator[NDArray[Any]]:
    """What the graph is fed with, one image at a time."""
    for batch in read_batches(images, model.preprocessing, batch_size=1, full_size=True):
        if len(batch.images):
            yield batch.images


def _calibrated(proto: "onnx.ModelProto", graph: ExportedModel, images: ImageDataset) -> "onnx.ModelProto":
    """The graph with scores of its own to compare with."""
    import onnx

    calibration, maps = calibrate(graph.predict(images, details=True), graph.calibration.false_alarm_rate)
    numbers = {
        CALIBRATION_SCORES: calibration.scores.astype(np.float32),
        THRESHOLD: np.array([calibration.threshold], np.float32),
    }
    for initializer in proto.graph.initializer:
        if initializer.name in numbers:
            initializer.CopyFrom(onnx.numpy_helper.from_array(numbers[initializer.name], initializer.name))
    known = {entry.key: entry.value for entry in proto.metadata_props}
    described = json.loads(known["model"]) | {
        "threshold": calibration.threshold,
        "calibration_scores": calibration.scores.tolist(),
    }
    if maps is not None:
        described |= {"map_medians": maps.medians.tolist(), "map_maxima": maps.maxima.tolist()}
    onnx.helper.set_model_props(proto, known | {"model": json.dumps(described)})
    return proto

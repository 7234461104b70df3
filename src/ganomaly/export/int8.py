"""A graph whose networks compute in 8-bit integers, which is faster on many processors; the rest stays as it is.

The calibration images give the ranges of the numbers, and calibrate the graph anew: scores in 8 bits differ a little,
and a threshold holds only for scores like those it was calibrated on.
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
from ganomaly.export.write import silence, write_graph
from ganomaly.prediction.calibrate import calibrate
from ganomaly.prediction.exported import IMAGE, ONNX, THRESHOLD, ExportedModel, load_exported
from ganomaly.prediction.model import Model

if TYPE_CHECKING:
    import onnx

RANGE_IMAGES = 32
CALIBRATION_SCORES = "calibration_scores"
QUANTISED_OPERATORS = ["Conv", "ConvTranspose"]


def quantise(proto: "onnx.ModelProto", model: Model, images: ImageDataset) -> "onnx.ModelProto":
    """Quantise the networks of a graph to 8 bits, and calibrate it anew.

    Parameters
    ----------
    proto : onnx.ModelProto
        From `to_onnx`.
    model : Model
        The model that was exported.
    images : ImageDataset
        The calibration set: normal images that were not used for training.

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
            n_images = min(RANGE_IMAGES, len(images))
            indices = np.linspace(0, len(images) - 1, n_images).astype(np.int64)
            self._pixels = _pixels(model, Subset(images, indices))

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            pixels = next(self._pixels, None)
            return None if pixels is None else {IMAGE: pixels}

    with TemporaryDirectory() as folder:
        fp32, int8 = Path(folder) / f"fp32{ONNX}", Path(folder) / f"int8{ONNX}"
        onnx.save(proto, fp32)
        with silence("root"):
            onnxruntime.set_default_logger_severity(3)
            quantize_static(
                fp32,
                int8,
                Images(),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=QUANTISED_OPERATORS,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                # weights in 7 bits: processors without VNNI add two products in 16 bits, which must not overflow
                reduce_range=True,
            )
        quantised = onnx.load(int8)
        onnx.helper.set_model_props(quantised, {entry.key: entry.value for entry in proto.metadata_props})
        write_graph(quantised, int8, "onnx")
        return _calibrate(quantised, load_exported(int8), images)


def _pixels(model: Model, images: ImageDataset) -> Iterator[NDArray[Any]]:
    """The inputs of the graph, one image at a time; images that cannot be read are left out."""
    for batch in read_batches(images, model.preprocessing, batch_size=1, full_size=True):
        if len(batch.images):
            yield batch.images


def _calibrate(proto: "onnx.ModelProto", graph: ExportedModel, images: ImageDataset) -> "onnx.ModelProto":
    """Replace threshold and calibration scores of a graph by those of its own predictions."""
    import onnx

    calibration, maps = calibrate(graph.predict(images, details=True), graph.calibration.false_alarm_rate)
    initializers = {
        CALIBRATION_SCORES: calibration.scores.astype(np.float32),
        THRESHOLD: np.array([calibration.threshold], np.float32),
    }
    for initializer in proto.graph.initializer:
        if initializer.name in initializers:
            initializer.CopyFrom(
                onnx.numpy_helper.from_array(initializers[initializer.name], initializer.name)
            )
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    description = json.loads(metadata["model"]) | {
        "threshold": calibration.threshold,
        "calibration_scores": calibration.scores.tolist(),
    }
    if maps is not None:
        description |= {"map_medians": maps.medians.tolist(), "map_maxima": maps.maxima.tolist()}
    onnx.helper.set_model_props(proto, metadata | {"model": json.dumps(description)})
    return proto

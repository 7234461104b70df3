"""A model that was exported to one graph: load it and predict with it, without PyTorch.

The graph takes the user's pixels and gives score, p-value, verdict, map and reconstruction; what people want to know
beside that (threshold, calibration, provenance) is JSON in its metadata. `ganomaly.export` writes it.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from ganomaly.calibration import Calibration, MapCalibration
from ganomaly.config import BATCH_SIZE, DEVICE, GRAPH_ENDINGS, Device, Preprocessing
from ganomaly.data import ImageDataset, Pixels, resize_image
from ganomaly.errors import GANomalyError, ModelFileError, UsageError, package_needed
from ganomaly.prediction.earlier_formats import upgraded
from ganomaly.prediction.loop import BatchOutputs, run_prediction_loop
from ganomaly.prediction.prediction import Prediction

FORMAT = "ganomaly-graph"
FORMAT_VERSION = 1
ONNX, OPENVINO = GRAPH_ENDINGS
IMAGE, THRESHOLD = "image", "threshold"
OUTPUTS = ("score", "p_value", "is_anomaly", "anomaly_map", "reconstruction")
METADATA = ("format", "format_version", "model", "provenance")


class Graph(Protocol):
    """A graph that is ready to run."""

    metadata: Mapping[str, str]

    def run(self, image: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
        """Outputs by name, for `uint8` or `uint16` `[N, H, W, C]`."""


@dataclass(frozen=True, eq=False)
class ExportedModel:
    """A graph with what is known of it; it predicts as the model that it was exported from.

    Attributes are those of `Predictor`.
    """

    graph: Graph
    method_name: str
    method_options: Mapping[str, Any]
    preset: str
    preprocessing: Preprocessing
    calibration: Calibration
    map_calibration: MapCalibration | None
    provenance: Mapping[str, Any]

    @property
    def parameters(self) -> None:
        """A graph does not tell."""
        return None

    def predict(
        self,
        dataset: ImageDataset,
        *,
        batch_size: int = BATCH_SIZE,
        device: Device = DEVICE,
        details: bool = False,
    ) -> Iterator[Prediction]:
        """Predict all images of a dataset, in order, on the processor.

        Raises
        ------
        UsageError
            If a GPU is asked for.
        """
        if device == "cuda":
            raise UsageError(
                "an exported model runs on the processor here; use the .safetensors model on a GPU"
            )

        def compute(pixels: Pixels) -> BatchOutputs:
            return self._outputs(pixels, details)

        # squares are read at the network's size, which the graph keeps; other images are scaled by the graph
        return run_prediction_loop(
            compute, dataset, self.preprocessing, self.calibration, batch_size=batch_size, full_size=True
        )

    def _outputs(self, pixels: Pixels, details: bool) -> BatchOutputs:
        outputs = self.graph.run(pixels)
        scores = outputs["score"].astype(np.float64)
        if not details:
            return BatchOutputs(scores)
        reconstructions = outputs.get("reconstruction")
        return BatchOutputs(
            scores,
            images=self._network_input(pixels, reconstructions),
            reconstructions=reconstructions,
            anomaly_maps=outputs.get("anomaly_map"),
        )

    def _network_input(self, pixels: Pixels, reconstructions: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
        """The images as the networks see them, to be shown beside their reconstructions: `uint8[N, h, w, C]`."""
        if reconstructions is not None:
            size = (reconstructions.shape[1], reconstructions.shape[2])
            pixels = cast(Pixels, np.stack([resize_image(image, size, image.shape[2]) for image in pixels]))
        levels = np.minimum(pixels / self.preprocessing.white_level, 1) * 255
        shown: NDArray[np.uint8] = np.rint(levels).astype(np.uint8)
        return shown


def load_exported(path: str | Path) -> ExportedModel:
    """Read a graph that `ganomaly export` wrote: `.onnx`, or OpenVINO's `.xml` with its `.bin` beside it.

    Raises
    ------
    UsageError
        If there is no such file, or ONNX Runtime or OpenVINO is not installed.
    ModelFileError
        If it is damaged, was not exported by ganomaly, or by a newer version.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"there is no model file {path}; `ganomaly export MODEL --out {path}` makes one")
    graph = _OnnxGraph(path) if path.suffix.lower() == ONNX else _OpenVINOGraph(path)
    known = graph.metadata
    if known.get("format") != FORMAT:
        raise ModelFileError(f"{path} is a graph, but `ganomaly export` did not write it")
    version = known.get("format_version", "")
    if version.isdecimal() and int(version) > FORMAT_VERSION:
        raise ModelFileError(
            f"{path} was exported by a newer version of ganomaly (format {version}, this one reads up to "
            f"{FORMAT_VERSION}); upgrade ganomaly"
        )
    try:
        described = json.loads(known["model"])
        rate = described["false_alarm_rate"]
        maps = described["map_medians"], described["map_maxima"]
        return ExportedModel(
            graph,
            described["method"],
            upgraded(described["method"], described["options"], {})[0],
            described["preset"],
            Preprocessing(**described["preprocessing"]),
            Calibration(np.array(described["calibration_scores"]), rate),
            MapCalibration(np.array(maps[0]), np.array(maps[1]), rate) if maps[1] else None,
            json.loads(known["provenance"]),
        )
    except (KeyError, TypeError, ValueError, GANomalyError) as error:
        raise ModelFileError(
            f"{path} was exported by ganomaly, but its metadata is damaged; export it again"
        ) from error


class _OnnxGraph:
    """A graph in ONNX Runtime."""

    def __init__(self, path: Path) -> None:
        with package_needed(str(path)):
            import onnxruntime
        try:
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 3  # errors; that the threshold may be overridden is meant so
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        # ONNX Runtime's own errors have no base but Exception
        except Exception as error:
            raise ModelFileError(
                f"{path} is no ONNX graph that can be run, or it is damaged; export it again"
            ) from error
        self.metadata: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map
        self._names = [output.name for output in self._session.get_outputs()]

    def run(self, image: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
        """Outputs by name."""
        return dict(zip(self._names, self._session.run(None, {IMAGE: image}), strict=True))


class _OpenVINOGraph:
    """A graph in OpenVINO."""

    def __init__(self, path: Path) -> None:
        with package_needed(str(path)):
            import openvino
        core = openvino.Core()
        try:
            model = core.read_model(path)
            # left to itself OpenVINO computes in bf16 where the processor can, and scores would not repeat elsewhere
            self._compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        except RuntimeError as error:
            raise ModelFileError(
                f"{path} is no OpenVINO graph, or its .bin is missing; export it again"
            ) from error
        self.metadata: Mapping[str, str] = {
            name: model.get_rt_info(["ganomaly", name]).astype(str)
            for name in METADATA
            if model.has_rt_info(["ganomaly", name])
        }

    def run(self, image: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
        """Outputs by name."""
        found = self._compiled({IMAGE: image})
        return {output.get_any_name(): found[output] for output in self._compiled.outputs}

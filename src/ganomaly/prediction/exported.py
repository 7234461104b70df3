"""Exported graphs: load one and predict with it, without PyTorch.

A graph takes the user's pixels and gives score, p-value, verdict, map and reconstruction. Its metadata hold
threshold, calibration and provenance as JSON. `ganomaly.export` writes it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from ganomaly.calibration import Calibration, MapCalibration, ProductCalibration
from ganomaly.config import BATCH_SIZE, DEVICE, GRAPH_ENDINGS, Device, Preprocessing
from ganomaly.data import ImageDataset, Pixels, resize_image
from ganomaly.data.ignored_region import split_region
from ganomaly.data.large_images import LARGE_PIXELS
from ganomaly.data.resources import available_memory
from ganomaly.errors import ModelFileError, UsageError, package_needed
from ganomaly.forks import RuntimeThreads
from ganomaly.prediction.earlier_formats import upgraded
from ganomaly.prediction.graph_checksum import CHECKSUM, changed, check_checksum
from ganomaly.prediction.header import (
    MAX_GRAPH_JSON,
    GraphHeader,
    calibration_of,
    damaged,
    read_format_version,
    read_header,
    read_provenance,
)
from ganomaly.prediction.loop import BatchOutputs, run_prediction_loop
from ganomaly.prediction.openvino_runtime import import_openvino
from ganomaly.prediction.prediction import Prediction

FORMAT = "ganomaly-graph"
FORMAT_VERSION = 1
ONNX, OPENVINO = GRAPH_ENDINGS
BYTES_PER_PIXEL = 300  # of the network input, where images are not squares
IMAGE, THRESHOLD = "image", "threshold"
OUTPUTS = ("score", "p_value", "is_anomaly", "anomaly_map", "reconstruction", "product")
SCORE, PRODUCT = OUTPUTS[0], OUTPUTS[-1]
DIMENSIONS = {SCORE: 1, "anomaly_map": 3, "reconstruction": 4, PRODUCT: 1}
METADATA = ("format", "format_version", "model", "provenance")


class Graph(Protocol):
    """A graph that is ready to run."""

    metadata: Mapping[str, str]
    outputs: tuple[str, ...]
    image_type: tuple[str, int] | None
    """Data type and channels of its input, as ("uint8", 3); None if it takes no images."""

    def run(self, image: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
        """Outputs by name, for `uint8` or `uint16` `[N, H, W, C]`."""


@dataclass(frozen=True, eq=False)
class ExportedModel:
    """An exported graph with its calibration and provenance; a `Predictor`.

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
        """None: a graph does not say which of its numbers were trained."""
        return None

    def predict(
        self,
        dataset: ImageDataset,
        *,
        batch_size: int = BATCH_SIZE,
        device: Device = DEVICE,
        details: bool = False,
        fixed_batches: bool = False,
    ) -> Iterator[Prediction]:
        """Predict all images of a dataset, in order, on the processor.

        Raises
        ------
        UsageError
            If a GPU is asked for, regions of single images are ignored and the score is made of positions, or this
            process was forked from one in which the graph was loaded.
        """
        if device == "cuda":
            raise UsageError(
                "ganomaly runs exported models on the processor; use the .safetensors model on a GPU"
            )

        if dataset.has_ignored_regions and self.preprocessing.scale is not None:
            raise UsageError(
                f"an exported graph of {self.method_name} cannot ignore regions of single images, since its score is "
                "made of positions that the graph does not know to leave out; use the .safetensors model, or fit it "
                "with one mask for all images, which graphs hold"
            )

        def compute(pixels: Pixels) -> BatchOutputs:
            self._check_memory(pixels)
            pixels, region = split_region(pixels, self.preprocessing.channels)
            return self._outputs(pixels, region, details)

        # squares are read at the network's size, which the graph keeps; other images are scaled by the graph
        return run_prediction_loop(
            compute,
            dataset,
            self.preprocessing,
            self.calibration,
            batch_size=batch_size,
            full_size=True,
            fixed_batches=fixed_batches,
        )

    def _check_memory(self, pixels: Pixels) -> None:
        """Raise `MemoryError` where a system would end the process: a graph takes large images in one piece."""
        scale = self.preprocessing.scale
        n_pixels = 0.0 if scale is None else scale**2 * pixels[..., 0].size
        if n_pixels > LARGE_PIXELS / 16 and n_pixels * BYTES_PER_PIXEL > available_memory():
            raise MemoryError

    def _outputs(self, pixels: Pixels, region: NDArray[np.bool_] | None, details: bool) -> BatchOutputs:
        outputs = self._checked(self.graph.run(pixels), len(pixels))
        scores = outputs[SCORE].astype(np.float64)
        products = outputs.get(PRODUCT)
        if not details:
            return BatchOutputs(scores, products=products)
        reconstructions, maps = outputs.get("reconstruction"), outputs.get("anomaly_map")
        if maps is not None and region is not None:
            maps = np.where(region, maps.dtype.type(0), maps)
        return BatchOutputs(
            scores,
            images=self._network_input(pixels, reconstructions),
            reconstructions=reconstructions,
            anomaly_maps=maps,
            products=products,
        )

    def _checked(self, outputs: Mapping[str, NDArray[Any]], n: int) -> Mapping[str, NDArray[Any]]:
        """Refuse outputs that are not those of n images."""
        for name, dimensions in DIMENSIONS.items():
            if name in outputs and (outputs[name].ndim != dimensions or len(outputs[name]) != n):
                raise ModelFileError(
                    f"the graph gives {name} of shape {outputs[name].shape} for {n} images; export it again"
                )
        return outputs

    def _network_input(self, pixels: Pixels, reconstructions: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
        """The network input as images, to show beside the reconstructions: `uint8[N, h, w, C]`."""
        if reconstructions is not None:
            size = (reconstructions.shape[1], reconstructions.shape[2])
            pixels = cast(Pixels, np.stack([resize_image(image, size, image.shape[2]) for image in pixels]))
        levels = np.minimum(pixels / self.preprocessing.white_level, 1) * 255
        images: NDArray[np.uint8] = np.rint(levels).astype(np.uint8)
        return images


def load_exported(path: str | Path) -> ExportedModel:
    """Read a graph that `ganomaly export` wrote: `.onnx`, or OpenVINO's `.xml` with its `.bin` beside it.

    Raises
    ------
    UsageError
        If there is no such file, ONNX Runtime or OpenVINO is not installed, or this process was forked from one
        that has loaded an OpenVINO graph, and this is one too.
    ModelFileError
        If it is damaged or was changed, was not exported by ganomaly, or by a newer version.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"there is no model file {path}; `ganomaly export MODEL --out {path}` makes one")
    has_checksum = check_checksum(path)
    graph: Graph = _OnnxGraph(path) if path.suffix.lower() == ONNX else _OpenVINOGraph(path)
    metadata = graph.metadata
    if metadata.get("format") != FORMAT:
        raise ModelFileError(f"{path} is a graph, but `ganomaly export` did not write it")
    read_format_version(path, metadata, FORMAT_VERSION)
    header = read_header(path, metadata, GraphHeader, max_size=MAX_GRAPH_JSON)
    if not has_checksum and (header.checksum is not None or CHECKSUM in metadata):
        raise changed(path)
    _check_signature(path, graph, header)
    calibration, map_calibration = calibration_of(
        path,
        np.array(header.calibration_scores, dtype=np.float64),
        (np.array(header.map_medians), np.array(header.map_maxima)) if header.map_maxima else None,
        header.false_alarm_rate,
    )
    if header.products is not None:
        calibration = _product_calibration(path, graph, header, header.products)
    return ExportedModel(
        graph,
        header.method,
        upgraded(header.method, header.options, {})[0],
        header.preset,
        header.preprocessing,
        calibration,
        map_calibration,
        read_provenance(path, metadata),
    )


def _product_calibration(
    path: Path, graph: Graph, header: GraphHeader, names: Sequence[str]
) -> ProductCalibration:
    scores = header.product_scores or []
    if PRODUCT not in graph.outputs or len(scores) != len(names):
        raise damaged(path, "it does not have an output and calibration scores for its products")
    parts = [calibration_of(path, np.array(part), None, header.false_alarm_rate)[0] for part in scores]
    return ProductCalibration.of_relative(dict(zip(names, parts, strict=True)))


def _check_signature(path: Path, graph: Graph, header: GraphHeader) -> None:
    """Refuse a graph whose inputs and outputs are not those that its header describes."""
    expected = (f"uint{header.preprocessing.bits}", header.preprocessing.channels)
    if graph.image_type != expected:
        images = "no images" if graph.image_type is None else "{1} channels of {0}".format(*graph.image_type)
        raise damaged(path, f"the graph takes {images}, and its header says {expected[1]} of {expected[0]}")
    if SCORE not in graph.outputs:
        raise damaged(path, "the graph has no output `score`")


class _OnnxGraph:
    """A graph in ONNX Runtime."""

    def __init__(self, path: Path) -> None:
        with package_needed(str(path)):
            import onnxruntime
        self._path = path
        self._threads = RuntimeThreads("ONNX Runtime")  # each session has its own
        self._threads.start()
        try:
            options = onnxruntime.SessionOptions()
            # fatal errors only: others are raised, and the warning that the threshold has a default is harmless
            options.log_severity_level = 4
            # without a second try, which prints to the standard output
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"], enable_fallback=0
            )
            inputs = {entry.name: entry for entry in self._session.get_inputs()}
            self.outputs = tuple(output.name for output in self._session.get_outputs())
            self.metadata: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map
        # ONNX Runtime's own errors have no base but Exception
        except Exception as error:
            raise ModelFileError(
                f"{path} is not an ONNX graph that can be run, or it is damaged; export it again"
            ) from error
        image = inputs.get(IMAGE)
        dtype = "" if image is None else image.type.removeprefix("tensor(").removesuffix(")")
        self.image_type = None if image is None else _image_type(dtype, image.shape)

    def run(self, image: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
        """Outputs by name."""
        self._threads.check()
        with _errors_in_words(self._path):
            return dict(zip(self.outputs, self._session.run(None, {IMAGE: image}), strict=True))


class _OpenVINOGraph:
    """A graph in OpenVINO."""

    _threads = RuntimeThreads("OpenVINO")  # all graphs share them

    def __init__(self, path: Path) -> None:
        with package_needed(str(path)):
            openvino = import_openvino()
        self._path = path
        self._threads.start()
        core = openvino.Core()
        try:
            model = core.read_model(path)
            # by default OpenVINO computes in bf16 where the processor can, and other processors give other scores
            self._compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
            inputs = {entry.get_any_name(): entry for entry in self._compiled.inputs}
            self.outputs = tuple(output.get_any_name() for output in self._compiled.outputs)
            self.metadata: Mapping[str, str] = {
                name: model.get_rt_info(["ganomaly", name]).astype(str)
                for name in METADATA
                if model.has_rt_info(["ganomaly", name])
            }
        except (RuntimeError, ValueError, TypeError) as error:
            raise ModelFileError(
                f"{path} is not an OpenVINO graph, its .bin is missing, or it is damaged; export it again"
            ) from error
        image = inputs.get(IMAGE)
        self.image_type = None
        if image is not None:
            shape = [size.get_length() if size.is_static else None for size in image.get_partial_shape()]
            self.image_type = _image_type(image.get_element_type().to_dtype().name, shape)

    def run(self, image: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
        """Outputs by name."""
        self._threads.check()
        with _errors_in_words(self._path):
            outputs = self._compiled({IMAGE: image})
            return {output.get_any_name(): outputs[output] for output in self._compiled.outputs}


def _image_type(dtype: str, shape: Sequence[Any]) -> tuple[str, int] | None:
    """Data type and channels of a graph's input, or None if it does not take images `[N, H, W, C]`."""
    return (dtype, shape[3]) if len(shape) == 4 and isinstance(shape[3], int) else None


@contextmanager
def _errors_in_words(path: Path) -> Iterator[None]:
    """Turn the errors of a runtime, which have no base but Exception, into sentences."""
    try:
        yield
    except Exception as error:
        if "alloc" in str(error):
            raise MemoryError from error
        reason = " ".join(str(error).split())[:200]
        raise ModelFileError(f"{path} cannot be run on these images: {reason}") from error

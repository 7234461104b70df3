"""Write a model as one graph: ONNX, or OpenVINO's own format."""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch.export import Dim

from ganomaly.calibration import ProductCalibration
from ganomaly.errors import OutputError, UsageError, package_needed
from ganomaly.export.graph import InferenceGraph
from ganomaly.files import written_whole
from ganomaly.output_checks import ONNX_GRAPH, OPENVINO_GRAPH, check_outputs, is_unfinished
from ganomaly.prediction.exported import FORMAT, FORMAT_VERSION, IMAGE, ONNX, OPENVINO, OUTPUTS, THRESHOLD
from ganomaly.prediction.graph_checksum import checksum_entry
from ganomaly.prediction.model import Model
from ganomaly.prediction.openvino_runtime import import_openvino
from ganomaly.prediction.pytorch import eval_mode
from ganomaly.remote import Location, RemoteFile, location

if TYPE_CHECKING:
    import onnx

ExportFormat = Literal["onnx", "openvino"]
SUFFIXES: dict[ExportFormat, str] = {"onnx": ONNX, "openvino": OPENVINO}
OPSET = 20
EXAMPLE_SHAPE = (
    2,
    75,
    66,
)  # N, H, W; none of them equals a size in a network, which the tracer would take for it


def check_export_path(path: str | Location, file_format: ExportFormat) -> None:
    """Raise `UsageError` now if a graph of this format could not be written to `path` later."""
    path = location(path)
    check_outputs({"the graph": (path, ONNX_GRAPH if file_format == "onnx" else OPENVINO_GRAPH)})
    if isinstance(path, RemoteFile):
        return
    weights = path.with_suffix(".bin")
    if (
        file_format == "openvino"
        and weights.exists()
        and not (path.exists() or is_unfinished(path, OPENVINO_GRAPH))
    ):
        raise UsageError(f"{weights} exists, and the graph's weights would replace it; name another file")


def export_model(model: Model, path: str | Path, file_format: ExportFormat = "onnx") -> None:
    """Write everything from the user's pixels to the verdict as one graph.

    Parameters
    ----------
    model : Model
        Moved to the CPU.
    path : str or Path
        Ends in `.onnx`, or in `.xml`; OpenVINO's weights are written beside it, to a `.bin` of the same name.
    file_format : {'onnx', 'openvino'}
        The format.

    Raises
    ------
    UsageError
        If the suffix does not match the format, the method cannot be exported, or a package is missing.
    OutputError
        If it cannot be written.
    """
    path = Path(path)
    check_export_path(path, file_format)
    write_graph(to_onnx(model), path, file_format)


def to_onnx(model: Model) -> "onnx.ModelProto":
    """Export a model to a graph in memory, with its metadata.

    Raises
    ------
    UsageError
        If the method cannot be exported, or a package is missing.
    """
    with package_needed("exporting"):
        import onnx
        import onnxscript  # noqa: F401 - PyTorch's exporter needs it

    model.method.cpu()
    graph = InferenceGraph(model)
    dtype = torch.uint8 if model.preprocessing.bits == 8 else torch.uint16
    example = torch.zeros((*EXAMPLE_SHAPE, model.preprocessing.channels), dtype=dtype)
    threshold = torch.tensor([model.calibration.threshold], dtype=torch.float32)
    sizes = {0: Dim.DYNAMIC, 1: Dim.DYNAMIC, 2: Dim.DYNAMIC}
    with eval_mode(model.method), silence("torch.onnx", "torch.export", "onnxscript"):
        outputs = graph.predict(example, threshold)
        program = torch.export.export(graph, (example, threshold), dynamic_shapes=(sizes, None))
        exported = torch.onnx.export(
            program,
            dynamo=True,
            input_names=[IMAGE, THRESHOLD],
            output_names=[name for name in OUTPUTS if name in outputs],
            opset_version=OPSET,
            verbose=False,
        )
    assert exported is not None
    proto = exported.model_proto
    _name_dimensions(proto)
    for node in proto.graph.node:
        del node.metadata_props[:]  # where the exporter traced it: source lines and paths of this machine
    # an input with an initializer of the same name is optional
    proto.graph.initializer.append(onnx.numpy_helper.from_array(threshold.numpy(), THRESHOLD))
    onnx.helper.set_model_props(proto, metadata_of(model))
    onnx.checker.check_model(proto)
    return proto


def write_graph(proto: "onnx.ModelProto", path: Path, file_format: ExportFormat) -> None:
    """Write a graph with its metadata, whole or not at all."""
    path = path.resolve()  # so that OpenVINO's two files are in one folder, also where the path is a link
    if file_format == "onnx":
        graph = proto.SerializeToString()
        with written_whole(path) as part:
            part.write_bytes(graph + checksum_entry(ONNX, graph))
        return
    with package_needed("the format openvino"):
        openvino = import_openvino()

    with TemporaryDirectory() as folder:
        source = Path(folder) / "graph.onnx"
        source.write_bytes(_with_threshold_of_any_length(proto).SerializeToString())
        converted = openvino.convert_model(source)
        for entry in proto.metadata_props:
            converted.set_rt_info(entry.value, ["ganomaly", entry.key])
        saved = Path(folder) / path.name
        openvino.save_model(converted, saved, compress_to_fp16=False)
        # the weights appear first, so that the graph is never there without them; the part of the graph says until
        # then that weights which a killed process left alone are ours
        graph, weights = saved.read_bytes(), saved.with_suffix(".bin").read_bytes()
        try:
            with written_whole(path) as graph_part:
                graph_part.write_bytes(graph + checksum_entry(OPENVINO, graph, weights))
                with written_whole(path.with_suffix(".bin")) as part:
                    part.write_bytes(weights)
        except (OutputError, OSError):
            if not path.exists():  # weights alone are no graph, and nothing would say that they are ours
                with suppress(OSError):
                    path.with_suffix(".bin").unlink(missing_ok=True)
            raise


def metadata_of(model: Model) -> dict[str, str]:
    """The metadata of the graph: four texts, two of them JSON."""
    maps, calibration = model.map_calibration, model.calibration
    description: dict[str, Any] = {
        "method": model.method_name,
        "preset": model.preset,
        "options": model.method_options,
        "preprocessing": model.preprocessing.model_dump(),
        "false_alarm_rate": model.calibration.false_alarm_rate,
        "threshold": calibration.threshold,
        "calibration_scores": calibration.scores.tolist(),
        "map_medians": [] if maps is None else maps.medians.tolist(),
        "map_maxima": [] if maps is None else maps.maxima.tolist(),
        "checksum": "sha256",
    }
    if isinstance(calibration, ProductCalibration):
        products = calibration.products
        description |= {
            "products": list(products),
            "product_scores": [part.scores.tolist() for part in products.values()],
        }
    return {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "model": json.dumps(description),
        "provenance": json.dumps(dict(model.provenance)),
    }


def _name_dimensions(proto: "onnx.ModelProto") -> None:
    """Name the dimensions `N`, `H` and `W` instead of by the exporter's own names."""
    image = proto.graph.input[0].type.tensor_type.shape.dim
    names = {image[axis].dim_param: name for axis, name in enumerate("NHW")}
    for value in (*proto.graph.input, *proto.graph.output):
        for axis, dimension in enumerate(value.type.tensor_type.shape.dim):
            if dimension.dim_param:
                dimension.dim_param = names.get(dimension.dim_param, f"{value.name}_{axis}")
    del proto.graph.value_info[:]


def _with_threshold_of_any_length(proto: "onnx.ModelProto") -> "onnx.ModelProto":
    """The same graph for OpenVINO, which has no optional inputs, but accepts an empty one.

    The threshold may have any length here; the graph appends the calibrated threshold and takes the first number.
    """
    import onnx

    changed = onnx.ModelProto()
    changed.CopyFrom(proto)
    graph = changed.graph
    for node in graph.node:
        for position, name in enumerate(node.input):
            if name == THRESHOLD:
                node.input[position] = "first_threshold"
    calibrated = next(initializer for initializer in graph.initializer if initializer.name == THRESHOLD)
    calibrated.name = "calibrated_threshold"
    graph.initializer.append(onnx.numpy_helper.from_array(np.array([0]), "first"))
    make_node = onnx.helper.make_node
    selection = [
        make_node("Concat", [THRESHOLD, calibrated.name], ["thresholds"], axis=0),
        make_node("Gather", ["thresholds", "first"], ["first_threshold"], axis=0),
    ]
    for node in reversed(selection):
        graph.node.insert(0, node)
    threshold = next(graph_input for graph_input in graph.input if graph_input.name == THRESHOLD)
    threshold.type.tensor_type.shape.dim[0].dim_param = "K"
    return changed


@contextmanager
def silence(*names: str) -> Iterator[None]:
    """Silence exporters: all warnings, and all but the errors of these loggers."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

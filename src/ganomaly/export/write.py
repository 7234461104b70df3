"""Write a model as one graph: ONNX, or OpenVINO's own format."""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch.export import Dim

from ganomaly.errors import UsageError, package_needed
from ganomaly.export.graph import InferenceGraph
from ganomaly.files import check_writable, written_whole
from ganomaly.prediction.exported import FORMAT, FORMAT_VERSION, IMAGE, ONNX, OPENVINO, OUTPUTS, THRESHOLD
from ganomaly.prediction.model import Model
from ganomaly.prediction.pytorch import eval_mode

if TYPE_CHECKING:
    import onnx

ExportFormat = Literal["onnx", "openvino"]
ENDING_OF: dict[ExportFormat, str] = {"onnx": ONNX, "openvino": OPENVINO}
OPSET = 20
EXAMPLE = (2, 75, 66)  # images, height, width: none of them a number that means something in a network


def check_export_path(path: str | Path, file_format: ExportFormat) -> None:
    """Raise `UsageError` now if `export_model` would refuse `path` later."""
    ending = ENDING_OF[file_format]
    if Path(path).suffix.lower() != ending:
        raise UsageError(f"{path} does not end in {ending}, as a graph in the format {file_format} must")
    check_writable(path)


def export_model(model: Model, path: str | Path, file_format: ExportFormat = "onnx") -> None:
    """Write everything from the user's pixels to the verdict as one graph.

    Parameters
    ----------
    model : Model
        Moved to the processor.
    path : str or Path
        Ending in `.onnx`, or in `.xml`; OpenVINO's weights come to lie beside it, in a `.bin` of the same name.
    file_format : {'onnx', 'openvino'}
        What to write.

    Raises
    ------
    UsageError
        If the ending does not fit, the method cannot be exported, or a package is missing.
    OutputError
        If it cannot be written.
    """
    path = Path(path)
    check_export_path(path, file_format)
    write_graph(as_onnx(model), path, file_format)


def as_onnx(model: Model) -> "onnx.ModelProto":
    """The graph in memory, with its metadata."""
    with package_needed("exporting"):
        import onnx
        import onnxscript  # noqa: F401 - PyTorch's exporter needs it

    model.method.cpu()
    graph = InferenceGraph(model)
    dtype = torch.uint8 if model.preprocessing.bits == 8 else torch.uint16
    example = torch.zeros((*EXAMPLE, model.preprocessing.channels), dtype=dtype)
    threshold = torch.tensor([model.calibration.threshold], dtype=torch.float32)
    sizes = {0: Dim.DYNAMIC, 1: Dim.DYNAMIC, 2: Dim.DYNAMIC}
    with eval_mode(model.method), quietly("torch.onnx", "torch.export", "onnxscript"):
        names = graph.judged(example, threshold)
        program = torch.export.export(graph, (example, threshold), dynamic_shapes=(sizes, None))
        exported = torch.onnx.export(
            program,
            dynamo=True,
            input_names=[IMAGE, THRESHOLD],
            output_names=[name for name in OUTPUTS if name in names],
            opset_version=OPSET,
            verbose=False,
        )
    assert exported is not None
    proto = exported.model_proto
    _name_dimensions(proto)
    # an input with a value of its own may be left out
    proto.graph.initializer.append(onnx.numpy_helper.from_array(threshold.numpy(), THRESHOLD))
    onnx.helper.set_model_props(proto, metadata_of(model))
    onnx.checker.check_model(proto)
    return proto


def write_graph(proto: "onnx.ModelProto", path: Path, file_format: ExportFormat) -> None:
    """Write a graph with its metadata, whole or not at all."""
    path = path.resolve()  # OpenVINO's two files shall lie together, where a link leads too
    if file_format == "onnx":
        with written_whole(path) as part:
            part.write_bytes(proto.SerializeToString())
        return
    with package_needed("the format openvino"):
        import openvino

    with TemporaryDirectory() as folder:
        source = Path(folder) / "graph.onnx"
        source.write_bytes(_with_threshold_of_any_length(proto).SerializeToString())
        converted = openvino.convert_model(source)
        for entry in proto.metadata_props:
            converted.set_rt_info(entry.value, ["ganomaly", entry.key])
        made = Path(folder) / path.name
        openvino.save_model(converted, made, compress_to_fp16=False)
        for ending in (".bin", OPENVINO):  # the one that is asked for last, so that it never lies there alone
            with written_whole(path.with_suffix(ending)) as part:
                part.write_bytes(made.with_suffix(ending).read_bytes())


def metadata_of(model: Model) -> dict[str, str]:
    """What the graph says of itself, by name."""
    maps, calibration = model.map_calibration, model.calibration
    described = {
        "method": model.method_name,
        "preset": model.preset,
        "options": model.method_options,
        "preprocessing": model.preprocessing.model_dump(),
        "false_alarm_rate": model.calibration.false_alarm_rate,
        "threshold": calibration.threshold,
        "calibration_scores": calibration.scores.tolist(),
        "map_medians": [] if maps is None else maps.medians.tolist(),
        "map_maxima": [] if maps is None else maps.maxima.tolist(),
    }
    return {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "model": json.dumps(described),
        "provenance": json.dumps(dict(model.provenance)),
    }


def _name_dimensions(proto: "onnx.ModelProto") -> None:
    """Say `N`, `H` and `W` where the exporter has names of its own."""
    image = proto.graph.input[0].type.tensor_type.shape.dim
    names = {image[axis].dim_param: name for axis, name in enumerate("NHW")}
    for value in (*proto.graph.input, *proto.graph.output):
        for axis, dimension in enumerate(value.type.tensor_type.shape.dim):
            if dimension.dim_param:
                dimension.dim_param = names.get(dimension.dim_param, f"{value.name}_{axis}")
    del proto.graph.value_info[:]


def _with_threshold_of_any_length(proto: "onnx.ModelProto") -> "onnx.ModelProto":
    """The same graph for OpenVINO, where inputs have no values of their own, but one left out is empty.

    So the threshold may have any length, and the first of its numbers and the calibrated one counts.
    """
    import onnx

    changed = onnx.ModelProto()
    changed.CopyFrom(proto)
    graph = changed.graph
    for node in graph.node:
        for position, name in enumerate(node.input):
            if name == THRESHOLD:
                node.input[position] = "first_threshold"
    calibrated = next(each for each in graph.initializer if each.name == THRESHOLD)
    calibrated.name = "calibrated_threshold"
    graph.initializer.append(onnx.numpy_helper.from_array(np.array([0]), "first"))
    make = onnx.helper.make_node
    choose = [
        make("Concat", [THRESHOLD, calibrated.name], ["thresholds"], axis=0),
        make("Gather", ["thresholds", "first"], ["first_threshold"], axis=0),
    ]
    for node in reversed(choose):
        graph.node.insert(0, node)
    given = next(each for each in graph.input if each.name == THRESHOLD)
    given.type.tensor_type.shape.dim[0].dim_param = "K"
    return changed


@contextmanager
def quietly(*names: str) -> Iterator[None]:
    """Silence what exporters report of their inner life: warnings, and all but errors of these loggers."""
    loggers = [logging.getLogger(name or None) for name in names]
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

"""`ganomaly export`."""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from ganomaly.commands.console import Console
from ganomaly.data import ImageRecord, open_test_images
from ganomaly.errors import DataError, UsageError
from ganomaly.evaluation import evaluate_model
from ganomaly.export import ExportFormat, check_export_path, quantise, to_onnx, write_graph
from ganomaly.locks import locked_file
from ganomaly.prediction import Prediction
from ganomaly.prediction.exported import ONNX, load_exported
from ganomaly.prediction.load import model_copy
from ganomaly.prediction.model_file import load_model
from ganomaly.remote import Location, RemoteFile, upload
from ganomaly.training.fit import calibration_images


def export(
    console: Console,
    model_path: Location,
    out: Location,
    file_format: ExportFormat,
    *,
    int8: bool = False,
    data: str | None = None,
) -> None:
    """Write a model as one graph; of an 8-bit one, print the change in AUROC where the data has test images."""
    check_export_path(out, file_format)
    if int8 != (data is not None):
        raise UsageError("--int8 and --data go together: give the data that the model was fitted on")
    with model_copy(model_path) as copy:
        model = load_model(copy)
    images = None if data is None else calibration_images(model, data)
    console.say("writing the model as one graph: this takes a minute or more")
    graph = to_onnx(model)
    with locked_file(out, "ganomaly export"), TemporaryDirectory() as folder:
        written = Path(folder) / out.name if isinstance(out, RemoteFile) else out
        fp32_path = Path(folder) / f"{out.stem}-fp32{ONNX}"
        write_graph(graph, fp32_path, "onnx")
        if images is not None:
            console.say(f"choosing what 8 bits hold, with {len(images)} images: this takes some minutes")
            graph = quantise(graph, model, images)
        write_graph(graph, written, file_format)
        if data is not None:
            _compare_auroc(console, fp32_path, written, data)
        files = [written.with_suffix(".bin"), written] if file_format == "openvino" else [written]
        size = sum(file.stat().st_size for file in files)
        if isinstance(out, RemoteFile):
            for file in files:  # the weights first, so that the graph is never there without them
                upload(file, out.with_name(file.name))
    *outputs, last = [f"`{output.name}`" for output in graph.graph.output]
    console.say(
        f"wrote {out} ({size / 1e6:.1f} MB): one graph from `image`, uint{model.preprocessing.bits} "
        f"[N, H, W, {model.preprocessing.channels}], to {', '.join(outputs)} and {last}"
    )


def _compare_auroc(console: Console, fp32_path: Path, int8_path: Path, data: str) -> None:
    try:
        dataset = open_test_images(data)
    except (UsageError, DataError):
        console.say("the data has no labelled test images, so the accuracy in 8 bits was not measured")
        return
    aurocs = []
    with console.counting(2 * len(dataset), "evaluating") as count:

        def on_prediction(done: int, prediction: Prediction, _: ImageRecord) -> None:
            count(done + prediction.index + 1)

        for done, path in ((0, fp32_path), (len(dataset), int8_path)):
            evaluated = evaluate_model(
                load_exported(path), dataset, on_prediction=partial(on_prediction, done)
            )
            aurocs.append(evaluated.evaluation.image_auroc)
    fp32, int8 = aurocs
    if fp32 is None or int8 is None:
        console.say("the test images are all of one class, so the accuracy in 8 bits was not measured")
    else:
        console.say(f"image AUROC {int8:.4f} in 8 bits, {fp32:.4f} in 32: {int8 - fp32:+.4f}")

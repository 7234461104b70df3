"""`ganomaly export`."""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from ganomaly.commands.console import Console
from ganomaly.data import ImageRecord, open_test_images
from ganomaly.errors import DataError, UsageError
from ganomaly.evaluation import evaluate_model
from ganomaly.export import ExportFormat, as_onnx, check_export_path, in_8_bits, write_graph
from ganomaly.prediction import Prediction
from ganomaly.prediction.exported import ONNX, load_exported
from ganomaly.prediction.model_file import load_model
from ganomaly.training.fit import calibration_images


def export(
    console: Console,
    model_path: Path,
    out: Path,
    file_format: ExportFormat,
    *,
    int8: bool = False,
    data: str | None = None,
) -> None:
    """Write a model as one graph; say what 8 bits cost where there are labelled images."""
    check_export_path(out, file_format)
    if int8 != (data is not None):
        raise UsageError("--int8 and --data go together: name the images that the model was fitted on")
    model = load_model(model_path)
    images = None if data is None else calibration_images(model, data)
    console.say("exporting: this takes a minute")
    graph = as_onnx(model)
    with TemporaryDirectory() as folder:
        whole = Path(folder) / f"whole{ONNX}"
        write_graph(graph, whole, "onnx")
        if images is not None:
            graph = in_8_bits(graph, model, images)
        write_graph(graph, out, file_format)
        if data is not None:
            _say_what_it_costs(console, whole, out, data)
    size = out.stat().st_size + (out.with_suffix(".bin").stat().st_size if file_format == "openvino" else 0)
    *outputs, last = [f"`{output.name}`" for output in graph.graph.output]
    console.say(
        f"wrote {out} ({size / 1e6:.1f} MB): one graph from `image`, uint{model.preprocessing.bits} "
        f"[N, H, W, {model.preprocessing.channels}], to {', '.join(outputs)} and {last}"
    )


def _say_what_it_costs(console: Console, whole: Path, quantised: Path, data: str) -> None:
    try:
        dataset = open_test_images(data)
    except (UsageError, DataError):
        console.say("there are no labelled test images in the data, so what 8 bits cost was not measured")
        return
    found = []
    with console.counting(2 * len(dataset), "evaluating") as count:

        def on_image(done: int, scored: Prediction, _: ImageRecord) -> None:
            count(done + scored.index + 1)

        for done, path in ((0, whole), (len(dataset), quantised)):
            evaluated = evaluate_model(load_exported(path), dataset, on_prediction=partial(on_image, done))
            found.append(evaluated.evaluation.image_auroc)
    before, after = found
    if before is None or after is None:
        console.say("the test images are all of one kind, so what 8 bits cost was not measured")
    else:
        console.say(f"image AUROC {after:.4f} in 8 bits, {before:.4f} in 32: {after - before:+.4f}")

"""How much the predictions of exported graphs differ from those of the model, on all test images of a data set.

`--int8` compares graphs in 8 bits too; then DATA must be what the model was fitted on.

Run: python benchmarks/export_agreement.py part.safetensors DATA [--int8]
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ganomaly.data import ImageDataset, open_test_images
from ganomaly.export import quantise, to_onnx, write_graph
from ganomaly.metrics import image_auroc
from ganomaly.prediction import Predictor, load_predictor
from ganomaly.prediction.model_file import load_model
from ganomaly.training.fit import calibration_images
from machine import describe_machine


def scores(predictor: Predictor, dataset: ImageDataset) -> NDArray[np.float64]:
    """A(x) of every image, NaN for one that cannot be read."""
    predictions = predictor.predict(dataset)
    return np.array([np.nan if prediction.score is None else prediction.score for prediction in predictions])


def main() -> None:
    """Export, predict, and print a line for each format."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("data")
    parser.add_argument("--int8", action="store_true")
    arguments = parser.parse_args()
    dataset = open_test_images(arguments.data)
    model = load_model(arguments.model)
    is_anomalous = np.array([record.is_anomalous for record in dataset.records])
    expected = scores(model, dataset)
    readable = np.isfinite(expected)
    verdicts = model.calibration.is_anomaly(expected)
    print(describe_machine())
    print(
        f"{len(dataset)} images of {dataset.name}, {verdicts.sum()} of them anomalous by {arguments.model}; "
        f"image AUROC {image_auroc(expected[readable], is_anomalous[readable]):.4f}"
    )
    graphs = {"": to_onnx(model)}
    if arguments.int8:
        graphs[", int8"] = quantise(graphs[""], model, calibration_images(model, arguments.data))
    for bits, graph in graphs.items():
        for name, ending in (("onnx", ".onnx"), ("openvino", ".xml")):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / f"graph{ending}"
                write_graph(graph, path, "onnx" if name == "onnx" else "openvino")
                graph_predictor = load_predictor(path)
                graph_scores = scores(graph_predictor, dataset)
            relative = np.nanmax(np.abs(graph_scores / expected - 1))
            graph_verdicts = graph_predictor.calibration.is_anomaly(graph_scores)
            differing = int((graph_verdicts != verdicts)[readable].sum())
            print(
                f"{name + bits:15} scores differ by at most {relative:.1e}, relatively; "
                f"{differing} verdicts differ; "
                f"image AUROC {image_auroc(graph_scores[readable], is_anomalous[readable]):.4f}",
                flush=True,
            )


if __name__ == "__main__":
    main()

"""How far the verdicts of exported graphs are from those of the model: all test images of a data set, judged by each.

Run: python benchmarks/export_agreement.py part.safetensors DATA
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ganomaly.data import ImageDataset, open_test_images
from ganomaly.export import as_onnx, write_graph
from ganomaly.judges import load_judge
from ganomaly.model_file import load_model
from ganomaly.scored_image import Judge
from machine import describe_machine


def scores(judge: Judge, dataset: ImageDataset) -> NDArray[np.float64]:
    """A(x) of every image, NaN for one that cannot be read."""
    return np.array([np.nan if each.score is None else each.score for each in judge.judge(dataset)])


def main() -> None:
    """Export, judge, and print a line for each format."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("data")
    arguments = parser.parse_args()
    dataset = open_test_images(arguments.data)
    model = load_model(arguments.model)
    expected = scores(model, dataset)
    verdicts = model.calibration.is_anomaly(expected)
    print(describe_machine())
    print(f"{len(dataset)} images of {dataset.name}, {verdicts.sum()} of them anomalous by {arguments.model}")
    with tempfile.TemporaryDirectory() as folder:
        graph = as_onnx(model)
        for name, path in (("onnx", Path(folder) / "graph.onnx"), ("openvino", Path(folder) / "graph.xml")):
            write_graph(graph, path, "onnx" if name == "onnx" else "openvino")
            judge = load_judge(path)
            found = scores(judge, dataset)
            relative = np.nanmax(np.abs(found / expected - 1))
            differing = int((judge.calibration.is_anomaly(found) != verdicts).sum())
            print(
                f"{name:9} scores differ by at most {relative:.1e} of themselves, {differing} verdicts differ"
            )


if __name__ == "__main__":
    main()

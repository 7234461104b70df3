"""How long one image takes from JPEG file to verdict and map, with the default preset: p50 and p99.

The networks are trained briefly on noise: time does not depend on the weights.

Run: python benchmarks/latency.py [--preset features] [--size 256] [--repeats 100]
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from ganomaly import GANomalyDetector
from ganomaly.data import open_images
from ganomaly.export import quantise, to_onnx, write_graph
from ganomaly.prediction import Predictor, load_predictor
from ganomaly.prediction.model_file import load_model
from machine import describe_machine

FILES = {
    "PyTorch": "model.safetensors",
    "ONNX Runtime": "fp32.onnx",
    "ONNX Runtime, int8": "int8.onnx",
    "OpenVINO": "fp32.xml",
    "OpenVINO, int8": "int8.xml",
}
"""What `write_models` writes, by runtime."""


def write_models(folder: Path, preset: str, size: int) -> None:
    """A model and its exported graphs."""
    images = np.random.default_rng(0).integers(0, 255, (40, size, size), dtype=np.uint8)
    path = folder / "model.safetensors"
    GANomalyDetector(preset, epochs=1, false_alarm_rate=0.1).fit(images).save(path)
    model = load_model(path)
    fp32 = to_onnx(model)
    int8 = quantise(fp32, model, open_images(images[:8]))
    for name, graph in (("fp32", fp32), ("int8", int8)):
        write_graph(graph, folder / f"{name}.onnx", "onnx")
        write_graph(graph, folder / f"{name}.xml", "openvino")


def write_image(path: Path, size: int) -> None:
    """A gray JPEG with some structure."""
    y, x = np.mgrid[:size, :size] / 9
    pixels = 127 + 60 * np.sin(x) * np.cos(y) + np.random.default_rng(1).normal(0, 9, x.shape)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)


def milliseconds(predictor: Predictor, path: Path) -> float:
    """Time one image, from its file on."""
    start = time.perf_counter()
    (prediction,) = predictor.predict(open_images([path]), details=True)
    assert prediction.score is not None
    return 1000 * (time.perf_counter() - start)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="features")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=100)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_models(folder, arguments.preset, arguments.size)
        predictors = {runtime: load_predictor(folder / file) for runtime, file in FILES.items()}
        image_path = folder / "image.jpg"
        write_image(image_path, arguments.size)
        times: dict[str, list[float]] = {name: [] for name in predictors}
        for predictor in predictors.values():
            for _ in range(3):
                milliseconds(predictor, image_path)  # warm up
        for _ in range(arguments.repeats):
            for name, predictor in predictors.items():
                times[name].append(milliseconds(predictor, image_path))
    print(describe_machine())
    print(
        f"preset {arguments.preset}, one gray JPEG of {arguments.size}×{arguments.size} px, from the file to score, "
        f"verdict and map; {arguments.repeats} alternating runs"
    )
    for name, values in times.items():
        p50, p99 = np.percentile(values, [50, 99])
        print(f"{name:20} p50 {p50:6.1f} ms, p99 {p99:6.1f} ms")


if __name__ == "__main__":
    main()

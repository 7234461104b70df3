"""One of this package's models in one runtime, which answers `peers.py`.

`--write FOLDER` trains a preset briefly on noise and writes it in each runtime's format: times and memory do not
depend on the weights. What a whole training takes is measured by `ganomaly fit`, in `peers.py`.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ganomaly import GANomalyDetector
from ganomaly.data import open_images
from ganomaly.prediction import Predictor, load_predictor
from workers import Answer, answer_requests, peak_megabytes, timed

FILES = {
    "PyTorch": "model.safetensors",
    "ONNX Runtime fp32": "fp32.onnx",
    "OpenVINO fp32": "fp32.xml",
    "OpenVINO int8": "int8.xml",
}
"""The file of each runtime."""
SIZE = 256


def write_models(folder: Path, preset: str, channels: int) -> None:
    """Train a preset briefly and write it in all formats."""
    from ganomaly.export import quantise, to_onnx, write_graph
    from ganomaly.prediction.model_file import load_model

    folder.mkdir(parents=True, exist_ok=True)
    images = noise(40, channels)
    path = folder / FILES["PyTorch"]
    GANomalyDetector(preset, epochs=1, false_alarm_rate=0.1).fit(images).save(path)
    model = load_model(path)
    fp32 = to_onnx(model)
    write_graph(fp32, folder / FILES["ONNX Runtime fp32"], "onnx")
    write_graph(fp32, folder / FILES["OpenVINO fp32"], "openvino")
    write_graph(quantise(fp32, model, open_images(images[:8])), folder / FILES["OpenVINO int8"], "openvino")


def noise(n: int, channels: int) -> NDArray[np.uint8]:
    """Images of noise, `uint8[n, 256, 256, channels]`."""
    return np.random.default_rng(0).integers(0, 255, (n, SIZE, SIZE, channels), dtype=np.uint8)


class System:
    """A predictor and its file."""

    def __init__(self, path: Path, channels: int) -> None:
        self.path, self.channels = path, channels
        self.predictor: Predictor = load_predictor(path)

    def describe(self) -> Answer:
        """What the model takes on disk."""
        weights = self.path.with_suffix(".bin")
        files = [self.path, weights] if weights.exists() else [self.path]
        return {"file_megabytes": sum(file.stat().st_size for file in files) / 1e6}

    def predict(self, images: int = 1, warm_up: int = 1) -> Answer:
        """Seconds for score, verdict and map of a number of images."""
        dataset = open_images(noise(images, self.channels))

        def run() -> None:
            for prediction in self.predictor.predict(dataset, details=True):
                assert prediction.score is not None, prediction.error

        for _ in range(warm_up):
            run()
        return timed(run) | {"peak_megabytes": peak_megabytes()}


def main() -> None:
    """Write models, or load one and answer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, metavar="FOLDER")
    parser.add_argument("--preset", default="features")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--channels", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.write is not None:
        write_models(arguments.write, arguments.preset, arguments.channels)
        return
    system = System(arguments.model, arguments.channels)
    answer_requests({"describe": system.describe, "predict": system.predict})


if __name__ == "__main__":
    main()

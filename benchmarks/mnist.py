"""MNIST with one digit anomalous: image AUROC after training on the other nine.

Test: the normal test digits, and every image of the anomalous digit from train and test. Preset paper at 32 px;
predicted after the last epoch.

Run: python benchmarks/mnist.py --data DATA/mnist [--digits 2] [--epochs 1] [--seeds 0]
"""

import argparse
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ganomaly.config import Precision, Preprocessing, TrainingOptions
from ganomaly.data import ImageLoader, inspect_images, open_images, open_training_images
from ganomaly.data.sources.parquet import ParquetImages
from ganomaly.methods.ganomaly import GANomaly, GANomalyOptions
from ganomaly.metrics import image_auroc
from ganomaly.prediction.pytorch import predict_dataset
from ganomaly.training.loop import train
from machine import describe_machine

Splits = Mapping[str, tuple[NDArray[np.uint8], NDArray[np.str_]]]


def main() -> None:
    """Train and print a line for each digit and seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with the train and test parquet files"
    )
    parser.add_argument("--digits", default="2", help="anomalous digits, separated by commas")
    parser.add_argument("--seeds", default="0", help="seeds, separated by commas")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    arguments = parser.parse_args()
    print(describe_machine())
    splits = {split: load(arguments.data, split) for split in ("train", "test")}
    for digit in arguments.digits.split(","):
        for seed in map(int, arguments.seeds.split(",")):
            print(measure(splits, digit, seed, arguments.epochs, arguments.precision), flush=True)


def load(folder: Path, split: str) -> tuple[NDArray[np.uint8], NDArray[np.str_]]:
    """Decode a split: images `uint8[N, 28, 28, 1]` and their digits."""
    dataset = ParquetImages(sorted(folder.rglob(f"*{split}*.parquet")))
    images = np.stack([dataset.read(index) for index in range(len(dataset))]).astype(np.uint8, copy=False)
    return images, np.array([str(record.kind) for record in dataset.records])


def measure(splits: Splits, digit: str, seed: int, epochs: int, precision: Precision) -> str:
    """Train on the other nine digits and score the test set with both distances."""
    (train_images, train_digits), (test_images, test_digits) = splits["train"], splits["test"]
    preprocessing = Preprocessing(image_size=32, channels=1)
    normal = load_at_32_px(train_images[train_digits != digit])
    test = open_images(np.concatenate([test_images, train_images[train_digits == digit]]))
    is_anomalous = np.concatenate([test_digits == digit, np.ones(int((train_digits == digit).sum()), bool)])
    training = TrainingOptions(epochs=epochs, seed=seed, precision=precision)
    start = time.perf_counter()
    result = train(GANomaly, GANomalyOptions(), preprocessing, normal, normal.usable, training)
    seconds = time.perf_counter() - start
    aurocs = []
    for score in ("mean_square", "l1"):
        result.method.options = GANomalyOptions(score=score)
        predictions = predict_dataset(result.method, preprocessing, test)
        scores = np.array([prediction.score for prediction in predictions], np.float64)
        aurocs.append(f"{score} {image_auroc(scores, is_anomalous):.4f}")
    return (
        f"digit {digit} anomalous, {epochs} epoch(s), seed {seed}, {result.precision}: AUROC {', '.join(aurocs)}; "
        f"{int((~is_anomalous).sum())} normal, {int(is_anomalous.sum())} anomalous; training {seconds:.0f} s"
    )


def load_at_32_px(images: NDArray[np.uint8]) -> ImageLoader:
    """Resize images to 32 px and hold them in memory."""
    dataset = open_training_images(images)
    loader = ImageLoader(dataset, inspect_images(dataset), image_size=32, channels=1)
    loader.load()
    return loader


if __name__ == "__main__":
    main()

"""The AUROC of trivial scores on simulated baggage, to compare the methods with.

Brightness is the mean pixel, darker being more anomalous; distance is the mean squared difference to the mean
training image. The test images are those of `ganomaly benchmark baggage`.

Run: python benchmarks/baggage_shortcuts.py --data FOLDER (where the simulated images are, or will be)
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ganomaly.benchmark import BAGGAGE, BenchmarkDataset
from ganomaly.data import ImageDataset
from ganomaly.metrics import image_auroc


def main() -> None:
    """Print a line for each class."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    dataset = BenchmarkDataset(BAGGAGE, parser.parse_args().data)
    for classes in dataset.class_groups(None):
        task = dataset.task(classes)
        mean_image = sum(read(task.train, index) for index in range(len(task.train))) / len(task.train)
        images = [read(task.test, index) for index in range(len(task.test))]
        scores = {
            "brightness": np.array([-image.mean() for image in images]),
            "distance to the mean image": np.array(
                [np.square(image - mean_image).mean() for image in images]
            ),
        }
        for name, labels in task.labels.items():
            used = np.isfinite(labels)
            aurocs = (
                f"{score_name} {image_auroc(values[used], labels[used] == 1):.3f}"
                for score_name, values in scores.items()
            )
            print(f"{name}: {', '.join(aurocs)}")


def read(dataset: ImageDataset, index: int) -> NDArray[np.float64]:
    """The pixels of an image."""
    return dataset.read(index).astype(np.float64)


if __name__ == "__main__":
    main()

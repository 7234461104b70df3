"""What scores that learn next to nothing reach on simulated baggage, to read the comparison's figures against.

Brightness is the mean pixel, darker being more anomalous; distance is the mean squared difference to the mean
training image. Both on the very test images of `ganomaly benchmark baggage`.

Run: python benchmarks/baggage_shortcuts.py --data FOLDER (with the simulated images, or for them)
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ganomaly.benchmark import BAGGAGE, Source
from ganomaly.data import ImageDataset
from ganomaly.metrics import image_auroc


def main() -> None:
    """Print a line for each class."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    source = Source(BAGGAGE, parser.parse_args().data)
    for group in source.groups(None):
        problem = source.problem(group)
        usual = sum(pixels(problem.train, index) for index in range(len(problem.train))) / len(problem.train)
        images = [pixels(problem.test, index) for index in range(len(problem.test))]
        scores = {
            "brightness": np.array([-image.mean() for image in images]),
            "distance to the mean image": np.array([np.square(image - usual).mean() for image in images]),
        }
        for name, truth in problem.classes.items():
            plays = np.isfinite(truth)
            figures = (
                f"{how} {image_auroc(score[plays], truth[plays] == 1):.3f}" for how, score in scores.items()
            )
            print(f"{name}: {', '.join(figures)}")


def pixels(images: ImageDataset, index: int) -> NDArray[np.float64]:
    """An image as numbers."""
    return images.read(index).astype(np.float64)


if __name__ == "__main__":
    main()

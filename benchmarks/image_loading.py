"""The share of the training time that is spent waiting for images, at 32, 64 and 128 px.

Images are JPEG files of 512×512 px that are made here. "memory" decodes them once and holds uint8 in memory;
"streamed" decodes each image in each epoch, as happens with data that do not fit.

Run: python benchmarks/image_loading.py [--images 512] [--epochs 2]
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from ganomaly.config import Preprocessing, TrainingOptions
from ganomaly.data import ImageLoader, inspect_images, open_training_images
from ganomaly.methods.ganomaly import GANomaly, GANomalyOptions
from ganomaly.training.loop import train
from machine import describe_machine


def write_photographs(folder: Path, n: int) -> None:
    """Write n JPEG files of smooth noise."""
    rng = np.random.default_rng(0)
    for number in range(n):
        coarse = Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8))
        coarse.resize((512, 512), Image.Resampling.BICUBIC).save(folder / f"{number:05}.jpg", quality=90)


def wait_share(folder: Path, size: int, epochs: int, memory_limit: int | None) -> float:
    """Train on the folder; the share of the time spent waiting for images."""
    dataset = open_training_images(folder)
    images = ImageLoader(
        dataset, inspect_images(dataset), image_size=size, channels=3, memory_limit=memory_limit
    )
    images.load()
    result = train(
        GANomaly,
        GANomalyOptions(),
        Preprocessing(image_size=size, channels=3),
        images,
        images.usable,
        TrainingOptions(epochs=epochs, device="cpu"),
    )
    return result.wait_share


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=2)
    arguments = parser.parse_args()
    print(describe_machine())
    print(
        f"{arguments.images} JPEG files of 512×512 px, {arguments.epochs} epochs, preset paper, batch 64, seed 0"
    )
    with tempfile.TemporaryDirectory() as name:
        write_photographs(Path(name), arguments.images)
        for size in (32, 64, 128):
            memory = wait_share(Path(name), size, arguments.epochs, memory_limit=None)
            streamed = wait_share(Path(name), size, arguments.epochs, memory_limit=0)
            print(
                f"{size:4} px: waiting {memory:6.2%} of the time (memory), {streamed:6.2%} (streamed)",
                flush=True,
            )


if __name__ == "__main__":
    main()

"""Small images to train and test on."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from ganomaly.data import ImageLoader

SMALL = {"ngf": 8, "ndf": 8, "nz": 16}
"""Options of a network that trains in a second."""


def textures(n: int, seed: int = 0, *, blob: bool = False, size: int = 32) -> NDArray[np.uint8]:
    """Draw n gray images of soft stripes, `uint8[n, size, size]`; with a bright blob if `blob`."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    images = []
    for _ in range(n):
        angle, phase = rng.uniform(-0.3, 0.3), rng.uniform(0, 2 * np.pi)
        image = 110 + 40 * np.sin(2 * np.pi * 3 * (x + angle * y) + phase) + rng.normal(0, 4, (size, size))
        if blob:
            row, column = rng.uniform(0.2, 0.8, 2)
            image += 140 * (np.hypot(y - row, x - column) < 0.14)
        images.append(image)
    return np.clip(np.stack(images), 0, 255).astype(np.uint8)


def write_images(folder: Path, images: NDArray[np.uint8], suffix: str = ".png") -> Path:
    """Write images as 000.png, 001.png, … and return the folder."""
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number:03}{suffix}")
    return folder


def load_images(data: Any, *, image_size: int = 32, channels: int = 1, **options: Any) -> "ImageLoader":
    """Load normal images as `fit` does: open, inspect, decode."""
    from ganomaly.data import ImageLoader, inspect_images, open_training_images

    dataset = open_training_images(data)
    loader = ImageLoader(
        dataset, inspect_images(dataset), image_size=image_size, channels=channels, **options
    )
    loader.load()
    return loader

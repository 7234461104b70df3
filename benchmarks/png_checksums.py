"""What it costs to check the checksums of PNG: decoding with them, against Pillow alone, which does not check all.

`python benchmarks/png_checksums.py`: nothing else is needed. Processor time of one thread, the least of 30 runs that
alternate.
"""

import io
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin
from scipy.ndimage import gaussian_filter

from ganomaly.data.readers.decoding import decode_image

SIDE = 1024  # px
RUNS = 30


def photograph(generator: np.random.Generator, channels: int) -> NDArray[np.uint8]:
    """Soft shapes with noise, `uint8[SIDE, SIDE, channels]`."""
    planes = [
        gaussian_filter(generator.normal(0, 1, (SIDE, SIDE)), 8) * 400
        + generator.normal(128, 4, (SIDE, SIDE))
        for _ in range(channels)
    ]
    return np.stack(planes, axis=-1).clip(0, 255).astype(np.uint8)


def images() -> dict[str, Image.Image]:
    """Images of different kinds, most of which compress well."""
    generator = np.random.default_rng(0)
    rows, columns = np.indices((SIDE, SIDE))
    gradient = np.linspace(0, 255, SIDE).astype(np.uint8)[None].repeat(SIDE, axis=0)
    drawing = np.full((SIDE, SIDE), 255, np.uint8)
    drawing[::37], drawing[:, ::53] = 0, 0
    board = ((rows + columns) // 64 % 2 * 255).astype(np.uint8)
    colour = Image.fromarray(photograph(generator, 3))
    return {
        "photograph, RGB": colour,
        "photograph, gray": Image.fromarray(photograph(generator, 1)[..., 0]),
        "noise, RGB": Image.fromarray(generator.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)),
        "gradient, gray": Image.fromarray(gradient),
        "drawing, gray": Image.fromarray(drawing),
        "board, gray": Image.fromarray(board),
        "board, 1 bit": Image.fromarray(board).convert("1"),
        "photograph, palette": colour.quantize(64),
    }


def by_pillow(content: bytes) -> NDArray[np.uint8]:
    """Decode as Pillow does."""
    image: Image.Image = PngImagePlugin.PngImageFile(io.BytesIO(content))
    if image.mode == "P":
        image.load()
        image = image.convert("RGB")
    pixels = np.asarray(image)
    return pixels.astype(np.uint8) * 255 if pixels.dtype == np.bool_ else pixels


def milliseconds(function: Callable[[bytes], object], content: bytes) -> float:
    """Processor time of this thread for one call."""
    start = time.thread_time()
    function(content)
    return 1000 * (time.thread_time() - start)


def main() -> None:
    """Print a row for each kind of image."""
    print(f"{'image':20} {'kB':>6} {'Pillow':>8} {'checked':>8}  cost")
    for name, image in images().items():
        file = io.BytesIO()
        image.save(file, "PNG")
        content = file.getvalue()
        times = [(milliseconds(by_pillow, content), milliseconds(decode_image, content)) for _ in range(RUNS)]
        pillow, checked = (min(column) for column in zip(*times, strict=True))
        print(
            f"{name:20} {len(content) / 1000:6.0f} {pillow:5.2f} ms {checked:5.2f} ms  {checked / pillow - 1:+.0%}"
        )


if __name__ == "__main__":
    main()

"""Whether images with three channels are coloured, or gray images that were saved as RGB."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from ganomaly.data.prefetch import in_order
from ganomaly.data.readers.encoded_image import Pixels
from ganomaly.data.resources import usable_processors
from ganomaly.data.sources.dataset import ImageDataset
from ganomaly.errors import ImageError

MAX_SAMPLE = 300
"""Images that are decoded at most."""

MIN_SAMPLE = 24
"""Images that are decoded at least, where there are as many."""

_MAX_PIXELS = 200_000_000  # in all; two seconds of decoding, whatever the size of the images
_SMALLEST_SIDE = 64  # px; a JPEG is decoded at a part of its size, which keeps equal channels equal
_TOLERANCE = 1  # levels; lossy WebP rounds each channel by itself


@dataclass(frozen=True)
class ColourSample:
    """How many of the images with three channels are gray, going by a random sample of them.

    Attributes
    ----------
    n_rgb : int
        Images with three channels.
    n_sampled : int
        Those of them that were decoded; all of them in small datasets.
    n_gray_sampled : int
        Those of the sample whose channels are equal.
    """

    n_rgb: int
    n_sampled: int
    n_gray_sampled: int

    @property
    def n_gray(self) -> int:
        """Images with three channels that are gray: counted where all were decoded, else estimated."""
        return round(self.n_rgb * self.n_gray_sampled / self.n_sampled) if self.n_sampled else 0

    @property
    def is_estimate(self) -> bool:
        """Whether the sample leaves out some of the images."""
        return self.n_sampled < self.n_rgb


def sample_colours(dataset: ImageDataset, rgb_indices: Sequence[int], *, stop_early: bool) -> ColourSample:
    """Decode a random sample of images and count those that are gray.

    At most `MAX_SAMPLE` images are decoded, and fewer, but at least `MIN_SAMPLE`, where they are large. The sample
    is always the same for the same dataset. Images that cannot be decoded do not count.

    Parameters
    ----------
    dataset : ImageDataset
        The images.
    rgb_indices : sequence of int
        Indices of those with three channels.
    stop_early : bool
        Whether to stop if the first `MIN_SAMPLE` images are all coloured.
    """
    n_rgb = len(rgb_indices)
    drawn = np.random.default_rng(0).choice(n_rgb, min(n_rgb, MAX_SAMPLE), replace=False)

    def decode(position: int) -> tuple[bool, int] | None:
        """Whether the image is gray, and the number of its pixels."""
        try:
            pixels = dataset.read(rgb_indices[position], smallest_side=_SMALLEST_SIDE)
        except ImageError:
            return None
        return has_equal_channels(pixels), pixels.shape[0] * pixels.shape[1]

    n_sampled = n_gray = n_pixels = 0
    workers = usable_processors()
    with closing(in_order(decode, drawn.tolist(), workers=workers, ahead=2 * workers)) as decoded:
        for result in decoded:
            if result is None:
                continue
            n_sampled += 1
            n_gray += result[0]
            n_pixels += result[1]
            if n_sampled >= MIN_SAMPLE and (n_pixels > _MAX_PIXELS or (stop_early and n_gray == 0)):
                break
    return ColourSample(n_rgb, n_sampled, n_gray)


def has_equal_channels(pixels: Pixels) -> bool:
    """Whether an image `[H, W, 3]` is gray: no two channels of a pixel differ by more than one level."""
    red, green, blue = (pixels[..., channel] for channel in range(3))
    brightest = np.maximum(np.maximum(red, green), blue)
    darkest = np.minimum(np.minimum(red, green), blue)
    return bool((brightest - darkest).max() <= _TOLERANCE)

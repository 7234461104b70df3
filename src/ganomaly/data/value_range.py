"""The range of physical values that a model sees, measured once on its training images.

Each image has limits, between which all but a thousandth of its pixels on either side lie. The range is that of the
limits of all images, without the hundredth of the images with the most extreme ones (one at least), so that neither
an implant in one scan nor a wrong unit decides how much contrast all others have. It is then widened by a tenth on
either side: values a little beyond what is normal stay different from it.

Calibration images do not count: the range is a part of what is learned.
"""

import numpy as np
from numpy.typing import NDArray

from ganomaly.data.large_images import one_large_image
from ganomaly.data.prefetch import in_order
from ganomaly.data.readers.physical_values import ValueRange
from ganomaly.data.resources import usable_processors
from ganomaly.data.sources.dataset import ImageDataset
from ganomaly.errors import DataError, ImageError

MAX_IMAGES = 1000
"""Training images that are measured, evenly spread over all."""

_EXTREME = 0.01  # share of the images whose limits do not count
_MARGIN = 0.1


def measure_value_range(dataset: ImageDataset, training: NDArray[np.int64]) -> ValueRange:
    """Measure the range of the physical values in training images.

    Parameters
    ----------
    dataset : ImageDataset
        The images.
    training : ndarray
        `int64[n]`, indices of those that train; images that cannot be decoded do not count.

    Raises
    ------
    DataError
        If none of them can be decoded, or all pixels have the same value.
    """
    chosen = training[np.linspace(0, len(training) - 1, min(MAX_IMAGES, len(training))).astype(int)]

    def limits(index: int) -> ValueRange | None:
        try:
            with dataset.open(index) as image, one_large_image(image.header.height, image.header.width):
                return image.decode_values().limits()
        except (ImageError, MemoryError):
            return None  # decoding says so later

    workers = usable_processors()
    indices = [int(index) for index in chosen]
    measured = [ends for ends in in_order(limits, indices, workers=workers, ahead=2 * workers) if ends]
    if not measured:
        raise DataError(
            f"no values can be read from the training images in {dataset.name}; repair or replace them"
        )
    lows, highs = np.array(measured).T
    n_extreme = max(1, int(_EXTREME * len(measured))) if len(measured) > 2 else 0
    low, high = float(np.sort(lows)[n_extreme]), float(np.sort(highs)[-1 - n_extreme])
    if not low < high:
        raise DataError(f"all values in the training images in {dataset.name} are {low:g}; give other images")
    margin = _MARGIN * (high - low)
    return low - margin, high + margin

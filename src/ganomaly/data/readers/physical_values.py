"""Images whose samples are physical values, as Hounsfield units or heights, and what one fixed range makes of them.

The range belongs to the model and is the same for all images: a window for each image would give the same tissue
another gray in each, and hide whatever is too bright or too dark everywhere.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ganomaly.errors import ImageError

ValueRange = tuple[float, float]
"""The value that becomes 0 and the one that becomes 65535; the first is less than the second."""

NOMINAL_RANGE: ValueRange = (0.0, 1.0)
"""Of floating-point images, where no model gives theirs: 0 is black, 1 is white."""

WHITE = 65535
TAIL = 0.1
"""Percent of the pixels of an image, on either side, that do not count for its limits: dead pixels, burnt-in text."""


@dataclass(frozen=True, eq=False)
class PhysicalValues:
    """The decoded values of one image.

    Attributes
    ----------
    values : ndarray
        `float32[H, W, C]`; infinite outside the field of view, where the scanner measured nothing.
    is_inverted : bool
        Whether low values are shown bright.
    """

    values: NDArray[np.float32]
    is_inverted: bool = False

    def limits(self) -> ValueRange | None:
        """All but `TAIL` percent of the values on either side lie between these two; None if there are none."""
        measured = self.values[np.isfinite(self.values)]
        if not len(measured):
            return None
        low, high = np.percentile(measured, [TAIL, 100 - TAIL])
        return float(low), float(high)

    def in_range(self, value_range: ValueRange) -> NDArray[np.uint16]:
        """Map a range to 0 … 65535, `uint16[H, W, C]`; what is outside becomes its ends."""
        low, high = value_range
        if np.isnan(self.values).any():
            raise ImageError("has pixels that are not numbers; repair it")
        scaled = (np.clip(self.values, low, high) - np.float32(low)) * np.float32(WHITE / (high - low))
        pixels: NDArray[np.uint16] = np.clip(np.rint(scaled), 0, WHITE).astype(np.uint16)
        return np.subtract(np.uint16(WHITE), pixels) if self.is_inverted else pixels

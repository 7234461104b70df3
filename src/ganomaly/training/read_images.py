"""The training images as a plan wants them: in memory or streamed, with what is measured of their pixels."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ganomaly.config import Preprocessing
from ganomaly.data import ImageDataset, ImageLoader, Inspection
from ganomaly.data.inspect import have_values
from ganomaly.data.value_range import measure_value_range
from ganomaly.training.ranks import Ranks


def read_training_images(
    dataset: ImageDataset,
    inspection: Inspection,
    preprocessing: Preprocessing,
    on_decoded: Callable[[int], None] | None = None,
    *,
    training: NDArray[np.int64] | None = None,
    ranks: Ranks | None = None,
) -> tuple[ImageLoader, Preprocessing]:
    """Decode what memory holds, and measure the white level of 16-bit images, or the range of physical values
    unless the user declared it.

    Parameters
    ----------
    dataset, inspection, preprocessing
        As planned.
    on_decoded : callable, optional
        Called with the number of images decoded so far.
    training : ndarray, optional
        `int64[n]`, the images that train; all of them if left out.
    ranks : Ranks, optional
        Processes that read them too; those on this machine share its memory, and all stream if one has to.

    Returns
    -------
    loader : ImageLoader
        Gives training batches.
    preprocessing : Preprocessing
        With the measured white level and range.
    """
    if have_values(inspection) and preprocessing.value_range is None:
        value_range = measure_value_range(dataset, inspection.openable if training is None else training)
        preprocessing = preprocessing.model_copy(update={"value_range": value_range})
    ranks = ranks or Ranks()
    loader = ImageLoader.of(dataset, inspection, preprocessing, sharers=ranks.local_number)
    loader.in_memory = ranks.all_agree(loader.in_memory)
    loader.load(on_decoded)
    return loader, preprocessing.model_copy(update={"white_level": loader.white_level})

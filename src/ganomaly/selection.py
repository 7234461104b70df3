"""Choosing among presets and options by normal images alone: how well synthetic defects in held-out ones are found.

For `sklearn.model_selection`: a scorer that needs no defects and no labels. The synthetic defects are those of
`ganomaly.methods.synthetic_defects`. The presets `features` and `patches` learn from defects of this kind, so they
are at an advantage over methods that do not; compare options of one method with it, and methods on real defects.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ganomaly.data import ImageDataset, Pixels, open_images
from ganomaly.errors import DataError, UsageError
from ganomaly.methods.synthetic_defects import local_contrast, with_defects
from ganomaly.metrics import image_auroc

LARGEST_SIDE = 256
"""Side of the square of an image that gets synthetic defects, in pixels."""

SMALLEST_SIDE = 16


def synthetic_defect_auroc(estimator: Any, X: Any, y: object = None) -> float:
    """The AUROC of normal images against the same images with synthetic defects; a scorer of scikit-learn.

    Parameters
    ----------
    estimator
        A fitted `GANomalyDetector`, or a `Pipeline` that ends with one.
    X : ndarray, or list of paths
        Held-out normal images, `uint8` or `uint16`, two at least, as `GANomalyDetector.fit` takes them.
    y : ignored
        For scikit-learn.

    Returns
    -------
    float
        0.5 is chance; the same for the same images, whatever the estimator.

    Raises
    ------
    UsageError
        If there are fewer than two images, or smaller than 16 px, or of different channels.
    DataError
        If no synthetic defect is visible in these images, as where all of them are black.

    Examples
    --------
    >>> from sklearn.model_selection import GridSearchCV
    >>> from ganomaly import GANomalyDetector
    >>> search = GridSearchCV(
    ...     GANomalyDetector("paper"), {"method_options": [{"nz": 50}, {"nz": 100}]}, scoring=synthetic_defect_auroc
    ... )
    """
    normal, defective = images_with_defects(open_images(X))
    scores = np.concatenate([-_score_samples(estimator, images) for images in (normal, defective)])
    labels = np.repeat([False, True], [len(normal), len(defective)])
    auroc = image_auroc(scores, labels)
    assert auroc is not None  # there are images of both classes
    return auroc


def images_with_defects(dataset: ImageDataset, seed: int = 0) -> tuple[list[Pixels], list[Pixels]]:
    """Images as they are, and those of them in which synthetic defects are visible, with the defects.

    Parameters
    ----------
    dataset : ImageDataset
        Normal images.
    seed : int
        Fixes where the defects are, and which.

    Raises
    ------
    UsageError, DataError
        As `synthetic_defect_auroc`.
    """
    images = [dataset.read(index) for index in range(len(dataset))]
    side = _common_side(images)
    random = np.random.default_rng(seed)
    white = max(int(image.max()) for image in images) if images[0].dtype == np.uint16 else 255
    corners = [
        tuple(int(random.integers(length - side + 1)) for length in image.shape[:2]) for image in images
    ]
    squares = [
        image[row : row + side, column : column + side]
        for image, (row, column) in zip(images, corners, strict=True)
    ]
    x = torch.from_numpy(np.stack(squares).astype(np.float32) * (2 / max(white, 1)) - 1).permute(0, 3, 1, 2)
    drawn = with_defects(x, local_contrast(x), random)
    defective: list[Pixels] = []
    for number, (image, (row, column)) in enumerate(zip(images, corners, strict=True)):
        square = (drawn.patches[number].permute(1, 2, 0).numpy() + 1) * (white / 2)
        pixels = image.copy()
        pixels[row : row + side, column : column + side] = np.rint(square).astype(image.dtype)
        if drawn.mask[number].any() and (pixels != image).any():
            defective.append(pixels)
    if not defective:
        raise DataError(
            f"no synthetic defect is visible in the {len(images)} images; give more images, or others"
        )
    return images, defective


def _common_side(images: Sequence[Pixels]) -> int:
    if len(images) < 2:
        raise UsageError(f"a score by synthetic defects needs two held-out images or more, got {len(images)}")
    channels = sorted({image.shape[2] for image in images})
    if len(channels) > 1 or len({image.dtype for image in images}) > 1:
        raise UsageError(
            f"the held-out images have {' and '.join(map(str, channels))} channels or different bit depths; "
            "convert them to one kind"
        )
    side = min([LARGEST_SIDE, *(int(min(image.shape[:2])) for image in images)])
    if side < SMALLEST_SIDE:
        raise UsageError(f"the smallest held-out image has a side of {side} px; {SMALLEST_SIDE} are needed")
    return side


def _score_samples(estimator: Any, images: list[Pixels]) -> NDArray[np.float64]:
    """Scores of scikit-learn; as one array where the images have one size, since steps of a pipeline expect one."""
    one_size = len({image.shape for image in images}) == 1
    given: Any = np.stack(images) if one_size else images
    if one_size and images[0].shape[2] == 1:
        given = given[..., 0]
    return np.asarray(estimator.score_samples(given), dtype=np.float64)

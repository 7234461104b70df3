"""Choosing among presets and options by normal images alone: how well synthetic defects in held-out ones are found.

For `sklearn.model_selection`: a scorer that needs no defects and no labels. The synthetic defects are those of
`ganomaly tune`, which no method learns from.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganomaly.data import ImageDataset, Pixels, open_images
from ganomaly.data.evaluation_defects import DEFECTS, with_defect
from ganomaly.errors import DataError, UsageError
from ganomaly.metrics import image_auroc

SMALLEST_SIDE = 16  # px of an image that can show a defect


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
        If there are fewer than two images, or one is smaller than 16 px or has physical values.
    DataError
        If no synthetic defect is visible in these images.

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
        Normal images; one after the other gets each kind of defect.
    seed : int
        Fixes where the defects are.

    Raises
    ------
    UsageError, DataError
        As `synthetic_defect_auroc`.
    """
    images = [dataset.read(index) for index in range(len(dataset))]
    if len(images) < 2:
        raise UsageError(f"a score by synthetic defects needs two held-out images or more, got {len(images)}")
    if min(min(image.shape[:2]) for image in images) < SMALLEST_SIDE:
        raise UsageError(f"an image is smaller than {SMALLEST_SIDE} px, and shows no synthetic defect")
    if any(image.dtype == np.float32 for image in images):
        raise UsageError("images of physical values have no score by synthetic defects")
    kinds = sorted(DEFECTS)
    drawn = [
        with_defect(image, kinds[number % len(kinds)], (seed, number)) for number, image in enumerate(images)
    ]
    defective = [after for before, after in zip(images, drawn, strict=True) if (before != after).any()]
    if not defective:
        raise DataError(
            f"no synthetic defect is visible in the {len(images)} images; give more images, or others"
        )
    return images, defective


def _score_samples(estimator: Any, images: list[Pixels]) -> NDArray[np.float64]:
    """Scores of scikit-learn; as one array where the images have one size, since steps of a pipeline expect one."""
    one_size = len({image.shape for image in images}) == 1
    given: Any = np.stack(images) if one_size else images
    if one_size and images[0].shape[2] == 1:
        given = given[..., 0]
    return np.asarray(estimator.score_samples(given), dtype=np.float64)

"""Collects from the predictions of the test images what the figures of each class need."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ganomaly.benchmark.artifacts import Artifacts, Embedding, Reconstruction
from ganomaly.benchmark.embedding import principal_components, tsne_positions
from ganomaly.benchmark.sampling import RandomSample
from ganomaly.prediction import Prediction

EMBEDDED_IMAGES = 500  # normal ones, and as many anomalous ones
RECONSTRUCTED_IMAGES = 8  # normal ones, and as many anomalous ones


class ArtifactCollector:
    """Takes the predictions of the test images one after the other; memory does not grow with their number.

    Parameters
    ----------
    labels : mapping of str to ndarray
        For each class `float[N]`: 1 anomalous, 0 normal, NaN not part of its test set.
    seed : int
        Fixes which images are drawn; the same for every method.
    """

    def __init__(self, labels: Mapping[str, NDArray[np.float64]], seed: int) -> None:
        self._samples = {name: _ClassSamples(of_class, seed) for name, of_class in labels.items()}

    def add(self, prediction: Prediction) -> None:
        """Take features, image and reconstruction from the prediction of an image that is drawn."""
        if prediction.score is not None:
            for samples in self._samples.values():
                samples.add(prediction)

    def artifacts(self, scores: NDArray[np.float64]) -> dict[str, Artifacts]:
        """The artifacts of each class.

        Parameters
        ----------
        scores : ndarray
            `float64[N]`, A(x) of the test images; NaN for an image that could not be read.
        """
        return {name: samples.artifacts(scores) for name, samples in self._samples.items()}


class _ClassSamples:
    """Samples of the test images of one class, first of the normal ones, then of the anomalous ones."""

    def __init__(self, labels: NDArray[np.float64], seed: int) -> None:
        self._labels = labels
        members = [np.flatnonzero(labels == label) for label in (0, 1)]
        generator = np.random.default_rng([seed, len(labels)])
        self._features: list[RandomSample[NDArray[np.float32]]] = [
            RandomSample(indices, EMBEDDED_IMAGES, generator) for indices in members
        ]
        generator = np.random.default_rng([seed, len(labels)])
        self._reconstructions: list[RandomSample[Reconstruction]] = [
            RandomSample(indices, RECONSTRUCTED_IMAGES, generator) for indices in members
        ]

    def add(self, prediction: Prediction) -> None:
        if prediction.features is not None:
            for features in self._features:
                features.offer(prediction.index, prediction.features)
        if prediction.image is not None and prediction.reconstruction is not None:
            sample = Reconstruction(
                _without_alpha(prediction.image),
                _without_alpha(prediction.reconstruction),
                is_anomalous=bool(self._labels[prediction.index] == 1),
            )
            for reconstructions in self._reconstructions:
                reconstructions.offer(prediction.index, sample)

    def artifacts(self, scores: NDArray[np.float64]) -> Artifacts:
        used = np.isfinite(self._labels) & np.isfinite(scores)
        normal, anomalous = (sample.items() for sample in self._features)
        return Artifacts(
            scores[used],
            self._labels[used] == 1,
            _embed(normal, anomalous),
            [item for sample in self._reconstructions for item in sample.items()],
        )


def _embed(normal: list[NDArray[np.float32]], anomalous: list[NDArray[np.float32]]) -> Embedding | None:
    if not normal and not anomalous:
        return None
    components = principal_components(np.stack([*normal, *anomalous]))
    if components is None:
        return None
    is_anomalous = np.repeat([False, True], [len(normal), len(anomalous)])
    return Embedding(components, tsne_positions(components), is_anomalous)


def _without_alpha(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Gray or RGB of `uint8[H, W, C]`."""
    return image[..., : 3 if image.shape[2] >= 3 else 1]

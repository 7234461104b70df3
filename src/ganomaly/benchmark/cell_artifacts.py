"""Looks at a trained method with some of the test images, and keeps for each class what its figures need."""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from ganomaly.benchmark.artifacts import Artifacts, Embedding, Reconstruction
from ganomaly.benchmark.features import embedded, last_features, principal_components
from ganomaly.config import Preprocessing
from ganomaly.data import ImageDataset, Subset, read_batches
from ganomaly.methods import Method
from ganomaly.prediction.pytorch import eval_mode, predict_dataset
from ganomaly.tensors import network_input

EMBEDDED = 500  # normal images, and as many anomalous ones
SHOWN = 8  # normal images, and as many anomalous ones
BATCH_SIZE = 8  # features of large images take much memory

Indices = NDArray[np.int64]


def artifacts_of_classes(
    method: Method,
    preprocessing: Preprocessing,
    test: ImageDataset,
    scores: NDArray[np.float64],
    classes: Mapping[str, NDArray[np.float64]],
    seed: int,
) -> dict[str, Artifacts]:
    """Keep what the figures of each class need; an image that several classes share is looked at once.

    Parameters
    ----------
    method : Method
        Trained.
    preprocessing : Preprocessing
        That of its training.
    test : ImageDataset
        N test images.
    scores : ndarray
        `float64[N]`, their A(x); NaN for an image that cannot be read.
    classes : mapping of str to ndarray
        For each class `float[N]`: 1 anomalous, 0 normal, NaN left out.
    seed : int
        Fixes which images are drawn; the same for every method.
    """
    to_embed = {name: _drawn(scores, truth, EMBEDDED, seed) for name, truth in classes.items()}
    to_show = {name: _drawn(scores, truth, SHOWN, seed) for name, truth in classes.items()}
    features = _features(method, preprocessing, test, _all_of(to_embed.values()))
    shown = _reconstructions(method, preprocessing, test, _all_of(to_show.values()))
    kept = {}
    for name, truth in classes.items():
        plays = np.isfinite(truth) & np.isfinite(scores)
        kept[name] = Artifacts(
            scores[plays],
            truth[plays] == 1,
            _embedding(features, to_embed[name], truth),
            [
                Reconstruction(*shown[index], is_anomalous=bool(truth[index] == 1))
                for index in to_show[name].tolist()
                if index in shown
            ],
        )
    return kept


def _drawn(
    scores: NDArray[np.float64], truth: NDArray[np.float64], of_each: int, seed: int
) -> NDArray[np.int64]:
    """Indices of at most so many normal images, then of as many anomalous ones; of those that have a score."""
    random = np.random.default_rng([seed, len(truth)])
    drawn = [
        np.sort(random.permutation(np.flatnonzero((truth == role) & np.isfinite(scores)))[:of_each])
        for role in (0, 1)
    ]
    return np.concatenate(drawn)


def _all_of(drawn: Iterable[Indices]) -> Indices:
    return np.unique(np.concatenate(list(drawn)))


def _features(
    method: Method, preprocessing: Preprocessing, test: ImageDataset, indices: Indices
) -> dict[int, NDArray[np.float32]]:
    """The discriminator's last features, `float32[K]` by the index of the image; nothing without a discriminator."""
    device = next(method.parameters()).device
    found: dict[int, NDArray[np.float32]] = {}
    with eval_mode(method):
        for batch in read_batches(Subset(test, indices), preprocessing, batch_size=BATCH_SIZE):
            if len(batch.images):
                x = network_input(batch.images, preprocessing.white_level, device)
                rows = last_features(method, x)
                if rows is None:
                    return {}
                known = rows.float().cpu().numpy()
                found |= dict(zip(indices[batch.indices].tolist(), known, strict=True))
    return found


def _embedding(
    features: Mapping[int, NDArray[np.float32]], drawn: Indices, truth: NDArray[np.float64]
) -> Embedding | None:
    known = [index for index in drawn.tolist() if index in features]
    if not known:
        return None
    components = principal_components(np.stack([features[index] for index in known]))
    if components is None:
        return None
    return Embedding(components, embedded(components), truth[known] == 1)


def _reconstructions(
    method: Method, preprocessing: Preprocessing, test: ImageDataset, indices: Indices
) -> dict[int, tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Image and reconstruction by the index of the image; nothing if the method rebuilds none."""
    return {
        int(indices[scored.index]): (_for_people(scored.image), _for_people(scored.reconstruction))
        for scored in predict_dataset(method, preprocessing, Subset(test, indices), details=True)
        if scored.image is not None and scored.reconstruction is not None
    }


def _for_people(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Gray or RGB of `uint8[H, W, C]`, without an alpha channel."""
    return picture[..., : 3 if picture.shape[2] >= 3 else 1]

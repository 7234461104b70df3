"""What a cell keeps of each class beside its row, so that its figures can be drawn again without training again.

A file holds arrays and nothing else: `scores` and `is_anomalous` of all test images; where they could be had,
`features`, `places` and `embedded_is_anomalous` of some; `image_<n>` and `reconstruction_<n>` of a few, and
`shown_is_anomalous`.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from ganomaly.errors import DataError
from ganomaly.files import written_whole

KEPT = "kept"
"""The folder beside the rows, and what a row calls its file in there."""


@dataclass(frozen=True, eq=False)
class Embedding:
    """The discriminator's last features of some test images, and where t-SNE puts them.

    Attributes
    ----------
    features : ndarray
        `float32[M, K]`, their principal components; kept so that other embeddings can be made of them.
    places : ndarray
        `float32[M, 2]`.
    is_anomalous : ndarray
        `bool[M]`.
    """

    features: NDArray[np.float32]
    places: NDArray[np.float32]
    is_anomalous: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """A test image as the network saw it, and what it made of it.

    Attributes
    ----------
    image, reconstruction : ndarray
        `uint8[H, W, 1]` or `uint8[H, W, 3]`.
    is_anomalous : bool
        The truth.
    """

    image: NDArray[np.uint8]
    reconstruction: NDArray[np.uint8]
    is_anomalous: bool


@dataclass(frozen=True, eq=False)
class Artifacts:
    """What the figures of one method on one class need.

    Attributes
    ----------
    scores : ndarray
        `float64[N]`, A(x) of the test images that the AUROC of the class was measured on.
    is_anomalous : ndarray
        `bool[N]`, the truth.
    embedding : Embedding or None
        None where the method has no discriminator, or its features tell nothing.
    reconstructions : sequence of Reconstruction
        Empty where the method rebuilds no images.
    """

    scores: NDArray[np.float64]
    is_anomalous: NDArray[np.bool_]
    embedding: Embedding | None
    reconstructions: Sequence[Reconstruction]


def file_name(key: Sequence[Any]) -> str:
    """The file for what tells a row from all others."""
    return f"{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}.npz"


def write_artifacts(kept: Artifacts, path: Path) -> None:
    """Write to a file, whole or not at all; its folder is made if it is missing.

    Raises
    ------
    OutputError
        If writing fails.
    """
    arrays: dict[str, NDArray[Any]] = {"scores": kept.scores, "is_anomalous": kept.is_anomalous}
    if kept.embedding is not None:
        arrays["features"] = kept.embedding.features
        arrays["places"] = kept.embedding.places
        arrays["embedded_is_anomalous"] = kept.embedding.is_anomalous
    arrays["shown_is_anomalous"] = np.array([each.is_anomalous for each in kept.reconstructions], dtype=bool)
    for number, each in enumerate(kept.reconstructions):
        arrays |= {f"image_{number}": each.image, f"reconstruction_{number}": each.reconstruction}
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as part, part.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def read_artifacts(path: Path) -> Artifacts | None:
    """Read a file that `write_artifacts` wrote; None if it is missing.

    Raises
    ------
    DataError
        If it is not such a file.
    """
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            return _from_arrays(dict(file))
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise DataError(
            f"cannot read {path}, which a benchmark kept for its figures ({error}); remove it to go on without them"
        ) from error


def _from_arrays(arrays: Mapping[str, NDArray[Any]]) -> Artifacts:
    embedding = None
    if "features" in arrays:
        embedding = Embedding(arrays["features"], arrays["places"], arrays["embedded_is_anomalous"])
    shown = [
        Reconstruction(arrays[f"image_{number}"], arrays[f"reconstruction_{number}"], bool(is_anomalous))
        for number, is_anomalous in enumerate(arrays["shown_is_anomalous"])
    ]
    return Artifacts(arrays["scores"], arrays["is_anomalous"], embedding, shown)

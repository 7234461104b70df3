"""Artifacts: what a cell leaves of each class beside its row, so that figures are drawn again without training.

A file holds arrays and nothing else: `scores` and `is_anomalous` of all test images; where there are any,
`features`, `positions` and `embedded_is_anomalous` of the embedded images; `image_<n>` and `reconstruction_<n>` of
the sample images, and `reconstructed_is_anomalous`.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from ganomaly.errors import DataError
from ganomaly.files import make_folder, written_whole
from ganomaly.remote import Location, RemoteFile, local_copy

ARTIFACTS = "artifacts"
"""The folder beside the rows, and the column with a row's file, relative to the folder of the rows."""

_EARLIER_NAMES = {"places": "positions", "shown_is_anomalous": "reconstructed_is_anomalous"}
"""Arrays in files of earlier versions, and their present names."""


@dataclass(frozen=True, eq=False)
class Embedding:
    """The discriminator's features of some test images, and their t-SNE.

    Attributes
    ----------
    features : ndarray
        `float32[M, K]`, their principal components; stored so that other embeddings can be made of them.
    positions : ndarray
        `float32[M, 2]`, by t-SNE.
    is_anomalous : ndarray
        `bool[M]`, the labels.
    """

    features: NDArray[np.float32]
    positions: NDArray[np.float32]
    is_anomalous: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """A test image at the size of the network input, and its reconstruction.

    Attributes
    ----------
    image, reconstruction : ndarray
        `uint8[H, W, 1]` or `uint8[H, W, 3]`.
    is_anomalous : bool
        The label.
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
        `float64[N]`, A(x) of the test images that the AUROC of the class was computed from.
    is_anomalous : ndarray
        `bool[N]`, the labels.
    embedding : Embedding or None
        None where the method has no discriminator, or no embedding can be made of its features.
    reconstructions : sequence of Reconstruction
        Empty where the method does not reconstruct.
    """

    scores: NDArray[np.float64]
    is_anomalous: NDArray[np.bool_]
    embedding: Embedding | None
    reconstructions: Sequence[Reconstruction]


def artifact_file(key: Sequence[Any]) -> str:
    """The file for the key of a row, relative to the folder of the rows."""
    return f"{ARTIFACTS}/{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}.npz"


def write_artifacts(artifacts: Artifacts, path: Location) -> None:
    """Write to a file, whole or not at all; its folder is made if it is missing.

    Raises
    ------
    OutputError, StoreError
        If writing fails.
    """
    arrays: dict[str, NDArray[Any]] = {"scores": artifacts.scores, "is_anomalous": artifacts.is_anomalous}
    if artifacts.embedding is not None:
        arrays["features"] = artifacts.embedding.features
        arrays["positions"] = artifacts.embedding.positions
        arrays["embedded_is_anomalous"] = artifacts.embedding.is_anomalous
    arrays["reconstructed_is_anomalous"] = np.array(
        [sample.is_anomalous for sample in artifacts.reconstructions], dtype=bool
    )
    for number, sample in enumerate(artifacts.reconstructions):
        arrays |= {f"image_{number}": sample.image, f"reconstruction_{number}": sample.reconstruction}
    make_folder(path.parent)
    with written_whole(path) as part, part.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def read_artifacts(path: Location) -> Artifacts | None:
    """Read a file that `write_artifacts` wrote, in this version or an earlier one; None if it is missing.

    Raises
    ------
    DataError
        If it is not such a file.
    StoreError
        If a store does not give it.
    """
    if isinstance(path, RemoteFile):
        try:
            with local_copy(path) as copy:
                return read_artifacts(copy)
        except FileNotFoundError:
            return None
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            return _from_arrays({_EARLIER_NAMES.get(name, name): array for name, array in file.items()})
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise DataError(
            f"cannot read {path}, artifacts of a benchmark ({error}); remove it to go on without its figures"
        ) from error


def _from_arrays(arrays: Mapping[str, NDArray[Any]]) -> Artifacts:
    embedding = None
    if "features" in arrays:
        embedding = Embedding(arrays["features"], arrays["positions"], arrays["embedded_is_anomalous"])
    reconstructions = [
        Reconstruction(arrays[f"image_{number}"], arrays[f"reconstruction_{number}"], bool(is_anomalous))
        for number, is_anomalous in enumerate(arrays["reconstructed_is_anomalous"])
    ]
    return Artifacts(arrays["scores"], arrays["is_anomalous"], embedding, reconstructions)

"""Memory banks: features of normal images, and how far other features are from the nearest of them.

After Roth et al., *Towards Total Recall in Industrial Anomaly Detection* (PatchCore), CVPR 2022, and Bergman, Cohen,
Hoshen, *Deep Nearest Neighbor Anomaly Detection*, 2020, arXiv:2002.10445, with features learned from the normal
images themselves. A distance is divided by the root of the local scale, which is how far the neighbours are from
their own neighbours, so that it counts more where normal features are dense. The full ratio is the local outlier
factor of Breunig, Kriegel, Ng, Sander, *LOF: Identifying Density-Based Local Outliers*, SIGMOD 2000.

Features of more normal images can be added to a bank after training. The local scales and the whitening stay as they
were fitted, so that no distance grows by that: it is a minimum, or a mean of the least, over more features.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from ganomaly.methods.whitening import PrincipalAxes, Whitening

_TINY = 1e-6

# of banks of positions
_PARTS = 4  # of the bank; the nearest feature of each counts
_FITTED_IMAGES = (
    128  # that a bank is filled from, about; an image that is added gives as many features as one of them
)
_MAX_ADDED_SHARE = 3  # features that may be added, in sizes of the bank
_SCALE_NEIGHBOURS = 3  # mean distance to these is a feature's local scale
_MIN_SCALE = 0.1  # of the mean local scale: where features coincide, rounding must not decide
_POSITION_RIDGE = 1e-2
_POSITION_CHUNK = 2048  # features compared with the bank at a time, which bounds memory

# of banks of images
NEIGHBOURS = 10  # mean distance to these is taken
DENSITY_NEIGHBOURS = 50  # mean local scale of these is taken
IMAGE_RIDGE = 0.1
_MIN_VARIANCE = 1e-6
_IMAGE_CHUNK = 512


class MemoryBank(nn.Module, ABC):
    """Features of normal images, to which more can be added after training.

    Attributes
    ----------
    rows_per_image : int
        Rows that an image adds.
    max_added : int
        Rows that may be added in all.
    """

    rows_per_image: int
    max_added: int

    @property
    @abstractmethod
    def added(self) -> Tensor:
        """What was added, `float[m, K]`, m a multiple of `rows_per_image`."""

    @abstractmethod
    def set_added(self, rows: Tensor) -> None:
        """Replace what was added."""

    def add(self, rows: Tensor) -> None:
        """Add rows of images, `float[n, K]`; the result is the same in any order, and repeats count once."""
        together = torch.cat([self.added, rows.to(self.added)])
        images = together.reshape(-1, self.rows_per_image * together.shape[1])
        if len(images):  # numpy sorts rows number by number
            unique = torch.from_numpy(np.unique(images.cpu().numpy(), axis=0)).to(images)
            self.set_added(unique.view(-1, together.shape[1]))


def banks_of(method: nn.Module) -> list[MemoryBank]:
    """The memory banks of a method, always in the same order."""
    return [module for module in method.modules() if isinstance(module, MemoryBank)]


class PositionMemoryBank(MemoryBank):
    """Features of positions of normal images' feature maps, whitened.

    The distance of a feature is the root of the mean, over four parts of the bank, of the least d² / s, where d is
    the distance to a feature of the bank and s that one's local scale. One matrix product and a minimum compute it;
    choosing the k nearest of thousands takes longer than that product.

    Parameters
    ----------
    channels : int
        Of the feature maps.
    size : int
        Features in the bank; a multiple of four.
    """

    comparison: Tensor

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.whitening = Whitening(channels, ridge=_POSITION_RIDGE)
        self.size = size
        self.rows_per_image = max(1, size // _FITTED_IMAGES // _PARTS) * _PARTS
        self.max_added = _MAX_ADDED_SHARE * size
        # for a feature b of local scale s: −2b/s, 1/s, ‖b‖²/s
        self.register_buffer("comparison", torch.zeros(size, channels + 2))

    def fit(self, feature_maps: Sequence[Tensor], generator: Generator) -> None:
        """Fill the bank with random positions of normal images.

        Parameters
        ----------
        feature_maps : sequence of Tensor
            `float[K, h, w]`, one for each image.
        generator : torch.Generator
            Chooses the positions; on the processor.
        """
        features = torch.cat([image.flatten(1) for image in feature_maps], dim=1).t()  # [n, K]
        self.whitening.fit(features)
        size = self.size
        # where the bank has room for more positions than there are, positions repeat, which changes little
        chosen = torch.randperm(len(features), generator=generator).repeat(-(-size // len(features)))[:size]
        chosen = chosen.to(features.device)
        bank = self.whitening(features[chosen])
        positions = torch.tensor([image[0].numel() for image in feature_maps], device=features.device)
        images = torch.repeat_interleave(torch.arange(len(feature_maps), device=features.device), positions)
        self.comparison = _comparison(bank, _local_scale(bank, images[chosen])).to(self.comparison)

    def rows_of(self, features: Tensor, generator: Generator) -> Tensor:
        """The rows to `add` for an image, of random positions of its feature map, `float[K, h, w]`.

        The local scale of a feature is its mean distance to the nearest of the fitted ones, so that it does not
        depend on what else is added; at most their mean, so that a feature far away from all of them does not make
        everything around it normal.
        """
        positions = features.flatten(1).t()  # [n, K]
        n = self.rows_per_image
        chosen = torch.randperm(len(positions), generator=generator).repeat(-(-n // len(positions)))[:n]
        queries = self.whitening(positions[chosen.to(positions.device)])
        weighted, weight = self.comparison[: self.size, :-2], self.comparison[: self.size, -2:-1]
        fitted = weighted / (-2 * weight)
        neighbours = nearest_neighbours(queries, fitted, _squared(fitted)[:, 0] / 2, _SCALE_NEIGHBOURS)
        mean = weight.reciprocal().mean()
        scale = _distances(queries, fitted[neighbours]).mean(dim=1).clamp(_MIN_SCALE * mean, mean)
        return _comparison(queries, scale)

    @property
    def added(self) -> Tensor:
        """Rows of four parts in turn."""
        return self.comparison[self.size :]

    def set_added(self, rows: Tensor) -> None:
        """Replace what was added."""
        self.comparison = torch.cat([self.comparison[: self.size], rows])

    def forward(self, feature_maps: Tensor) -> Tensor:
        """The distance of each position: `float[N, K, h, w]` to `float[N, h, w]`, ≥ 0."""
        n, channels, height, width = feature_maps.shape
        features = self.whitening(feature_maps.permute(0, 2, 3, 1).reshape(-1, channels))
        features = torch.cat([features, _squared(features), torch.ones_like(features[:, :1])], dim=1)
        squares = _in_chunks(self._least_of_parts, _POSITION_CHUNK, features)
        return squares.clamp_min(0).sqrt().view(n, height, width)

    def _least_of_parts(self, features: Tensor) -> Tensor:
        squares = features @ self.comparison.t()
        least = squares[:, : self.size].reshape(-1, _PARTS, self.size // _PARTS).amin(dim=2)
        n_added = len(self.comparison) - self.size
        if n_added:
            added = squares[:, self.size :].reshape(-1, n_added // _PARTS, _PARTS).amin(dim=1)
            least = torch.minimum(least, added)
        return least.mean(dim=1)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        """Make room for what was added."""
        stored = state_dict.get(f"{prefix}comparison", self.comparison)
        n_added = (len(stored) if stored.ndim else 0) - self.size
        if n_added >= 0 and n_added % self.rows_per_image == 0:
            self.comparison = self.comparison.new_zeros(self.size + n_added, self.comparison.shape[1])
        super()._load_from_state_dict(state_dict, prefix, *others)


class ImageMemoryBank(MemoryBank):
    """One feature for each normal image, compared by direction: on the unit sphere, along principal axes.

    Parameters
    ----------
    channels : int
        Numbers in a feature.
    axes : int
        Principal axes, at most.
    whiten : bool
        Whether the axes are scaled to the same variance.
    """

    features: Tensor
    local_scale: Tensor
    """Of the fitted features, which come first; those that were added have none."""
    rows_per_image = 1
    max_added = 10_000
    centre: Tensor
    centred: Tensor
    half_squares: Tensor

    def __init__(self, channels: int, axes: int, *, whiten: bool) -> None:
        super().__init__()
        axes = min(axes, channels)
        self.axes = (
            Whitening(channels, axes, ridge=IMAGE_RIDGE, min_variance=_MIN_VARIANCE)
            if whiten
            else PrincipalAxes(channels, axes)
        )
        self.register_buffer("features", torch.zeros(1, axes))
        self.register_buffer("local_scale", torch.ones(1))
        # the features about their mean, because fp32 could not resolve those of similar images on the sphere
        self.register_buffer("centre", torch.zeros(axes, dtype=torch.float64), persistent=False)
        self.register_buffer("centred", torch.zeros(1, axes), persistent=False)
        self.register_buffer("half_squares", torch.zeros(1), persistent=False)

    def fit(self, features: Tensor) -> None:
        """Fill the bank with the features of normal images, `float[n, channels]`, n ≥ 1."""
        self.axes.fit(functional.normalize(features.double().cpu(), dim=1))
        self.features = self._directions(features).float()
        n = len(features)
        self.local_scale = self.local_scale.new_ones(n)
        self._centre_features()
        groups = torch.arange(n, device=features.device) if n > 1 else None  # no feature is its own neighbour
        neighbours = self._nearest(self.centred, min(NEIGHBOURS, max(1, n - 1)), groups)
        self.local_scale = self._mean_distance(self.centred, neighbours)

    def rows_of(self, features: Tensor) -> Tensor:
        """The rows to `add` for images, from their features `float[n, channels]`."""
        return self._directions(features).float()

    @property
    def added(self) -> Tensor:
        """Features that were added."""
        return self.features[len(self.local_scale) :]

    def set_added(self, rows: Tensor) -> None:
        """Replace them."""
        self.features = torch.cat([self.features[: len(self.local_scale)], rows])
        self._centre_features()

    def forward(self, features: Tensor) -> Tensor:
        """The mean distance to the 10 nearest features over the root of the mean local scale of the 50 nearest.

        Features that were added count for the distance only.

        Parameters
        ----------
        features : Tensor
            `float[N, channels]`.

        Returns
        -------
        Tensor
            `float[N]`, ≥ 0. Before `fit`, the distance to the origin.
        """
        queries = (self._directions(features) - self.centre).float()
        n_fitted = len(self.local_scale)
        neighbours = self._nearest(queries, min(DENSITY_NEIGHBOURS, n_fitted))
        nearest = neighbours[:, :NEIGHBOURS]
        if len(self.features) > n_fitted:
            # as many as without what was added, of which fewer than ten may be fitted: more would be farther away
            k = nearest.shape[1]
            nearest = nearest_neighbours(queries, self.centred, self.half_squares, k)
        distance = self._mean_distance(queries, nearest)
        if n_fitted == 1:  # which has no neighbours, and so no local scale
            return distance
        return distance / self.local_scale[neighbours].mean(dim=1).clamp_min(_TINY).sqrt()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        """Resize the bank to the number of features in the state."""
        stored, scales = (
            state_dict.get(f"{prefix}{name}", getattr(self, name)) for name in ("features", "local_scale")
        )
        size = len(stored) if stored.ndim and len(stored) else 1  # PyTorch refuses a state without rows
        n_fitted = min(size, len(scales) if scales.ndim and len(scales) else 1)
        self.features = self.features.new_zeros(size, self.features.shape[1])
        self.local_scale = self.local_scale.new_zeros(n_fitted)
        super()._load_from_state_dict(state_dict, prefix, *others)
        self._centre_features()

    def _centre_features(self) -> None:
        features = self.features.double()
        self.centre = features[: len(self.local_scale)].mean(dim=0)
        self.centred = (features - self.centre).float()
        self.half_squares = _squared(self.centred)[:, 0] / 2

    def _directions(self, features: Tensor) -> Tensor:
        """Points on the unit sphere, `double[N, axes]`: similar images differ in digits that fp32 would round."""
        return functional.normalize(self.axes(functional.normalize(features.double(), dim=1)), dim=1)

    def _nearest(self, queries: Tensor, k: int, groups: Tensor | None = None) -> Tensor:
        """Of the fitted features."""
        n = len(self.local_scale)
        return nearest_neighbours(queries, self.centred[:n], self.half_squares[:n], k, groups)

    def _mean_distance(self, queries: Tensor, neighbours: Tensor) -> Tensor:
        # from differences: 1 − cosine would be rounded the more, the nearer they are
        return _distances(queries, self.centred[neighbours]).mean(dim=1)


def nearest_neighbours(
    queries: Tensor, bank: Tensor, half_squares: Tensor, k: int, groups: Tensor | None = None
) -> Tensor:
    """Find the k nearest features of a bank, by Euclidean distance.

    Parameters
    ----------
    queries : Tensor
        `float[N, K]`.
    bank : Tensor
        `float[M, K]`, M ≥ k, with a mean near 0, so that fp32 resolves the differences.
    half_squares : Tensor
        ‖b‖² / 2 of each feature of the bank, `float[M]`.
    k : int
        Neighbours.
    groups : Tensor, optional
        `int[M]`, where the queries are the bank itself: features of the same group come last, as neighbours that are
        infinitely far away.

    Returns
    -------
    Tensor
        Indices, `int[N, k]`, nearest first.
    """

    def search(queries: Tensor, query_groups: Tensor | None = None) -> Tensor:
        # ‖q − b‖² = ‖q‖² − 2 (q·b − ‖b‖²/2)
        similarity = queries @ bank.t() - half_squares
        if groups is not None and query_groups is not None:
            similarity = similarity.masked_fill(query_groups[:, None] == groups, -torch.inf)
        return similarity.topk(k, dim=1).indices

    return _in_chunks(search, _IMAGE_CHUNK, *([queries] if groups is None else [queries, groups]))


def _local_scale(bank: Tensor, images: Tensor) -> Tensor:
    """Mean distance of each feature of a bank, `float[M, K]`, to its nearest features of other images: `float[M]`."""
    several_images = bool((images != images[0]).any())
    k = min(_SCALE_NEIGHBOURS, len(bank))
    neighbours = nearest_neighbours(
        bank, bank, _squared(bank)[:, 0] / 2, k, images if several_images else None
    )
    distance = _distances(bank, bank[neighbours])
    if several_images:
        distance = distance.masked_fill(images[neighbours] == images[:, None], torch.inf)
    scale = distance.mean(dim=1)
    mean = scale[scale.isfinite()].mean()
    return torch.where(scale.isfinite(), scale, mean).clamp_min(max(_MIN_SCALE * float(mean), _TINY))


def _comparison(features: Tensor, scale: Tensor) -> Tensor:
    """Rows that compare with features b of local scale s: −2b/s, 1/s, ‖b‖²/s."""
    return (
        torch.cat([-2 * features, torch.ones_like(scale)[:, None], _squared(features)], dim=1)
        / scale[:, None]
    )


def _distances(queries: Tensor, neighbours: Tensor) -> Tensor:
    """Distances of queries `float[N, K]` to their neighbours `float[N, k, K]`: `float[N, k]`."""
    distances: Tensor = torch.linalg.vector_norm(queries[:, None] - neighbours, dim=2)
    return distances


def _squared(features: Tensor) -> Tensor:
    """‖f‖² of each row, `float[n, 1]`."""
    return features.square().sum(dim=1, keepdim=True)


def _in_chunks(function: Callable[..., Tensor], size: int, *tensors: Tensor) -> Tensor:
    """Apply a function to at most `size` rows of the tensors at a time, which bounds memory."""
    # an exported graph has no loop over a number that only its input decides
    if torch.compiler.is_exporting():
        return function(*tensors)
    chunks = zip(*(torch.split(tensor, size) for tensor in tensors), strict=True)
    return torch.cat([function(*chunk) for chunk in chunks])

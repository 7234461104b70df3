"""Memory banks: features of normal images, and how far other features are from the nearest of them.

After Roth et al., *Towards Total Recall in Industrial Anomaly Detection* (PatchCore), CVPR 2022, and Bergman, Cohen,
Hoshen, *Deep Nearest Neighbor Anomaly Detection*, 2020, arXiv:2002.10445, with features learned from the normal
images themselves. A distance is divided by the root of the local scale, which is how far the neighbours are from
their own neighbours, so that it counts more where normal features are dense. The full ratio is the local outlier
factor of Breunig, Kriegel, Ng, Sander, *LOF: Identifying Density-Based Local Outliers*, SIGMOD 2000.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from ganomaly.methods.whitening import PrincipalAxes, Whitening

_TINY = 1e-6

# of banks of positions
_PARTS = 4  # of the bank; the nearest feature of each counts
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


class PositionMemoryBank(nn.Module):
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
        size = len(self.comparison)
        # where the bank has room for more positions than there are, positions repeat, which changes little
        chosen = torch.randperm(len(features), generator=generator).repeat(-(-size // len(features)))[:size]
        chosen = chosen.to(features.device)
        bank = self.whitening(features[chosen])
        positions = torch.tensor([image[0].numel() for image in feature_maps], device=features.device)
        images = torch.repeat_interleave(torch.arange(len(feature_maps), device=features.device), positions)
        weight = _local_scale(bank, images[chosen]).reciprocal()[:, None]
        self.comparison.copy_(torch.cat([-2 * bank, torch.ones_like(weight), _squared(bank)], dim=1) * weight)

    def forward(self, feature_maps: Tensor) -> Tensor:
        """The distance of each position: `float[N, K, h, w]` to `float[N, h, w]`, ≥ 0."""
        n, channels, height, width = feature_maps.shape
        features = self.whitening(feature_maps.permute(0, 2, 3, 1).reshape(-1, channels))
        features = torch.cat([features, _squared(features), torch.ones_like(features[:, :1])], dim=1)
        squares = _in_chunks(self._least_of_parts, _POSITION_CHUNK, features)
        return squares.clamp_min(0).sqrt().view(n, height, width)

    def _least_of_parts(self, features: Tensor) -> Tensor:
        squares = features @ self.comparison.t()
        return squares.view(-1, _PARTS, squares.shape[1] // _PARTS).amin(dim=2).mean(dim=1)


class ImageMemoryBank(nn.Module):
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
        self._centre_features()
        n = len(features)
        groups = torch.arange(n, device=features.device) if n > 1 else None  # no feature is its own neighbour
        neighbours = self._nearest(self.centred, min(NEIGHBOURS, max(1, n - 1)), groups)
        self.local_scale = self._mean_distance(self.centred, neighbours)

    def forward(self, features: Tensor) -> Tensor:
        """The mean distance to the 10 nearest features over the root of the mean local scale of the 50 nearest.

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
        neighbours = self._nearest(queries, min(DENSITY_NEIGHBOURS, len(self.features)))
        distance = self._mean_distance(queries, neighbours[:, :NEIGHBOURS])
        if len(self.features) == 1:  # which has no neighbours, and so no local scale
            return distance
        return distance / self.local_scale[neighbours].mean(dim=1).clamp_min(_TINY).sqrt()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        """Resize the bank to the number of features in the state."""
        stored = state_dict.get(f"{prefix}features", self.features)
        size = len(stored) if stored.ndim and len(stored) else 1  # PyTorch refuses a state without rows
        self.features = self.features.new_zeros(size, self.features.shape[1])
        self.local_scale = self.local_scale.new_zeros(size)
        super()._load_from_state_dict(state_dict, prefix, *others)
        self._centre_features()

    def _centre_features(self) -> None:
        features = self.features.double()
        self.centre = features.mean(dim=0)
        self.centred = (features - self.centre).float()
        self.half_squares = _squared(self.centred)[:, 0] / 2

    def _directions(self, features: Tensor) -> Tensor:
        """Points on the unit sphere, `double[N, axes]`: similar images differ in digits that fp32 would round."""
        return functional.normalize(self.axes(functional.normalize(features.double(), dim=1)), dim=1)

    def _nearest(self, queries: Tensor, k: int, groups: Tensor | None = None) -> Tensor:
        return nearest_neighbours(queries, self.centred, self.half_squares, k, groups)

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

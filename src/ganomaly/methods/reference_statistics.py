"""Statistics of the maps of normal images, by position and by image size, that scores are measured against."""

from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ganomaly.methods.ignored_positions import weight_of

# positions from the edge where one band ends and the next begins
_BAND_EDGES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
_BANDS = 2 * (len(_BAND_EDGES) + 1)  # from both edges
_GRID = 12  # cells a side
_OVERALL_SHARE = 0.2  # of a power or variance that comes from all cells or sizes; one has seen few images
_SIZES = 12  # at which the statistics are stored
_SIZE_BANDWIDTH = 0.35  # of the kernel that averages over sizes; log of the number of positions
_PART_WEIGHT = 1 / 64  # of the parts of an image, beside whole images of their size
_TOP_K_DIVISOR = 1000  # k of the top-k mean is the number of positions over this,
_MIN_K = 9  # and this at least
_TINY = 1e-6


class PositionStatistics(nn.Module):
    """Mean and scale of the maps of normal images, by position.

    Maps are standardised twice: by the distance from each edge of the image, which means the same in images of all
    sizes, and then by the cells of a grid over the image, for parts that are always aligned.

    The scale is the fourth root of the mean fourth power above the mean, times a constant that makes it the standard
    deviation for normally distributed values. Where normal images are rarely but strongly above the mean, as at a rim
    that some of them show, it is far larger than the standard deviation.

    Parameters
    ----------
    channels : int
        Maps of an image, each with statistics of its own.
    """

    edge_mean: Tensor
    edge_scale: Tensor
    grid_mean: Tensor
    grid_scale: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("edge_mean", torch.zeros(2, channels, _BANDS))
        self.register_buffer("edge_scale", torch.ones(2, channels, _BANDS))
        self.register_buffer("grid_mean", torch.zeros(channels, _GRID, _GRID))
        self.register_buffer("grid_scale", torch.ones(channels, _GRID, _GRID))

    def fit(self, maps: Sequence[Tensor], counted: Sequence[Tensor | None] | None = None) -> None:
        """Take the statistics of normal images' maps, `float[C, h, w]` each.

        Parameters
        ----------
        maps : sequence of Tensor
            One for each image.
        counted : sequence of Tensor or None, optional
            Positions of each that count, `bool[h, w]`; None for all.
        """
        regions = [None] * len(maps) if counted is None else counted
        weights = [weight_of(region, image_maps) for region, image_maps in zip(regions, maps, strict=True)]
        for axis in (0, 1):
            self._fit_edges(maps, weights, axis)
            maps = [self._standardise_by_edge(image_maps[None], axis)[0] for image_maps in maps]
        self.grid_mean.copy_(_cell_means(maps, weights)[0])
        powers = [_power_above(image_maps, _resized(self.grid_mean, image_maps)) for image_maps in maps]
        power, weight = _cell_means(powers, weights)
        overall = (power * weight).mean(dim=(1, 2), keepdim=True) / weight.mean()
        smooth = functional.avg_pool2d(power, 3, 1, 1, count_include_pad=False)
        self.grid_scale.copy_(_scale((1 - _OVERALL_SHARE) * smooth + _OVERALL_SHARE * overall))

    def forward(self, maps: Tensor) -> Tensor:
        """Standardise maps `float[N, C, h, w]`: how many scales they are above the mean of each position."""
        for axis in (0, 1):
            maps = self._standardise_by_edge(maps, axis)
        return (maps - _resized(self.grid_mean, maps)) / _resized(self.grid_scale, maps)

    def _fit_edges(self, maps: Sequence[Tensor], weights: Sequence[Tensor], axis: int) -> None:
        self.edge_mean[axis] = _band_means(maps, weights, axis)
        powers = [
            _power_above(image_maps, self._at_positions(self.edge_mean, image_maps, axis))
            for image_maps in maps
        ]
        self.edge_scale[axis] = _scale(_band_means(powers, weights, axis))

    def _standardise_by_edge(self, maps: Tensor, axis: int) -> Tensor:
        mean = self._at_positions(self.edge_mean, maps, axis)
        return (maps - mean) / self._at_positions(self.edge_scale, maps, axis)

    @staticmethod
    def _at_positions(by_band: Tensor, maps: Tensor, axis: int) -> Tensor:
        """A statistic of each band, `float[2, C, bands]`, at the positions of maps `float[…, C, h, w]`."""
        band = _bands(maps.shape[axis - 2]).to(by_band.device)
        return by_band[axis].index_select(1, band).unsqueeze(2 - axis)  # [C, h, 1] or [C, 1, w]


def _cell_means(maps: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The mean in each cell of the grid, `float[C, g, g]`, and its weight; the mean of all in a cell without."""
    sums = torch.stack(
        [functional.adaptive_avg_pool2d(m * weight, _GRID) for m, weight in zip(maps, weights, strict=True)]
    ).mean(dim=0)
    weight = torch.stack([functional.adaptive_avg_pool2d(w[None], _GRID) for w in weights]).mean(dim=0)
    overall = sums.mean(dim=(1, 2), keepdim=True) / weight.mean()
    return torch.where(weight > 0, sums / weight.clamp_min(_TINY), overall), weight


def _band_means(maps: Sequence[Tensor], weights: Sequence[Tensor], axis: int) -> Tensor:
    """The mean over the positions of each band, `float[C, bands]`; for a band without positions, over all."""
    count = torch.zeros(_BANDS, dtype=torch.float64)
    total = torch.zeros(maps[0].shape[0], _BANDS, dtype=torch.float64)
    for image_maps, weight in zip(maps, weights, strict=True):
        band = _bands(image_maps.shape[1 + axis])
        count.index_add_(0, band, weight.double().sum(dim=1 - axis).cpu())
        total.index_add_(1, band, (image_maps * weight).double().sum(dim=2 - axis).cpu())  # [C, h or w]
    overall = total.sum(dim=1, keepdim=True) / count.sum()
    return torch.where(count > 0, total / count.clamp_min(1), overall)


def _power_above(maps: Tensor, mean: Tensor) -> Tensor:
    """The fourth power of what is above the mean; for a normal distribution its mean is the variance squared."""
    return (maps - mean).clamp_min(0) ** 4 * (2 / 3)


def _scale(power: Tensor) -> Tensor:
    return power.sqrt().clamp_min(_TINY).sqrt()


def _resized(grid: Tensor, like: Tensor) -> Tensor:
    """A grid `float[C, g, g]` interpolated to the size of maps `float[…, C, h, w]`."""
    size = like.shape[-2:]
    return functional.interpolate(grid[None], size=size, mode="bilinear", align_corners=False)[0]


class SizeStatistics(nn.Module):
    """Mean and standard deviation of the top-k means of normal images, by their number of positions.

    The top-k mean of a large normal image is above that of a small one, because more of its positions are high by
    chance. Beyond the sizes that were seen, those of the nearest size are taken. Where normal images differ in size
    by more than a factor of about ten, or leave gaps as wide, this is coarse: the sizes share a part of the variance,
    and an image in a gap counts as one of the nearest size.

    Parameters
    ----------
    channels : int
        Maps of an image, each with statistics of its own.
    """

    log_sizes: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("log_sizes", torch.arange(_SIZES, dtype=torch.float32, device="cpu"))
        self.register_buffer("mean", torch.zeros(channels, _SIZES))
        self.register_buffer("std", torch.ones(channels, _SIZES))

    def fit(self, maps: Iterable[Tensor], counted: Iterable[Tensor | None] = repeat(None)) -> None:
        """Take the statistics of normal images' maps, `float[C, h, w]` each, of the positions that count.

        Their quarters and sixteenths stand for sizes of which there is no whole image. Beside whole images parts
        hardly count, because they show less of the rim.
        """
        windows = [
            window
            for image_maps, region in zip(maps, counted, strict=False)
            for window in _windows(image_maps, region)
        ]
        log_size = np.log([size for size, _, _ in windows])
        weights = np.array([weight for _, weight, _ in windows])
        top = torch.stack([means for _, _, means in windows]).double().cpu().numpy()  # [n, C]
        log_sizes = np.linspace(log_size.min(), log_size.max(), _SIZES)
        kernel = weights * np.exp(-(((log_size - log_sizes[:, None]) / _SIZE_BANDWIDTH) ** 2) / 2)
        kernel /= kernel.sum(axis=1, keepdims=True)  # [_SIZES, n]
        mean = kernel @ top
        expected = np.stack([np.interp(log_size, log_sizes, channel) for channel in mean.T], axis=1)
        squares = (top - expected) ** 2
        overall = np.average(squares, axis=0, weights=weights)
        variance = (1 - _OVERALL_SHARE) * kernel @ squares + _OVERALL_SHARE * overall
        self.log_sizes.copy_(torch.from_numpy(log_sizes))
        self.mean.copy_(torch.from_numpy(mean.T))
        self.std.copy_(torch.from_numpy(np.sqrt(variance.T).clip(min=_TINY)))

    def forward(self, maps: Tensor) -> Tensor:
        """The top-k means of `float[N, C, h, w]`, in standard deviations above normal images': `float[N, C]`."""
        log_size = torch.ones_like(maps[:, 0]).sum(dim=(1, 2)).log()
        # linear between the sizes; as tensors throughout, so that an exported graph does it for any size
        steps = self.log_sizes.diff().clamp_min(_TINY)
        fraction = ((log_size[:, None] - self.log_sizes[:-1]) / steps).clamp(0, 1)  # [N, sizes − 1]
        mean, std = (stored[:, 0] + fraction @ stored.diff().t() for stored in (self.mean, self.std))
        return (top_k_mean(maps) - mean) / std


def _windows(maps: Tensor, counted: Tensor | None) -> Iterable[tuple[int, float, Tensor]]:
    """Number of positions, weight and top-k means `float[C]` of an image's maps, their quarters and sixteenths."""
    counts = weight_of(counted, maps) > 0
    for parts in (1, 2, 4):
        weight = 1.0 if parts == 1 else _PART_WEIGHT / parts**2
        for rows, row_counts in zip(maps.tensor_split(parts, 1), counts.tensor_split(parts), strict=True):
            windows = zip(rows.tensor_split(parts, 2), row_counts.tensor_split(parts, 1), strict=True)
            for window, window_counts in windows:
                positions = window[:, None, window_counts]
                if positions[0].numel():
                    yield positions[0].numel(), weight, top_k_mean(positions)


def top_k_mean(maps: Tensor) -> Tensor:
    """Mean of the largest 0.1 % of maps `float[…, h, w]`, of nine positions at least where there are as many."""
    positions = maps.flatten(-2)
    n = positions.shape[-1]
    # not min and max: an exported graph does not know the number beforehand; PyTorch does not type these
    smaller: Any = torch.sym_min
    larger: Any = torch.sym_max
    k: int = smaller(n, larger(_MIN_K, n // _TOP_K_DIVISOR))
    return positions.topk(k).values.mean(dim=-1)


def _bands(length: int) -> Tensor:
    """The band of each position in a row of so many, by the distance from the nearer end: `int[length]`."""
    position = torch.arange(length)
    distance = torch.minimum(position, length - 1 - position)
    band = (distance[:, None] >= torch.tensor(_BAND_EDGES)).sum(dim=1)
    return torch.where(position < length / 2, band, _BANDS - 1 - band)

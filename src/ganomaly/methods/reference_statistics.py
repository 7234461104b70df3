"""What normal images do at a place, and in an image of a size: what scores are measured against."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

_BORDERS = (
    1,
    2,
    3,
    4,
    6,
    8,
    12,
    16,
    24,
    32,
    48,
    64,
)  # places from the edge where one band ends and the next begins
_BANDS = 2 * (len(_BORDERS) + 1)  # from both ends
_GRID = 12  # cells a side
_OVERALL_SHARE = 0.2  # of a reach or spread that all cells or sizes share: one of them has seen few images
_SIZES = 12  # for which is known what is usual
_SIZE_WIDTH = 0.35  # of the logarithm of the number of places: so alike are sizes that tell of each other
_PART_WEIGHT = 1 / 64  # of the parts of an image, beside whole images of their size
_TINY = 1e-6


class PositionStatistics(nn.Module):
    """Mean of maps by the place in the image, and how far above it normal images reach there.

    Twice: by the distance from the edges, which is the same in images of all sizes, and in the cells of a grid over
    the image, for parts that always lie alike. The edges come first; what they leave is measured on the grid.

    The reach comes from the mean fourth power of what lies above the mean. Where values are normally distributed it
    is their standard deviation; where normal images are mostly cool and now and then very hot, as at a rim that is
    not always in the picture, it is far more.

    Parameters
    ----------
    channels : int
        Maps of an image, each measured by itself.
    """

    edge_mean: Tensor
    edge_reach: Tensor
    grid_mean: Tensor
    grid_reach: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("edge_mean", torch.zeros(2, channels, _BANDS))
        self.register_buffer("edge_reach", torch.ones(2, channels, _BANDS))
        self.register_buffer("grid_mean", torch.zeros(channels, _GRID, _GRID))
        self.register_buffer("grid_reach", torch.ones(channels, _GRID, _GRID))

    def learn(self, maps: Sequence[Tensor]) -> None:
        """Take the statistics of normal images, `float[C, h, w]` each."""
        for axis in (0, 1):
            self._learn_edges(maps, axis)
            maps = [self._without_edges(each[None], axis)[0] for each in maps]
        self.grid_mean.copy_(
            torch.stack([functional.adaptive_avg_pool2d(each, _GRID) for each in maps]).mean(0)
        )
        powers = [
            functional.adaptive_avg_pool2d(_power_above(each, _on_grid(self.grid_mean, each)), _GRID)
            for each in maps
        ]
        power = torch.stack(powers).mean(dim=0)
        smooth = functional.avg_pool2d(power, 3, 1, 1, count_include_pad=False)
        overall = power.mean(dim=(1, 2), keepdim=True)
        self.grid_reach.copy_(_reach((1 - _OVERALL_SHARE) * smooth + _OVERALL_SHARE * overall))

    def forward(self, maps: Tensor) -> Tensor:
        """Measure maps `float[N, C, h, w]` in reaches above the mean of their places."""
        for axis in (0, 1):
            maps = self._without_edges(maps, axis)
        return (maps - _on_grid(self.grid_mean, maps)) / _on_grid(self.grid_reach, maps)

    def _learn_edges(self, maps: Sequence[Tensor], axis: int) -> None:
        self.edge_mean[axis] = _by_band(maps, axis)
        mean = [self._by_place(self.edge_mean, each, axis) for each in maps]
        powers = [_power_above(each, usual) for each, usual in zip(maps, mean, strict=True)]
        self.edge_reach[axis] = _reach(_by_band(powers, axis))

    def _without_edges(self, maps: Tensor, axis: int) -> Tensor:
        mean, reach = (self._by_place(of, maps, axis) for of in (self.edge_mean, self.edge_reach))
        return (maps - mean) / reach

    @staticmethod
    def _by_place(of: Tensor, maps: Tensor, axis: int) -> Tensor:
        """A figure of each band, `float[2, C, bands]`, spread over the places of maps `float[…, C, h, w]`."""
        band = _bands(maps.shape[axis - 2]).to(of.device)
        return of[axis].index_select(1, band).unsqueeze(2 - axis)  # [C, h, 1] or [C, 1, w]


def _by_band(maps: Sequence[Tensor], axis: int) -> Tensor:
    """The mean over the places of each band, `float[C, bands]`; over all places for a band that nothing lies in."""
    count = torch.zeros(_BANDS, dtype=torch.float64)
    total = torch.zeros(maps[0].shape[0], _BANDS, dtype=torch.float64)
    for each in maps:
        line = each.double().mean(dim=2 - axis).cpu()  # [C, h or w]
        band, weight = _bands(each.shape[1 + axis]), each.shape[2 - axis]
        count.index_add_(0, band, torch.full((len(band),), float(weight), dtype=torch.float64))
        total.index_add_(1, band, weight * line)
    overall = total.sum(dim=1, keepdim=True) / count.sum()
    return torch.where(count > 0, total / count.clamp_min(1), overall)


def _power_above(maps: Tensor, mean: Tensor) -> Tensor:
    """What lies above the mean, to the fourth; scaled so that a normal distribution gives its variance squared."""
    return (maps - mean).clamp_min(0) ** 4 * (2 / 3)


def _reach(power: Tensor) -> Tensor:
    return power.sqrt().clamp_min(_TINY).sqrt()


def _on_grid(grid: Tensor, like: Tensor) -> Tensor:
    """A grid `float[C, g, g]` spread over maps `float[…, C, h, w]`."""
    size = like.shape[-2:]
    return functional.interpolate(grid[None], size=size, mode="bilinear", align_corners=False)[0]


class SizeStatistics(nn.Module):
    """What the hottest positions of an image usually are, and how far they vary, by the number of its places.

    Those of a large image are hotter than those of a small one, though both are normal: there are more of them to
    be hot by chance. Beyond the sizes that were seen, the nearest one seen is taken. Where normal images differ in
    places by more than a factor of about ten, or leave gaps as wide, this is coarse: the sizes share a part of the
    spread, and what lies in a gap counts as the nearest size.

    Parameters
    ----------
    channels : int
        Maps of an image, each measured by itself.
    """

    sizes: Tensor
    usual: Tensor
    spread: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("sizes", torch.arange(_SIZES, dtype=torch.float32))
        self.register_buffer("usual", torch.zeros(channels, _SIZES))
        self.register_buffer("spread", torch.ones(channels, _SIZES))

    def learn(self, maps: Iterable[Tensor]) -> None:
        """Take the statistics of normal maps, `float[C, h, w]` each.

        Their quarters and sixteenths tell of sizes that no map has whole. Where there are whole ones, parts hardly
        count, for they show less of the rim.
        """
        found: list[tuple[int, float, Tensor]] = []  # number of places, weight, top-k mean
        for each in maps:
            for parts in (1, 2, 4):
                weight = 1.0 if parts == 1 else _PART_WEIGHT / parts**2
                for rows in each.tensor_split(parts, dim=1):
                    for window in rows.tensor_split(parts, dim=2):
                        if window[0].numel():
                            found.append((window[0].numel(), weight, top_k_mean(window)))
        size, weights = np.log([each[0] for each in found]), np.array([each[1] for each in found])
        hot = torch.stack([each[2] for each in found]).double().cpu().numpy()  # [n, C]
        sizes = np.linspace(size.min(), size.max(), _SIZES)
        near = weights * np.exp(-(((size - sizes[:, None]) / _SIZE_WIDTH) ** 2) / 2)  # [_SIZES, n]
        near /= near.sum(axis=1, keepdims=True)
        usual = near @ hot
        left = (hot - np.stack([np.interp(size, sizes, each) for each in usual.T], axis=1)) ** 2
        overall = np.average(left, axis=0, weights=weights)
        power = (1 - _OVERALL_SHARE) * near @ left + _OVERALL_SHARE * overall
        self.sizes.copy_(torch.from_numpy(sizes))
        self.usual.copy_(torch.from_numpy(usual.T))
        self.spread.copy_(torch.from_numpy(np.sqrt(power.T).clip(min=_TINY)))

    def forward(self, maps: Tensor) -> Tensor:
        """The top-k means of `float[N, C, h, w]`, in spreads above those of normal images: `float[N, C]`."""
        size = torch.ones_like(maps[:, 0]).sum(dim=(1, 2)).log()
        # linear between the sizes; as tensors throughout, so that an exported graph does it for any size
        steps = self.sizes.diff().clamp_min(_TINY)
        done = ((size[:, None] - self.sizes[:-1]) / steps).clamp(0, 1)  # [N, sizes − 1]
        usual, spread = (each[:, 0] + done @ each.diff().t() for each in (self.usual, self.spread))
        return (top_k_mean(maps) - usual) / spread


def top_k_mean(maps: Tensor) -> Tensor:
    """Mean of the largest 0.1 % of the places of maps `float[…, h, w]`, of nine at least where there are as many."""
    places = maps.flatten(-2)
    n = places.shape[-1]
    # min and max, for a number that an exported graph does not know beforehand either; PyTorch does not type them
    smaller: Any = torch.sym_min
    larger: Any = torch.sym_max
    count: int = smaller(n, larger(9, n // 1000))
    return places.topk(count).values.mean(dim=-1)


def _bands(length: int) -> Tensor:
    """The band of each of so many places in a row, by the distance from the nearer end: `int[length]`."""
    place = torch.arange(length)
    distance = torch.minimum(place, length - 1 - place)
    band = (distance[:, None] >= torch.tensor(_BORDERS)).sum(dim=1)
    return torch.where(place < length / 2, band, _BANDS - 1 - band)

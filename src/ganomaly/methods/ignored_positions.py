"""Which positions of feature maps count where a part of the image is ignored.

A region that is ignored is `bool[H, W]` here, None where the whole image counts.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

Preparation = Callable[[Tensor], Tensor]
"""What is done to an image `float[1, C, H, W]` before the networks see it: padding, and making it smaller."""

_MAX_SHARE = 0.499  # of a position's cell that may be ignored


def counted_positions(ignored: Tensor, stride: int, prepare: Preparation | None = None) -> Tensor:
    """Positions of a feature map that count: less than half of their cell is ignored, or the least of all.

    Returns
    -------
    Tensor
        `bool[h, w]`; at least one is True.
    """
    region = ignored[None, None].float()
    if prepare is not None:
        region = prepare(region)
    share = functional.avg_pool2d(region, stride, ceil_mode=True)[0, 0]
    return share <= share.min().clamp_min(_MAX_SHARE)


def outside(features: Tensor, ignored: Tensor | None, stride: int, prepare: Preparation) -> Tensor:
    """Features `float[1, K, h, w]` of the positions that count: `float[1, K, 1, n]`; all of them without a region."""
    if ignored is None:
        return features
    return features[:, :, counted_positions(ignored, stride, prepare)][:, :, None]


def without_positions(maps: Tensor, counted: Tensor | None) -> Tensor:
    """Maps `float[N, K, h, w]` of the positions that count, `bool[h, w]`: `float[N, K, 1, n]`."""
    return maps if counted is None else maps[:, :, counted][:, :, None]


def weight_of(counted: Tensor | None, maps: Tensor) -> Tensor:
    """1 where positions of maps `float[K, h, w]` count, 0 elsewhere: `float[h, w]`."""
    return torch.ones_like(maps[0]) if counted is None else counted.to(maps.dtype)

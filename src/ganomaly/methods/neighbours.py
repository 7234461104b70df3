"""How far a feature is from those of normal images, for a place where they lie so dense: a local outlier factor.

Halfway to the factor of Breunig, Kriegel, Ng, Sander, *LOF: Identifying Density-Based Local Outliers*, SIGMOD 2000:
a distance is taken over the root of how far that neighbour is from its own. So one matrix product compares a feature
with all that are kept, and the least numbers are the answer; to choose several nearest ones of thousands takes longer
than that.
"""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn

_NEIGHBOURS = 3
_PARTS = 4  # of the bank; the nearest of each counts
_AT_ONCE = 2048  # features compared with the bank at a time, which bounds memory
_TINY = 1e-6
_LEAST_APART = 0.1  # of the mean: where nothing varies, features coincide, and rounding must not decide
_RIDGE = 1e-2  # of the mean variance, added to all: directions in which nothing varies must not decide


class NeighbourBank(nn.Module):
    """Features of normal images, and how far away the nearest of them are, compared with how far they are apart.

    Distances are taken after whitening, so that no direction counts more because it varies more.

    Parameters
    ----------
    channels : int
        Numbers in a feature.
    size : int
        Features kept; a multiple of four.
    """

    mean: Tensor
    whitening: Tensor
    comparison: Tensor

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("whitening", torch.eye(channels))
        # for a kept feature b that is a apart from others: −2b/a, 1/a, ‖b‖²/a
        self.register_buffer("comparison", torch.zeros(size, channels + 2))

    def learn(self, features: Sequence[Tensor], generator: Generator) -> None:
        """Keep some features of normal images.

        Parameters
        ----------
        features : sequence of Tensor
            `float[K, h, w]` of one image each.
        generator : torch.Generator
            Which are kept follows from it; on the processor.
        """
        rows = torch.cat([each.flatten(1) for each in features], dim=1).t()  # [n, K]
        self.mean.copy_(rows.mean(dim=0))
        covariance = torch.cov(rows.t()).double().cpu().reshape(rows.shape[1], -1)
        ridge = _RIDGE * covariance.diagonal().mean().clamp_min(1e-12)
        values, vectors = torch.linalg.eigh(covariance + ridge * torch.eye(len(covariance)))
        self.whitening.copy_(vectors * values.rsqrt())
        size = len(self.comparison)
        # with fewer places than room, some are kept twice, which changes little
        chosen = torch.randperm(len(rows), generator=generator).repeat(-(-size // len(rows)))[:size]
        chosen = chosen.to(rows.device)
        bank = (rows[chosen] - self.mean) @ self.whitening
        places = torch.tensor([each[0].numel() for each in features], device=rows.device)
        image = torch.repeat_interleave(torch.arange(len(features), device=rows.device), places)[chosen]
        weight = _apart(bank, image).reciprocal()[:, None]
        self.comparison.copy_(torch.cat([-2 * bank, torch.ones_like(weight), _squared(bank)], dim=1) * weight)

    def forward(self, features: Tensor) -> Tensor:
        """How far the nearest are, over the root of how far they are from others.

        Parameters
        ----------
        features : Tensor
            `float[N, K, h, w]`.

        Returns
        -------
        Tensor
            `float[N, h, w]`, ≥ 0: the root of the mean, over four parts of the bank, of the least d² / a, where d is
            the distance to a kept feature and a the mean distance of that one to its own nearest three.
        """
        n, channels, height, width = features.shape
        rows = (features.permute(0, 2, 3, 1).reshape(-1, channels) - self.mean) @ self.whitening
        rows = torch.cat([rows, _squared(rows), torch.ones_like(rows[:, :1])], dim=1)
        # a graph has no loop over a number that only its input tells
        parts = [rows] if torch.compiler.is_exporting() else torch.split(rows, _AT_ONCE)
        squares = torch.cat([_least_of_parts(some @ self.comparison.t()) for some in parts])
        return squares.clamp_min(0).sqrt().view(n, height, width)


def _least_of_parts(squares: Tensor) -> Tensor:
    return squares.view(-1, _PARTS, squares.shape[1] // _PARTS).amin(dim=2).mean(dim=1)


def _squared(rows: Tensor) -> Tensor:
    return rows.square().sum(dim=1, keepdim=True)


def _apart(bank: Tensor, image: Tensor) -> Tensor:
    """How far each kept feature is from the nearest three of other images: `float[n]`."""
    found = []
    for some, own in zip(torch.split(bank, _AT_ONCE), torch.split(image, _AT_ONCE), strict=True):
        distance = torch.cdist(some, bank)
        if int(image.max()) > 0:
            distance = distance.masked_fill(own[:, None] == image, torch.inf)
        nearest = distance.topk(min(_NEIGHBOURS, len(bank)), largest=False).values
        found.append(nearest.mean(dim=1))
    apart = torch.cat(found)
    usual = apart[apart.isfinite()].mean()
    apart = torch.where(apart.isfinite(), apart, usual)
    return apart.clamp_min(max(_LEAST_APART * float(usual), _TINY))

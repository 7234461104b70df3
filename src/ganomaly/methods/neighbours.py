"""How far a feature is from those of normal images, for a place where they lie so dense: a local outlier factor.

After Breunig, Kriegel, Ng, Sander, *LOF: Identifying Density-Based Local Outliers*, SIGMOD 2000, with plain distances
in the place of reachability distances.
"""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn

_NEIGHBOURS = 3
_AT_ONCE = 2048  # features compared with the bank at a time, which bounds memory
_TINY = 1e-6
_RIDGE = 1e-2  # of the mean variance, added to all: directions in which nothing varies must not decide


class NeighbourBank(nn.Module):
    """Features of normal images, and how far away the nearest of them are, compared with how far they are apart.

    Distances are taken after whitening, so that no direction counts more because it varies more.

    Parameters
    ----------
    channels : int
        Numbers in a feature.
    size : int
        Features kept.
    """

    mean: Tensor
    whitening: Tensor
    bank: Tensor
    apart: Tensor

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("whitening", torch.eye(channels))
        self.register_buffer("bank", torch.zeros(size, channels))
        self.register_buffer("apart", torch.ones(size))  # distance of each to its nearest in other images

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
        size = len(self.bank)
        # with fewer places than room, some are kept twice, which changes little
        chosen = torch.randperm(len(rows), generator=generator).repeat(-(-size // len(rows)))[:size]
        chosen = chosen.to(rows.device)
        self.bank.copy_((rows[chosen] - self.mean) @ self.whitening)
        places = torch.tensor([each[0].numel() for each in features], device=rows.device)
        image = torch.repeat_interleave(torch.arange(len(features), device=rows.device), places)[chosen]
        apart = []
        for some, own in zip(torch.split(self.bank, _AT_ONCE), torch.split(image, _AT_ONCE), strict=True):
            distance = torch.cdist(some, self.bank)
            if len(features) > 1:
                distance = distance.masked_fill(own[:, None] == image, torch.inf)
            apart.append(_nearest(distance)[0].mean(dim=1))
        known = torch.cat(apart)
        known = torch.where(known.isfinite(), known, known[known.isfinite()].mean())
        self.apart.copy_(known.clamp_min(_TINY))

    def forward(self, features: Tensor) -> Tensor:
        """Mean distance to the nearest three over how far they are apart: `float[N, K, h, w]` to `float[N, h, w]`."""
        n, channels, height, width = features.shape
        rows = (features.permute(0, 2, 3, 1).reshape(-1, channels) - self.mean) @ self.whitening
        # a graph has no loop over a number that only its input tells
        parts = [rows] if torch.compiler.is_exporting() else torch.split(rows, _AT_ONCE)
        return torch.cat([self._ratios(some) for some in parts]).view(n, height, width)

    def _ratios(self, rows: Tensor) -> Tensor:
        # the nearest by squares, and roots of those alone; what the row itself adds is the same for the whole bank
        squares = self.bank.square().sum(dim=1) - 2 * rows @ self.bank.t()
        nearest, index = _nearest(squares)
        distance = (nearest + rows.square().sum(dim=1, keepdim=True)).clamp_min(0).sqrt()
        return distance.mean(dim=1) / self.apart[index].mean(dim=1)


def _nearest(distance: Tensor) -> tuple[Tensor, Tensor]:
    """The smallest distances of each row, and where they are: `float[n, k]` and `int[n, k]`."""
    nearest = distance.topk(min(_NEIGHBOURS, distance.shape[1]), largest=False)
    return nearest.values, nearest.indices

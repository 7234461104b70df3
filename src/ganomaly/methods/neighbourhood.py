"""How far an image's features lie from those of normal images.

After Bergman, Cohen, Hoshen, *Deep Nearest Neighbor Anomaly Detection*, 2020, arXiv:2002.10445, with features learned
from the normal images themselves.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

NEIGHBOURS = 20
RIDGE = 0.1  # of the mean variance, added to all: directions in which little varies must not decide
_TINY = 1e-12
_AT_ONCE = 512  # features compared with the kept ones at a time, which bounds memory


class Neighbourhood(nn.Module):
    """Features of normal images on the unit sphere, to compare others with.

    Parameters
    ----------
    channels : int
        Numbers in a feature.
    size : int
        Features kept, at most.
    dimensions : int
        Principal directions kept, at most.
    whiten : bool
        Whether all directions shall vary alike; else they count as they are.
    """

    mean: Tensor
    axes: Tensor
    bank: Tensor
    kept: Tensor

    def __init__(self, channels: int, size: int, dimensions: int, whiten: bool) -> None:
        super().__init__()
        dimensions = min(dimensions, channels)
        self.whiten = whiten
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("axes", torch.eye(channels, dimensions))
        self.register_buffer("bank", torch.zeros(size, dimensions))
        self.register_buffer("kept", torch.tensor(0))

    def learn(self, features: Tensor) -> None:
        """Keep features of normal images, `float[n, channels]`, 1 ≤ n ≤ `size`."""
        self._learn_axes(functional.normalize(features.double().cpu(), dim=1))
        self.kept.fill_(len(features))
        self.bank.zero_()[: len(features)] = self._rows(features)

    def forward(self, features: Tensor) -> Tensor:
        """Mean distance to the 20 nearest kept features, from 0 to 2: `float[N, channels]` to `float[N]`.

        Before anything is kept, that to the origin.
        """
        bank = self.bank[: max(1, int(self.kept))]
        distances = []
        for rows in torch.split(self._rows(features), _AT_ONCE):
            index = (rows @ bank.t()).topk(min(NEIGHBOURS, len(bank)), dim=1).indices
            # by differences, since 1 − cosine would be rounded the more the nearer they are
            distances.append((rows[:, None] - bank[index]).norm(dim=2).mean(dim=1))
        return torch.cat(distances)

    def _learn_axes(self, features: Tensor) -> None:
        dimensions = self.axes.shape[1]
        centre = features.mean(dim=0) if self.whiten else features.new_zeros(features.shape[1])
        centred = features - centre
        values, vectors = torch.linalg.eigh(centred.t() @ centred / len(features))
        values, vectors = values[-dimensions:].clamp_min(0), vectors[:, -dimensions:]
        if self.whiten:
            vectors = vectors * (values + RIDGE * values.mean().clamp_min(_TINY)).rsqrt()
        self.mean.copy_(centre)
        self.axes.copy_(vectors)

    def _rows(self, features: Tensor) -> Tensor:
        return functional.normalize((functional.normalize(features, dim=1) - self.mean) @ self.axes, dim=1)

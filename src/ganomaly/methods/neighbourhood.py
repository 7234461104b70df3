"""How far an image's features lie from those of normal images, for a place where they lie so dense.

After Bergman, Cohen, Hoshen, *Deep Nearest Neighbor Anomaly Detection*, 2020, arXiv:2002.10445, with features learned
from the normal images themselves; and halfway to the local outlier factor (Breunig et al., *LOF*, SIGMOD 2000), which
divides by how far the neighbours are apart: simple images lie dense, so that a distance alone calls them normal.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

NEIGHBOURS = 10  # to which the distance is taken
SURROUNDINGS = 50  # that tell how dense normal images lie there
RIDGE = 0.1  # of the mean variance, added to all: directions in which little varies must not decide
_TINY = 1e-6
_AT_ONCE = 512  # features compared with the kept ones at a time, which bounds memory


class Neighbourhood(nn.Module):
    """Features of normal images on the unit sphere, to compare others with.

    Parameters
    ----------
    channels : int
        Numbers in a feature.
    dimensions : int
        Principal directions kept, at most.
    whiten : bool
        Whether all directions shall vary alike; else they count as they are.
    """

    mean: Tensor
    axes: Tensor
    bank: Tensor
    apart: Tensor
    centre: Tensor
    centred: Tensor
    half_square: Tensor

    def __init__(self, channels: int, dimensions: int, whiten: bool) -> None:
        super().__init__()
        dimensions = min(dimensions, channels)
        self.whiten = whiten
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("axes", torch.eye(channels, dimensions))
        self.register_buffer("bank", torch.zeros(1, dimensions))  # a row for each feature that is kept
        self.register_buffer("apart", torch.ones(1))  # mean distance of each to its own neighbours
        # the bank as seen from its middle, where what is much alike is still told apart in 32 bits
        self.register_buffer("centre", torch.zeros(dimensions, dtype=torch.float64), persistent=False)
        self.register_buffer("centred", torch.zeros(1, dimensions), persistent=False)
        self.register_buffer("half_square", torch.zeros(1), persistent=False)

    def learn(self, features: Tensor) -> None:
        """Keep features of normal images, `float[n, channels]`, n ≥ 1."""
        self._learn_axes(functional.normalize(features.double().cpu(), dim=1))
        self.bank = self._rows(features).float()
        self._look_from_the_middle()
        numbers = torch.arange(len(features), device=features.device)
        parts = zip(torch.split(self.centred, _AT_ONCE), torch.split(numbers, _AT_ONCE), strict=True)
        self.apart = torch.cat([self._nearest(some, own)[0] for some, own in parts])

    def forward(self, features: Tensor) -> Tensor:
        """Distance to the nearest kept features over the square root of how far those around are apart.

        Parameters
        ----------
        features : Tensor
            `float[N, channels]`.

        Returns
        -------
        Tensor
            `float[N]`, ≥ 0: the mean distance to the 10 nearest, and as how far apart count the mean distances of the
            50 nearest to their own 10. Before anything is kept, the distance to the origin.
        """
        ratios = []
        everything = (self._rows(features) - self.centre).float()
        # a graph has no loop over a number that only its input tells
        parts = [everything] if torch.compiler.is_exporting() else torch.split(everything, _AT_ONCE)
        for rows in parts:
            distance, around = self._nearest(rows)
            apart = self.apart[around].mean(dim=1) if len(self.bank) > 1 else torch.ones_like(distance)
            ratios.append(distance / apart.clamp_min(_TINY).sqrt())
        return torch.cat(ratios)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        """Make room for as many features as the state has."""
        stored = state_dict.get(f"{prefix}bank", self.bank)
        kept = len(stored) if stored.ndim and len(stored) else 1  # what has no rows is refused for its shape
        self.bank = self.bank.new_zeros(kept, self.bank.shape[1])
        self.apart = self.apart.new_zeros(kept)
        super()._load_from_state_dict(state_dict, prefix, *others)
        self._look_from_the_middle()

    def _look_from_the_middle(self) -> None:
        bank = self.bank.double()
        self.centre = bank.mean(dim=0)
        self.centred = (bank - self.centre).float()
        self.half_square = self.centred.square().sum(dim=1) / 2

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
        """Directions, `double[N, K]`: what is much alike differs in digits that 32 bits would round."""
        unit = functional.normalize(features.double(), dim=1)
        return functional.normalize((unit - self.mean) @ self.axes.double(), dim=1)

    def _nearest(self, rows: Tensor, own: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean distance to the nearest kept features, `float[N]`, and which lie around, `int[N, k]`.

        `own` are the numbers of the rows themselves, which are no neighbours of their own.
        """
        others = len(self.centred)
        # |r − b|² = |r|² − 2 (r·b − |b|²/2)
        likeness = rows @ self.centred.t() - self.half_square
        if own is not None and others > 1:
            likeness[torch.arange(len(own), device=own.device), own] = -torch.inf
            others -= 1
        around = likeness.topk(min(SURROUNDINGS, others), dim=1).indices
        # by differences, since 1 − cosine would be rounded the more the nearer they are
        distance = (rows[:, None] - self.centred[around[:, :NEIGHBOURS]]).norm(dim=2).mean(dim=1)
        return distance, around

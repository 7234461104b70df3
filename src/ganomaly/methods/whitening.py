"""Features along the principal axes of normal features, so that no direction counts more because it varies more."""

import torch
from torch import Tensor, nn


class PrincipalAxes(nn.Module):
    """Projects features onto the principal axes of normal features, without centring or scaling them.

    Parameters
    ----------
    channels : int
        Numbers in a feature.
    axes : int, optional
        Principal axes to project onto, those with the largest variance; all by default.
    """

    mean: Tensor
    matrix: Tensor

    def __init__(self, channels: int, axes: int | None = None) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        # what `eye` gives, which on the meta device, where models are built to be loaded, would import the compiler
        self.register_buffer("matrix", torch.zeros(channels, axes or channels).fill_diagonal_(1))

    def fit(self, features: Tensor) -> None:
        """Find the axes of normal features, `float[n, channels]`, n ≥ 1."""
        _, axes = self._variances_and_axes(features)
        self.matrix.copy_(axes)

    def forward(self, features: Tensor) -> Tensor:
        """Project `float[…, channels]` to `float[…, axes]`, in the precision of the features."""
        return (features - self.mean) @ self.matrix.to(features.dtype)

    def _variances_and_axes(self, centred: Tensor) -> tuple[Tensor, Tensor]:
        """The largest variances, `double[axes]`, ascending, and their axes, `double[channels, axes]`."""
        covariance = (centred.t() @ centred / max(1, len(centred) - 1)).double().cpu()
        variances, axes = torch.linalg.eigh(covariance)
        n = self.matrix.shape[1]
        return variances[-n:].clamp_min(0), axes[:, -n:]


class Whitening(PrincipalAxes):
    """Projects features onto the principal axes of normal features, centred, and scaled to unit variance.

    Parameters
    ----------
    channels : int
        Numbers in a feature.
    axes : int, optional
        Principal axes to project onto, those with the largest variance; all by default.
    ridge : float
        Share of the mean variance that is added to the variance of each axis, so that axes along which hardly
        anything varies do not dominate.
    min_variance : float
        Lower bound of the mean variance.
    """

    def __init__(
        self, channels: int, axes: int | None = None, *, ridge: float, min_variance: float = 1e-12
    ) -> None:
        super().__init__(channels, axes)
        self.ridge = ridge
        self.min_variance = min_variance

    def fit(self, features: Tensor) -> None:
        """Find mean and axes of normal features, `float[n, channels]`, n ≥ 1."""
        mean = features.mean(dim=0)
        variances, axes = self._variances_and_axes(features - mean)
        ridge = self.ridge * variances.mean().clamp_min(self.min_variance)
        self.mean.copy_(mean)
        self.matrix.copy_(axes * (variances + ridge).rsqrt())

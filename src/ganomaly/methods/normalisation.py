"""What the networks see of an image: its pixels, and its pixels at normalised local contrast."""

import torch
from torch import Tensor, nn

from ganomaly.methods.synthetic_defects import local_contrast
from ganomaly.networks import reflect_to_multiple

CONTRAST_WINDOW = 31  # px, within which contrast is normalised


class InputNormalisation(nn.Module):
    """Standardises images, once by channel over all images and once within a window around each pixel.

    Parameters
    ----------
    channels : int
        Of the images.
    """

    channel_mean: Tensor
    channel_std: Tensor
    local_contrast: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.register_buffer("channel_mean", torch.zeros(channels))
        self.register_buffer("channel_std", torch.ones(channels))
        self.register_buffer("local_contrast", torch.tensor(0.05))

    def fit(self, x: Tensor) -> None:
        """Take mean and standard deviation of each channel, and the local contrast, of `float[N, C, H, W]`."""
        self.channel_mean.copy_(x.mean(dim=(0, 2, 3)))
        self.channel_std.copy_(x.std(dim=(0, 2, 3)).clamp_min(2 / 255))
        self.local_contrast.fill_(local_contrast(x))

    def forward(self, x: Tensor) -> Tensor:
        """From images `float[N, C, H, W]` to `float[N, 2C, H, W]`, channels last."""
        by_channel = (x - self.channel_mean[:, None, None]) / self.channel_std[:, None, None]
        mean = _window_mean(x)
        variance = (_window_mean(x * x) - mean * mean).clamp_min(0)
        by_window = (x - mean) / (variance + self.local_contrast**2).sqrt()
        return torch.cat([by_channel, by_window], dim=1).contiguous(memory_format=torch.channels_last)

    def at_local_contrast(self, normalised: Tensor) -> Tensor:
        """The half at normalised local contrast: `float[N, 2C, H, W]` to `float[N, C, H, W]`."""
        return normalised[:, self.channels :]

    def inverse(self, normalised: Tensor) -> Tensor:
        """From `float[N, 2C, H, W]` back to images in [−1, 1], `float[N, C, H, W]`."""
        x = normalised[:, : self.channels] * self.channel_std[:, None, None]
        return (x + self.channel_mean[:, None, None]).clamp(-1, 1)


def _window_mean(x: Tensor) -> Tensor:
    """The mean within the window, mirrored at the rim; as matrix products, which here are faster than pooling."""
    padded = reflect_to_multiple(x, 1, CONTRAST_WINDOW // 2)
    rows, columns = (_averaging_matrix(side, x) for side in x.shape[2:])
    return rows @ padded @ columns.t()


def _averaging_matrix(side: int, like: Tensor) -> Tensor:
    """Averages the windows along a padded side: `float[side, side + CONTRAST_WINDOW − 1]`."""
    start = torch.arange(side, device=like.device)[:, None]
    padded = torch.arange(side + CONTRAST_WINDOW - 1, device=like.device)
    inside = (padded >= start) & (padded < start + CONTRAST_WINDOW)
    return inside.to(like.dtype) / CONTRAST_WINDOW

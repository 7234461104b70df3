"""GANomaly's encoders, decoder and discriminator over the feature maps of a backbone.

Feature maps of several strides are brought to one grid, see `at_stride`.
"""

from torch import Tensor, nn
from torch.nn import functional

from ganomaly.networks.patches import SLOPE, block

FEATURE_STRIDE = 16
"""Pixels between two positions of the latent."""
MIN_JOINED_STRIDE = 8
"""Maps of smaller strides show texture, not parts, and the latent does not describe them."""


def at_stride(feature_map: Tensor, stride: int, new_stride: int, size: tuple[int, int]) -> Tensor:
    """Bring a feature map to another grid that begins at the same corner of the image.

    Parameters
    ----------
    feature_map : Tensor
        `float[N, K, h, w]`; it covers the new grid.
    stride, new_stride : int
        Pixels between two positions, before and after.
    size : (int, int)
        Height and width of the new grid.
    """
    if new_stride % stride == 0 and new_stride > stride:
        feature_map = functional.avg_pool2d(feature_map, new_stride // stride)
    elif new_stride != stride:
        whole = [side * stride // new_stride for side in feature_map.shape[2:]]
        feature_map = functional.interpolate(feature_map, size=whole, mode="bilinear", align_corners=False)
    return feature_map[:, :, : size[0], : size[1]]


class FeatureEncoder(nn.Module):
    """From joined feature maps to a latent per position: `float[N, K, h, w]` to `float[N, nz, h, w]`."""

    def __init__(self, channels: int, width: int, nz: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _pointwise(channels, width), block(width, width), nn.Conv2d(width, nz, kernel_size=1)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Encode."""
        z: Tensor = self.layers(features)
        return z


class FeatureDecoder(nn.Module):
    """From a latent per position to joined feature maps: `float[N, nz, h, w]` to `float[N, K, h, w]`."""

    def __init__(self, channels: int, width: int, nz: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _pointwise(nz, width), block(width, width), nn.Conv2d(width, channels, kernel_size=1)
        )

    def forward(self, z: Tensor) -> Tensor:
        """Decode."""
        features: Tensor = self.layers(z)
        return features


class FeatureDiscriminator(nn.Module):
    """Are joined feature maps those of an image, or reconstructed? No batch norm, so that patches stay apart."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, width, kernel_size=1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(width, width, kernel_size=3, padding=1),
            nn.LeakyReLU(SLOPE),
        )
        self.head = nn.Conv2d(width, 1, kernel_size=1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of being real, `float[N, 1, h, w]`, and the features that they come from."""
        hidden: Tensor = self.features(features)
        return self.head(hidden), hidden


def _pointwise(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel_size=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.LeakyReLU(SLOPE, inplace=True),
    )

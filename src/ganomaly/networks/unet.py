"""The generator of Skip-GANomaly: a U-Net down to 1×1 and up again.

Source: Akcay, Atapour-Abarghouei, Breckon, *Skip-GANomaly*, IJCNN 2019, arXiv:1901.08954; layer by layer the
U-Net of pix2pix (Isola et al., CVPR 2017) that the authors' code takes.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ganomaly.networks.convolution import Conv2d, ConvTranspose2d
from ganomaly.networks.dcgan import check_image_size, down_block, up_block

MAX_WIDENING = 8  # no level has more channels than this times the first one


class UNet(nn.Module):
    """Image to reconstruction, with a skip connection at each level.

    Parameters
    ----------
    image_size : int
        Side of the image in pixels: 32, 64, 128, …
    channels : int
        Channels of the image, 1 to 4.
    ngf : int
        Feature channels after the first layer; each further level has twice as many, up to eight times.

    Raises
    ------
    UsageError
        If `image_size` does not fit.
    """

    def __init__(self, image_size: int, channels: int, ngf: int) -> None:
        super().__init__()
        check_image_size(image_size)
        levels = image_size.bit_length() - 1  # down to 1×1
        widths = [ngf * min(1 << level, MAX_WIDENING) for level in range(levels)]
        # the first and the innermost level have no normalisation; `forward` applies the innermost one's ReLU
        first: list[nn.Module] = [
            Conv2d(channels, widths[0], kernel_size=4, stride=2, padding=1, bias=False),
            nn.LeakyReLU(0.2, inplace=True),
        ]
        middle = [down_block(widths[level - 1], widths[level]) for level in range(1, levels - 1)]
        innermost: list[nn.Module] = [
            Conv2d(widths[-2], widths[-1], kernel_size=4, stride=2, padding=1, bias=False)
        ]
        self.down = nn.ModuleList(nn.Sequential(*layers) for layers in (first, *middle, innermost))
        # all levels but the innermost have two inputs of their width: the level below, and the skip connection
        up = [up_block(widths[-1], widths[-2])]
        up += [up_block(2 * widths[level], widths[level - 1]) for level in reversed(range(1, levels - 1))]
        self.up = nn.ModuleList(nn.Sequential(*layers) for layers in up)
        self.image = nn.Sequential(
            ConvTranspose2d(2 * widths[0], channels, kernel_size=4, stride=2, padding=1, bias=False),
            nn.Tanh(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruct x, `float[N, C, S, S]` in [−1, 1]: x̂ of the same shape and range."""
        skip_features = []
        features = x
        for level in self.down:
            features = level(features)
            skip_features.append(functional.relu(features))
        features = skip_features.pop()
        for level in self.up:
            features = torch.cat([skip_features.pop(), level(features)], dim=1)
        x_hat: Tensor = self.image(features)
        return x_hat

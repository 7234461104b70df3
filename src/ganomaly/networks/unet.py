"""The generator of Skip-GANomaly: down to 1×1 and up again, with the image's own features alongside.

Source: Akcay, Atapour-Abarghouei, Breckon, *Skip-GANomaly*, IJCNN 2019, arXiv:1901.08954; layer by layer the
U-Net of pix2pix (Isola et al., CVPR 2017) that the authors' code takes.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ganomaly.networks.convolution import Conv2d, ConvTranspose2d
from ganomaly.networks.dcgan import check_image_size, down_block, up_block

WIDEST = 8  # levels grow no wider than this times the first one


class UNet(nn.Module):
    """Image to image, with a skip connection at each level.

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
        widths = [ngf * min(1 << level, WIDEST) for level in range(levels)]
        # neither the first nor the innermost level is normalised; the innermost one is rectified in `forward`
        first: list[nn.Module] = [
            Conv2d(channels, widths[0], kernel_size=4, stride=2, padding=1, bias=False),
            nn.LeakyReLU(0.2, inplace=True),
        ]
        middle = [down_block(widths[level - 1], widths[level]) for level in range(1, levels - 1)]
        innermost: list[nn.Module] = [
            Conv2d(widths[-2], widths[-1], kernel_size=4, stride=2, padding=1, bias=False)
        ]
        self.down = nn.ModuleList(nn.Sequential(*layers) for layers in (first, *middle, innermost))
        # each level but the innermost reads twice its width: what comes up, and what is skipped to it
        up = [up_block(widths[-1], widths[-2])]
        up += [up_block(2 * widths[level], widths[level - 1]) for level in reversed(range(1, levels - 1))]
        self.up = nn.ModuleList(nn.Sequential(*layers) for layers in up)
        self.image = nn.Sequential(
            ConvTranspose2d(2 * widths[0], channels, kernel_size=4, stride=2, padding=1, bias=False),
            nn.Tanh(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Rebuild x, `float[N, C, S, S]` in [−1, 1]: x̂ of the same shape and range."""
        skipped = []
        rebuilt = x
        for level in self.down:
            rebuilt = level(rebuilt)
            skipped.append(functional.relu(rebuilt))
        rebuilt = skipped.pop()
        for level in self.up:
            rebuilt = torch.cat([skipped.pop(), level(rebuilt)], dim=1)
        x_hat: Tensor = self.image(rebuilt)
        return x_hat

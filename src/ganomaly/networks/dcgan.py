"""GANomaly's DCGAN networks: strided convolutions halve an image of S×S down to 4×4, transposed ones double it.

Source: Akcay, Atapour-Abarghouei, Breckon, *GANomaly*, ACCV 2018, after
Radford, Metz, Chintala, *DCGAN*, ICLR 2016. Kernel sizes, strides and the missing biases are those of the
authors' released networks.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ganomaly.errors import UsageError
from ganomaly.networks.convolution import Conv2d, ConvTranspose2d

SMALLEST_IMAGE = 32
SMALLEST_FEATURE_MAP = 4  # side in pixels; the kernel of the last convolution covers it
MAX_CHANNELS = 4
LARGEST_SUGGESTION = 256  # px; with twice that, networks of the usual width take tens of gigabytes to train


def check_image_size(image_size: int) -> None:
    """Raise `UsageError` unless halving `image_size` leads to 4×4.

    Parameters
    ----------
    image_size : int
        Side of the square network input in pixels: 32, 64, 128, 256, …

    Raises
    ------
    UsageError
        For other sizes; the message names the nearest ones that work, of those that common machines can train.
    """
    if image_size >= SMALLEST_IMAGE and image_size & (image_size - 1) == 0:
        return
    below = 1 << (min(max(image_size, SMALLEST_IMAGE), LARGEST_SUGGESTION).bit_length() - 1)
    above = 2 * below
    has_two = image_size >= SMALLEST_IMAGE and above <= LARGEST_SUGGESTION
    nearest = f"{below} or {above}" if has_two else f"{below}"
    raise UsageError(
        f"image size {image_size} does not fit the network, which halves the image down to 4×4 "
        f"and so takes 32, 64, 128, 256, …; use {nearest}"
    )


def halvings(image_size: int) -> int:
    """The number of halvings from `image_size` to 4×4."""
    check_image_size(image_size)
    return (image_size // SMALLEST_FEATURE_MAP).bit_length() - 1


def layer_norm(channels: int) -> nn.GroupNorm:
    """Normalise each image over all channels and positions, with a gain and a shift per channel."""
    return nn.GroupNorm(1, channels)


def down_block(
    channels_in: int, channels_out: int, normalise: Callable[[int], nn.Module] = nn.BatchNorm2d
) -> list[nn.Module]:
    """Layers that halve the image: strided convolution, normalisation, leaky ReLU."""
    return [
        Conv2d(channels_in, channels_out, kernel_size=4, stride=2, padding=1, bias=False),
        normalise(channels_out),
        nn.LeakyReLU(0.2, inplace=True),
    ]


def up_block(channels_in: int, channels_out: int) -> list[nn.Module]:
    """Layers that double the image: transposed convolution, batch norm, ReLU."""
    return [
        ConvTranspose2d(channels_in, channels_out, kernel_size=4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    ]


def down_pyramid(
    image_size: int,
    channels: int,
    width: int,
    extra_layers: int = 0,
    normalise: Callable[[int], nn.Module] = nn.BatchNorm2d,
) -> tuple[list[nn.Module], int]:
    """Layers from [N, channels, S, S] to [N, width · S/8, 4, 4], and their number of output channels."""
    levels = halvings(image_size)
    # no normalisation on the first layer, as in DCGAN
    layers: list[nn.Module] = [
        Conv2d(channels, width, kernel_size=4, stride=2, padding=1, bias=False),
        nn.LeakyReLU(0.2, inplace=True),
    ]
    for _ in range(extra_layers):
        layers += [
            Conv2d(width, width, kernel_size=3, padding=1, bias=False),
            normalise(width),
            nn.LeakyReLU(0.2, inplace=True),
        ]
    for _ in range(levels - 1):
        layers += down_block(width, 2 * width, normalise)
        width *= 2
    return layers, width


class Encoder(nn.Module):
    """Image to latent: G_E, and with weights of its own E.

    Parameters
    ----------
    image_size : int
        Side of the input in pixels: 32, 64, 128, …
    channels : int
        Channels of the input, 1 to 4.
    nz : int
        Size of the latent.
    ngf : int
        Feature channels after the first layer; each further level has twice as many.
    extra_layers : int
        3×3 layers after the first one.

    Raises
    ------
    UsageError
        If `image_size` does not fit the pyramid.
    """

    def __init__(self, image_size: int, channels: int, nz: int, ngf: int, extra_layers: int = 0) -> None:
        super().__init__()
        layers, width = down_pyramid(image_size, channels, ngf, extra_layers)
        self.pyramid = nn.Sequential(*layers)
        self.latent = Conv2d(width, nz, kernel_size=SMALLEST_FEATURE_MAP, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map x, `float[N, C, S, S]`, to its latent, `float[N, nz, 1, 1]`."""
        z: Tensor = self.latent(self.pyramid(x))
        return z


class Decoder(nn.Module):
    """Latent to image: G_D, the layers of the encoder in reverse order, then tanh.

    Parameters are those of `Encoder`.
    """

    def __init__(self, image_size: int, channels: int, nz: int, ngf: int, extra_layers: int = 0) -> None:
        super().__init__()
        levels = halvings(image_size)
        width = ngf << (levels - 1)
        layers: list[nn.Module] = [
            ConvTranspose2d(nz, width, kernel_size=SMALLEST_FEATURE_MAP, bias=False),  # [N, width, 4, 4]
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        ]
        for _ in range(levels - 1):
            layers += up_block(width, width // 2)
            width //= 2
        for _ in range(extra_layers):
            layers += [
                Conv2d(width, width, kernel_size=3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
        layers += [
            ConvTranspose2d(width, channels, kernel_size=4, stride=2, padding=1, bias=False),
            nn.Tanh(),
        ]
        self.pyramid = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        """Map a latent, `float[N, nz, 1, 1]`, to an image in [−1, 1], `float[N, C, S, S]`."""
        x_hat: Tensor = self.pyramid(z)
        return x_hat


class Discriminator(nn.Module):
    """Image to the logit of being from the training set: D.

    Parameters are those of `Encoder`, with `ndf` instead of `ngf`, and

    normalise : callable
        From a number of channels to a normalisation layer. WGAN-GP's critic needs `layer_norm`, which normalises
        each image separately.
    """

    def __init__(
        self,
        image_size: int,
        channels: int,
        ndf: int,
        extra_layers: int = 0,
        normalise: Callable[[int], nn.Module] = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        layers, width = down_pyramid(image_size, channels, ndf, extra_layers, normalise)
        self.features = nn.Sequential(*layers)
        self.classifier = Conv2d(width, 1, kernel_size=SMALLEST_FEATURE_MAP, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and features of images.

        Parameters
        ----------
        x : Tensor
            `float[N, C, S, S]` in [−1, 1].

        Returns
        -------
        logits : Tensor
            `float[N]`; above 0 means "from the training set". The paper's D ends in a sigmoid, which is part of
            the loss here (`binary_cross_entropy_with_logits`): the same number, without overflow.
        features : Tensor
            `float[N, ndf · S/8, 4, 4]`, the last features before the classifier: f(x) of GANomaly's L_adv.
        """
        features = self.features(x)
        logits = torch.flatten(self.classifier(features))
        return logits, features

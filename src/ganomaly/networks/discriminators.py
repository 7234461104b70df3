"""Discriminators of pairs of image and latent, and of latents."""

import torch
from torch import Tensor, nn

from ganomaly.networks.convolution import Conv2d
from ganomaly.networks.dcgan import SMALLEST_FEATURE_MAP, Encoder, down_pyramid


class JointDiscriminator(nn.Module):
    """Discriminator of pairs of image and latent: D(x, z) of BiGAN.

    Source: Zenati et al., *Efficient GAN-Based Anomaly Detection*, 2018, in the authors' code for MNIST, with
    `down_pyramid` instead of its two convolutions, and without dropout.

    Parameters
    ----------
    image_size, channels, nz : int
        Those of the image and the latent.
    ndf : int
        Feature channels after the first layer.
    """

    def __init__(self, image_size: int, channels: int, nz: int, ndf: int) -> None:
        super().__init__()
        layers, width = down_pyramid(image_size, channels, ndf)
        self.image = nn.Sequential(*layers)
        self.latent = nn.Sequential(
            Conv2d(nz, 8 * ndf, kernel_size=1, bias=False), nn.LeakyReLU(0.2, inplace=True)
        )
        # the sum of two linear maps is one linear map of the concatenated branches
        self.image_to_joint = Conv2d(width, 16 * ndf, kernel_size=SMALLEST_FEATURE_MAP, bias=False)
        self.latent_to_joint = Conv2d(8 * ndf, 16 * ndf, kernel_size=1, bias=False)
        self.activation = nn.LeakyReLU(0.2)
        self.classifier = Conv2d(16 * ndf, 1, kernel_size=1, bias=False)

    def forward(self, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and features of pairs.

        Parameters
        ----------
        x : Tensor
            `float[N, C, S, S]` in [−1, 1].
        z : Tensor
            `float[N, nz, 1, 1]`.

        Returns
        -------
        logits : Tensor
            `float[N]`; above 0 means "an image of the training set and its latent".
        features : Tensor
            `float[N, 16 · ndf, 1, 1]`, the layer before the logits: f of the feature-matching score.
        """
        joint = self.image_to_joint(self.image(x)) + self.latent_to_joint(self.latent(z))
        features = self.activation(joint)
        return torch.flatten(self.classifier(features)), features


class LatentDiscriminator(nn.Module):
    """Discriminator whose last features are a latent: D of Skip-GANomaly.

    Parameters are those of `Encoder`, with `ndf` instead of `ngf`.
    """

    def __init__(self, image_size: int, channels: int, nz: int, ndf: int) -> None:
        super().__init__()
        self.encoder = Encoder(image_size, channels, nz, ndf)
        self.classifier = Conv2d(nz, 1, kernel_size=1, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map x, `float[N, C, S, S]`, to logits, `float[N]`, and latents, `float[N, nz, 1, 1]`."""
        z = self.encoder(x)
        return torch.flatten(self.classifier(z)), z

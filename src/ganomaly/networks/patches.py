"""Fully convolutional networks for patches and for whole images of any size: a latent per position.

The blocks are DCGAN's, as in `dcgan`, but the encoder stops at an eighth of the image's size. Height and width of the
input are multiples of `STRIDE`.
"""

from functools import partial

from torch import Generator, Tensor, nn
from torch.nn import functional

from ganomaly.networks.weights import draw_he_normal

STRIDE = 16  # px; the discriminator halves the image four times
LATENT_STRIDE = 8  # px between the positions of a latent
SEGMENTATION_STRIDE = 2  # px between the positions of the discriminator's segmentation
SLOPE = 0.1


class PatchEncoder(nn.Module):
    """From an image to a latent per position: `float[N, C, H, W]` to `float[N, nz, H/8, W/8]`."""

    def __init__(self, channels: int, width: int, nz: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, kernel_size=4, stride=2, padding=1),
            nn.LeakyReLU(SLOPE, inplace=True),
            block(width, 2 * width, halve=True),
            block(2 * width, 4 * width, halve=True),
            nn.Conv2d(4 * width, nz, kernel_size=3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Encode."""
        z: Tensor = self.layers(x)
        return z


class PatchDecoder(nn.Module):
    """From a latent per position to an image: `float[N, nz, h, w]` to `float[N, C, 8h, 8w]`."""

    def __init__(self, channels: int, width: int, nz: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            block(nz, 4 * width),
            _doubling_block(4 * width, 2 * width),
            _doubling_block(2 * width, width),
            nn.ConvTranspose2d(width, channels, kernel_size=4, stride=2, padding=1),
        )

    def forward(self, z: Tensor) -> Tensor:
        """Decode."""
        x: Tensor = self.layers(z)
        return x


class PatchPyramid(nn.Module):
    """A feature pyramid with a segmentation of defects.

    Parameters
    ----------
    channels : int
        Of the image.
    width : int
        Half of the channels at a quarter of the image's size.
    half_width : int, optional
        Channels at half of the image's size, where each costs most; `width` by default.
    kernel_size : int
        Of the layers that halve the maps further, 4 or 2. With 2 no pixel counts twice, at a quarter of the cost.
    """

    def __init__(
        self, channels: int, width: int, half_width: int | None = None, *, kernel_size: int = 4
    ) -> None:
        super().__init__()
        half_width = half_width or width
        halving = partial(block, halve=True, kernel_size=kernel_size)
        self.to_half = nn.Sequential(block(channels, half_width, halve=True), block(half_width, half_width))
        self.to_quarter = nn.Sequential(halving(half_width, 2 * width), block(2 * width, 2 * width))
        self.to_eighth = nn.Sequential(halving(2 * width, 4 * width), block(4 * width, 4 * width))
        self.to_sixteenth = nn.Sequential(halving(4 * width, 4 * width), block(4 * width, 4 * width))
        # the way back up, as in a feature pyramid network (Lin et al., CVPR 2017)
        self.from_sixteenth = nn.Conv2d(4 * width, 2 * width, kernel_size=1)
        self.from_eighth = nn.Conv2d(4 * width, 2 * width, kernel_size=1)
        self.from_quarter = nn.Conv2d(2 * width, 2 * width, kernel_size=1)
        self.merge_quarter = block(2 * width, half_width)
        self.merge_half = block(half_width, half_width)
        self.segmentation_head = nn.Conv2d(half_width, 1, kernel_size=1)

    def features(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Features at 1/2, 1/4, 1/8 and 1/16 of the image's size."""
        half = self.to_half(x)
        quarter = self.to_quarter(half)
        eighth = self.to_eighth(quarter)
        return half, quarter, eighth, self.to_sixteenth(eighth)

    def segmentation(self, half: Tensor, quarter: Tensor, eighth: Tensor, sixteenth: Tensor) -> Tensor:
        """From the features of an image to the logits of a defect, `float[N, 1, H/2, W/2]`."""
        merged = self.from_eighth(eighth) + upsampled_to(self.from_sixteenth(sixteenth), eighth)
        merged = self.from_quarter(quarter) + upsampled_to(merged, quarter)
        merged = self.merge_quarter(functional.leaky_relu(merged, SLOPE))
        merged = self.merge_half(half + upsampled_to(merged, half))
        logits: Tensor = self.segmentation_head(merged)
        return logits


class PatchSegmentation(PatchPyramid):
    """Where does an image show defects? From `float[N, C, H, W]` to logits `float[N, 1, H/2, W/2]`.

    Half as many channels at half of the image's size and kernels of 2 halve the arithmetic, and see as much
    (`docs/experiments.md`).
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(channels, width, width // 2, kernel_size=2)

    def forward(self, x: Tensor) -> Tensor:
        """Segment."""
        return self.segmentation(*self.features(x))


class PatchDiscriminator(PatchPyramid):
    """Two heads on one pyramid: is the image real or reconstructed, and where does it show defects?"""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(channels, width)
        self.real_fake_head = nn.Conv2d(4 * width, 1, kernel_size=1)

    def real_fake(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of being real, `float[N, 1, H/16, W/16]`, and the features at 1/16 that they come from."""
        *_, sixteenth = self.features(x)
        return self.real_fake_head(sixteenth), sixteenth

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Segmentation logits and real/fake logits of an image `float[N, C, H, W]`."""
        features = self.features(x)
        return self.segmentation(*features), self.real_fake_head(features[-1])


def upsampled_to(x: Tensor, like: Tensor) -> Tensor:
    """Enlarge `float[N, K, h, w]` bilinearly to the height and width of another map."""
    return functional.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)


def initialise_patch_weights(module: nn.Module, generator: Generator) -> None:
    """Draw all weights anew from one generator, after He et al., *Delving Deep into Rectifiers*, ICCV 2015."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            draw_he_normal(layer.weight, SLOPE, generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def block(channels_in: int, channels_out: int, *, halve: bool = False, kernel_size: int = 4) -> nn.Sequential:
    """Convolution, batch norm and leaky ReLU, at the same size or, with an even kernel, at half."""
    kernel_size, stride = (kernel_size, 2) if halve else (3, 1)
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel_size, stride, padding=(kernel_size - 1) // 2, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.LeakyReLU(SLOPE, inplace=True),
    )


def _doubling_block(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(channels_in, channels_out, kernel_size=4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )

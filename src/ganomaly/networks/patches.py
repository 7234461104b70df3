"""Fully convolutional networks for patches and for whole images of any size: a latent per place.

The blocks are DCGAN's, as in `pyramid`, but the encoder stops at an eighth of the image's size. Height and width of
the input are multiples of `STRIDE`.
"""

from torch import Generator, Tensor, nn
from torch.nn import functional

STRIDE = 16  # px; the discriminator halves the image four times
LATENT_STRIDE = 8  # px between the places of a latent
SPOT_STRIDE = 2  # px between the places of the discriminator's verdict
SLOPE = 0.1
RARELY = -3.0  # logit from which spotting starts


class PatchEncoder(nn.Module):
    """From an image to a latent per place: `float[N, C, H, W]` to `float[N, nz, H/8, W/8]`."""

    def __init__(self, channels: int, width: int, nz: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, kernel_size=4, stride=2, padding=1),
            nn.LeakyReLU(SLOPE, inplace=True),
            _block(width, 2 * width, halve=True),
            _block(2 * width, 4 * width, halve=True),
            nn.Conv2d(4 * width, nz, kernel_size=3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Encode."""
        z: Tensor = self.layers(x)
        return z


class PatchDecoder(nn.Module):
    """From a latent per place to an image: `float[N, nz, h, w]` to `float[N, C, 8h, 8w]`."""

    def __init__(self, channels: int, width: int, nz: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _block(nz, 4 * width),
            _doubling_block(4 * width, 2 * width),
            _doubling_block(2 * width, width),
            nn.ConvTranspose2d(width, channels, kernel_size=4, stride=2, padding=1),
        )

    def forward(self, z: Tensor) -> Tensor:
        """Decode."""
        x: Tensor = self.layers(z)
        return x


class PatchDiscriminator(nn.Module):
    """Judges an image twice: is it real or a reconstruction, and which of its places are no normal ones?

    Parameters
    ----------
    channels : int
        Of the image.
    width : int
        Channels after the first layer.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.to_half = nn.Sequential(_block(channels, width, halve=True), _block(width, width))
        self.to_quarter = nn.Sequential(_block(width, 2 * width, halve=True), _block(2 * width, 2 * width))
        self.to_eighth = nn.Sequential(_block(2 * width, 4 * width, halve=True), _block(4 * width, 4 * width))
        self.to_sixteenth = nn.Sequential(
            _block(4 * width, 4 * width, halve=True), _block(4 * width, 4 * width)
        )
        self.truth = nn.Conv2d(4 * width, 1, kernel_size=1)
        # the way back up, as in a feature pyramid network (Lin et al., CVPR 2017)
        self.from_sixteenth = nn.Conv2d(4 * width, 2 * width, kernel_size=1)
        self.from_eighth = nn.Conv2d(4 * width, 2 * width, kernel_size=1)
        self.from_quarter = nn.Conv2d(2 * width, 2 * width, kernel_size=1)
        self.merge_quarter = _block(2 * width, width)
        self.merge_half = _block(width, width)
        self.spot = nn.Conv2d(width, 1, kernel_size=1)

    def features(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Features at 1/2, 1/4, 1/8 and 1/16 of the image's size."""
        half = self.to_half(x)
        quarter = self.to_quarter(half)
        eighth = self.to_eighth(quarter)
        return half, quarter, eighth, self.to_sixteenth(eighth)

    def judge(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of being real, `float[N, 1, H/16, W/16]`, and the features they come from."""
        *_, deepest = self.features(x)
        return self.truth(deepest), deepest

    def verdicts(
        self, half: Tensor, quarter: Tensor, eighth: Tensor, deepest: Tensor
    ) -> tuple[Tensor, Tensor]:
        """From features to logits: of being no normal place, `float[N, 1, H/2, W/2]`; of being real, at 1/16."""
        merged = self.from_eighth(eighth) + _enlarged(self.from_sixteenth(deepest), eighth)
        merged = self.from_quarter(quarter) + _enlarged(merged, quarter)
        merged = self.merge_quarter(functional.leaky_relu(merged, SLOPE))
        merged = self.merge_half(half + _enlarged(merged, half))
        return self.spot(merged), self.truth(deepest)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Both logits of an image `float[N, C, H, W]`."""
        return self.verdicts(*self.features(x))


def _block(channels_in: int, channels_out: int, *, halve: bool = False) -> nn.Sequential:
    kernel_size, stride = (4, 2) if halve else (3, 1)
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel_size, stride, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.LeakyReLU(SLOPE, inplace=True),
    )


def _doubling_block(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(channels_in, channels_out, kernel_size=4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )


def _enlarged(x: Tensor, like: Tensor) -> Tensor:
    return functional.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)


def initialise_patch_weights(module: nn.Module, generator: Generator) -> None:
    """Draw all weights anew from one generator, after He et al., *Delving Deep into Rectifiers*, ICCV 2015.

    The discriminator starts from the opinion that hardly any place is changed, which few are.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(layer.weight, SLOPE, generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, PatchDiscriminator):
            nn.init.constant_(layer.spot.bias, RARELY) if layer.spot.bias is not None else None

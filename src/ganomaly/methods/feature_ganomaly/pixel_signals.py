"""Pixel signals at two scales: the segmentation of defects, and the distance of its features to normal ones."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Generator, Tensor, nn

from ganomaly.methods.ignored_positions import outside
from ganomaly.methods.neighbours import PositionMemoryBank
from ganomaly.methods.signals import at_scale, ceil_divide, random_positions, smoothed
from ganomaly.networks import SEGMENTATION_STRIDE, STRIDE, apply_in_tiles, upsampled_to

TILE = 768  # px
MARGIN = 192  # px, more than the receptive field of any signal on either side
# of each scale, which is half as large as the one before: features of the segmentation network at 1/4 of the scale's
# size, at 1/8
BANK_SIZES = (512, 1024)
SCALES = len(BANK_SIZES)
N_SIGNALS = 2 * SCALES
_MAX_BANK_POSITIONS = 2**15  # of an image that a bank may choose from, which bounds memory
_TINY = 1e-6

Networks = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]
"""From images `float[N, C, H, W]` to logits of a defect, and features at 1/4 and at 1/8 of the image's size."""


class PixelSignals(nn.Module):
    """For each scale the segmentation and the distance to normal features.

    Parameters
    ----------
    width : int
        Half of the segmentation network's channels at a quarter of the image's size.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.banks = nn.ModuleList(
            PositionMemoryBank(2 ** (1 + scale) * width, size) for scale, size in enumerate(BANK_SIZES)
        )

    def fit(
        self,
        networks: Networks,
        images: Sequence[Tensor],
        ignored: Sequence[Tensor | None],
        generator: Generator,
    ) -> None:
        """Fill the banks from normal images, `float[1, C, H, W]` each, but for what is ignored, `bool[H, W]`."""
        for scale, bank in enumerate(self.banks):
            assert isinstance(bank, PositionMemoryBank)
            features = [
                _bank_features(networks, scale, image, region, generator)
                for image, region in zip(images, ignored, strict=True)
            ]
            bank.fit(features, generator)

    def bank_rows(
        self, networks: Networks, image: Tensor, ignored: Tensor | None, generator: Generator
    ) -> list[Tensor]:
        """What a normal image, `float[1, C, H, W]`, adds to each bank, but for what is ignored, `bool[H, W]`."""
        rows = []
        for scale, bank in enumerate(self.banks):
            assert isinstance(bank, PositionMemoryBank)
            features = _bank_features(networks, scale, image, ignored, generator)
            rows.append(bank.rows_of(features, generator))
        return rows

    def forward(self, networks: Networks, x: Tensor) -> Tensor:
        """The signals of images `float[N, C, H, W]`: `float[N, K, ⌈H/2⌉, ⌈W/2⌉]`."""
        finest, *coarser = (self._scale_signals(networks, scale, x) for scale in range(SCALES))
        return torch.cat([finest, *(upsampled_to(signals, finest) for signals in coarser)], dim=1)

    def _scale_signals(self, networks: Networks, scale: int, x: Tensor) -> Tensor:
        """The signals of one scale, `float[N, 2, ⌈h/2⌉, ⌈w/2⌉]` for images of h×w pixels there."""
        function = partial(self._tile_signals, networks, scale)
        padded = at_scale(x, scale)
        if torch.compiler.is_exporting():  # a graph has no loop over a number that only its input decides
            (signals,) = function(padded)
        else:
            (signals,) = apply_in_tiles(
                function, padded, tile=TILE, margin=MARGIN, strides=(SEGMENTATION_STRIDE,)
            )
        rim = STRIDE // SEGMENTATION_STRIDE
        bottom, right = (
            rim + ceil_divide(ceil_divide(side, 2**scale), SEGMENTATION_STRIDE) for side in x.shape[2:]
        )
        return signals[:, :, rim:bottom, rim:right]

    def _tile_signals(self, networks: Networks, scale: int, x: Tensor) -> tuple[Tensor]:
        logits, *features = networks(x)
        distance = self.banks[scale](smoothed(features[scale], 3))[:, None]
        logits = smoothed(logits, 3)
        return (torch.cat([logits, upsampled_to((distance + _TINY).log(), logits)], dim=1),)


def _bank_features(
    networks: Networks, scale: int, image: Tensor, ignored: Tensor | None, generator: Generator
) -> Tensor:
    """Features `float[K, 1, n]` of an image at one scale: of large images, at random positions."""

    def features_of_tile(x: Tensor) -> tuple[Tensor]:
        return (smoothed(networks(x)[1 + scale], 3),)

    prepare, stride = partial(at_scale, scale=scale), 4 * 2**scale
    (features,) = apply_in_tiles(
        features_of_tile, prepare(image), tile=TILE, margin=MARGIN, strides=(stride,)
    )
    counted = outside(features, ignored, stride, prepare)
    return random_positions(counted, _MAX_BANK_POSITIONS, generator)[0]

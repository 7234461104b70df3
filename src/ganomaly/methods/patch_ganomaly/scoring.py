"""From the outputs of the networks to score and anomaly map.

1. The image is taken at two scales, large ones in tiles.
2. At each scale four signals are computed for each position, see `SIGNALS`.
3. Each signal is standardised by what normal images show at that position; the map is the root of their mean square.
4. The top-k mean of each standardised signal is standardised by those of normal images of that size; the score is the
   root of their mean square.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from ganomaly.methods.base import BatchPrediction
from ganomaly.methods.ignored_positions import counted_positions, outside, without_positions
from ganomaly.methods.neighbours import PositionMemoryBank
from ganomaly.methods.reference_statistics import PositionStatistics, SizeStatistics
from ganomaly.methods.signals import at_scale, ceil_divide, combined, random_positions, smoothed
from ganomaly.methods.whitening import Whitening
from ganomaly.networks import (
    LATENT_STRIDE,
    SEGMENTATION_STRIDE,
    STRIDE,
    apply_in_tiles,
    upsampled_to,
)

MARGIN = 192  # px, more than the receptive field of any signal on either side; a multiple of STRIDE
TILE = 768  # px
# features in the memory bank of each scale, which is half as large as the one before: of D's features at 1/4 of the
# scale's size, at 1/8
BANK_SIZES = (512, 1024)
SCALES = len(BANK_SIZES)
SIGNALS = {"segmentation": 1.0, "reconstruction": 1.0, "features": 1.0, "latent": 0.5}  # with their weights
WEIGHTS = SCALES * tuple(SIGNALS.values())
MAX_BANK_POSITIONS = 2**15  # of an image that a bank may choose from, which bounds memory
_LATENT_RIDGE = 1e-4
_TINY = 1e-6


class NetworkOutputs(NamedTuple):
    """What the networks give for images `float[N, C, H, W]`.

    Attributes
    ----------
    latent_difference : Tensor
        z − ẑ, `float[N, nz, H/8, W/8]`.
    features : tuple of Tensor
        D's, `float[N, 2·ndf, H/4, W/4]` and `float[N, 4·ndf, H/8, W/8]`: those that each scale compares.
    segmentation : Tensor
        D's logits of a defect, `float[N, 1, H/2, W/2]`.
    error : Tensor
        |x − x̂| at normalised local contrast, averaged over the channels, `float[N, 1, H, W]`.
    x_hat : Tensor
        x̂, `float[N, C, H, W]` in [−1, 1].
    """

    latent_difference: Tensor
    features: tuple[Tensor, Tensor]
    segmentation: Tensor
    error: Tensor
    x_hat: Tensor


Networks = Callable[[Tensor], NetworkOutputs]


class ScaleReference(nn.Module):
    """What z − ẑ and D's features are in normal images, at one scale.

    Parameters
    ----------
    nz, channels : int
        Size of the latent; channels of D's features.
    bank_size : int
        Features in the memory bank.
    """

    def __init__(self, nz: int, channels: int, bank_size: int) -> None:
        super().__init__()
        self.latent_whitening = Whitening(nz, ridge=_LATENT_RIDGE)
        self.bank = PositionMemoryBank(channels, bank_size)

    def fit(self, outputs: Sequence[tuple[Tensor, Tensor]], generator: Generator) -> None:
        """Fit to z − ẑ, `float[1, nz, h, w]`, and D's features, `float[1, K, …]`, of normal images."""
        differences = torch.cat([difference[0].flatten(1) for difference, _ in outputs], dim=1)
        self.latent_whitening.fit(differences.t())
        self.bank.fit([features[0] for _, features in outputs], generator)

    def forward(self, latent_difference: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Distance of D's features to those of normal images, and ‖z − ẑ‖ whitened: `float[N, 1, h, w]` each."""
        latent = self.latent_whitening(latent_difference.permute(0, 2, 3, 1)).norm(dim=3)[:, None]
        return self.bank(features)[:, None], smoothed(latent, 3)


class PatchScoring(nn.Module):
    """Signals at all scales, standardised by those of normal images.

    Parameters
    ----------
    nz, ndf : int
        Size of the latent; channels of D's features at half of the image's size.
    """

    def __init__(self, nz: int, ndf: int) -> None:
        super().__init__()
        self.scales = nn.ModuleList(
            ScaleReference(nz, 2 ** (1 + scale) * ndf, bank_size)
            for scale, bank_size in enumerate(BANK_SIZES)
        )
        self.positions = PositionStatistics(SCALES * len(SIGNALS))
        self.sizes = SizeStatistics(SCALES * len(SIGNALS))

    def fit(self, networks: Networks, images: Sequence[Tensor], ignored: Sequence[Tensor | None]) -> None:
        """Fill the banks from one half of normal images; take statistics of the other.

        Parameters
        ----------
        networks : callable
            Gives their outputs.
        images : sequence of Tensor
            `float[1, C, H, W]` each.
        ignored : sequence of Tensor or None
            Where each is ignored, `bool[H, W]`; None for nowhere.
        """
        bank_images = list(zip(images, ignored, strict=True))[::2]
        reference = slice(1 if len(images) > 1 else 0, None, 2)
        generator = Generator().manual_seed(0)
        for scale, scale_reference in enumerate(self.scales):
            assert isinstance(scale_reference, ScaleReference)
            outputs = [
                _bank_outputs(networks, scale, image, region, generator) for image, region in bank_images
            ]
            scale_reference.fit(outputs, generator)
        signals = [self._signals(networks, image)[0] for image in images[reference]]
        counted = [
            None if region is None else counted_positions(region, SEGMENTATION_STRIDE)
            for region in ignored[reference]
        ]
        self.positions.fit([image_signals[0] for image_signals in signals], counted)
        self.sizes.fit((self._above_normal(image_signals)[0] for image_signals in signals), counted)

    def bank_rows(
        self, networks: Networks, image: Tensor, ignored: Tensor | None, generator: Generator
    ) -> list[Tensor]:
        """What a normal image, `float[1, C, H, W]`, adds to each bank, but for what is ignored, `bool[H, W]`."""
        rows = []
        for scale, scale_reference in enumerate(self.scales):
            assert isinstance(scale_reference, ScaleReference)
            _, features = _bank_outputs(networks, scale, image, ignored, generator)
            rows.append(scale_reference.bank.rows_of(features[0], generator))
        return rows

    def predict(self, networks: Networks, x: Tensor, ignored: Tensor | None = None) -> BatchPrediction:
        """Predict images `float[N, C, H, W]`; of one image, a region may be ignored, `bool[H, W]`."""
        signals, x_hat = self._signals(networks, x)
        above = self._above_normal(signals)
        counted = None if ignored is None else counted_positions(ignored, SEGMENTATION_STRIDE)
        score = combined(functional.softplus(self.sizes(without_positions(above, counted))), WEIGHTS)
        coarse = combined(above, WEIGHTS)[:, None]
        anomaly_map = functional.interpolate(
            coarse, scale_factor=SEGMENTATION_STRIDE, mode="bilinear", align_corners=False
        )
        return BatchPrediction(score, anomaly_map[:, 0, : x.shape[2], : x.shape[3]], x_hat)

    def _above_normal(self, signals: Tensor) -> Tensor:
        """How many scales the signals `float[N, K, h, w]` are above those of normal images; ≥ 0."""
        standardised: Tensor = self.positions(signals)
        return standardised.clamp_min(0)

    def _signals(self, networks: Networks, x: Tensor) -> tuple[Tensor, Tensor]:
        """The signals of all scales, `float[N, K, ⌈H/2⌉, ⌈W/2⌉]`, and x̂ of the finest."""
        finest, x_hat = self._scale_signals(networks, 0, x)
        coarser = [self._scale_signals(networks, scale, x)[0] for scale in range(1, SCALES)]
        return torch.cat([finest, *(upsampled_to(signals, finest) for signals in coarser)], dim=1), x_hat

    def _scale_signals(self, networks: Networks, scale: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """The signals of one scale, `float[N, 4, ⌈h/2⌉, ⌈w/2⌉]` for images of h×w pixels there, and x̂."""
        function = partial(self._tile_signals, networks, scale)
        padded = at_scale(x, scale)
        if torch.compiler.is_exporting():  # a graph has no loop over a number that only its input decides
            signals, x_hat = function(padded)
        else:
            signals, x_hat = apply_in_tiles(
                function, padded, tile=TILE, margin=MARGIN, strides=(SEGMENTATION_STRIDE, 1)
            )
        height, width = (ceil_divide(side, 2**scale) for side in x.shape[2:])
        rim = STRIDE // SEGMENTATION_STRIDE
        bottom, right = (rim + ceil_divide(side, SEGMENTATION_STRIDE) for side in (height, width))
        inner_x_hat = x_hat[:, :, STRIDE : STRIDE + height, STRIDE : STRIDE + width]
        return signals[:, :, rim:bottom, rim:right], inner_x_hat

    def _tile_signals(self, networks: Networks, scale: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """The signals of a tile at one scale, `float[N, 4, H/2, W/2]`, in the order of `SIGNALS`, and its x̂."""
        outputs = networks(x)
        segmentation = smoothed(outputs.segmentation, 3)
        error = smoothed(functional.avg_pool2d(outputs.error, SEGMENTATION_STRIDE), 5)
        features, latent = self.scales[scale](outputs.latent_difference, smoothed(outputs.features[scale], 3))
        distances = [
            upsampled_to((distance + _TINY).log(), segmentation) for distance in (error, features, latent)
        ]
        return torch.cat([segmentation, *distances], dim=1), outputs.x_hat


def _bank_outputs(
    networks: Networks, scale: int, image: Tensor, ignored: Tensor | None, generator: Generator
) -> tuple[Tensor, Tensor]:
    """z − ẑ, `float[1, nz, h, w]`, and D's features, `float[1, K, 1, n]`: of large images, at random positions."""

    def outputs_of_tile(x: Tensor) -> tuple[Tensor, Tensor]:
        outputs = networks(x)
        return outputs.latent_difference, smoothed(outputs.features[scale], 3)

    prepare, strides = partial(at_scale, scale=scale), (LATENT_STRIDE, 4 * 2**scale)
    outputs = apply_in_tiles(outputs_of_tile, prepare(image), tile=TILE, margin=MARGIN, strides=strides)
    difference, features = (
        outside(output, ignored, stride, prepare) for output, stride in zip(outputs, strides, strict=True)
    )
    return difference, random_positions(features, MAX_BANK_POSITIONS, generator)

"""Signals from the feature maps of a backbone: distances to normal features, reconstruction error, and ‖z − ẑ‖."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Generator, Tensor, nn

from ganomaly.methods.feature_ganomaly.feature_networks import FeatureOutputs
from ganomaly.methods.ignored_positions import outside
from ganomaly.methods.neighbours import PositionMemoryBank
from ganomaly.methods.signals import ceil_divide, random_positions, smoothed
from ganomaly.methods.whitening import Whitening
from ganomaly.networks import FEATURE_STRIDE, apply_in_tiles, at_stride, reflect_to_multiple
from ganomaly.networks.backbones import Level

SIGNAL_STRIDE = 2  # px between the positions of the signals
TILE = 1536  # px; a smaller one costs time, since its margin is computed too, and a larger one memory
MARGIN = 416  # px, more than the receptive field of the default backbone on either side
BANK_SIZE = 2048  # features of each level
_COARSE_STRIDE = 32  # px, from which a feature describes its neighbourhood already
_MAX_BANK_POSITIONS = 2**12  # of an image that a bank may choose from, which bounds memory
_LATENT_RIDGE = 1e-4
_TINY = 1e-6

Networks = Callable[[Tensor], FeatureOutputs]


class FeatureSignals(nn.Module):
    """One signal for each level that is compared, then the reconstruction error, then ‖z − ẑ‖.

    Parameters
    ----------
    levels : sequence of Level
        Those that are compared.
    nz : int
        Size of the latent.
    """

    def __init__(self, levels: Sequence[Level], nz: int) -> None:
        super().__init__()
        self.levels = list(levels)
        self.n_signals = len(self.levels) + 2
        self.latent_whitening = Whitening(nz, ridge=_LATENT_RIDGE)
        self.banks = nn.ModuleList(PositionMemoryBank(level.channels, BANK_SIZE) for level in levels)

    def fit(
        self,
        networks: Networks,
        images: Sequence[Tensor],
        ignored: Sequence[Tensor | None],
        generator: Generator,
    ) -> None:
        """Fill the banks from normal images, `float[1, C, H, W]` each, but for what is ignored, `bool[H, W]`."""
        outputs = [
            self._bank_outputs(networks, image, region, generator)
            for image, region in zip(images, ignored, strict=True)
        ]
        differences = torch.cat([difference[0].flatten(1) for difference, *_ in outputs], dim=1)
        self.latent_whitening.fit(differences.t())
        for number, bank in enumerate(self.banks):
            assert isinstance(bank, PositionMemoryBank)
            bank.fit([features[1 + number][0] for features in outputs], generator)

    def bank_rows(
        self, networks: Networks, image: Tensor, ignored: Tensor | None, generator: Generator
    ) -> list[Tensor]:
        """What a normal image, `float[1, C, H, W]`, adds to each bank, but for what is ignored, `bool[H, W]`."""
        _, *features = self._bank_outputs(networks, image, ignored, generator)
        rows = []
        for bank, level_features in zip(self.banks, features, strict=True):
            assert isinstance(bank, PositionMemoryBank)
            rows.append(bank.rows_of(level_features[0], generator))
        return rows

    def forward(self, networks: Networks, x: Tensor) -> Tensor:
        """The signals of images `float[N, C, H, W]`: `float[N, K, ⌈H/2⌉, ⌈W/2⌉]`."""
        multiple = self._multiple()
        padded = reflect_to_multiple(x, multiple, 0)

        def signals_of_tile(tile: Tensor) -> list[Tensor]:
            return self._tile_signals(networks, tile)

        strides = [*(level.stride for level in self.levels), FEATURE_STRIDE, FEATURE_STRIDE]
        if torch.compiler.is_exporting():  # a graph has no loop over a number that only its input decides
            signals = signals_of_tile(padded)
        else:
            signals = apply_in_tiles(
                signals_of_tile,
                padded,
                tile=_up_to(TILE, multiple),
                margin=_up_to(MARGIN, multiple),
                strides=strides,
            )
        height, width = (ceil_divide(side, SIGNAL_STRIDE) for side in x.shape[2:])
        return torch.cat(
            [
                at_stride((signal + _TINY).log(), stride, SIGNAL_STRIDE, (height, width))
                for signal, stride in zip(signals, strides, strict=True)
            ],
            dim=1,
        )

    def _tile_signals(self, networks: Networks, x: Tensor) -> list[Tensor]:
        """The signals of a tile, `float[N, 1, h, w]` each."""
        outputs = networks(x)
        whitened = self.latent_whitening(outputs.latent_difference.permute(0, 2, 3, 1))
        distances = [
            bank(_neighbourhood(features, level))[:, None]
            for bank, features, level in zip(self.banks, outputs.levels, self.levels, strict=True)
        ]
        return [*distances, smoothed(outputs.error, 3), smoothed(whitened.norm(dim=3)[:, None], 3)]

    def _bank_outputs(
        self, networks: Networks, image: Tensor, ignored: Tensor | None, generator: Generator
    ) -> list[Tensor]:
        """z − ẑ, and the features that are compared, `float[1, K, 1, n]`: of large images, at random positions."""
        multiple = self._multiple()
        prepare = partial(reflect_to_multiple, multiple=multiple, margin=0)

        def outputs_of_tile(x: Tensor) -> list[Tensor]:
            outputs = networks(x)
            levels = zip(outputs.levels, self.levels, strict=True)
            return [
                outputs.latent_difference,
                *(_neighbourhood(features, level) for features, level in levels),
            ]

        strides = (FEATURE_STRIDE, *(level.stride for level in self.levels))
        outputs = apply_in_tiles(
            outputs_of_tile,
            prepare(image),
            tile=_up_to(TILE, multiple),
            margin=_up_to(MARGIN, multiple),
            strides=strides,
        )
        difference, *features = (
            outside(output, ignored, stride, prepare) for output, stride in zip(outputs, strides, strict=True)
        )
        return [difference, *(random_positions(level, _MAX_BANK_POSITIONS, generator) for level in features)]

    def _multiple(self) -> int:
        """Pixels: all strides divide it."""
        return math.lcm(FEATURE_STRIDE, *(level.stride for level in self.levels))


def _neighbourhood(features: Tensor, level: Level) -> Tensor:
    """Features averaged over their neighbours, as in PatchCore; the deepest describe large patches already."""
    return features if level.stride >= _COARSE_STRIDE else smoothed(features, 3)


def _up_to(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple

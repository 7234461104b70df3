"""GANomaly over the feature maps of a frozen, pretrained backbone, beside the one over pixels.

The feature maps of several levels are standardised and joined on one grid. Encoder, decoder, encoder and a
discriminator are trained on them as on pixels, but with noise in place of defects: where a defect leads to in feature
space is not known, and it need not be (Liu et al., *SimpleNet*, CVPR 2023).
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from ganomaly.methods.base import Precision
from ganomaly.methods.losses import adversarial_loss, mean_square_error
from ganomaly.methods.randomness import Randomness
from ganomaly.methods.updates import frozen
from ganomaly.networks import (
    FEATURE_STRIDE,
    MIN_JOINED_STRIDE,
    FeatureDecoder,
    FeatureDiscriminator,
    FeatureEncoder,
    at_stride,
)
from ganomaly.networks.backbones import Backbone, Level, build_backbone, load_backbone

COMPARED_LEVELS = 2
"""The deepest levels, whose features are compared with those of normal images."""
NOISE = 0.5  # standard deviations of a channel
NOISY_SHARE = 0.3  # of the positions
_MIN_STD = 1e-3
_IMAGES_AT_ONCE = 8


class FeatureOutputs(NamedTuple):
    """What backbone and networks give for images `float[N, C, H, W]`.

    Attributes
    ----------
    levels : tuple of Tensor
        The deepest levels, standardised: `float[N, K, H/stride, W/stride]` each.
    error : Tensor
        Mean square of the reconstruction's error over the channels, `float[N, 1, H/16, W/16]`.
    latent_difference : Tensor
        z − ẑ, `float[N, nz, H/16, W/16]`.
    """

    levels: tuple[Tensor, ...]
    error: Tensor
    latent_difference: Tensor


class FeatureNetworks(nn.Module):
    """A frozen backbone, and GANomaly over its feature maps.

    Parameters
    ----------
    description : mapping
        Describes the backbone, see `describe_backbone`.
    width, discriminator_width : int
        Channels of encoders and decoder, and of the discriminator.
    nz : int
        Size of the latent at each position.
    """

    def __init__(
        self, description: Mapping[str, Any], *, width: int, discriminator_width: int, nz: int
    ) -> None:
        super().__init__()
        self.backbone: Backbone = build_backbone(description)
        self.levels: dict[str, Level] = dict(self.backbone.levels)
        for number, level in enumerate(self.levels.values()):
            self.register_buffer(f"mean{number}", torch.zeros(level.channels, 1, 1))
            self.register_buffer(f"std{number}", torch.ones(level.channels, 1, 1))
        deep = [level for level in self.levels.values() if level.stride >= MIN_JOINED_STRIDE]
        self._joined = list(self.levels.values())[-len(deep) :] if deep else list(self.levels.values())
        self.compared = list(self.levels.values())[-COMPARED_LEVELS:]
        channels = sum(level.channels for level in self._joined)
        self.encoder = FeatureEncoder(channels, width, nz)  # G_E
        self.decoder = FeatureDecoder(channels, width, nz)  # G_D
        self.reconstruction_encoder = FeatureEncoder(channels, width, nz)  # E
        self.discriminator = FeatureDiscriminator(channels, discriminator_width)  # D

    def load_pretrained(self, name: str) -> None:
        """Read the backbone's weights, by the name that `load_backbone` takes; raises what that does."""
        self.backbone.load_state_dict(load_backbone(name, self.levels).state_dict())

    def trained(self) -> list[nn.Module]:
        """The networks that are not frozen."""
        return [self.encoder, self.decoder, self.reconstruction_encoder, self.discriminator]

    def generator_parameters(self) -> chain[Parameter]:
        """The weights of G_E, G_D and E."""
        return chain(
            self.encoder.parameters(), self.decoder.parameters(), self.reconstruction_encoder.parameters()
        )

    def fit(self, x: Tensor) -> None:
        """Take mean and standard deviation of each channel, of images `float[N, C, H, W]`."""
        batches = [self.backbone(part, list(self.levels)) for part in torch.split(x, _IMAGES_AT_ONCE)]
        for number, maps in enumerate(zip(*batches, strict=True)):
            values = torch.cat(maps).transpose(0, 1).flatten(1)
            getattr(self, f"mean{number}").copy_(values.mean(dim=1)[:, None, None])
            getattr(self, f"std{number}").copy_(values.std(dim=1).clamp_min(_MIN_STD)[:, None, None])

    def training_losses(self, x: Tensor, randomness: Randomness, precision: Precision) -> dict[str, Tensor]:
        """The losses of G and D for normal images `float[N, C, S, S]`, scalars; weights are the caller's."""
        with torch.no_grad():
            (features,) = precision.by_rows(lambda x: (self._join(self._standardised_maps(x), x),), x)
        size = (len(features), 1, *features.shape[2:])
        is_noisy = (randomness.uniform(size, x.device) < NOISY_SHARE).float()
        noise = randomness.normal(features.shape, x.device)
        noisy = features + NOISE * noise * is_noisy
        z, reconstruction, z_hat, real_logits, real_features, fake_logits, fake_features = precision.by_rows(
            self._training_outputs, features, noisy
        )
        return {
            "adversarial": mean_square_error(fake_features, real_features.detach()),
            "contextual": mean_square_error(reconstruction, features),
            "encoder": mean_square_error(z_hat, z),
            "real_fake": adversarial_loss(real_logits, fake_logits),
        }

    def _training_outputs(self, features: Tensor, noisy: Tensor) -> tuple[Tensor, ...]:
        """z, reconstruction and ẑ of noisy features; D's logits and features of true and of reconstructed ones."""
        z = self.encoder(noisy)
        reconstruction = self.decoder(z)
        z_hat = self.reconstruction_encoder(reconstruction)
        real_logits, real_features = self.discriminator(features)
        fake_logits, _ = self.discriminator(reconstruction.detach())
        with frozen(self.discriminator):
            _, fake_features = self.discriminator(reconstruction)
        return z, reconstruction, z_hat, real_logits, real_features, fake_logits, fake_features

    def forward(self, x: Tensor) -> FeatureOutputs:
        """Run each network once."""
        maps = self._standardised_maps(x)
        features = self._join(maps, x)
        z = self.encoder(features)
        reconstruction = self.decoder(z)
        return FeatureOutputs(
            levels=tuple(maps[-COMPARED_LEVELS:]),
            error=(reconstruction - features).square().mean(dim=1, keepdim=True),
            latent_difference=z - self.reconstruction_encoder(reconstruction),
        )

    def discriminator_features(self, x: Tensor) -> Tensor:
        """D's last features, `float[N, K, H/16, W/16]`."""
        features: Tensor = self.discriminator(self._join(self._standardised_maps(x), x))[1]
        return features

    def latent(self, x: Tensor) -> Tensor:
        """z of images `float[N, C, H, W]`: `float[N, nz, H/16, W/16]`."""
        z: Tensor = self.encoder(self._join(self._standardised_maps(x), x))
        return z

    def _standardised_maps(self, x: Tensor) -> list[Tensor]:
        """One `float[N, K, h, w]` for each level, in order of depth."""
        maps = self.backbone(x, list(self.levels))
        return [
            (feature_map - getattr(self, f"mean{number}")) / getattr(self, f"std{number}")
            for number, feature_map in enumerate(maps)
        ]

    def _join(self, maps: Sequence[Tensor], x: Tensor) -> Tensor:
        """The deep levels on the grid of the latent, along the channels: `float[N, K, H/16, W/16]`."""
        height, width = ((side + FEATURE_STRIDE - 1) // FEATURE_STRIDE for side in x.shape[2:])
        return torch.cat(
            [
                at_stride(feature_map, level.stride, FEATURE_STRIDE, (height, width))
                for feature_map, level in zip(maps[-len(self._joined) :], self._joined, strict=True)
            ],
            dim=1,
        )

"""GANomaly for small images of many kinds: an image is normal if its features are close to those of normal images.

The core is GANomaly's (Akcay, Atapour-Abarghouei, Breckon, ACCV 2018): encoder–decoder–encoder, adversarial training,
a score from the difference between z and ẑ. Around it:

- the discriminator learns what images show without labels, beside real from fake, as in Chen et al., *Self-Supervised
  GANs via Auxiliary Rotation Loss*, CVPR 2019, but from pairs of views (Chen et al., *A Simple Framework for
  Contrastive Learning*, ICML 2020);
- beside z − ẑ, the score takes the distance of an image's features to those of the nearest normal images, and the
  density there (`neighbours`), because simple anomalies are reconstructed well;
- with a pretrained backbone, of which the image is shown enlarged, it takes that distance of its features too.

What was tried, and what did not help, is in `docs/experiments.md`.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import ClassVar, NamedTuple

import torch
from pydantic import Field
from torch import Generator, Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from ganomaly.config import MethodOptions, Preprocessing, TrainingOptions
from ganomaly.methods.backbone_options import BackboneOptions
from ganomaly.methods.base import BatchPrediction, Method, Precision, Preset, Step
from ganomaly.methods.collapse import latent_collapse
from ganomaly.methods.losses import adversarial_loss, difference_map, mean_square_error
from ganomaly.methods.neighbours import ImageMemoryBank
from ganomaly.methods.options import DecayRate, LatentSize, LearningRate, Weight, Width
from ganomaly.methods.randomness import Randomness
from ganomaly.methods.search_space import Choice, Range, Searched
from ganomaly.methods.updates import frozen, set_learning_rate, update
from ganomaly.methods.views import mirror_invariant, random_views
from ganomaly.networks import Decoder, Discriminator, Encoder, draw_he_normal, initialise_weights
from ganomaly.networks.backbones import (
    DEFAULT_BACKBONE,
    Backbone,
    backbone_levels,
    build_backbone,
    load_backbone,
)

BANK_SIZE = 10_000  # images whose features are in the memory banks
PRINCIPAL_AXES = 128  # of the features
# of the signals: distances of D's features, of these whitened, of the embedding whitened; ‖z − ẑ‖
SIGNAL_WEIGHTS = (1.0, 1.0, 1.0, 0.25)
BACKBONE_WEIGHT = 6.0  # of the distance of the backbone's features: twice that of all of D's
BACKBONE_SIZE = 128  # px of the image that the backbone sees
_BACKBONE_IMAGES = 64  # at a time
MIN_SIGNAL = 1e-4  # smaller signals count as this one: an image from training has distance 0
MIN_STD = 1e-2
FULL_WIDTH_SIZE = 32  # px; networks for larger images have fewer channels


class ContrastiveGANomalyOptions(BackboneOptions):
    """Options of GANomaly for small images; without the name of a backbone there is none."""

    nz: LatentSize = 64
    """Size of the latent."""
    ngf: Width = 32
    """Feature channels of the first layer of encoders, the last of the decoder, at 32 px; half as many at 64 px."""
    ndf: Width = 64
    """Feature channels of the discriminator's first layer, likewise."""
    embedding: LatentSize = 128
    """Size of the embedding in which two views of an image should agree."""
    learning_rate: LearningRate = 2e-3
    """Highest learning rate of AdamW."""
    beta2: DecayRate = 0.95
    """AdamW's second decay rate."""
    weight_decay: Weight = 1e-2
    """AdamW's weight decay."""
    contextual_weight: Weight = 50.0
    """Weight of the reconstruction in the generator's loss."""
    adversarial_weight: Weight = 1.0
    """Weight of the feature matching in the generator's loss."""
    encoder_weight: Weight = 1.0
    """Weight of ‖z − ẑ‖² in the generator's loss."""
    real_fake_weight: Weight = 0.1
    """Weight of real/fake in the discriminator's loss; that of the contrastive loss is 1."""
    reconstruction_share: float = Field(default=0.25, gt=0, le=1)
    """Share of a batch that the generator reconstructs."""
    temperature: float = Field(default=0.5, ge=1e-3, le=1e3)
    """τ of the contrastive loss."""
    min_crop: float = Field(default=0.3, gt=0, le=1)
    """Smallest area of a view, as a share of the image."""

    def default_levels(self) -> list[str]:
        """The deepest of all, which tells apart what images show, not parts of images."""
        return list(backbone_levels(self.backbone))[-1:]


class _Outputs(NamedTuple):
    """What the networks give for images.

    Attributes
    ----------
    features, embedding : Tensor
        D's pooled features, `float[N, K]`, and their embedding, `float[N, E]`.
    difference : Tensor
        ‖z − ẑ‖, `float[N]`.
    reconstruction : Tensor
        x̂.
    pretrained : Tensor or None
        Means of the backbone's feature maps, `float[N, L]`.
    """

    features: Tensor
    embedding: Tensor
    difference: Tensor
    reconstruction: Tensor
    pretrained: Tensor | None


class ContrastiveGANomaly(Method):
    """Encoder–decoder–encoder, a discriminator with a contrastive loss, and the density of its features."""

    name: ClassVar[str] = "contrastive-ganomaly"
    options_type: ClassVar[type[MethodOptions]] = ContrastiveGANomalyOptions
    presets: ClassVar[Mapping[str, Preset]] = {
        "small": Preset(
            "GANomaly with a discriminator that learns what images show, for whole small images of many kinds",
            ContrastiveGANomalyOptions(),
            TrainingOptions(steps=1500, batch_size=64),
            colour_steps=4500,  # photographs are more varied than digits, and take longer to learn
        ),
        "small-features": Preset(
            "the preset small beside features of a pretrained network, for small images in colour",
            ContrastiveGANomalyOptions(backbone=DEFAULT_BACKBONE),
            TrainingOptions(steps=1500, batch_size=64),
        ),
    }
    statistics_images: ClassVar[int] = 12_000
    search_space: ClassVar[Mapping[str, Searched]] = {
        "learning_rate": Range(5e-4, 8e-3),
        "nz": Choice((32, 64, 128)),
        "ndf": Choice((32, 64, 96)),
        "embedding": Choice((64, 128, 256)),
        "contextual_weight": Range(10, 200),
        "temperature": Range(0.1, 1),
        "min_crop": Range(0.1, 0.8),
    }

    options: ContrastiveGANomalyOptions
    channel_mean: Tensor
    channel_std: Tensor
    mirror: Tensor
    reference_mean: Tensor
    reference_std: Tensor

    def __init__(
        self, options: ContrastiveGANomalyOptions, preprocessing: Preprocessing, generator: Generator
    ) -> None:
        super().__init__(options, preprocessing, generator)
        size, channels = preprocessing.image_size, preprocessing.channels
        ngf, ndf = (max(1, width * FULL_WIDTH_SIZE // size) for width in (options.ngf, options.ndf))
        self.encoder = Encoder(size, channels, options.nz, ngf)  # G_E
        self.decoder = Decoder(size, channels, options.nz, ngf)  # G_D
        self.reconstruction_encoder = Encoder(size, channels, options.nz, ngf)  # E
        self.discriminator = Discriminator(size, channels, ndf)  # D
        initialise_weights(self, generator)
        features = 2 * (ndf * size // 8)  # mean and maximum of D's last feature maps
        self.projection = nn.Sequential(
            nn.Linear(features, 2 * options.embedding, bias=False),
            nn.BatchNorm1d(2 * options.embedding),
            nn.ReLU(inplace=True),
            nn.Linear(2 * options.embedding, options.embedding, bias=False),
        )
        for layer in self.projection:
            if isinstance(layer, nn.Linear):
                draw_he_normal(layer.weight, 0.0, generator)
        self.randomness = Randomness(generator)
        self.register_buffer("channel_mean", torch.zeros(channels))
        self.register_buffer("channel_std", torch.ones(channels))
        self.register_buffer("mirror", torch.tensor(False))
        self._mirrors_in_graph = False
        compared = [(features, False), (features, True), (options.embedding, True)]
        self.backbone: Backbone | None = None
        self.signal_weights = list(SIGNAL_WEIGHTS)
        if options.backbone:
            self.backbone = build_backbone(options.describe_backbone())
            compared.append((sum(level.channels for level in self.backbone.levels.values()), False))
            self.signal_weights.append(BACKBONE_WEIGHT)
        self.banks = nn.ModuleList(
            ImageMemoryBank(size, PRINCIPAL_AXES, whiten=whiten) for size, whiten in compared
        )
        self.register_buffer("reference_mean", torch.zeros(len(self.signal_weights)))
        self.register_buffer("reference_std", torch.ones(len(self.signal_weights)))

    def load_pretrained(self) -> None:
        """Read the backbone's weights, if there is one."""
        if self.backbone is not None:
            weights = load_backbone(self.options.backbone, self.backbone.levels).state_dict()
            self.backbone.load_state_dict(weights)

    def optimizers(self) -> dict[str, Optimizer]:
        """One AdamW for the generator (G_E, G_D, E), one for the discriminator."""
        generator = chain(
            self.encoder.parameters(), self.decoder.parameters(), self.reconstruction_encoder.parameters()
        )
        discriminator = chain(self.discriminator.parameters(), self.projection.parameters())
        return {
            "generator": self.options.adamw(generator),
            "discriminator": self.options.adamw(discriminator),
        }

    def fit_scales(self, x: Tensor) -> None:
        """Take mean and standard deviation of each channel, and whether mirrored images are normal."""
        self.channel_mean.copy_(x.mean(dim=(0, 2, 3)))
        self.channel_std.copy_(x.std(dim=(0, 2, 3)).clamp_min(2 / 255))
        self.mirror.fill_(mirror_invariant(x))

    def training_step(
        self, x: Tensor, optimizers: Mapping[str, Optimizer], precision: Precision, step: Step
    ) -> dict[str, Tensor]:
        """D learns which views are of one image, and real from fake; G reconstructs a part of the views."""
        options = self.options
        set_learning_rate(optimizers, options.learning_rate_at(step))
        views = random_views(torch.cat([x, x]), options.min_crop, bool(self.mirror), self.randomness)
        n_generator = max(1, int(options.reconstruction_share * len(x)))
        with precision.autocast():
            z, x_hat, z_hat = precision.by_rows(self._reconstruction, views[:n_generator])
            real_logits, real_features, embedding = precision.by_rows(self._real_outputs, views)
            fake_logits, fake_features = precision.by_rows(self._fake_outputs, x_hat)
        adversarial = mean_square_error(fake_features, real_features[:n_generator].detach())
        contextual = functional.l1_loss(x_hat.float(), views[:n_generator].clamp(-1, 1))
        encoder = mean_square_error(z_hat, z)
        generator = (
            options.adversarial_weight * adversarial
            + options.contextual_weight * contextual
            + options.encoder_weight * encoder
        )
        contrastive = contrastive_loss(embedding.float(), options.temperature)
        real_fake = adversarial_loss(real_logits, fake_logits)
        discriminator = contrastive + options.real_fake_weight * real_fake
        update({"generator": generator, "discriminator": discriminator}, optimizers, precision)
        losses = {
            "generator": generator,
            "adversarial": adversarial,
            "contextual": contextual,
            "encoder": encoder,
            "contrastive": contrastive,
            "real_fake": real_fake,
        }
        return {name: loss.detach() for name, loss in losses.items()}

    def fit_statistics(self, batches: Iterable[Tensor]) -> None:
        """Fill the memory banks; take mean and standard deviation of the signals of images that are not in them."""
        compared: list[list[Tensor]] = []
        differences = []
        for x in batches:
            outputs = self._outputs(x)
            compared.append(_compared(outputs))
            differences.append(outputs.difference)
        features = [torch.cat(parts) for parts in zip(*compared, strict=True)]
        difference = torch.cat(differences)
        n = len(difference)
        n_reference = min(max(n // 6, n - BANK_SIZE), n - 1)
        for bank, bank_features in zip(self._banks(), features, strict=True):
            bank.fit(bank_features[n_reference:])
        reference = slice(n_reference or None)  # a single image is its own reference
        signals = self._signals([part[reference] for part in features], difference[reference])
        self.reference_mean.copy_(signals.mean(dim=0))
        self.reference_std.copy_(signals.std(dim=0, correction=0).clamp_min(MIN_STD))

    def bank_rows(self, x: Tensor, generator: Generator, ignored: Tensor | None = None) -> list[Tensor]:
        """Features of another normal image; axes, local scales and reference statistics stay."""
        features = _compared(self._outputs(x))
        return [
            bank.rows_of(bank_features) for bank, bank_features in zip(self._banks(), features, strict=True)
        ]

    def predict(self, x: Tensor) -> BatchPrediction:
        """A(x): the weighted mean over the signals of log(signal), in standard deviations above normal images.

        Signals are the distances to the nearest normal images, relative to the density there, and ‖z − ẑ‖. Softplus
        keeps the score ≥ 0. The map is |x − x̂|, which is not part of the score.
        """
        outputs = self._outputs(x)
        signals = self._signals(_compared(outputs), outputs.difference)
        above = (signals - self.reference_mean) / self.reference_std
        weights = above.new_tensor(self.signal_weights)
        score = functional.softplus(above @ weights / weights.sum())
        x_hat = outputs.reconstruction
        return BatchPrediction(score, difference_map(x, x_hat), x_hat)

    def discriminator_features(self, x: Tensor) -> Tensor:
        """f(x), D's last features."""
        return self._discriminator_outputs(x)[1]

    def fix_branches(self) -> None:
        """Decide whether the graph predicts the mirror image too."""
        self._mirrors_in_graph = bool(self.mirror)

    def collapse(self, x: Tensor, step: Step) -> str | None:
        """Say so when all images have the same latent."""
        return latent_collapse(self.encoder(x))

    def _reconstruction(self, x: Tensor) -> tuple[Tensor, ...]:
        """z, x̂, ẑ."""
        z = self.encoder(x)  # [n, nz, 1, 1]
        x_hat = self.decoder(z)
        return z, x_hat, self.reconstruction_encoder(x_hat)

    def _real_outputs(self, x: Tensor) -> tuple[Tensor, ...]:
        """D's logits and features of images, and their embedding."""
        logits, features = self._discriminator_outputs(x)
        return logits, features, self.projection(pooled(features))

    def _fake_outputs(self, x_hat: Tensor) -> tuple[Tensor, ...]:
        """D's logits of x̂ for D's loss, and its features for the generator's."""
        logits, _ = self._discriminator_outputs(x_hat.detach())
        with frozen(self.discriminator):
            return logits, self._discriminator_outputs(x_hat)[1]

    def _discriminator_outputs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """D's logits and last features; its input is standardised by channel."""
        standardised = (x - self.channel_mean[:, None, None]) / self.channel_std[:, None, None]
        logits, features = self.discriminator(standardised)
        return logits, features

    def _outputs(self, x: Tensor) -> _Outputs:
        """All features are means over the image and its mirror image, where mirrored images are normal."""
        mirrors = self._mirrors_in_graph if torch.compiler.is_exporting() else bool(self.mirror)
        images = [x, x.flip(3)] if mirrors else [x]
        features = torch.stack([pooled(self._discriminator_outputs(image)[1]) for image in images])
        embedding = torch.stack([self.projection(image_features) for image_features in features])
        z = self.encoder(x)
        x_hat = self.decoder(z)
        difference = torch.flatten(z - self.reconstruction_encoder(x_hat), start_dim=1)
        pretrained = None
        if self.backbone is not None:
            pretrained = torch.stack([pretrained_features(self.backbone, image) for image in images]).mean(
                dim=0
            )
        return _Outputs(
            features.mean(dim=0), embedding.mean(dim=0), difference.norm(dim=1), x_hat, pretrained
        )

    def _banks(self) -> list[ImageMemoryBank]:
        return [bank for bank in self.banks if isinstance(bank, ImageMemoryBank)]

    def _signals(self, features: Sequence[Tensor], difference: Tensor) -> Tensor:
        """Logarithms of the signals, `float[N, 4]`, with a backbone `float[N, 5]`."""
        distances = [bank(part) for bank, part in zip(self._banks(), features, strict=True)]
        signals = [*distances[:3], difference, *distances[3:]]
        return torch.stack(signals, dim=1).clamp_min(MIN_SIGNAL).log()


def _compared(outputs: _Outputs) -> list[Tensor]:
    """The features that each memory bank compares."""
    features = [outputs.features, outputs.features, outputs.embedding]
    return features if outputs.pretrained is None else [*features, outputs.pretrained]


def pretrained_features(backbone: Backbone, x: Tensor) -> Tensor:
    """Means of the backbone's feature maps of enlarged images: `float[N, C, S, S]` to `float[N, L]`."""
    parts = [x] if torch.compiler.is_exporting() else torch.split(x, _BACKBONE_IMAGES)
    means = []
    for part in parts:
        size = [max(side, BACKBONE_SIZE) for side in part.shape[2:]]
        enlarged = functional.interpolate(part, size=size, mode="bilinear", align_corners=False)
        maps = backbone(enlarged, list(backbone.levels))
        means.append(torch.cat([level.mean(dim=(2, 3)) for level in maps], dim=1))
    return torch.cat(means)


def pooled(features: Tensor) -> Tensor:
    """Mean and maximum of each channel: `float[N, K, h, w]` to `float[N, 2K]`."""
    return torch.cat([features.mean(dim=(2, 3)), features.amax(dim=(2, 3))], dim=1)


def contrastive_loss(embedding: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of picking, for each view, the other view of its image among all views; a scalar.

    Source: Chen et al., *SimCLR*, 2020, eq. (1).

    Parameters
    ----------
    embedding : Tensor
        `float[2N, K]`; rows i and N + i are of one image.
    temperature : float
        τ.
    """
    n = len(embedding) // 2
    unit = functional.normalize(embedding, dim=1)
    similarity = (unit @ unit.t() / temperature).fill_diagonal_(-torch.inf)
    index = torch.arange(2 * n, device=embedding.device)
    return functional.cross_entropy(similarity, (index + n) % (2 * n))

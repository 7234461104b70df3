"""GANomaly for small images of many kinds: normal is what lies near normal images.

The heart is GANomaly's (Akcay, Atapour-Abarghouei, Breckon, ACCV 2018): encoder–decoder–encoder, adversarial
training, a score from disagreement between z and ẑ. Around it:

- the discriminator learns by itself what images show, beside telling real from rebuilt, as in Chen et al.,
  *Self-Supervised GANs via Auxiliary Rotation Loss*, CVPR 2019, but from pairs of views (Chen et al., *A Simple
  Framework for Contrastive Learning*, ICML 2020);
- beside z − ẑ, an image is judged by how far its features lie from those of the nearest normal images, and how dense
  those lie there (`neighbourhood`), since simple anomalies are rebuilt well.

What was tried, and what did not help, stands in `docs/experiments.md`.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import ClassVar

import torch
from pydantic import Field
from torch import Generator, Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from ganomaly.config import MethodOptions, Preprocessing, TrainingOptions
from ganomaly.methods.base import BatchPrediction, Method, Precision, Preset, Step
from ganomaly.methods.collapse import same_latent
from ganomaly.methods.losses import adversarial_loss, difference_map, mean_square_error
from ganomaly.methods.neighbourhood import Neighbourhood
from ganomaly.methods.options import ScheduledOptions
from ganomaly.methods.randomness import Randomness
from ganomaly.methods.updates import frozen, set_learning_rate, update
from ganomaly.methods.views import mirrored_is_alike, random_views
from ganomaly.networks import Decoder, Discriminator, Encoder, initialise_weights

BANK = 10_000  # images whose features are kept
DIMENSIONS = 128  # principal directions of features that are kept
WEIGHTS = (1.0, 1.0, 1.0, 0.25)  # of the signals: features, whitened, embedding whitened, ‖z − ẑ‖
NEAREST = 1e-4  # distances below count as this: an image that was trained on may come again
SMALLEST_SPREAD = 1e-2
USUAL_SIZE = 32  # px; networks for larger images begin with fewer channels


class ContrastiveGANomalyOptions(ScheduledOptions):
    """Options of GANomaly for small images."""

    nz: int = Field(default=64, ge=1)
    """Size of the latent."""
    ngf: int = Field(default=32, ge=1)
    """Feature channels of the first layer of encoders, the last of the decoder, at 32 px; at 64 px half as many."""
    ndf: int = Field(default=64, ge=1)
    """Feature channels of the discriminator's first layer, likewise."""
    embedding: int = Field(default=128, ge=1)
    """Numbers in which two views of an image shall agree."""
    learning_rate: float = Field(default=2e-3, gt=0)
    """AdamW's highest."""
    beta2: float = Field(default=0.95, ge=0, lt=1)
    """AdamW's second decay rate."""
    weight_decay: float = Field(default=1e-2, ge=0)
    """AdamW's weight decay."""
    contextual_weight: float = Field(default=50.0, ge=0)
    """Of the reconstruction in the generator's loss."""
    adversarial_weight: float = Field(default=1.0, ge=0)
    """Of the feature matching in the generator's loss."""
    encoder_weight: float = Field(default=1.0, ge=0)
    """Of ‖z − ẑ‖² in the generator's loss."""
    telling_weight: float = Field(default=0.1, ge=0)
    """Of telling real from rebuilt against pairing views, in the discriminator's loss."""
    rebuilt_share: float = Field(default=0.25, gt=0, le=1)
    """Share of a batch that the generator learns from."""
    temperature: float = Field(default=0.5, gt=0)
    """τ of the contrastive loss."""
    smallest_crop: float = Field(default=0.3, gt=0, le=1)
    """Share of the area that a view shows at least."""


class ContrastiveGANomaly(Method):
    """Encoder–decoder–encoder, a discriminator that pairs views, and the density of their features."""

    name: ClassVar[str] = "contrastive-ganomaly"
    options_type: ClassVar[type[MethodOptions]] = ContrastiveGANomalyOptions
    presets: ClassVar[Mapping[str, Preset]] = {
        "small": Preset(
            "GANomaly with a discriminator that learns what images show, for whole small images of many kinds",
            ContrastiveGANomalyOptions(),
            TrainingOptions(steps=1500, batch_size=64),
            colour_steps=4500,  # photographs show far more than digits, and are learned far slower
        )
    }
    statistics_images: ClassVar[int] = 12_000

    options: ContrastiveGANomalyOptions
    channel_mean: Tensor
    channel_spread: Tensor
    mirror: Tensor
    usual: Tensor
    spread: Tensor

    def __init__(
        self, options: ContrastiveGANomalyOptions, preprocessing: Preprocessing, generator: Generator
    ) -> None:
        super().__init__(options, preprocessing, generator)
        size, channels = preprocessing.image_size, preprocessing.channels
        ngf, ndf = (max(1, width * USUAL_SIZE // size) for width in (options.ngf, options.ndf))
        self.encoder = Encoder(size, channels, options.nz, ngf)  # G_E
        self.decoder = Decoder(size, channels, options.nz, ngf)  # G_D
        self.reconstruction_encoder = Encoder(size, channels, options.nz, ngf)  # E
        self.discriminator = Discriminator(size, channels, ndf)  # D
        initialise_weights(self, generator)
        widest = ndf * size // 8
        self.projection = nn.Sequential(
            nn.Linear(2 * widest, 2 * options.embedding, bias=False),
            nn.BatchNorm1d(2 * options.embedding),
            nn.ReLU(inplace=True),
            nn.Linear(2 * options.embedding, options.embedding, bias=False),
        )
        for layer in self.projection:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, generator=generator)
        self.randomness = Randomness(generator)
        self.register_buffer("channel_mean", torch.zeros(channels))
        self.register_buffer("channel_spread", torch.ones(channels))
        self.register_buffer("mirror", torch.tensor(False))
        self.neighbourhoods = nn.ModuleList(
            Neighbourhood(of, DIMENSIONS, whiten)
            for of, whiten in ((2 * widest, False), (2 * widest, True), (options.embedding, True))
        )
        self.register_buffer("usual", torch.zeros(len(WEIGHTS)))
        self.register_buffer("spread", torch.ones(len(WEIGHTS)))

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
        """Take mean and spread of each channel, and find out whether mirrored images are of the kind."""
        self.channel_mean.copy_(x.mean(dim=(0, 2, 3)))
        self.channel_spread.copy_(x.std(dim=(0, 2, 3)).clamp_min(2 / 255))
        self.mirror.fill_(mirrored_is_alike(x))

    def training_step(
        self, x: Tensor, optimizers: Mapping[str, Optimizer], precision: Precision, step: Step
    ) -> dict[str, Tensor]:
        """D pairs the views of images and tells them from rebuilt ones; G rebuilds some of the views."""
        options = self.options
        set_learning_rate(optimizers, options.rate_at(step))
        twice = torch.cat([x, x])
        views = random_views(twice, options.smallest_crop, bool(self.mirror), self.randomness)
        some = max(1, int(options.rebuilt_share * len(x)))
        with precision.autocast():
            z = self.encoder(views[:some])  # [n, nz, 1, 1]
            x_hat = self.decoder(z)
            z_hat = self.reconstruction_encoder(x_hat)
            real_logits, real_features = self._judge(views)
            fake_logits, _ = self._judge(x_hat.detach())
            with frozen(self.discriminator):
                _, fake_features = self._judge(x_hat)
            embedding = self.projection(pooled(real_features))
        adversarial = mean_square_error(fake_features, real_features[:some].detach())
        contextual = functional.l1_loss(x_hat.float(), views[:some].clamp(-1, 1))
        encoder = mean_square_error(z_hat, z)
        generator = (
            options.adversarial_weight * adversarial
            + options.contextual_weight * contextual
            + options.encoder_weight * encoder
        )
        pairing = contrastive_loss(embedding.float(), options.temperature)
        telling = adversarial_loss(real_logits, fake_logits)
        discriminator = pairing + options.telling_weight * telling
        update({"generator": generator, "discriminator": discriminator}, optimizers, precision)
        losses = {
            "generator": generator,
            "adversarial": adversarial,
            "contextual": contextual,
            "encoder": encoder,
            "pairing": pairing,
            "discriminator": telling,
        }
        return {name: loss.detach() for name, loss in losses.items()}

    def fit_statistics(self, batches: Iterable[Tensor]) -> None:
        """Fill the neighbourhoods; from images that are not among them, learn what the signals usually are."""
        parts = [self._features(x)[:3] for x in batches]
        features = [torch.cat(each) for each in zip(*parts, strict=True)]
        n = len(features[0])
        apart = min(max(n // 6, n - BANK), n - 1)  # so many are not kept
        for neighbourhood, each in zip(self.neighbourhoods, self._compared(features), strict=True):
            assert isinstance(neighbourhood, Neighbourhood)
            neighbourhood.learn(each[apart:])
        signals = self._signals([each[:apart] if apart else each for each in features])
        self.usual.copy_(signals.mean(dim=0))
        self.spread.copy_(signals.std(dim=0, correction=0).clamp_min(SMALLEST_SPREAD))

    def predict(self, x: Tensor) -> BatchPrediction:
        """A(x): the weighted mean over the signals of log(signal), in standard deviations above normal images.

        Signals are the distances to the nearest normal images, for the density there, and ‖z − ẑ‖. Softplus keeps
        the score ≥ 0. The map is |x − x̂|; the score does not come from it.
        """
        *features, x_hat = self._features(x)
        above = (self._signals(features) - self.usual) / self.spread
        weights = above.new_tensor(WEIGHTS)
        score = functional.softplus(above @ weights / weights.sum())
        return BatchPrediction(score, difference_map(x, x_hat), x_hat)

    def discriminator_features(self, x: Tensor) -> Tensor:
        """f(x), D's last features."""
        features: Tensor = self._judge(x)[1]
        return features

    def collapse(self, x: Tensor, step: Step) -> str | None:
        """Say so when all images have the same latent."""
        return same_latent(self.encoder(x))

    def _judge(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """D's logits and last features; it sees channels at mean 0 and spread 1."""
        logits, features = self.discriminator(self._normalised(x))
        return logits, features

    def _normalised(self, x: Tensor) -> Tensor:
        return (x - self.channel_mean[:, None, None]) / self.channel_spread[:, None, None]

    def _features(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """D's pooled features, `float[N, K]`, their embedding, `float[N, E]`, ‖z − ẑ‖, `float[N]`, and x̂.

        Features are those of the image and of its mirror image together, where mirrored images are of the kind.
        """
        if (
            torch.compiler.is_exporting()
        ):  # a graph has no choice; the mean of an image with itself is the image
            both = [x, torch.where(self.mirror, x.flip(3), x)]
        else:
            both = [x, x.flip(3)] if self.mirror else [x]
        shown = torch.stack([pooled(self._judge(each)[1]) for each in both])
        embedding = torch.stack([self.projection(each) for each in shown])
        z = self.encoder(x)
        x_hat = self.decoder(z)
        difference = torch.flatten(z - self.reconstruction_encoder(x_hat), start_dim=1)
        return shown.mean(dim=0), embedding.mean(dim=0), difference.norm(dim=1), x_hat

    def _signals(self, features: Sequence[Tensor]) -> Tensor:
        """Logarithms of the signals, `float[N, 4]`."""
        distances = [
            neighbourhood(each)
            for neighbourhood, each in zip(self.neighbourhoods, self._compared(features), strict=True)
        ]
        return torch.stack([*distances, features[2]], dim=1).clamp_min(NEAREST).log()

    @staticmethod
    def _compared(features: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """What each neighbourhood compares."""
        shown, embedding, _ = features
        return shown, shown, embedding


def pooled(features: Tensor) -> Tensor:
    """Mean and maximum of each channel: `float[N, K, h, w]` to `float[N, 2K]`."""
    return torch.cat([features.mean(dim=(2, 3)), features.amax(dim=(2, 3))], dim=1)


def contrastive_loss(embedding: Tensor, temperature: float) -> Tensor:
    """How badly each view's embedding finds that of the other view of its image among all; a scalar.

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
    likeness = (unit @ unit.t() / temperature).fill_diagonal_(-torch.inf)
    index = torch.arange(2 * n, device=embedding.device)
    return functional.cross_entropy(likeness, (index + n) % (2 * n))

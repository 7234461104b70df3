"""EGBAD: Efficient GAN-Based Anomaly Detection.

Zenati, Foo, Lecouat, Manek, Chandrasekhar, 2018, arXiv:1802.06222; the networks are trained as a BiGAN (Donahue et
al., *Adversarial Feature Learning*, ICLR 2017). An encoder, trained together with the generator, replaces AnoGAN's
search. The discriminator classifies pairs: an image and its latent, or noise and the image generated from it.

Where this differs from the authors' code for MNIST: all methods here share one backbone, learning rate and
β₁ (theirs: 1e-5, latent of 200), the discriminator has no dropout, and scores are computed with the weights
themselves, not with their moving average.
"""

from collections.abc import Mapping
from itertools import chain
from typing import ClassVar, Literal

from pydantic import Field
from torch import Generator, Tensor
from torch.nn import functional
from torch.optim import Optimizer

from ganomaly.config import MethodOptions, Preprocessing, TrainingOptions
from ganomaly.methods.base import BatchPrediction, Method, Precision, Preset, Step
from ganomaly.methods.collapse import latent_collapse
from ganomaly.methods.losses import adversarial_loss, difference_map, l1_distance
from ganomaly.methods.options import AdversarialOptions
from ganomaly.methods.randomness import Randomness
from ganomaly.methods.search_space import DCGAN, Choice, Range, Searched
from ganomaly.methods.updates import update
from ganomaly.networks import Decoder, Encoder, JointDiscriminator, initialise_weights


class EGBADOptions(AdversarialOptions):
    """Options of EGBAD; the defaults are the publication's, apart from those of the shared networks."""

    discriminator_weight: float = Field(default=0.1, ge=0, le=1)
    """λ, the share of the discriminator in the score; 1 − α in the paper."""
    discriminator_score: Literal["cross_entropy", "feature_matching"] = "feature_matching"
    """L_D(x): −log D(x, E(x)), or the distance between D's features of x and of x̂."""


class EGBAD(Method):
    """Encoder, generator and a discriminator of pairs; the score is reconstruction plus discriminator."""

    name: ClassVar[str] = "egbad"
    options_type: ClassVar[type[MethodOptions]] = EGBADOptions
    presets: ClassVar[Mapping[str, Preset]] = {
        "egbad": Preset(
            "EGBAD as published in 2018: a BiGAN, scored by reconstruction and feature matching",
            EGBADOptions(),
            TrainingOptions(),
        )
    }
    search_space: ClassVar[Mapping[str, Searched]] = {
        **DCGAN,
        "discriminator_weight": Range(0, 1, log=False),
        "discriminator_score": Choice(("cross_entropy", "feature_matching")),
    }

    options: EGBADOptions

    def __init__(self, options: EGBADOptions, preprocessing: Preprocessing, generator: Generator) -> None:
        super().__init__(options, preprocessing, generator)
        size, channels = preprocessing.image_size, preprocessing.channels
        self.encoder = Encoder(size, channels, options.nz, options.ngf)  # E
        self.decoder = Decoder(size, channels, options.nz, options.ngf)  # G
        self.discriminator = JointDiscriminator(size, channels, options.nz, options.ndf)  # D
        initialise_weights(self, generator)
        self.randomness = Randomness(generator)

    def optimizers(self) -> dict[str, Optimizer]:
        """One Adam for E and G, one for D."""
        return {
            "generator": self.options.adam(chain(self.encoder.parameters(), self.decoder.parameters())),
            "discriminator": self.options.adam(self.discriminator.parameters()),
        }

    def training_step(
        self, x: Tensor, optimizers: Mapping[str, Optimizer], precision: Precision, step: Step
    ) -> dict[str, Tensor]:
        """Update D to classify (x, E(x)) against (G(z), z), and E and G to the opposite labels."""
        z = self.randomness.normal((len(x), self.options.nz, 1, 1), x.device)
        with precision.autocast():
            encoded_logits, generated_logits = precision.by_rows(self._logits, x, z)
        losses = {
            "discriminator": adversarial_loss(real_logits=encoded_logits, fake_logits=generated_logits),
            "generator": adversarial_loss(real_logits=generated_logits, fake_logits=encoded_logits),
        }
        update(losses, optimizers, precision)
        return {name: loss.detach() for name, loss in losses.items()}

    def _logits(self, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """D's logits of (x, E(x)) and of (G(z), z), `float[N]` each."""
        encoded_logits, _ = self.discriminator(x, self.encoder(x))
        generated_logits, _ = self.discriminator(self.decoder(z), z)
        return encoded_logits, generated_logits

    def predict(self, x: Tensor) -> BatchPrediction:
        """A(x) = (1 − λ) · ‖x − G(E(x))‖₁ + λ · L_D(x); the map is |x − x̂|."""
        z = self.encoder(x)
        x_hat = self.decoder(z)
        logits, features = self.discriminator(x, z)
        match self.options.discriminator_score:
            case "cross_entropy":
                # as the paper has it; the authors' code takes the logits of (x̂, E(x)) instead
                discriminator = functional.softplus(-logits)  # −log D(x, E(x))
            case "feature_matching":
                _, features_hat = self.discriminator(x_hat, z)
                discriminator = l1_distance(features, features_hat)
        weight = self.options.discriminator_weight
        score = (1 - weight) * l1_distance(x, x_hat) + weight * discriminator
        return BatchPrediction(score, difference_map(x, x_hat), x_hat)

    def discriminator_features(self, x: Tensor) -> Tensor:
        """f(x), D's last features of the pair (x, E(x))."""
        features: Tensor = self.discriminator(x, self.encoder(x))[1]
        return features

    def collapse(self, x: Tensor, step: Step) -> str | None:
        """Report that all images have the same latent."""
        return latent_collapse(self.encoder(x))

"""GANomaly: Semi-Supervised Anomaly Detection via Adversarial Training.

Akcay, Atapour-Abarghouei, Breckon, ACCV 2018, arXiv:1805.06725. Losses and weights have the names that the
paper gives them. A comment says where the paper and the authors' released code differ.
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
from ganomaly.methods.collapse import latent_collapse, reset_collapsed_discriminator
from ganomaly.methods.losses import (
    adversarial_loss,
    difference_map,
    l1_distance,
    mean_absolute_difference,
    mean_square_difference,
    mean_square_error,
)
from ganomaly.methods.options import AdversarialOptions, Weight
from ganomaly.methods.search_space import DCGAN, Choice, Range, Searched
from ganomaly.methods.updates import update
from ganomaly.networks import Decoder, Discriminator, Encoder, initialise_weights


class GANomalyOptions(AdversarialOptions):
    """Options of GANomaly; the defaults are the publication's."""

    extra_layers: int = Field(default=0, ge=0, le=64)
    """3×3 layers at the widest level of each network."""
    adversarial_weight: Weight = 1.0
    """w_adv, the weight of L_adv."""
    contextual_weight: Weight = 50.0
    """w_con, the weight of L_con."""
    encoder_weight: Weight = 1.0
    """w_enc, the weight of L_enc."""
    score: Literal["mean_square", "l1", "reconstruction", "discriminator_features"] = "mean_square"
    """‖z − ẑ‖ as the mean of squares (authors' code) or the sum of absolute values (the paper); or, for comparison,
    the mean of |x − x̂|, or the mean of squares of f(x) − f(x̂)."""


class GANomaly(Method):
    """Encoder–decoder–encoder generator and discriminator; the score is the distance between z and ẑ."""

    name: ClassVar[str] = "ganomaly"
    options_type: ClassVar[type[MethodOptions]] = GANomalyOptions
    presets: ClassVar[Mapping[str, Preset]] = {
        "paper": Preset(
            "GANomaly as published in 2018: the whole image encoded as one latent of 100 numbers",
            GANomalyOptions(),
            TrainingOptions(),
        )
    }
    search_space: ClassVar[Mapping[str, Searched]] = {
        **DCGAN,
        "adversarial_weight": Range(0.1, 10),
        "contextual_weight": Range(5, 200),
        "encoder_weight": Range(0.1, 10),
        "score": Choice(("mean_square", "l1", "reconstruction", "discriminator_features")),
    }

    options: GANomalyOptions

    def __init__(self, options: GANomalyOptions, preprocessing: Preprocessing, generator: Generator) -> None:
        super().__init__(options, preprocessing, generator)
        size, channels, extra = preprocessing.image_size, preprocessing.channels, options.extra_layers
        self.encoder = Encoder(size, channels, options.nz, options.ngf, extra)  # G_E
        self.decoder = Decoder(size, channels, options.nz, options.ngf, extra)  # G_D
        self.reconstruction_encoder = Encoder(size, channels, options.nz, options.ngf, extra)  # E
        self.discriminator = Discriminator(size, channels, options.ndf, extra)  # D
        initialise_weights(self, generator)

    def optimizers(self) -> dict[str, Optimizer]:
        """One Adam for the generator (G_E, G_D, E), one for the discriminator."""
        generator = chain(
            self.encoder.parameters(), self.decoder.parameters(), self.reconstruction_encoder.parameters()
        )
        return {
            "generator": self.options.adam(generator),
            "discriminator": self.options.adam(self.discriminator.parameters()),
        }

    def training_step(
        self, x: Tensor, optimizers: Mapping[str, Optimizer], precision: Precision, step: Step
    ) -> dict[str, Tensor]:
        """Update generator and discriminator; both gradients are taken before either update."""
        options = self.options
        with precision.autocast():
            z, x_hat, z_hat, real_logits, real_features, fake_logits, fake_features = precision.by_rows(
                self._outputs, x
            )
        adversarial = mean_square_error(fake_features, real_features.detach())  # L_adv
        contextual = functional.l1_loss(x_hat.float(), x)  # L_con
        encoder = mean_square_error(z_hat, z)  # L_enc
        generator = (
            options.adversarial_weight * adversarial
            + options.contextual_weight * contextual
            + options.encoder_weight * encoder
        )  # L
        discriminator = adversarial_loss(real_logits, fake_logits)
        update({"generator": generator, "discriminator": discriminator}, optimizers, precision)
        losses = {
            "generator": generator,
            "adversarial": adversarial,
            "contextual": contextual,
            "encoder": encoder,
            "discriminator": discriminator,
        }
        return {name: loss.detach() for name, loss in losses.items()}

    def _outputs(self, x: Tensor) -> tuple[Tensor, ...]:
        """z, x̂, ẑ; logits and features of x and of x̂."""
        z = self.encoder(x)  # [N, nz, 1, 1]
        x_hat = self.decoder(z)  # [N, C, S, S]
        z_hat = self.reconstruction_encoder(x_hat)  # [N, nz, 1, 1]
        # One pass of D for both losses; f(x) is constant in the generator's loss. So D's running statistics
        # see x̂ once a step, and twice in the authors' code; no gradient depends on them.
        return z, x_hat, z_hat, *self.discriminator(x), *self.discriminator(x_hat)

    def predict(self, x: Tensor) -> BatchPrediction:
        """A(x) = ‖G_E(x) − E(G(x))‖, or one of the distances that `score` names; the map is |x − x̂|.

        The published network has one latent for the whole image and so no score for each position.
        """
        z = self.encoder(x)
        x_hat = self.decoder(z)
        match self.options.score:
            case "mean_square":
                score = mean_square_difference(z, self.reconstruction_encoder(x_hat))
            case "l1":
                score = l1_distance(z, self.reconstruction_encoder(x_hat))
            case "reconstruction":
                score = mean_absolute_difference(x, x_hat)
            case "discriminator_features":
                score = mean_square_difference(self.discriminator(x)[1], self.discriminator(x_hat)[1])
        return BatchPrediction(score, difference_map(x, x_hat), x_hat)

    def discriminator_features(self, x: Tensor) -> Tensor:
        """f(x), D's last features."""
        features: Tensor = self.discriminator(x)[1]
        return features

    def recover(self, losses: Mapping[str, float], generator: Generator) -> str | None:
        """Initialise D again when its loss is 0, as the authors' code does."""
        return reset_collapsed_discriminator(self.discriminator, losses["discriminator"], generator)

    def collapse(self, x: Tensor, step: Step) -> str | None:
        """Report that all images have the same latent."""
        return latent_collapse(self.encoder(x))

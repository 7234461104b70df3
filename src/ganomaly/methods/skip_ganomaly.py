"""Skip-GANomaly: Skip Connected and Adversarially Trained Encoder-Decoder Anomaly Detection.

Akcay, Atapour-Abarghouei, Breckon, IJCNN 2019, arXiv:1901.08954. The generator is a U-Net, whose skip connections
let it reconstruct images in detail, and the discriminator gives the latents for which GANomaly has a second encoder.
A comment says where the paper and the authors' released code differ.
"""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field
from torch import Generator, Tensor
from torch.nn import functional
from torch.optim import Optimizer

from ganomaly.config import MethodOptions, Preprocessing, TrainingOptions
from ganomaly.methods.base import BatchPrediction, Method, Precision, Preset, Step
from ganomaly.methods.collapse import reset_collapsed_discriminator
from ganomaly.methods.losses import (
    adversarial_loss,
    difference_map,
    mean_square_difference,
    mean_square_error,
    non_saturating_loss,
)
from ganomaly.methods.options import AdversarialOptions, Weight
from ganomaly.methods.search_space import DCGAN, Range, Searched
from ganomaly.methods.updates import update
from ganomaly.networks import LatentDiscriminator, UNet, initialise_weights


class SkipGANomalyOptions(AdversarialOptions):
    """Options of Skip-GANomaly; the defaults are those of the authors' released code."""

    adversarial_weight: Weight = 1.0
    """λ_adv."""
    contextual_weight: Weight = 50.0
    """λ_con; the paper has another value."""
    latent_weight: Weight = 1.0
    """λ_lat."""
    reconstruction_share: float = Field(default=0.9, ge=0, le=1)
    """λ, the weight of the reconstruction in the score; the latent's is 1 − λ."""


class SkipGANomaly(Method):
    """U-Net and discriminator; the score is the distance of x and x̂ in pixels and in D's latents."""

    name: ClassVar[str] = "skip-ganomaly"
    options_type: ClassVar[type[MethodOptions]] = SkipGANomalyOptions
    presets: ClassVar[Mapping[str, Preset]] = {
        "skip-ganomaly": Preset(
            "Skip-GANomaly as published in 2019: reconstructs the image in detail, with skip connections",
            SkipGANomalyOptions(),
            TrainingOptions(),
        )
    }
    search_space: ClassVar[Mapping[str, Searched]] = {
        **DCGAN,
        "contextual_weight": Range(5, 200),
        "latent_weight": Range(0.1, 10),
        "reconstruction_share": Range(0.5, 1, log=False),
    }

    options: SkipGANomalyOptions

    def __init__(
        self, options: SkipGANomalyOptions, preprocessing: Preprocessing, generator: Generator
    ) -> None:
        super().__init__(options, preprocessing, generator)
        size, channels = preprocessing.image_size, preprocessing.channels
        self.generator = UNet(size, channels, options.ngf)  # G
        self.discriminator = LatentDiscriminator(size, channels, options.nz, options.ndf)  # D
        initialise_weights(self, generator)

    def optimizers(self) -> dict[str, Optimizer]:
        """One Adam for G, one for D."""
        return {
            "generator": self.options.adam(self.generator.parameters()),
            "discriminator": self.options.adam(self.discriminator.parameters()),
        }

    def training_step(
        self, x: Tensor, optimizers: Mapping[str, Optimizer], precision: Precision, step: Step
    ) -> dict[str, Tensor]:
        """Update G and D; both gradients are taken before either update."""
        options = self.options
        with precision.autocast():
            x_hat, real_logits, real_latent, fake_logits, fake_latent = precision.by_rows(self._outputs, x)
        adversarial = non_saturating_loss(fake_logits)
        contextual = functional.l1_loss(x_hat.float(), x)
        latent = mean_square_error(fake_latent, real_latent)
        generator = (
            options.adversarial_weight * adversarial
            + options.contextual_weight * contextual
            + options.latent_weight * latent
        )
        # in the authors' code D's loss has the latent loss too; the paper does not mention it
        discriminator = 2 * adversarial_loss(real_logits, fake_logits) + options.latent_weight * latent
        update({"generator": generator, "discriminator": discriminator}, optimizers, precision)
        losses = {
            "generator": generator,
            "adversarial": adversarial,
            "contextual": contextual,
            "latent": latent,
            "discriminator": discriminator,
        }
        return {name: loss.detach() for name, loss in losses.items()}

    def _outputs(self, x: Tensor) -> tuple[Tensor, ...]:
        """x̂; logits and latents of x and of x̂."""
        x_hat = self.generator(x)
        return x_hat, *self.discriminator(x), *self.discriminator(x_hat)

    def predict(self, x: Tensor) -> BatchPrediction:
        """A(x) = λ · R(x) + (1 − λ) · L(x), for R and L the mean of squares as in the authors' code.

        The map is |x − x̂|.
        """
        x_hat = self.generator(x)
        reconstruction = mean_square_difference(x, x_hat)
        latent = mean_square_difference(self.discriminator(x)[1], self.discriminator(x_hat)[1])
        share = self.options.reconstruction_share
        score = share * reconstruction + (1 - share) * latent
        return BatchPrediction(score, difference_map(x, x_hat), x_hat)

    def discriminator_features(self, x: Tensor) -> Tensor:
        """f(x), D's last features."""
        features: Tensor = self.discriminator(x)[1]
        return features

    def recover(self, losses: Mapping[str, float], generator: Generator) -> str | None:
        """Initialise D again when its loss is 0, as the authors' code does."""
        return reset_collapsed_discriminator(self.discriminator, losses["discriminator"], generator)

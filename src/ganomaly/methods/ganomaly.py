"""GANomaly: Semi-Supervised Anomaly Detection via Adversarial Training.

Akcay, Atapour-Abarghouei, Breckon, ACCV 2018, arXiv:1805.06725. Section and equation numbers below are those
of the paper. Where the paper and the authors' released code differ, the comment says so.
"""

from collections.abc import Mapping
from itertools import chain
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Generator, Tensor
from torch.nn import functional
from torch.optim import Adam, Optimizer

from ganomaly.config import MethodOptions, Preprocessing, TrainingOptions
from ganomaly.methods.base import Method, Precision, Preset
from ganomaly.networks import Decoder, Discriminator, Encoder, initialise_weights

COLLAPSED_DISCRIMINATOR_LOSS = 1e-5  # authors' code: below this D is drawn anew
CONSTANT_LATENT = 1e-4  # spread of z over images, relative to its size, below which all images look the same


class GANomalyOptions(MethodOptions):
    """Options of GANomaly; the defaults are the publication's."""

    nz: int = Field(default=100, ge=1)
    """Size of the latent (section 4)."""
    ngf: int = Field(default=64, ge=1)
    """Feature channels of the generator's first layer (DCGAN)."""
    ndf: int = Field(default=64, ge=1)
    """Feature channels of the discriminator's first layer (DCGAN)."""
    extra_layers: int = Field(default=0, ge=0)
    """3×3 layers at the widest level of each network."""
    adversarial_weight: float = Field(default=1.0, ge=0)
    """w_adv of eq. (4)."""
    contextual_weight: float = Field(default=50.0, ge=0)
    """w_con of eq. (4)."""
    encoder_weight: float = Field(default=1.0, ge=0)
    """w_enc of eq. (4)."""
    learning_rate: float = Field(default=2e-4, gt=0)
    """Adam's learning rate (section 4)."""
    beta1: float = Field(default=0.5, ge=0, lt=1)
    """Adam's first decay rate (section 4)."""
    beta2: float = Field(default=0.999, ge=0, lt=1)
    """Adam's second decay rate (section 4)."""
    score: Literal["mean_square", "l1"] = "mean_square"
    """‖z − ẑ‖ as the mean of squares (authors' code) or the sum of absolute values (eq. 6)."""


class GANomaly(Method):
    """Encoder–decoder–encoder generator and discriminator; the score is the distance between z and ẑ."""

    name: ClassVar[str] = "ganomaly"
    options_type: ClassVar[type[MethodOptions]] = GANomalyOptions
    presets: ClassVar[Mapping[str, Preset]] = {
        "paper": Preset(
            "GANomaly as published in 2018: the whole image squeezed into one latent of 100 numbers",
            GANomalyOptions(),
            TrainingOptions(),
        )
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
        rate, betas = self.options.learning_rate, (self.options.beta1, self.options.beta2)
        return {
            "generator": Adam(generator, lr=rate, betas=betas, fused=True),
            "discriminator": Adam(self.discriminator.parameters(), lr=rate, betas=betas, fused=True),
        }

    def training_step(
        self, x: Tensor, optimizers: Mapping[str, Optimizer], precision: Precision
    ) -> dict[str, Tensor]:
        """Update the generator, then the discriminator; both see D's weights from before the step."""
        options = self.options
        with precision.autocast():
            z = self.encoder(x)  # [N, nz, 1, 1]
            x_hat = self.decoder(z)  # [N, C, S, S]
            z_hat = self.reconstruction_encoder(x_hat)  # [N, nz, 1, 1]
            # f(x) serves the loss of D and, since G does not reach it, as a constant that of G
            real_logits, real_features = self.discriminator(x)
            fake_logits, _ = self.discriminator(x_hat.detach())
            _, fake_features = self.discriminator(x_hat)

        adversarial = functional.mse_loss(fake_features.float(), real_features.detach().float())  # eq. (1)
        contextual = functional.l1_loss(x_hat.float(), x)  # eq. (2)
        encoder = functional.mse_loss(z_hat.float(), z.float())  # eq. (3)
        generator = (
            options.adversarial_weight * adversarial
            + options.contextual_weight * contextual
            + options.encoder_weight * encoder
        )  # eq. (4)
        real, fake = torch.ones_like(real_logits), torch.zeros_like(fake_logits)
        discriminator = 0.5 * (
            functional.binary_cross_entropy_with_logits(real_logits.float(), real.float())
            + functional.binary_cross_entropy_with_logits(fake_logits.float(), fake.float())
        )

        for name, loss in (("generator", generator), ("discriminator", discriminator)):
            optimizer = optimizers[name]
            optimizer.zero_grad(set_to_none=True)
            # `inputs` spares the gradients of D's weights under the generator's loss
            precision.backward(loss, inputs=optimizer.param_groups[0]["params"])
            optimizer.step()
        losses = {
            "generator": generator,
            "adversarial": adversarial,
            "contextual": contextual,
            "encoder": encoder,
            "discriminator": discriminator,
        }
        return {name: loss.detach() for name, loss in losses.items()}

    def anomaly_score(self, x: Tensor) -> Tensor:
        """A(x) = ‖G_E(x) − E(G(x))‖, eq. (6)."""
        z = self.encoder(x)
        z_hat = self.reconstruction_encoder(self.decoder(z))
        difference = torch.flatten(z - z_hat, start_dim=1)  # [N, nz]
        if self.options.score == "l1":
            return difference.abs().sum(dim=1)
        return difference.square().mean(dim=1)

    def anomaly_map(self, x: Tensor) -> Tensor:
        """|x − x̂|, averaged over the channels: where the reconstruction differs.

        The published network has one latent for the whole image and so no score per place; this is what its
        authors show as the residual.
        """
        return (x - self.reconstruct(x)).abs().mean(dim=1)

    def reconstruct(self, x: Tensor) -> Tensor:
        """x̂ = G_D(G_E(x))."""
        x_hat: Tensor = self.decoder(self.encoder(x))
        return x_hat

    def keep_healthy(self, losses: Mapping[str, float], generator: Generator) -> str | None:
        """Draw D's weights anew when its loss is at 0, as the authors' code does."""
        if losses["discriminator"] >= COLLAPSED_DISCRIMINATOR_LOSS:
            return None
        initialise_weights(self.discriminator, generator)
        return "the discriminator's loss was at 0; its weights were drawn anew"

    def collapse(self, x: Tensor) -> str | None:
        """Say so when all images have the same latent."""
        z = torch.flatten(self.encoder(x), start_dim=1)  # [N, nz]
        spread = float(z.std(dim=0, correction=0).mean())
        size = float(z.abs().mean())
        if len(x) < 2 or spread > CONSTANT_LATENT * size:
            return None
        return (
            "all images have the same latent, so no score can tell them apart; "
            "check that the images differ from each other, or train with another seed"
        )

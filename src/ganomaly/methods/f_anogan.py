"""f-AnoGAN: Fast Unsupervised Anomaly Detection with Generative Adversarial Networks.

Schlegl, Seeböck, Waldstein, Langs, Schmidt-Erfurth, Medical Image Analysis 54, 2019. Training has two phases:
first a Wasserstein GAN with gradient penalty (Gulrajani et al., NeurIPS 2017, arXiv:1704.00028) learns to generate
normal images from noise; then, with its weights frozen, an encoder learns the latents of images ("izi_f": image to z
to image, with the critic's features in the loss). The encoder replaces AnoGAN's search.

Where this differs from the authors' code: generator, critic and encoder are the backbone that all methods here
share, not residual networks, and its latent has 100 numbers, not 128.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Generator, Tensor
from torch.optim import Optimizer, RMSprop

from ganomaly.config import MethodOptions, Preprocessing, TrainingOptions
from ganomaly.methods.base import BatchPrediction, Method, Precision, Preset, Step
from ganomaly.methods.collapse import latent_collapse
from ganomaly.methods.losses import difference_map, mean_square_difference, mean_square_error
from ganomaly.methods.options import AdversarialOptions, DecayRate, LearningRate, Weight
from ganomaly.methods.randomness import Randomness
from ganomaly.methods.search_space import DCGAN, Range, Searched
from ganomaly.methods.updates import frozen, update
from ganomaly.networks import Decoder, Discriminator, Encoder, initialise_weights, layer_norm


class FAnoGANOptions(AdversarialOptions):
    """Options of f-AnoGAN; the defaults are those of the authors' released code."""

    learning_rate: LearningRate = 1e-4
    """Adam's learning rate for generator and critic."""
    beta1: DecayRate = 0.0
    """Adam's first decay rate."""
    beta2: DecayRate = 0.9
    """Adam's second decay rate."""
    encoder_learning_rate: LearningRate = 5e-5
    """RMSprop's learning rate for the encoder."""
    critic_steps: int = Field(default=5, ge=1, le=1000)
    """Critic steps per generator step."""
    penalty_weight: Weight = 10.0
    """λ of WGAN-GP's eq. (3)."""
    feature_weight: Weight = 1.0
    """κ, the weight of the critic's features in the encoder's loss and in the score."""
    generation_share: float = Field(default=0.5, gt=0, lt=1)
    """The share of the training steps for generator and critic; the rest is the encoder's."""


class FAnoGAN(Method):
    """Generator, critic, encoder; the score is reconstruction plus the critic's features."""

    name: ClassVar[str] = "f-anogan"
    options_type: ClassVar[type[MethodOptions]] = FAnoGANOptions
    presets: ClassVar[Mapping[str, Preset]] = {
        "f-anogan": Preset(
            "f-AnoGAN as published in 2019: a Wasserstein GAN, then an encoder instead of AnoGAN's search",
            FAnoGANOptions(),
            TrainingOptions(epochs=30),
        )
    }
    search_space: ClassVar[Mapping[str, Searched]] = {
        **DCGAN,
        "encoder_learning_rate": Range(1e-5, 5e-4),
        "penalty_weight": Range(1, 30),
        "feature_weight": Range(0.1, 10),
    }

    options: FAnoGANOptions

    def __init__(self, options: FAnoGANOptions, preprocessing: Preprocessing, generator: Generator) -> None:
        super().__init__(options, preprocessing, generator)
        size, channels = preprocessing.image_size, preprocessing.channels
        self.generator = Decoder(size, channels, options.nz, options.ngf)  # G
        # the gradient penalty is per image; batch norm would couple the images of a batch
        self.critic = Discriminator(size, channels, options.ndf, normalise=layer_norm)  # D
        self.encoder = Encoder(size, channels, options.nz, options.ngf)  # E
        initialise_weights(self, generator)
        self.randomness = Randomness(generator)

    def optimizers(self) -> dict[str, Optimizer]:
        """One Adam for G, one for D, RMSprop for E (with TensorFlow's decay of 0.9)."""
        return {
            "generator": self.options.adam(self.generator.parameters()),
            "critic": self.options.adam(self.critic.parameters()),
            "encoder": RMSprop(self.encoder.parameters(), lr=self.options.encoder_learning_rate, alpha=0.9),
        }

    def training_step(
        self, x: Tensor, optimizers: Mapping[str, Optimizer], precision: Precision, step: Step
    ) -> dict[str, Tensor]:
        """Update the critic, and the generator every few steps; in the second phase the encoder."""
        if not self._in_first_phase(step):
            return self._encoder_step(x, optimizers, precision)
        self.generator.train()
        losses = self._critic_step(x, optimizers, precision)
        if (step.number + 1) % self.options.critic_steps == 0:
            losses |= self._generator_step(x, optimizers, precision)
        return losses

    def _in_first_phase(self, step: Step) -> bool:
        """Whether generator and critic are trained, and not yet the encoder."""
        return step.number < self.options.generation_share * step.total

    def _critic_step(
        self, x: Tensor, optimizers: Mapping[str, Optimizer], precision: Precision
    ) -> dict[str, Tensor]:
        def outputs(x: Tensor, z: Tensor, epsilon: Tensor) -> tuple[Tensor, ...]:
            with torch.no_grad(), precision.autocast():
                generated = self.generator(z)
            with precision.autocast():
                real, _ = self.critic(x)
                fake, _ = self.critic(generated)
            return real, fake, self._gradient_norms(x, generated.float(), epsilon)

        z = self._noise(x)
        epsilon = self.randomness.uniform((len(x), 1, 1, 1), x.device)
        real, fake, norms = precision.by_rows(outputs, x, z, epsilon)
        penalty = (norms - 1).square().mean()
        wasserstein = fake.float().mean() - real.float().mean()
        critic = wasserstein + self.options.penalty_weight * penalty  # WGAN-GP's eq. (3)
        update({"critic": critic}, optimizers, precision)
        return {"critic": critic.detach(), "gradient penalty": penalty.detach()}

    def _gradient_norms(self, x: Tensor, generated: Tensor, epsilon: Tensor) -> Tensor:
        """‖∇D‖₂ at points between real and generated images, `float[N]`; in fp32, since it is a gradient."""
        interpolated = torch.lerp(x, generated, epsilon).requires_grad_()
        (gradients,) = torch.autograd.grad(
            self.critic(interpolated)[0].sum(), interpolated, create_graph=True
        )
        norms: Tensor = torch.flatten(gradients, start_dim=1).norm(dim=1)
        return norms

    def _generator_step(
        self, x: Tensor, optimizers: Mapping[str, Optimizer], precision: Precision
    ) -> dict[str, Tensor]:
        with precision.autocast(), frozen(self.critic):
            (fake,) = precision.by_rows(lambda z: (self.critic(self.generator(z))[0],), self._noise(x))
        generator = -fake.float().mean()
        update({"generator": generator}, optimizers, precision)
        return {"generator": generator.detach()}

    def _encoder_step(
        self, x: Tensor, optimizers: Mapping[str, Optimizer], precision: Precision
    ) -> dict[str, Tensor]:
        self.generator.eval()  # its batch-norm statistics are frozen too
        with precision.autocast(), frozen(self.generator, self.critic):
            x_hat, features, features_hat = precision.by_rows(self._reconstruction, x)
        reconstruction = mean_square_error(x_hat, x)
        matching = mean_square_error(features_hat, features)
        encoder = reconstruction + self.options.feature_weight * matching  # izi_f
        update({"encoder": encoder}, optimizers, precision)
        losses = {"encoder": encoder, "reconstruction": reconstruction, "features": matching}
        return {name: loss.detach() for name, loss in losses.items()}

    def _reconstruction(self, x: Tensor) -> tuple[Tensor, ...]:
        """G(E(x)); the critic's features of x and of that."""
        x_hat = self.generator(self._latent(x))
        return x_hat, self.critic(x)[1], self.critic(x_hat)[1]

    def _noise(self, x: Tensor) -> Tensor:
        """z ~ N(0, 1), `float[N, nz, 1, 1]`, for a batch of the size of x."""
        return self.randomness.normal((len(x), self.options.nz, 1, 1), x.device)

    def _latent(self, x: Tensor) -> Tensor:
        """E(x) in (−1, 1), `float[N, nz, 1, 1]`; tanh bounds it to where most latents of G's training are."""
        return torch.tanh(self.encoder(x))

    def predict(self, x: Tensor) -> BatchPrediction:
        """A(x) = A_R(x) + κ · A_D(x): the means of squares of x − G(E(x)) and of f(x) − f(G(E(x))).

        The map is |x − G(E(x))|.
        """
        x_hat = self.generator(self._latent(x))
        matching = mean_square_difference(self.critic(x)[1], self.critic(x_hat)[1])
        score = mean_square_difference(x, x_hat) + self.options.feature_weight * matching
        return BatchPrediction(score, difference_map(x, x_hat), x_hat)

    def discriminator_features(self, x: Tensor) -> Tensor:
        """f(x), the critic's last features."""
        features: Tensor = self.critic(x)[1]
        return features

    def collapse(self, x: Tensor, step: Step) -> str | None:
        """Report that all images have the same latent, once the encoder is trained."""
        return None if self._in_first_phase(step) else latent_collapse(self._latent(x))

"""VAE: a variational autoencoder, scored by reconstruction probability.

Kingma, Welling, *Auto-Encoding Variational Bayes*, ICLR 2014, arXiv:1312.6114, for the training; An, Cho,
*Variational Autoencoder based Anomaly Detection using Reconstruction Probability*, SNU Data Mining Center, 2015,
for the score. The networks are GANomaly's encoder and decoder with twice the output channels: a mean and a
standard deviation.
"""

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Generator, Tensor
from torch.optim import Optimizer

from ganomaly.config import MethodOptions, Preprocessing, TrainingOptions
from ganomaly.methods.base import BatchPrediction, Method, Precision, Preset, Step
from ganomaly.methods.collapse import latent_collapse
from ganomaly.methods.options import DCGANOptions
from ganomaly.methods.randomness import Randomness
from ganomaly.methods.search_space import DCGAN, Range, Searched
from ganomaly.methods.updates import update
from ganomaly.networks import Decoder, Encoder, initialise_weights


class VAEOptions(DCGANOptions):
    """Options of the VAE."""

    samples: int = Field(default=10, ge=1, le=1000)
    """L, latents sampled for the score of an image."""
    smallest_deviation: float = Field(default=0.1, gt=0, lt=1)
    """Lower bound of the decoder's standard deviations; the upper one is 1, and the image is in [−1, 1]. Without it,
    the likelihood of pixels that are the same in all training images has no bound."""


class VAE(Method):
    """Encoder to a normal distribution of latents, decoder to one of images; the score is −log p(x | z)."""

    name: ClassVar[str] = "vae"
    options_type: ClassVar[type[MethodOptions]] = VAEOptions
    presets: ClassVar[Mapping[str, Preset]] = {
        "vae": Preset(
            "a variational autoencoder, scored by reconstruction probability (2015)",
            VAEOptions(),
            TrainingOptions(),
        )
    }
    search_space: ClassVar[Mapping[str, Searched]] = {**DCGAN, "smallest_deviation": Range(0.02, 0.5)}

    options: VAEOptions
    noise: Tensor

    def __init__(self, options: VAEOptions, preprocessing: Preprocessing, generator: Generator) -> None:
        super().__init__(options, preprocessing, generator)
        size, channels = preprocessing.image_size, preprocessing.channels
        self.encoder = Encoder(size, channels, 2 * options.nz, options.ngf)
        self.decoder = Decoder(size, 2 * channels, options.nz, options.ngf)
        initialise_weights(self, generator)
        self.randomness = Randomness(generator)
        # ε of the score: the same for all images, so that a score depends on its image alone
        noise_shape = (options.samples, options.nz, 1, 1)
        self.register_buffer("noise", torch.randn(noise_shape, generator=generator, device="cpu"))

    def optimizers(self) -> dict[str, Optimizer]:
        """One Adam for all weights."""
        return {"autoencoder": self.options.adam(self.parameters())}

    def training_step(
        self, x: Tensor, optimizers: Mapping[str, Optimizer], precision: Precision, step: Step
    ) -> dict[str, Tensor]:
        """Maximise the evidence lower bound, Kingma and Welling's eq. (10), with one sample."""
        noise = self.randomness.normal((len(x), self.options.nz, 1, 1), x.device)
        with precision.autocast():
            mean, deviation, x_hat, deviation_hat = precision.by_rows(self._sampled, x, noise)
        reconstruction = self._negative_log_likelihood(x, x_hat, deviation_hat).sum(dim=(1, 2, 3)).mean()
        # appendix B: the KL divergence of N(mean, deviation²) from N(0, 1)
        divergence = 0.5 * (mean.square() + deviation.square() - 2 * deviation.log() - 1)
        latent = divergence.sum(dim=(1, 2, 3)).mean()
        update({"autoencoder": reconstruction + latent}, optimizers, precision)
        return {"reconstruction": reconstruction.detach(), "latent": latent.detach()}

    def predict(self, x: Tensor) -> BatchPrediction:
        """A(x) = −(1/L) Σ log p(x | zₗ), An and Cho's reconstruction probability, averaged over the pixels.

        Its minimum, which the bound of the deviation sets, is subtracted, so it is ≥ 0. The map is each pixel's
        contribution, averaged over the channels; x̂ is the decoder's mean at the encoder's mean.
        """
        mean, deviation = self._encode(x)
        total = torch.zeros_like(x)
        for noise in self.noise:
            total += self._negative_log_likelihood(x, *self._decode(mean + deviation * noise))
        likelihood = total / len(self.noise)  # [N, C, S, S]
        x_hat, _ = self._decode(mean)
        return BatchPrediction(
            torch.flatten(likelihood, start_dim=1).mean(dim=1), likelihood.mean(dim=1), x_hat
        )

    def collapse(self, x: Tensor, step: Step) -> str | None:
        """Report that all images have the same latent."""
        return latent_collapse(self._encode(x)[0])

    def _sampled(self, x: Tensor, noise: Tensor) -> tuple[Tensor, ...]:
        """Mean and deviation of q(z | x), then of p(x | z) for one z of it."""
        mean, deviation = self._encode(x)
        return mean, deviation, *self._decode(mean + deviation * noise)

    def _encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of q(z | x), `float[N, nz, 1, 1]` each."""
        mean, log_variance = self.encoder(x).float().chunk(2, dim=1)
        return mean, torch.exp(0.5 * log_variance)

    def _decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of p(x | z), `float[N, C, S, S]` each."""
        x_hat, deviation = self.decoder(z).float().chunk(2, dim=1)
        # the decoder ends in tanh: −1 … 1 is mapped to the smallest deviation … 1, on a logarithmic scale
        return x_hat, torch.exp(math.log(self.options.smallest_deviation) * (1 - deviation) / 2)

    def _negative_log_likelihood(self, x: Tensor, x_hat: Tensor, deviation: Tensor) -> Tensor:
        """−log N(x; x̂, deviation²) less its minimum, `float[N, C, S, S]`, ≥ 0."""
        minimum = math.log(self.options.smallest_deviation)
        return 0.5 * ((x - x_hat) / deviation).square() + deviation.log() - minimum

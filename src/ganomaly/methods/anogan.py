"""AnoGAN: Unsupervised Anomaly Detection with Generative Adversarial Networks to Guide Marker Discovery.

Schlegl, Seeböck, Waldstein, Schmidt-Erfurth, Langs, IPMI 2017, arXiv:1703.05921. Equation numbers and section
titles below are those of the paper, whose authors released no code. A DCGAN learns to generate normal images from
noise. To score an image, gradient descent searches the latent whose generated image is nearest to it; what still
differs is the anomaly.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from copy import deepcopy
from typing import ClassVar

import torch
from pydantic import Field
from torch import Generator, Tensor, nn
from torch.backends import cudnn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LinearLR

from ganomaly.config import MethodOptions, Preprocessing, TrainingOptions
from ganomaly.methods.base import BatchPrediction, Method, Precision, Preset, Step
from ganomaly.methods.losses import adversarial_loss, difference_map, l1_distance, non_saturating_loss
from ganomaly.methods.options import AdversarialOptions, LearningRate
from ganomaly.methods.randomness import Randomness
from ganomaly.methods.search_space import DCGAN, Range, Searched
from ganomaly.methods.updates import update
from ganomaly.networks import Decoder, Discriminator, initialise_weights

# Hundreds of steps of gradient descent amplify a rounding error in the last bit to the third digit of the score, and
# kernels round differently for each batch size. So all batches of the search have one size, padded with copies: the
# score of an image is then the same to the last bit in any batch.
SEARCH_BATCH_ON_PROCESSOR = 32  # larger ones are little faster, and a single image takes as long as a batch
SEARCH_BATCH_ON_GPU = 64


class AnoGANOptions(AdversarialOptions):
    """Options of AnoGAN; the defaults are the publication's where it gives them."""

    discrimination_weight: float = Field(default=0.1, ge=0, le=1)
    """λ of eq. (5)."""
    search_steps: int = Field(default=500, ge=0, le=10_000)
    """Γ, steps of gradient descent in the latent for each image."""
    search_learning_rate: LearningRate = 0.1
    """Adam's rate at the first step; it falls to a hundredth of it. The paper does not give it."""


class AnoGAN(Method):
    """GAN trained on noise; the score is the distance to the nearest image that it can generate."""

    name: ClassVar[str] = "anogan"
    options_type: ClassVar[type[MethodOptions]] = AnoGANOptions
    exportable: ClassVar[bool] = False  # its score is a search by gradients
    presets: ClassVar[Mapping[str, Preset]] = {
        "anogan": Preset(
            "AnoGAN as published in 2017: 500 steps of search for each image, so scoring is slow",
            AnoGANOptions(),
            TrainingOptions(epochs=20),
        )
    }
    search_space: ClassVar[Mapping[str, Searched]] = {
        **DCGAN,
        "discrimination_weight": Range(0, 1, log=False),
        "search_learning_rate": Range(0.02, 0.5),
    }

    options: AnoGANOptions
    start: Tensor

    def __init__(self, options: AnoGANOptions, preprocessing: Preprocessing, generator: Generator) -> None:
        super().__init__(options, preprocessing, generator)
        size, channels = preprocessing.image_size, preprocessing.channels
        self.generator = Decoder(size, channels, options.nz, options.ngf)  # G
        self.discriminator = Discriminator(size, channels, options.ndf)  # D
        initialise_weights(self, generator)
        self.randomness = Randomness(generator)
        # z₁: one for all images, so that a score depends on its image alone
        self.register_buffer(
            "start", torch.rand(1, options.nz, 1, 1, generator=generator, device="cpu") * 2 - 1
        )

    def optimizers(self) -> dict[str, Optimizer]:
        """One Adam for G, one for D."""
        return {
            "generator": self.options.adam(self.generator.parameters()),
            "discriminator": self.options.adam(self.discriminator.parameters()),
        }

    def training_step(
        self, x: Tensor, optimizers: Mapping[str, Optimizer], precision: Precision, step: Step
    ) -> dict[str, Tensor]:
        """Update D and G of the GAN; both gradients are taken before either update."""
        z = (
            self.randomness.uniform((len(x), self.options.nz, 1, 1), x.device) * 2 - 1
        )  # uniform in the paper too
        with precision.autocast():
            real_logits, fake_logits = precision.by_rows(self._logits, x, z)
        losses = {
            "discriminator": adversarial_loss(real_logits, fake_logits),
            "generator": non_saturating_loss(fake_logits),
        }
        update(losses, optimizers, precision)
        return {name: loss.detach() for name, loss in losses.items()}

    def _logits(self, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """D's logits of x and of G(z)."""
        real_logits, _ = self.discriminator(x)
        fake_logits, _ = self.discriminator(self.generator(z))
        return real_logits, fake_logits

    def search(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Find the latents whose generated images are nearest to x: "Mapping new Images to the Latent Space".

        Parameters
        ----------
        x : Tensor
            `float[N, C, S, S]` in [−1, 1].

        Returns
        -------
        z : Tensor
            `float[N, nz, 1, 1]`, the latents with the lowest loss of all steps.
        losses : Tensor
            `float[N]`, ℒ(z) of eq. (5) at these latents.
        """
        batch_size = SEARCH_BATCH_ON_PROCESSOR if x.device.type == "cpu" else SEARCH_BATCH_ON_GPU
        copies = x[-1:].expand(-len(x) % batch_size, -1, -1, -1)
        # cuDNN's flags belong to the process; on processors, batches are searched in several threads
        repeatable = (
            cudnn.flags(enabled=True, deterministic=True, allow_tf32=False) if x.is_cuda else nullcontext()
        )
        # prediction runs in inference mode, whose tensors take no part in autograd: leave it, and copy them
        with torch.inference_mode(False), torch.enable_grad(), repeatable:
            networks = [
                deepcopy(network).requires_grad_(False) for network in (self.generator, self.discriminator)
            ]
            padded = torch.cat([x, copies])
            results = [
                self._search_batch(padded[start : start + batch_size], *networks)
                for start in range(0, len(padded), batch_size)
            ]
        z, losses = (torch.cat(parts)[: len(x)] for parts in zip(*results, strict=True))
        return z, losses

    def _search_batch(
        self, x: Tensor, generator: nn.Module, discriminator: nn.Module
    ) -> tuple[Tensor, Tensor]:
        """Search the latents of one batch.

        The images do not influence each other: the gradient of the sum of their losses is each image's own gradient,
        and Adam works element by element.
        """
        weight, steps = self.options.discrimination_weight, self.options.search_steps
        _, features = discriminator(x)
        z = self.start.repeat(len(x), 1, 1, 1).requires_grad_()
        optimizer = Adam([z], lr=self.options.search_learning_rate, fused=True)
        schedule = LinearLR(optimizer, start_factor=1.0, end_factor=0.01, total_iters=max(steps, 1))
        best, lowest = z.detach().clone(), x.new_full((len(x),), torch.inf)
        for step in range(steps + 1):
            x_hat = generator(z)
            _, features_hat = discriminator(x_hat)
            residual = l1_distance(x, x_hat)  # ℒ_R
            discrimination = l1_distance(features, features_hat)  # eq. (4)
            losses = (1 - weight) * residual + weight * discrimination  # eq. (5)
            better = losses.detach() < lowest
            lowest = torch.where(better, losses.detach(), lowest)
            best = torch.where(better[:, None, None, None], z.detach(), best)
            if step < steps:
                (z.grad,) = torch.autograd.grad(losses.sum(), z)
                optimizer.step()
                schedule.step()
        return best, lowest

    def predict(self, x: Tensor) -> BatchPrediction:
        """A(x) = (1 − λ) · R(x) + λ · D(x) at the best latent of the search, eq. (6).

        The map is the paper's residual image, |x − x̂|.
        """
        z, score = self.search(x)
        x_hat = self.generator(z)
        return BatchPrediction(score, difference_map(x, x_hat), x_hat)

    def discriminator_features(self, x: Tensor) -> Tensor:
        """f(x), D's last features."""
        features: Tensor = self.discriminator(x)[1]
        return features

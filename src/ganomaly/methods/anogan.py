"""AnoGAN: Unsupervised Anomaly Detection with Generative Adversarial Networks to Guide Marker Discovery.

Schlegl, Seeböck, Waldstein, Schmidt-Erfurth, Langs, IPMI 2017, arXiv:1703.05921. Equation numbers and section
titles below are those of the paper, whose authors released no code. A DCGAN learns to draw normal images from
noise. To judge an image, the noise is searched whose drawing comes nearest to it; what is still missing then is
the anomaly.
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
from ganomaly.methods.options import AdversarialOptions
from ganomaly.methods.randomness import Randomness
from ganomaly.methods.updates import update
from ganomaly.networks import Decoder, Discriminator, initialise_weights

# Gradient descent over hundreds of steps blows the last bit of a rounding error up to the third digit of the score,
# and kernels round differently for each size of batch. So the search always runs on batches of one size, filled up
# with copies: then the score of an image is the same to the last bit whatever is scored beside it.
SEARCH_BATCH_ON_PROCESSOR = (
    32  # larger ones gain little more, and a single image takes as long as all of them
)
SEARCH_BATCH_ON_GPU = 64


class AnoGANOptions(AdversarialOptions):
    """Options of AnoGAN; the defaults are the publication's where it gives them."""

    discrimination_weight: float = Field(default=0.1, ge=0, le=1)
    """λ of eq. (5)."""
    search_steps: int = Field(default=500, ge=0)
    """Γ, steps of gradient descent in the latent for each image."""
    search_learning_rate: float = Field(default=0.1, gt=0)
    """Adam's rate at the first step; it falls to a hundredth of it. The paper does not give it."""


class AnoGAN(Method):
    """Generator and discriminator trained on noise; the score is how far the nearest drawing stays away."""

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

    options: AnoGANOptions
    start: Tensor

    def __init__(self, options: AnoGANOptions, preprocessing: Preprocessing, generator: Generator) -> None:
        super().__init__(options, preprocessing, generator)
        size, channels = preprocessing.image_size, preprocessing.channels
        self.generator = Decoder(size, channels, options.nz, options.ngf)  # G
        self.discriminator = Discriminator(size, channels, options.ndf)  # D
        initialise_weights(self, generator)
        self.randomness = Randomness(generator)
        # z₁: one for all images, so that a score depends on nothing but its image
        self.register_buffer("start", torch.rand(1, options.nz, 1, 1, generator=generator) * 2 - 1)

    def optimizers(self) -> dict[str, Optimizer]:
        """One Adam for G, one for D."""
        return {
            "generator": self.options.adam(self.generator.parameters()),
            "discriminator": self.options.adam(self.discriminator.parameters()),
        }

    def training_step(
        self, x: Tensor, optimizers: Mapping[str, Optimizer], precision: Precision, step: Step
    ) -> dict[str, Tensor]:
        """Update D and G in the game of a GAN; both see the other's weights from before the step."""
        z = self.randomness.uniform((len(x), self.options.nz, 1, 1), x.device) * 2 - 1  # uniform there too
        with precision.autocast():
            real_logits, _ = self.discriminator(x)
            fake_logits, _ = self.discriminator(self.generator(z))
        losses = {
            "discriminator": adversarial_loss(real_logits, fake_logits),
            "generator": non_saturating_loss(fake_logits),
        }
        update(losses, optimizers, precision)
        return {name: loss.detach() for name, loss in losses.items()}

    def search(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Find the latents whose drawings come nearest to the images: "Mapping new Images to the Latent Space".

        Parameters
        ----------
        x : Tensor
            `float[N, C, S, S]` in [−1, 1].

        Returns
        -------
        z : Tensor
            `float[N, nz, 1, 1]`, the best latents met on the way.
        losses : Tensor
            `float[N]`, ℒ(z) of eq. (5) there.
        """
        together = SEARCH_BATCH_ON_PROCESSOR if x.device.type == "cpu" else SEARCH_BATCH_ON_GPU
        copies = x[-1:].expand(-len(x) % together, -1, -1, -1)
        # scoring runs in inference mode, where there are no gradients: leave it, and copy what comes from it
        # flags are the process's, and batches are searched side by side on processors: leave them alone there
        repeatable = (
            cudnn.flags(enabled=True, deterministic=True, allow_tf32=False) if x.is_cuda else nullcontext()
        )
        with torch.inference_mode(False), torch.enable_grad(), repeatable:
            networks = (self.generator, self.discriminator)
            fixed = [deepcopy(network).requires_grad_(False) for network in networks]
            x_filled = torch.cat([x, copies])
            parts = [
                self._search_batch(x_filled[start : start + together], *fixed)
                for start in range(0, len(x_filled), together)
            ]
        z, losses = (torch.cat(part)[: len(x)] for part in zip(*parts, strict=True))
        return z, losses

    def _search_batch(
        self, x: Tensor, generator: nn.Module, discriminator: nn.Module
    ) -> tuple[Tensor, Tensor]:
        """Search all of x at once.

        No image is disturbed by the others: the gradient of the sum of their losses is each one's own gradient,
        and Adam works number by number.
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

"""What all methods here share: the size of the DCGAN pyramids and how Adam moves their weights.

One backbone for all keeps a comparison about the methods, not about their networks.
"""

import math
from collections.abc import Iterable

from pydantic import Field
from torch.nn import Parameter
from torch.optim import Adam, AdamW

from ganomaly.config import MethodOptions
from ganomaly.methods.base import Step

WARM_UP = 0.05  # share of the steps in which the learning rate rises


class DCGANOptions(MethodOptions):
    """Options of encoder and decoder; the defaults are GANomaly's, after DCGAN."""

    nz: int = Field(default=100, ge=1)
    """Size of the latent."""
    ngf: int = Field(default=64, ge=1)
    """Feature channels of the first layer of encoders, the last of decoders."""
    learning_rate: float = Field(default=2e-4, gt=0)
    """Adam's learning rate."""
    beta1: float = Field(default=0.5, ge=0, lt=1)
    """Adam's first decay rate."""
    beta2: float = Field(default=0.999, ge=0, lt=1)
    """Adam's second decay rate."""

    def adam(self, parameters: Iterable[Parameter]) -> Adam:
        """Adam at these rates."""
        return Adam(parameters, lr=self.learning_rate, betas=(self.beta1, self.beta2), fused=True)


class AdversarialOptions(DCGANOptions):
    """Options of a backbone with a discriminator."""

    ndf: int = Field(default=64, ge=1)
    """Feature channels of the discriminator's first layer."""


class ScheduledOptions(AdversarialOptions):
    """Options of a backbone with a discriminator whose learning rate rises and falls while it is trained."""

    learning_rate: float = Field(default=1e-3, gt=0)
    """Highest learning rate of AdamW; it rises for a twentieth of the steps, and falls to 0 along a cosine."""
    weight_decay: float = Field(default=1e-4, ge=0)
    """AdamW's weight decay."""

    def adamw(self, parameters: Iterable[Parameter]) -> AdamW:
        """AdamW at these rates."""
        betas = (self.beta1, self.beta2)
        return AdamW(parameters, self.learning_rate, betas=betas, weight_decay=self.weight_decay, fused=True)

    def learning_rate_at(self, step: Step) -> float:
        """The learning rate of a step: rises linearly, then falls to 0 along a cosine."""
        done = step.number / step.total
        rising = min(1.0, (done + 1 / step.total) / WARM_UP)
        falling = 0.5 * (1 + math.cos(math.pi * max(0.0, done - WARM_UP) / (1 - WARM_UP)))
        return self.learning_rate * rising * falling

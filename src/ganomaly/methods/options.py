"""Options of several methods: the size of the DCGAN networks, and their optimizers.

All methods have the same networks where they can, so that a comparison is about the methods.
"""

import math
from collections.abc import Iterable
from typing import Annotated

from pydantic import Field
from torch.nn import Parameter
from torch.optim import Adam, AdamW

from ganomaly.config import MethodOptions
from ganomaly.methods.base import Step

# Bounds that no use comes near; a model file with numbers beyond them is refused before networks are built.
LatentSize = Annotated[int, Field(ge=1, le=16_384)]
Width = Annotated[int, Field(ge=1, le=1024)]
Weight = Annotated[float, Field(ge=0, le=1e6)]
LearningRate = Annotated[float, Field(gt=0, le=10)]
DecayRate = Annotated[float, Field(ge=0, lt=1)]

WARM_UP = 0.05  # share of the steps with a rising learning rate


class DCGANOptions(MethodOptions):
    """Options of encoder and decoder; the defaults are GANomaly's, after DCGAN."""

    nz: LatentSize = 100
    """Size of the latent."""
    ngf: Width = 64
    """Feature channels of the first layer of encoders, the last of decoders."""
    learning_rate: LearningRate = 2e-4
    """Adam's learning rate."""
    beta1: DecayRate = 0.5
    """Adam's first decay rate."""
    beta2: DecayRate = 0.999
    """Adam's second decay rate."""

    def adam(self, parameters: Iterable[Parameter]) -> Adam:
        """Adam with these options."""
        return Adam(parameters, lr=self.learning_rate, betas=(self.beta1, self.beta2), fused=True)


class AdversarialOptions(DCGANOptions):
    """Options of DCGAN networks with a discriminator."""

    ndf: Width = 64
    """Feature channels of the discriminator's first layer."""


class ScheduledOptions(AdversarialOptions):
    """Options of DCGAN networks with a discriminator, trained with a learning-rate schedule."""

    learning_rate: LearningRate = 1e-3
    """Highest learning rate of AdamW: linear warm-up over a twentieth of the steps, then cosine decay to 0."""
    weight_decay: Weight = 1e-4
    """AdamW's weight decay."""

    def adamw(self, parameters: Iterable[Parameter]) -> AdamW:
        """AdamW with these options."""
        betas = (self.beta1, self.beta2)
        return AdamW(parameters, self.learning_rate, betas=betas, weight_decay=self.weight_decay, fused=True)

    def learning_rate_at(self, step: Step) -> float:
        """The learning rate of a step: linear warm-up, then cosine decay to 0."""
        done = step.number / step.total
        warm_up = min(1.0, (done + 1 / step.total) / WARM_UP)
        decay = 0.5 * (1 + math.cos(math.pi * max(0.0, done - WARM_UP) / (1 - WARM_UP)))
        return self.learning_rate * warm_up * decay

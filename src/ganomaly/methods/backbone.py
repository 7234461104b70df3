"""What all methods here share: the size of the DCGAN pyramids and how Adam moves their weights.

One backbone for all keeps a comparison about the methods, not about their networks.
"""

from collections.abc import Iterable

from pydantic import Field
from torch.nn import Parameter
from torch.optim import Adam

from ganomaly.config import MethodOptions


class BackboneOptions(MethodOptions):
    """Options of encoder and decoder; the defaults are GANomaly's (section 4), after DCGAN."""

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


class AdversarialOptions(BackboneOptions):
    """Options of a backbone with a discriminator."""

    ndf: int = Field(default=64, ge=1)
    """Feature channels of the discriminator's first layer."""

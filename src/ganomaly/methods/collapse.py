"""Collapsed discriminators and latents: how they are recognised, and what is done about them."""

import torch
from torch import Generator, Tensor, nn

from ganomaly.networks import initialise_weights

COLLAPSED_DISCRIMINATOR_LOSS = 1e-5  # GANomaly's authors' code initialises D again below this loss
CONSTANT_LATENT = (
    1e-4  # standard deviation of z over images, relative to mean |z|, below which z counts as constant
)


def reset_collapsed_discriminator(discriminator: nn.Module, loss: float, generator: Generator) -> str | None:
    """Initialise a discriminator again when its loss is 0, and say so in a sentence; else None."""
    if loss >= COLLAPSED_DISCRIMINATOR_LOSS:
        return None
    initialise_weights(discriminator, generator)
    return "the discriminator's loss was 0; its weights were initialised again"


def latent_collapse(z: Tensor) -> str | None:
    """Say in a sentence that the latents of several images, `float[N, nz, 1, 1]`, are all the same; else None."""
    z = torch.flatten(z, start_dim=1)  # [N, nz]
    deviation = float(z.std(dim=0, correction=0).mean())
    magnitude = float(z.abs().mean())
    if len(z) < 2 or deviation > CONSTANT_LATENT * magnitude:
        return None
    return (
        "all images have the same latent, so all get the same score; "
        "check that the images differ from each other, or train with another seed"
    )

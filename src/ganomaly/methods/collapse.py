"""How adversarial training and latents die, and what can be done."""

import torch
from torch import Generator, Tensor, nn

from ganomaly.networks import initialise_weights

COLLAPSED_DISCRIMINATOR_LOSS = 1e-5  # GANomaly's authors' code: below this D is drawn anew
CONSTANT_LATENT = 1e-4  # spread of z over images, relative to its size, below which all images look the same


def reset_collapsed_discriminator(discriminator: nn.Module, loss: float, generator: Generator) -> str | None:
    """Draw a discriminator's weights anew when its loss is at 0, and say so."""
    if loss >= COLLAPSED_DISCRIMINATOR_LOSS:
        return None
    initialise_weights(discriminator, generator)
    return "the discriminator's loss was at 0; its weights were drawn anew"


def latent_collapse(z: Tensor) -> str | None:
    """Say so when the latents of several images, `float[N, nz, 1, 1]`, are all the same."""
    z = torch.flatten(z, start_dim=1)  # [N, nz]
    spread = float(z.std(dim=0, correction=0).mean())
    size = float(z.abs().mean())
    if len(z) < 2 or spread > CONSTANT_LATENT * size:
        return None
    return (
        "all images have the same latent, so no score can tell them apart; "
        "check that the images differ from each other, or train with another seed"
    )

"""The plain training loop that speed is compared with: fp32, eager, channels first.

The networks are the package's own; the step is written as in the publication, with a network pass wherever a network
is named.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam, Optimizer

from ganomaly.methods.collapse import COLLAPSED_DISCRIMINATOR_LOSS
from ganomaly.methods.ganomaly import GANomaly
from ganomaly.networks import initialise_weights


def with_plain_convolutions(method: GANomaly) -> GANomaly:
    """Replace the package's convolutions by PyTorch's own, with the same weights."""
    for layer in method.modules():
        if isinstance(layer, nn.Conv2d):
            layer.__class__ = nn.Conv2d
        elif isinstance(layer, nn.ConvTranspose2d):
            layer.__class__ = nn.ConvTranspose2d
    return method


def plain_optimizers(method: GANomaly) -> dict[str, Optimizer]:
    """Two Adams as PyTorch makes them by default."""
    options = method.options
    generator = [
        *method.encoder.parameters(),
        *method.decoder.parameters(),
        *method.reconstruction_encoder.parameters(),
    ]
    betas = (options.beta1, options.beta2)
    return {
        "generator": Adam(generator, lr=options.learning_rate, betas=betas),
        "discriminator": Adam(method.discriminator.parameters(), lr=options.learning_rate, betas=betas),
    }


def plain_step(method: GANomaly, x: Tensor, optimizers: Mapping[str, Optimizer]) -> dict[str, float]:
    """One training step; the losses are fetched at every step, as plain loops do."""
    z = method.encoder(x)
    x_hat = method.decoder(z)
    z_hat = method.reconstruction_encoder(x_hat)
    real_probability = torch.sigmoid(method.discriminator(x)[0])
    fake_probability = torch.sigmoid(method.discriminator(x_hat.detach())[0])

    optimizers["generator"].zero_grad()
    adversarial = functional.mse_loss(method.discriminator(x_hat)[1], method.discriminator(x)[1])
    contextual = functional.l1_loss(x_hat, x)
    encoder = functional.mse_loss(z_hat, z)
    generator = adversarial + 50 * contextual + encoder
    generator.backward(retain_graph=True)  # type: ignore[no-untyped-call]
    optimizers["generator"].step()

    optimizers["discriminator"].zero_grad()
    real, fake = torch.ones_like(real_probability), torch.zeros_like(fake_probability)
    discriminator = 0.5 * (
        functional.binary_cross_entropy(real_probability, real)
        + functional.binary_cross_entropy(fake_probability, fake)
    )
    discriminator.backward()  # type: ignore[no-untyped-call]
    optimizers["discriminator"].step()
    if discriminator.item() < COLLAPSED_DISCRIMINATOR_LOSS:
        initialise_weights(method.discriminator, torch.Generator())
    return {"generator": generator.item(), "discriminator": discriminator.item()}

"""Losses and distances of several methods; all are computed in fp32."""

import torch
from torch import Tensor
from torch.nn import functional

ROBUSTNESS = 0.5  # q of the generalised cross-entropy; 0: cross-entropy; 1: mean absolute error


def adversarial_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """The discriminator's loss: mean of −log D(real) and −log(1 − D(fake)) over a batch, a scalar.

    Source: Goodfellow et al., *Generative Adversarial Nets*, 2014.
    """
    real, fake = torch.ones_like(real_logits), torch.zeros_like(fake_logits)
    return 0.5 * (
        functional.binary_cross_entropy_with_logits(real_logits.float(), real.float())
        + functional.binary_cross_entropy_with_logits(fake_logits.float(), fake.float())
    )


def non_saturating_loss(fake_logits: Tensor) -> Tensor:
    """The generator's non-saturating loss: mean of −log D(fake) over a batch, a scalar.

    Its gradient does not vanish while the discriminator is right about the fake images. Source: as above.
    """
    return functional.softplus(-fake_logits.float()).mean()


def mean_square_error(x: Tensor, y: Tensor) -> Tensor:
    """Mean (x − y)² over a batch, a scalar.

    Unlike that of `functional.mse_loss` or of `mean`, its gradient has the memory layout of x, channels last, in
    which the convolutions below are fast.
    """
    return (x.float() - y.float()).square().sum() / x.numel()


def l1_distance(x: Tensor, y: Tensor) -> Tensor:
    """‖x − y‖₁ of each image: two `float[N, …]` to `float[N]`."""
    return torch.flatten(x.float() - y.float(), start_dim=1).abs().sum(dim=1)


def mean_absolute_difference(x: Tensor, y: Tensor) -> Tensor:
    """Mean |x − y| of each image: two `float[N, …]` to `float[N]`."""
    return torch.flatten(x.float() - y.float(), start_dim=1).abs().mean(dim=1)


def difference_map(x: Tensor, x_hat: Tensor) -> Tensor:
    """|x − x̂| averaged over the channels, the map of most methods: two `float[N, C, S, S]` to `float[N, S, S]`."""
    return (x - x_hat).abs().mean(dim=1)


def mean_square_difference(x: Tensor, y: Tensor) -> Tensor:
    """Mean (x − y)² of each image: two `float[N, …]` to `float[N]`."""
    return torch.flatten(x.float() - y.float(), start_dim=1).square().mean(dim=1)


def robust_cross_entropy(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean of the generalised binary cross-entropy (1 − p^q)/q of the target's probability p; a scalar.

    Targets that cannot be predicted count less than in cross-entropy: a position inside a stain differs from what was
    there before, but only the stain's rim shows it.

    Source: Zhang, Sabuncu, *Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy Labels*,
    NeurIPS 2018.

    Parameters
    ----------
    logits, target, weight : Tensor
        Of one shape; targets are 0 or 1.
    """
    cross_entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    loss = (1 - torch.exp(-ROBUSTNESS * cross_entropy)) / ROBUSTNESS
    return (loss * weight).sum() / weight.sum()

"""The shared losses, by hand."""

import pytest
import torch

from ganomaly.methods.losses import (
    adversarial_loss,
    l1_distance,
    mean_absolute_difference,
    mean_square_difference,
    mean_square_error,
    non_saturating_loss,
)

REAL, FAKE = torch.tensor([2.0, -1.0]), torch.tensor([0.5, -3.0])


def test_the_adversarial_losses_are_the_logarithms_of_the_publication():
    real, fake = torch.sigmoid(REAL), torch.sigmoid(FAKE)
    expected = -0.5 * (real.log().mean() + (1 - fake).log().mean())
    torch.testing.assert_close(adversarial_loss(REAL, FAKE), expected)
    torch.testing.assert_close(non_saturating_loss(FAKE), -fake.log().mean())


def test_the_adversarial_losses_stay_finite_where_the_sigmoid_is_not():
    far = torch.tensor([-1000.0])
    assert adversarial_loss(far, -far) == pytest.approx(1000)
    assert non_saturating_loss(far) == pytest.approx(1000)


def test_distances_are_per_image():
    x, y = torch.tensor([[[1.0, 2.0]], [[0.0, 0.0]]]), torch.tensor([[[3.0, 1.0]], [[0.0, 4.0]]])
    torch.testing.assert_close(l1_distance(x, y), torch.tensor([3.0, 4.0]))
    torch.testing.assert_close(mean_absolute_difference(x, y), torch.tensor([1.5, 2.0]))
    torch.testing.assert_close(mean_square_difference(x, y), torch.tensor([2.5, 8.0]))


def test_the_mean_square_error_is_pytorch_s_and_its_gradient_keeps_the_layout():
    x, y = (torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last) for _ in range(2))
    x.requires_grad_()
    loss = mean_square_error(x, y)
    torch.testing.assert_close(loss, torch.nn.functional.mse_loss(x, y))
    (gradient,) = torch.autograd.grad(loss, x)
    assert gradient.is_contiguous(memory_format=torch.channels_last)

"""Optimizer steps, and what is frozen during them."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from ganomaly.methods.base import without_autocast
from ganomaly.methods.updates import frozen, frozen_statistics, update
from ganomaly.networks import convolution
from ganomaly.networks.convolution import Conv2d


def test_all_gradients_are_computed_before_the_first_weight_changes():
    """Two weights a and b; the losses are a·b and a·b², which share the product's graph."""
    a, b = nn.Parameter(torch.tensor(2.0)), nn.Parameter(torch.tensor(3.0))
    optimizers = {"a": torch.optim.SGD([a], lr=0.1), "b": torch.optim.SGD([b], lr=0.1)}
    product = a * b
    update({"a": product, "b": product * b}, optimizers, without_autocast())
    torch.testing.assert_close(a.detach(), torch.tensor(2.0 - 0.1 * 3))
    torch.testing.assert_close(b.detach(), torch.tensor(3.0 - 0.1 * 2 * 2 * 3))


def test_gradients_pass_through_frozen_weights_but_do_not_reach_them():
    layer = Conv2d(1, 2, 4, 2, 1, bias=False)
    x = torch.rand(1, 1, 8, 8, requires_grad=True)
    with frozen(layer):
        loss = layer(x).sum()
    loss.backward()
    assert x.grad is not None
    assert layer.weight.grad is None
    assert layer.weight.requires_grad


def test_weights_frozen_before_stay_frozen():
    layer = nn.Linear(2, 2)
    layer.bias.requires_grad_(False)
    with frozen(layer):
        assert not layer.weight.requires_grad
    assert layer.weight.requires_grad
    assert not layer.bias.requires_grad


def test_frozen_statistics_are_not_updated_and_later_ones_are():
    layer = nn.BatchNorm2d(1)
    with frozen_statistics(layer):
        layer(torch.full((2, 1, 2, 2), 9.0))
    assert layer.running_mean is not None
    assert layer.running_mean.item() == 0
    layer(torch.full((2, 1, 2, 2), 9.0))
    assert layer.running_mean.item() > 0


class WeightGradients(TorchDispatchMode):
    """Counts the weight gradients that PyTorch's own convolutions compute."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func == torch.ops.aten.convolution_backward.default:
            _, computes_weight_gradient, _ = args[-1]
            self.count += computes_weight_gradient
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_that_another_loss_updates_cost_no_gradient(dtype, monkeypatch):
    """A generator's loss passes through the discriminator, but updates no weight there."""
    generator, discriminator = (Conv2d(9, 9, 3, 1, 1, bias=False) for _ in range(2))
    optimizers = {
        name: torch.optim.SGD(layer.parameters(), lr=0.1)
        for name, layer in {"generator": generator, "discriminator": discriminator}.items()
    }
    own_calls = []
    weight_gradient = convolution._weight_gradient
    monkeypatch.setattr(
        convolution,
        "_weight_gradient",
        lambda *arguments: own_calls.append(1) or weight_gradient(*arguments),
    )
    with WeightGradients() as pytorch_calls:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            logits = discriminator(generator(torch.rand(1, 9, 8, 8)))
        update({"generator": logits.sum(), "discriminator": -logits.sum()}, optimizers, without_autocast())
    assert len(own_calls) + pytorch_calls.count == 2
    assert len(own_calls) == (2 if dtype == torch.bfloat16 else 0)

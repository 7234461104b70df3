"""Batch norm with the statistics of all processes' rows, on processors and on GPUs.

PyTorch's `SyncBatchNorm` is for GPUs alone. Here each process sends count, mean and sum of squares about the mean of
its rows, which are combined as in Chan et al., *Updating Formulae and a Pairwise Algorithm for Computing Sample
Variances*, 1979; the backward pass sums two numbers for each channel.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from ganomaly.training.ranks import Ranks


@contextmanager
def shared_batch_norm(module: nn.Module, ranks: Ranks) -> Iterator[None]:
    """Let batch norm layers in training take their statistics over the processes, within `by_rows`."""
    layers = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)]
    if ranks.number == 1:
        layers = []
    for layer in layers:
        layer.forward = partial(_forward, layer, ranks)  # type: ignore[method-assign]  # put back below
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward  # that of its class again


def _forward(layer: nn.BatchNorm1d | nn.BatchNorm2d, ranks: Ranks, x: Tensor) -> Tensor:
    if not layer.training or not ranks.is_dividing:
        return type(layer).forward(layer, x)
    apply: Any = _BatchNorm.apply  # PyTorch does not type it
    y: Tensor = apply(x, layer.weight, layer.bias, layer, ranks)
    return y


class _BatchNorm(Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        layer: nn.BatchNorm1d | nn.BatchNorm2d,
        ranks: Ranks,
    ) -> Tensor:
        total, mean, variance = _statistics(x, ranks)
        momentum = layer.momentum or 0.0
        assert layer.running_mean is not None
        assert layer.running_var is not None
        assert layer.num_batches_tracked is not None
        layer.running_mean.lerp_(mean, momentum)
        layer.running_var.lerp_(variance * (total / max(total - 1, 1)), momentum)
        layer.num_batches_tracked.add_(1)
        ctx.save_for_backward(x, weight, mean, (variance + layer.eps).rsqrt())
        ctx.total, ctx.ranks = total, ranks
        return functional.batch_norm(x, mean, variance, weight, bias, training=False, eps=layer.eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse_deviation = ctx.saved_tensors
        axes = _axes(x)
        exact = gradient.float()
        shift = exact.sum(dim=axes)
        scale = (exact * (x.float() - _along(mean, x))).sum(dim=axes) * inverse_deviation
        totals: Tensor = ctx.ranks.sum(torch.cat([shift, scale])) / ctx.total
        mean_shift, mean_scale = totals.chunk(2)
        # w/σ · (g − mean g − x̂ · mean (g·x̂)) as a·g + b·x + c
        a = weight * inverse_deviation
        b = -a * inverse_deviation * mean_scale
        c = -a * mean_shift - b * mean
        x_gradient = torch.addcmul(_along(c, x), exact, _along(a, x)).addcmul_(x.float(), _along(b, x))
        return x_gradient.to(x.dtype), scale, shift, None, None


def _statistics(x: Tensor, ranks: Ranks) -> tuple[float, Tensor, Tensor]:
    """Number of values of a channel in all processes, their mean and variance, `float[C]` each."""
    channels = x.shape[1]
    count = x.numel() / channels
    variance, mean = torch.var_mean(x.float(), dim=_axes(x), correction=0)
    own = torch.cat([mean, variance * count, mean.new_tensor([count])])
    means, squares, counts = torch.split(ranks.gather(own).double(), [channels, channels, 1], dim=1)
    total = counts.sum()
    mean = (means * counts).sum(dim=0) / total
    variance = (squares + counts * (means - mean) ** 2).sum(dim=0) / total
    return float(total), mean.float(), variance.float()


def _axes(x: Tensor) -> list[int]:
    return [axis for axis in range(x.dim()) if axis != 1]


def _along(values: Tensor, x: Tensor) -> Tensor:
    """Values of each channel, as a factor of x."""
    return values.view(1, -1, *[1] * (x.dim() - 2))

"""Optimizer steps, learning rates, and what is frozen during them."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import Optimizer

from ganomaly.methods.base import Precision


def update(losses: Mapping[str, Tensor], optimizers: Mapping[str, Optimizer], precision: Precision) -> None:
    """Take one step of each optimizer that has a loss.

    All gradients are computed before the first weight changes, so the losses may share parts of their graphs.

    Parameters
    ----------
    losses : mapping of str to Tensor
        A scalar for each optimizer that takes a step, by the optimizer's name.
    optimizers, precision
        Those given to `Method.training_step`.
    """
    last = list(losses)[-1]
    for name, loss in losses.items():
        optimizers[name].zero_grad(set_to_none=True)
        parameters = _parameters_of(optimizers[name])
        others = [
            parameter
            for other in optimizers
            if other != name
            for parameter in _parameters_of(optimizers[other])
        ]
        # the generator's loss computes no gradients of the discriminator's weights, and the other way round
        with _without_gradients(others):
            precision.backward(loss, inputs=parameters, retain_graph=name != last)
    for name in losses:
        optimizers[name].step()


def set_learning_rate(optimizers: Mapping[str, Optimizer], rate: float) -> None:
    """Set the learning rate."""
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = rate


@contextmanager
def frozen_statistics(network: nn.Module) -> Iterator[None]:
    """Do not update the running statistics of batch norm, for inputs unlike those that are scored later."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    before = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in zip(layers, before, strict=True):
            layer.momentum = momentum


@contextmanager
def frozen(*networks: nn.Module) -> Iterator[None]:
    """Compute no gradients of the networks' weights; gradients of their inputs are computed."""
    with _without_gradients(parameter for network in networks for parameter in network.parameters()):
        yield


@contextmanager
def _without_gradients(parameters: Iterable[Parameter]) -> Iterator[None]:
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)


def _parameters_of(optimizer: Optimizer) -> list[Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]

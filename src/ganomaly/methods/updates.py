"""How losses move weights."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import Optimizer

from ganomaly.methods.base import Precision


def update(losses: Mapping[str, Tensor], optimizers: Mapping[str, Optimizer], precision: Precision) -> None:
    """Move the weights of some optimizers one step, each along its own loss.

    All gradients are taken before the first weight moves, so the losses may share parts of their graphs.

    Parameters
    ----------
    losses : mapping of str to Tensor
        A scalar for each optimizer that shall move, by its name.
    optimizers, precision
        Those given to `Method.training_step`.
    """
    last = list(losses)[-1]
    for name, loss in losses.items():
        optimizers[name].zero_grad(set_to_none=True)
        own = _moved_by(optimizers[name])
        others = [
            parameter for other in optimizers if other != name for parameter in _moved_by(optimizers[other])
        ]
        # a discriminator's weights get no gradient from the generator's loss, and the other way round
        with _spared(others):
            precision.backward(loss, inputs=own, retain_graph=name != last)
    for name in losses:
        optimizers[name].step()


def set_learning_rate(optimizers: Mapping[str, Optimizer], rate: float) -> None:
    """Let the next steps be so long."""
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = rate


@contextmanager
def frozen_statistics(network: nn.Module) -> Iterator[None]:
    """Leave the running statistics of batch norm as they are: what passes inside is not what will be scored."""
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
    """Spare the gradients of these networks' weights in what is computed inside; gradients pass through them."""
    with _spared(parameter for network in networks for parameter in network.parameters()):
        yield


@contextmanager
def _spared(parameters: Iterable[Parameter]) -> Iterator[None]:
    learning = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


def _moved_by(optimizer: Optimizer) -> list[Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]

"""The contract that every method keeps.

A method owns its networks, its losses and its score, and nothing else: no loops, no devices, no files.
`docs/adding-a-method.md` shows how to write one.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from ganomaly.config import MethodOptions, Preprocessing, TrainingOptions


class Precision(Protocol):
    """What a method needs to know of mixed precision; a `lightning_fabric.Fabric` is one."""

    def autocast(self) -> AbstractContextManager[Any]:
        """Run the forward pass in this context."""

    def backward(self, tensor: Tensor, *args: Any, **kwargs: Any) -> None:
        """Compute gradients in the place of `tensor.backward(…)`."""


class Step(NamedTuple):
    """Where training stands.

    Attributes
    ----------
    number : int
        Steps that are done.
    total : int
        Steps in all.
    """

    number: int
    total: int


@dataclass(frozen=True)
class Patches:
    """How a method that takes images of any size sees them.

    Attributes
    ----------
    image_size : int
        Images are made smaller, all by the same factor and their aspect kept, until the median one has the area of a
        square of so many pixels a side. Smaller ones stay as they are.
    patch_size : int
        Side in pixels of the patches it is trained on.
    """

    image_size: int
    patch_size: int


@dataclass(frozen=True)
class Preset:
    """A named, complete configuration of a method."""

    description: str
    """One sentence for people."""
    options: MethodOptions
    training: TrainingOptions
    patches: Patches | None = None
    """None for methods that squeeze the whole image into a square."""
    colour_steps: int | None = None
    """Steps for images of more than one channel, in the place of `training.steps`; None for the same."""

    def training_for(self, channels: int, epochs: int | None = None, **chosen: Any) -> TrainingOptions:
        """How to train on images of so many channels.

        Parameters
        ----------
        channels : int
            Of the network input.
        epochs : int, optional
            Passes over the training images, in the place of the preset's steps or epochs.
        **chosen
            Other fields of `TrainingOptions` that differ from the preset's.

        Raises
        ------
        UsageError
            If a value is not allowed.
        """
        values: dict[str, Any] = self.training.model_dump() | chosen
        if epochs is not None:
            values |= {"epochs": epochs, "steps": None}
        elif channels > 1 and self.colour_steps is not None:
            values["steps"] = self.colour_steps
        return TrainingOptions.checked(**values)


@dataclass(frozen=True)
class BatchPrediction:
    """What a method predicts for a batch of images.

    Attributes
    ----------
    score : Tensor
        A(x), `float[N]`, ≥ 0; larger is more anomalous.
    anomaly_map : Tensor, optional
        The score of each pixel, `float[N, H, W]`, ≥ 0; None where the method has none.
    reconstruction : Tensor, optional
        x̂, `float[N, C, H, W]` in [−1, 1]; None where the method does not reconstruct.
    """

    score: Tensor
    anomaly_map: Tensor | None = None
    reconstruction: Tensor | None = None


class Method(nn.Module, ABC):
    """Networks, losses and score of one way to find anomalies.

    Parameters
    ----------
    options : MethodOptions
        An instance of the class's `options_type`.
    preprocessing : Preprocessing
        Size and channels of the network input.
    generator : torch.Generator
        The one source of randomness for the initial weights; on the processor.
    """

    name: ClassVar[str]
    """What the shell calls the method."""
    options_type: ClassVar[type[MethodOptions]]
    """The method's own options."""
    presets: ClassVar[Mapping[str, Preset]]
    """Named configurations; the names are unique over all methods."""
    exportable: ClassVar[bool] = True
    """Whether `predict` is tensors alone, from the image to the score, so that an exported graph can hold it."""
    statistics_images: ClassVar[int] = 0
    """How many training images `fit_statistics` wants at most; 0 if it does nothing."""

    @abstractmethod
    def __init__(self, options: MethodOptions, preprocessing: Preprocessing, generator: Generator) -> None:
        super().__init__()
        self.options = options

    @abstractmethod
    def optimizers(self) -> dict[str, Optimizer]:
        """Make the optimizers, by the name of what they update."""

    def fit_scales(self, x: Tensor) -> None:
        """Look at what training will see, once, before the first step; for scales that must be known beforehand.

        What is found belongs into buffers, so that checkpoint and model file keep it.

        Parameters
        ----------
        x : Tensor
            `float[N, C, S, S]`, some training images or patches.
        """
        return

    def fit_statistics(self, batches: Iterable[Tensor]) -> None:
        """Take statistics of normal images with the trained networks; called once, after the last step.

        Called in eval mode without gradients. What is found belongs into buffers of shapes that the options fix.

        Parameters
        ----------
        batches : iterable of Tensor
            `float[N, C, S, S]` each, training images in a seeded order, at most `statistics_images`; whole
            images one by one, for a method that takes any size.
        """
        return

    @abstractmethod
    def training_step(
        self, x: Tensor, optimizers: Mapping[str, Optimizer], precision: Precision, step: Step
    ) -> dict[str, Tensor]:
        """Learn from one batch of normal images.

        Parameters
        ----------
        x : Tensor
            `float[N, C, S, S]` in [−1, 1]; patches, for a method that takes images of any size.
        optimizers : mapping of str to Optimizer
            Those of `optimizers()`.
        precision : Precision
            Its `autocast` and `backward` take the place of PyTorch's own.
        step : Step
            For schedules and for methods that learn in phases. What a method makes of it follows from these two
            numbers alone, so that a resumed run does the same.

        Returns
        -------
        dict of str to Tensor
            Named losses, each a detached scalar on the device. Nothing here waits for the device.
        """

    @abstractmethod
    def predict(self, x: Tensor) -> BatchPrediction:
        """Score, map and reconstruction of a batch of images, running each network no more often than needed.

        Called in eval mode without gradients. What it predicts for an image depends on that image alone.

        Parameters
        ----------
        x : Tensor
            `float[N, C, S, S]` in [−1, 1]; `float[N, C, H, W]`, for a method that takes images of any size.
        """

    def discriminator_features(self, x: Tensor) -> Tensor | None:
        """f(x), the discriminator's last features, `float[N, K, h, w]`; None where there is no discriminator."""
        return None

    def recover(self, losses: Mapping[str, float], generator: Generator) -> str | None:
        """Repair a network that has collapsed, as the losses show, and say in one sentence what was done; else None.

        The training loop calls this every few steps with the newest losses. Random numbers come from `generator`
        alone, so that a resumed run does the same.
        """
        return None

    def collapse(self, x: Tensor, step: Step) -> str | None:
        """Check on some normal images whether training has collapsed, and say so in one sentence; else None.

        Called in eval mode without gradients at the end of each epoch.
        """
        return None


def without_autocast() -> Precision:
    """Full precision, for a training step outside the training loop (tests, notebooks)."""
    return _FullPrecision()


class _FullPrecision:
    def autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast("cpu", enabled=False)

    def backward(self, tensor: Tensor, *args: Any, **kwargs: Any) -> None:
        tensor.backward(*args, **kwargs)  # type: ignore[no-untyped-call]  # torch does not type it

"""The interface of all methods.

A method owns its networks, its losses and its score, and nothing else: no loops, no devices, no files.
`docs/adding-a-method.md` shows how to write one.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from ganomaly.config import MethodOptions, Preprocessing, TrainingOptions
from ganomaly.methods.search_space import Searched


class Precision(Protocol):
    """How a training step is computed: in mixed precision, and by one process or several."""

    def autocast(self) -> AbstractContextManager[Any]:
        """Run the forward pass in this context."""

    def backward(self, tensor: Tensor, *args: Any, **kwargs: Any) -> None:
        """Compute gradients; used instead of `tensor.backward(…)`."""

    def by_rows(self, function: Callable[..., tuple[Tensor, ...]], *inputs: Tensor) -> tuple[Tensor, ...]:
        """Run networks on a batch; where several processes train together, each takes some of the rows.

        All of them get all outputs, so that losses are computed from the whole batch, and gradients are those of one
        process with the whole batch.

        Parameters
        ----------
        function : callable
            From tensors to tensors, row by row but for batch norm. Random numbers are drawn before, for the whole
            batch, and are inputs.
        *inputs : Tensor
            `[N, …]` each.

        Returns
        -------
        tuple of Tensor
            What the function gives, `[N, …]` each.
        """


class Step(NamedTuple):
    """How far training has come.

    Attributes
    ----------
    number : int
        Steps done so far; the first step has 0.
    total : int
        Steps of the whole training.
    """

    number: int
    total: int


@dataclass(frozen=True)
class Patches:
    """Sizes for a method that takes images of any size.

    Attributes
    ----------
    image_size : int
        All images are scaled down by one factor, so that the median image has the area of a square of this side, in
        pixels. Data sets of smaller images are not scaled.
    patch_size : int
        Side in pixels of the training patches.
    """

    image_size: int
    patch_size: int


@dataclass(frozen=True)
class Preset:
    """A named, complete configuration of a method."""

    description: str
    """One sentence for the help of the command line."""
    options: MethodOptions
    training: TrainingOptions
    patches: Patches | None = None
    """None for methods that resize the whole image to a square."""
    colour_steps: int | None = None
    """Replaces `training.steps` for images of more than one channel; None for the same number."""

    def training_for(self, channels: int, epochs: int | None = None, **overrides: Any) -> TrainingOptions:
        """Training options for images with this number of channels.

        Parameters
        ----------
        channels : int
            Of the network input.
        epochs : int, optional
            Passes over the training images; replaces the preset's steps or epochs.
        **overrides
            Other fields of `TrainingOptions` that replace the preset's.

        Raises
        ------
        UsageError
            If a value is not allowed.
        """
        values: dict[str, Any] = self.training.model_dump() | overrides
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
    product : Tensor, optional
        Number of the product that each image belongs to, `int64[N]`, from `ProductMethods`; a method gives None.
    """

    score: Tensor
    anomaly_map: Tensor | None = None
    reconstruction: Tensor | None = None
    product: Tensor | None = None


class Method(nn.Module, ABC):
    """Networks, losses and anomaly score of one publication.

    Parameters
    ----------
    options : MethodOptions
        An instance of the class's `options_type`.
    preprocessing : Preprocessing
        Size and channels of the network input.
    generator : torch.Generator
        The only source of random numbers for the initial weights; a generator on the processor.
    """

    name: ClassVar[str]
    """The method's name on the command line and in model files."""
    options_type: ClassVar[type[MethodOptions]]
    """The method's own options."""
    presets: ClassVar[Mapping[str, Preset]]
    """Named configurations; the names are unique over all methods."""
    search_space: ClassVar[Mapping[str, Searched]] = {}
    """Options that `ganomaly tune` searches, and where."""
    exportable: ClassVar[bool] = True
    """Whether `predict` consists of tensor operations only, so that it can be exported as a graph."""
    statistics_images: ClassVar[int] = 0
    """The most training images that `fit_statistics` is given; 0 if the method has no statistics to fit."""

    @abstractmethod
    def __init__(self, options: MethodOptions, preprocessing: Preprocessing, generator: Generator) -> None:
        super().__init__()
        self.options = options

    @abstractmethod
    def optimizers(self) -> dict[str, Optimizer]:
        """Make the optimizers; each has the name of what it updates."""

    def load_pretrained(self) -> None:
        """Read the weights of frozen, pretrained networks, once, before `fit_scales`.

        Model files and checkpoints hold these weights, so nothing is read when one is loaded.
        """
        return

    def fit_scales(self, x: Tensor) -> None:
        """Fit scales of the training images, once, before the first step.

        Results go into buffers, so that checkpoints and the model file hold them.

        Parameters
        ----------
        x : Tensor
            `float[N, C, S, S]`, a sample of the training images or patches.
        """
        return

    def fit_statistics(self, batches: Iterable[Tensor]) -> None:
        """Fit statistics of normal images with the trained networks, once, after the last step.

        Called in eval mode without gradients. Results go into buffers whose shapes follow from the options.

        Parameters
        ----------
        batches : iterable of Tensor
            Training images in a seeded order, at most `statistics_images`: `float[N, C, S, S]` each, or
            `float[1, C, H, W]` for a method that takes images of any size.
        """
        return

    def bank_rows(self, x: Tensor, generator: Generator, ignored: Tensor | None = None) -> list[Tensor]:
        """What one more normal image adds to the memory banks after training, so that no score grows.

        Called in eval mode without gradients.

        Parameters
        ----------
        x : Tensor
            `float[1, C, H, W]`, as for `predict`.
        generator : torch.Generator
            The only source of random numbers; on the processor.
        ignored : Tensor, optional
            `bool[H, W]`, where the image is ignored.

        Returns
        -------
        list of Tensor
            For each of `banks_of` the method, the rows to add; empty for a method without.
        """
        return []

    @abstractmethod
    def training_step(
        self, x: Tensor, optimizers: Mapping[str, Optimizer], precision: Precision, step: Step
    ) -> dict[str, Tensor]:
        """Train on one batch of normal images.

        Parameters
        ----------
        x : Tensor
            `float[N, C, S, S]` in [−1, 1]; patches, for a method that takes images of any size.
        optimizers : mapping of str to Optimizer
            Those of `optimizers()`.
        precision : Precision
            Used instead of PyTorch's own `autocast` and `backward`.
        step : Step
            For schedules, and for methods that train in phases. Both must follow from the step alone, so that a
            resumed run does the same.

        Returns
        -------
        dict of str to Tensor
            The losses by name, each a detached scalar on the device; never `.item()`, which waits for the device.
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

    def fit_statistics_outside(self, images: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Fit the same statistics where images have regions that are ignored.

        A method that scores positions leaves those of the regions out. Others take the images as they are: the
        regions are filled from what surrounds them.

        Parameters
        ----------
        images : iterable of (Tensor, Tensor)
            Batches as for `fit_statistics`, and where each is ignored, `bool[N, H, W]`.
        """
        self.fit_statistics(x for x, _ in images)

    def predict_outside(self, x: Tensor, ignored: Tensor) -> BatchPrediction:
        """Predict images with regions that are ignored and filled; likewise.

        Parameters
        ----------
        x : Tensor
            As for `predict`.
        ignored : Tensor
            `bool[N, H, W]`; the map is 0 there.
        """
        prediction = self.predict(x)
        if prediction.anomaly_map is None:
            return prediction
        return replace(prediction, anomaly_map=prediction.anomaly_map.masked_fill(ignored, 0))

    def discriminator_features(self, x: Tensor) -> Tensor | None:
        """f(x), the discriminator's last features, `float[N, K, h, w]`; None where there is no discriminator."""
        return None

    def fix_branches(self) -> None:
        """Decide what statistics decide in each prediction: called before an export, whose graph has no branches."""

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
    """A `Precision` without mixed precision, for training steps in tests and notebooks."""
    return _FullPrecision()


class _FullPrecision:
    def autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast("cpu", enabled=False)

    def backward(self, tensor: Tensor, *args: Any, **kwargs: Any) -> None:
        tensor.backward(*args, **kwargs)  # type: ignore[no-untyped-call]  # torch does not type it

    def by_rows(self, function: Callable[..., tuple[Tensor, ...]], *inputs: Tensor) -> tuple[Tensor, ...]:
        return function(*inputs)

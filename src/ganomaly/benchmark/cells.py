"""One cell of the grid: a method with its options, the classes that count as anomalous, a seed."""

from dataclasses import dataclass, field
from typing import Any, Literal

from ganomaly.benchmark.method_spec import MethodSpec
from ganomaly.benchmark.tasks import BenchmarkDataset
from ganomaly.config import PRECISION, Precision

Protocol = Literal["clean", "published"]


@dataclass(frozen=True)
class Budget:
    """Limits on the work of a cell; the title of every table states them.

    Attributes
    ----------
    epochs : int or None
        Passes over the training images; the preset's number if None.
    train_images, test_images : int or None
        At most so many, drawn by the seed; the classes keep their shares of the test images.
    """

    epochs: int | None = None
    train_images: int | None = None
    test_images: int | None = None


@dataclass(frozen=True)
class Cell:
    """One training, and the classes that it is evaluated on.

    Attributes
    ----------
    dataset : BenchmarkDataset
        Where the images come from.
    classes : tuple of str
        The classes that count as anomalous, each with an AUROC of its own.
    method : MethodSpec
        What is trained.
    seed : int
        Fixes weights, order and random draws.
    protocol : {'clean', 'published'}
        How it is evaluated.
    budget : Budget
        Limits on the work.
    image_size : int or None
        Side of the network input in pixels; from the data if None.
    precision : {'auto', 'fp32', 'bf16'}
        Of training.
    """

    dataset: BenchmarkDataset
    classes: tuple[str, ...]
    method: MethodSpec
    seed: int
    protocol: Protocol = "clean"
    budget: Budget = field(default_factory=Budget)
    image_size: int | None = None
    precision: Precision = PRECISION

    def key(self, anomaly_class: str) -> tuple[Any, ...]:
        """What distinguishes the row of one class from all other rows."""
        identity = self.identity()
        return (anomaly_class, *(identity[name] for name in sorted(identity)))

    def identity(self) -> dict[str, Any]:
        """The columns of a row that are known before the work."""
        return {
            "method": self.method.label,
            "dataset": self.dataset.name,
            "seed": self.seed,
            "protocol": self.protocol,
            "epochs_asked": self.budget.epochs,
            "train_images": self.budget.train_images,
            "test_images": self.budget.test_images,
            "image_size_asked": self.image_size,
        }

"""One cell of the grid: a method with its options, a group of classes, a seed."""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ganomaly.benchmark.artifacts import KEPT, file_name, write_artifacts
from ganomaly.benchmark.cell_artifacts import artifacts_of_classes
from ganomaly.benchmark.problems import Problem, Source
from ganomaly.benchmark.published import PublishedProtocol
from ganomaly.config import BATCH_SIZE, Precision, Preprocessing
from ganomaly.data import ImageDataset, ImageLoader, Subset, choose_channels, inspect_images
from ganomaly.errors import UsageError
from ganomaly.methods import Method, find_method
from ganomaly.metrics import image_metrics
from ganomaly.prediction.pytorch import eval_mode, predict_dataset
from ganomaly.tensors import network_input
from ganomaly.training.loop import train
from ganomaly.training.plan import plan_preprocessing, read_training_images
from ganomaly.version import __version__

Protocol = Literal["clean", "published"]
TIMED_BATCHES = 5
SLOW_MS = 2000.0  # a method whose batch takes longer is timed where it scores the test images anyway

_SPEC = re.compile(r"(?P<name>[\w-]+)(?:\[(?P<options>[^\]]*)\])?")


@dataclass(frozen=True)
class MethodSpec:
    """A method and the options that differ from its preset's, as `ganomaly[nz=50;contextual_weight=0]`.

    Attributes
    ----------
    name : str
        In the registry.
    options : tuple of (str, str)
        Name and value as written.
    """

    name: str
    options: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parsed(cls, text: str) -> "MethodSpec":
        """Read a method as it is written on the command line.

        Raises
        ------
        UsageError
            If there is no such method or option, or the value is out of range.
        """
        match = _SPEC.fullmatch(text.strip())
        if match is None:
            raise UsageError(
                f"cannot read the method {text!r}; write name, or name[option=value;option=value]"
            )
        pairs = [pair.partition("=") for pair in (match["options"] or "").split(";") if pair.strip()]
        spec = cls(match["name"], tuple((name.strip(), value.strip()) for name, _, value in pairs))
        spec.resolved()
        return spec

    @property
    def label(self) -> str:
        """As it is written on the command line."""
        written = ";".join(f"{name}={value}" for name, value in self.options)
        return f"{self.name}[{written}]" if written else self.name

    def resolved(self) -> tuple[type[Method], Any, Any]:
        """The method, the preset it comes from, and its options."""
        method_type = find_method(self.name)
        preset = next(iter(method_type.presets.values()))
        options = method_type.options_type.checked(**{**preset.options.model_dump(), **dict(self.options)})
        return method_type, preset, options


@dataclass(frozen=True)
class Budget:
    """How much work a cell may be; printed in every table made with it.

    Attributes
    ----------
    epochs : int or None
        Passes over the training images; the preset's number if None.
    train_images, test_images : int or None
        At most so many, drawn by the seed; of the test images the classes keep their shares.
    """

    epochs: int | None = None
    train_images: int | None = None
    test_images: int | None = None


@dataclass(frozen=True)
class Cell:
    """What is trained once.

    Attributes
    ----------
    source : Source
        The data set.
    group : tuple of str
        The classes that its scores are measured on.
    method : MethodSpec
        What is trained.
    seed : int
        Fixes weights, order and what is drawn.
    protocol : {'clean', 'published'}
        How it is measured.
    budget : Budget
        How much work it may be.
    image_size : int or None
        Side of the network input; from the data if None.
    precision : {'auto', 'fp32', 'bf16'}
        How training computes.
    """

    source: Source
    group: tuple[str, ...]
    method: MethodSpec
    seed: int
    protocol: Protocol = "clean"
    budget: Budget = field(default_factory=Budget)
    image_size: int | None = None
    precision: Precision = "auto"

    def key(self, anomaly_class: str) -> tuple[Any, ...]:
        """What tells a row of this cell from all others."""
        identity = self.identity()
        return (anomaly_class, *(identity[name] for name in sorted(identity)))

    def identity(self) -> dict[str, Any]:
        """The part of a row that is known before the work."""
        return {
            "method": self.method.label,
            "dataset": self.source.name,
            "seed": self.seed,
            "protocol": self.protocol,
            "epochs_asked": self.budget.epochs,
            "train_images": self.budget.train_images,
            "test_images": self.budget.test_images,
            "image_size_asked": self.image_size,
        }


def run_cell(cell: Cell, checkpoint: Path | None = None, kept: Path | None = None) -> list[dict[str, Any]]:
    """Train once and measure each class of the group.

    Parameters
    ----------
    cell : Cell
        What to do.
    checkpoint : Path, optional
        Where training keeps its state, so that a killed run can go on; removed at the end. The clean protocol's only.
    kept : Path, optional
        Folder for what the figures of each class need, a file for each row that names it; the clean protocol's only.

    Returns
    -------
    list of dict
        A row for each class, as the contract of `benchmark --json` has it and more.
    """
    if cell.protocol == "published":
        checkpoint = None  # it would not know of the looks at the test set that were taken
    method_type, preset, options = cell.method.resolved()
    problem = cell.source.problem(cell.group)
    inspection = inspect_images(problem.train)
    channels = choose_channels(inspection, None).channels
    planned = plan_preprocessing(preset, inspection, image_size=cell.image_size, channels=channels)
    images, preprocessing = read_training_images(problem.train, inspection, planned)
    indices = _drawn(inspection.openable, cell.budget.train_images, cell.seed)
    training = preset.training_for(channels, cell.budget.epochs, seed=cell.seed, precision=cell.precision)
    chosen = _drawn_for_test(problem, cell.budget.test_images, cell.seed)
    classes = {name: truth[chosen] for name, truth in problem.classes.items()}
    published = PublishedProtocol(problem.test, chosen, preprocessing, classes, cell.seed)
    result = train(
        method_type,
        options,
        preprocessing,
        images,
        indices,
        training,
        checkpoint=checkpoint,
        fingerprint=inspection.fingerprint,
        on_epoch=published.look if cell.protocol == "published" else lambda _: None,
    )
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    common = {
        **cell.identity(),
        "epochs": training.epochs if training.steps is None else None,
        "steps": training.steps,
        "image_size": preprocessing.image_size,
        "precision": result.precision,
        "train_seconds": round(result.seconds, 2),
        "n_train": len(indices),
        "threads": torch.get_num_threads(),
        "device": next(result.method.parameters()).device.type,
        "ganomaly": __version__,
        "torch": torch.__version__,
    }
    if cell.protocol == "published":
        common["score_ms_per_batch"] = _milliseconds_per_batch(result.method, images, indices, preprocessing)
        return [
            {"anomaly_class": name, **common, **published.figures(name), **_counts(truth)}
            for name, truth in classes.items()
        ]
    test = Subset(problem.test, chosen)
    scores, slow = _clean_scores(result.method, preprocessing, test)
    common["score_ms_per_batch"] = slow or _milliseconds_per_batch(
        result.method, images, indices, preprocessing
    )
    rows: list[dict[str, Any]] = [
        {"anomaly_class": name, **common, **_clean_figures(scores, truth), **_counts(truth)}
        for name, truth in classes.items()
    ]
    if kept is not None:
        of_classes = artifacts_of_classes(result.method, preprocessing, test, scores, classes, cell.seed)
        for row in rows:
            name = row["anomaly_class"]
            row[KEPT] = file_name((*cell.key(name), result.precision))
            write_artifacts(of_classes[name], kept / row[KEPT])
    return rows


def _clean_scores(
    method: Method, preprocessing: Preprocessing, test: ImageDataset
) -> tuple[NDArray[np.float64], float | None]:
    """A(x) of the test images in eval mode, and of a slow method the mean milliseconds of whole batches.

    An image that cannot be read has NaN.
    """
    scores = np.full(len(test), np.nan)
    start = end = time.perf_counter()
    batches = 0
    for scored in predict_dataset(method, preprocessing, test):
        if scored.score is not None:
            scores[scored.index] = scored.score
        if (scored.index + 1) % BATCH_SIZE == 0:
            end = time.perf_counter()
            batches += 1
    # some may be scored side by side, so that the time between two ends tells nothing
    milliseconds = 1000 * (end - start) / max(1, batches)
    return scores, round(milliseconds, 2) if milliseconds > SLOW_MS else None


def _clean_figures(scores: NDArray[np.float64], truth: NDArray[np.float64]) -> dict[str, Any]:
    plays = np.isfinite(truth) & np.isfinite(scores)
    found = image_metrics(scores[plays], truth[plays] == 1, threshold=float(np.median(scores[plays])))
    return {"auroc": found.image_auroc, "average_precision": found.image_average_precision}


def _counts(truth: NDArray[np.float64]) -> dict[str, int]:
    return {"n_normal": int((truth == 0).sum()), "n_anomalous": int((truth == 1).sum())}


def _drawn(indices: NDArray[np.int64], most: int | None, seed: int) -> NDArray[np.int64]:
    """At most so many of the indices, in their order."""
    if most is None or most >= len(indices):
        return indices
    return np.sort(np.random.default_rng([seed, len(indices)]).permutation(indices)[:most])


def _drawn_for_test(problem: Problem, most: int | None, seed: int) -> NDArray[np.int64]:
    """Test images: all, or so many that normal ones and each class keep their shares, at least one of each."""
    everything = np.arange(len(problem.test))
    if most is None or most >= len(everything):
        return everything
    roles = np.nan_to_num(np.stack(list(problem.classes.values())), nan=-1)
    strata = np.unique(roles, axis=1, return_inverse=True)[1].ravel()
    share = most / len(everything)
    drawn = []
    for stratum in np.unique(strata):
        members = everything[strata == stratum]
        drawn.append(_drawn(members, max(1, round(share * len(members))), seed))
    return np.sort(np.concatenate(drawn))


def _milliseconds_per_batch(
    method: Method, images: ImageLoader, indices: NDArray[np.int64], preprocessing: Preprocessing
) -> float:
    """Median time to score a batch of 64, in milliseconds, without decoding."""
    device = next(method.parameters()).device
    some = np.resize(indices, BATCH_SIZE)
    parts = list(images.batches(iter([some])))
    times: list[float] = []
    with eval_mode(method):
        while len(times) < TIMED_BATCHES and not (times and times[0] > SLOW_MS):
            start = time.perf_counter()
            for pixels in parts:
                method.predict(network_input(pixels, preprocessing.white_level, device)).score.cpu()
            times.append(1000 * (time.perf_counter() - start))
    return round(float(np.median(times)), 2)


def split_methods(text: str) -> Sequence[MethodSpec]:
    """Read `--methods`: names separated by commas, each perhaps with options in brackets."""
    return [MethodSpec.parsed(part) for part in re.split(r",(?![^\[]*\])", text) if part.strip()]

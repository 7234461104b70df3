"""What a trial is worth: how well its model finds synthetic defects in normal images that it has not seen.

The measure is that of the audit, `defect_auroc`: the scores of images with a defect against those of the same images
without it, as two groups. So a model is not rewarded for anything but the defect.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganomaly.config import FitOptions, Preprocessing
from ganomaly.data import (
    ImageDataset,
    Inspection,
    Subset,
    check_enough_images,
    inspect_images,
    split_normal_images,
)
from ganomaly.data.evaluation_defects import DEFECTS, DefectiveImages
from ganomaly.errors import DataError
from ganomaly.methods import Method
from ganomaly.metrics import audit_metrics, image_metrics
from ganomaly.prediction.pytorch import predict_dataset
from ganomaly.training.loop import run_length, train
from ganomaly.training.plan import plan_training
from ganomaly.training.read_images import read_training_images

HELD_OUT_SHARE = 0.25
MOST_HELD_OUT = 60  # images; more make the figure a little steadier, and each trial longer
ENOUGH_DEFECTS = 60
MOST_DEFECTS_PER_IMAGE = 4
FEWEST_IMAGES = 64
"""That a training gets, where there are so many: memory banks and statistics come from them, whatever the share."""

FIRST_RUNG = 0.25
"""Share of a trial's training after which it is measured first, so that a poor one ends there. It is a training of
its own: learning rates fall to the end of a training, and banks and statistics come after it."""

LAST_RUNG = 1
_TIMED_IMAGES = 9  # the first does not count


@dataclass(frozen=True)
class Measure:
    """What a trained model is worth.

    Attributes
    ----------
    value : float
        The AUROC that the search maximises.
    milliseconds : float
        Time to predict one image alone, from file to score.
    per_kind : mapping of str to float
        The same AUROC for each kind of defect.
    """

    value: float
    milliseconds: float
    per_kind: Mapping[str, float] = field(default_factory=dict)


class TooSlowError(Exception):
    """The model needs longer for an image than the user allows."""


@dataclass(frozen=True, eq=False)
class Objective:
    """Trains with some options, and measures.

    Attributes
    ----------
    training, held_out : ImageDataset
        Normal images that trials train on, a share of all that are not held out, and those that are measured with.
    inspection : Inspection
        Of `training`.
    n_training : int
        All that are not held out; the steps of a whole training may follow from their number.
    defective : ImageDataset
        The images of `held_out` with synthetic defects, or labelled images.
    pairs : ndarray
        `int64[n]`, the image of `held_out` that each of `defective` was made from; empty for labelled images.
    budget : float
        Share of the preset's training that a trial gets, of its steps and of the images.
    max_ms : float or None
        Longest time to predict an image.
    is_labelled : bool
        Whether `defective` are labelled images, whose labels the search then sees.
    """

    training: ImageDataset
    held_out: ImageDataset
    inspection: Inspection
    n_training: int
    defective: ImageDataset
    pairs: Any
    budget: float
    max_ms: float | None
    is_labelled: bool

    @classmethod
    def of(
        cls,
        dataset: ImageDataset,
        inspection: Inspection,
        *,
        seed: int,
        budget: float,
        max_ms: float | None = None,
        labelled: ImageDataset | None = None,
    ) -> "Objective":
        """Hold out normal images, by the seed, and put defects into them; or take labelled images instead.

        Raises
        ------
        DataError
            If there are too few images, or the labelled ones are all of one class.
        """
        n_images = len(inspection.openable)
        check_enough_images(n_images)
        split = split_normal_images(
            inspection.openable,
            share=min(HELD_OUT_SHARE, MOST_HELD_OUT / n_images),
            at_least=1,
            seed=seed,
            groups=inspection.groups,
        )
        training = Subset(dataset, _share(split.training, budget))
        held_out = Subset(dataset, split.calibration)
        pairs = np.arange(0)
        if labelled is not None:
            defective = labelled
            classes = {record.is_anomalous for record in labelled.records}
            if not {True, False} <= classes:
                raise DataError(
                    f"{labelled.name} has images of one class only; a search with labels needs normal and "
                    "anomalous ones"
                )
        else:
            copies = min(max(-(-ENOUGH_DEFECTS // len(held_out)), 1), MOST_DEFECTS_PER_IMAGE)
            pairs = np.tile(np.arange(len(held_out)), copies)
            names = list(DEFECTS)  # each image gets another kind in each copy
            kinds = [names[(n % len(held_out) + n // len(held_out)) % len(names)] for n in range(len(pairs))]
            defective = DefectiveImages(held_out, pairs.tolist(), kinds, seed)
        inspected = inspect_images(training)
        n_training, is_labelled = len(split.training), labelled is not None
        return cls(training, held_out, inspected, n_training, defective, pairs, budget, max_ms, is_labelled)

    def describe(self) -> str:
        """What is measured, in a sentence."""
        if self.is_labelled:
            return f"AUROC of the {len(self.defective)} labelled images in {self.defective.name}"
        return (
            f"AUROC of {len(self.defective)} synthetic defects in {len(self.held_out)} normal images that trials do "
            "not train on, against the same images without them"
        )

    def measure(self, options: FitOptions, on_rung: Callable[[int, Measure], None]) -> Measure:
        """Train and measure, first with a part of the budget; the measure after all of it.

        Parameters
        ----------
        options : FitOptions
            What to train.
        on_rung : callable
            Called with the number of a rung before the last and its measure; it ends the trial by an exception.

        Raises
        ------
        TooSlowError
            If the time limit is exceeded.
        UsageError, TrainingError, DataError
            If these options cannot be trained, or the model does not work.
        """
        plan = plan_training(self.training, self.inspection, options)
        loader, preprocessing = read_training_images(self.training, self.inspection, plan.preprocessing)
        usable = np.intersect1d(self.inspection.openable, loader.usable)
        full = run_length(plan.training, self.n_training, loader.patches_per_image)[2]
        lengths = {max(1, round(full * self.budget * share)): share for share in (FIRST_RUNG, 1.0)}
        measure = None
        for rung, (n_steps, share) in enumerate(sorted(lengths.items())):
            result = train(
                plan.method.method_type,
                plan.method.options,
                preprocessing,
                loader,
                _share(usable, share),
                plan.training.model_copy(update={"steps": n_steps}),
            )
            measure = self._measured(result.method, preprocessing, options)
            if share != 1:
                on_rung(rung, measure)
        assert measure is not None
        return measure

    def _measured(self, method: Method, preprocessing: Preprocessing, options: FitOptions) -> Measure:
        milliseconds = self._milliseconds(method, preprocessing, options)
        if self.max_ms is not None and milliseconds > self.max_ms:
            raise TooSlowError(f"{milliseconds:.3g} ms for an image, and at most {self.max_ms:g} are allowed")
        defective = _scores(method, preprocessing, self.defective, options)
        if self.is_labelled:
            labels = np.array([bool(record.is_anomalous) for record in self.defective.records])
            read = np.isfinite(defective)
            kinds = [record.kind for record, one in zip(self.defective.records, read, strict=True) if one]
            threshold = float(np.median(defective[read]))
            metrics = image_metrics(defective[read], labels[read], threshold, kinds)
            aurocs = {kind: figures.image_auroc for kind, figures in metrics.per_kind.items()}
            return _measure(metrics.image_auroc, milliseconds, aurocs)
        # decoded as the defective ones are, at full size, so that nothing else differs
        clean = DefectiveImages(self.held_out, range(len(self.held_out)), [None] * len(self.held_out), 0)
        without = _scores(method, preprocessing, clean, options)[self.pairs]
        read = np.isfinite(defective) & np.isfinite(without)
        kinds = [record.kind for record, one in zip(self.defective.records, read, strict=True) if one]
        audit = audit_metrics(defective[read], without[read], kinds, without[read], [], [], [])
        aurocs = {kind: figures.defect_auroc for kind, figures in audit.per_kind.items()}
        return _measure(audit.defect_auroc, milliseconds, aurocs)

    def _milliseconds(self, method: Method, preprocessing: Preprocessing, options: FitOptions) -> float:
        """Time of one image alone: the lower quartile, since other work of the machine only adds to it."""
        times = []
        for number in range(_TIMED_IMAGES):
            one = Subset(self.held_out, np.array([number % len(self.held_out)]))
            start = time.perf_counter()
            list(predict_dataset(method, preprocessing, one, device=options.device, batch_size=1))
            times.append(1000 * (time.perf_counter() - start))
        return float(np.quantile(times[1:], 0.25))


def _share(indices: NDArray[np.int64], share: float) -> NDArray[np.int64]:
    """Some of the images, evenly from first to last."""
    n = min(len(indices), max(FEWEST_IMAGES, round(share * len(indices))))
    return indices[np.linspace(0, len(indices) - 1, n).round().astype(np.int64)]


def _measure(value: float | None, milliseconds: float, per_kind: Mapping[str, float | None]) -> Measure:
    if value is None:
        raise DataError("none of the images that a trial is measured with can be read; repair or remove them")
    return Measure(
        value, milliseconds, {kind: auroc for kind, auroc in per_kind.items() if auroc is not None}
    )


def _scores(method: Method, preprocessing: Preprocessing, dataset: ImageDataset, options: FitOptions) -> Any:
    """A(x), `float64[n]`; NaN for an image that cannot be read."""
    scores = np.full(len(dataset), np.nan)
    for prediction in predict_dataset(method, preprocessing, dataset, device=options.device):
        if prediction.score is not None:
            scores[prediction.index] = prediction.score
    return scores

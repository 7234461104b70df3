"""Audit a model: predict images with their defects painted out, and normal images with the same areas painted."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ganomaly.audit.datasets import PaintedImages, Painting, moved_mask
from ganomaly.config import BATCH_SIZE, SEED
from ganomaly.data import ImageDataset
from ganomaly.errors import ImageError
from ganomaly.metrics import Audit, audit_metrics
from ganomaly.prediction import Predictor

MAX_MASKED = 0.1
"""Largest share of an image that is painted; painting most of an image out proves nothing."""


@dataclass(frozen=True)
class AuditedPair:
    """The scores of an image with its defect and with the defect painted out.

    Attributes
    ----------
    index : int
        The image in its dataset.
    score, painted_out_score : float
        A(x) with and without the defect.
    """

    index: int
    score: float
    painted_out_score: float


@dataclass(frozen=True)
class AuditedImages:
    """The audit of a model on labelled images, and the pairs that it comes from.

    Attributes
    ----------
    audit : Audit
        The figures.
    pairs : tuple of AuditedPair
        One for each audited image, in the order of the dataset.
    failures : mapping of str to str
        Path of each image that could not be painted and predicted, and why.
    """

    audit: Audit
    pairs: tuple[AuditedPair, ...]
    failures: Mapping[str, str]


@dataclass(frozen=True)
class AuditPlan:
    """What is painted.

    Attributes
    ----------
    defects, controls : tuple of Painting
        Anomalous images with their own masks, and normal images with the masks of others.
    n_mask_too_large, n_without_mask : int
        Anomalous images left out.
    """

    defects: tuple[Painting, ...]
    controls: tuple[Painting, ...]
    n_mask_too_large: int
    n_without_mask: int

    @property
    def paintings(self) -> tuple[Painting, ...]:
        """All of them, defects first."""
        return self.defects + self.controls


def plan_audit(dataset: ImageDataset, scores: Mapping[int, float], *, seed: int = SEED) -> AuditPlan:
    """Choose which images are painted, and where.

    Every mask that covers at most a tenth of its image is painted twice: in its own image, and in a normal image
    that the seed chooses, in which it covers at most a tenth too. All normal images come equally often, as far as
    the masks fit into them. Where the dataset has the image without its defect, nothing is painted.

    Parameters
    ----------
    dataset : ImageDataset
        Labelled images with masks.
    scores : mapping of int to float
        Index and A(x) of the images that could be read; the others are not painted.
    seed : int
        Of the choice of normal images.
    """
    defects: list[Painting] = []
    controls: list[Painting] = []
    n_too_large = n_without = 0
    queue = _shuffled_normal_images(dataset, scores, seed)
    for index, record in enumerate(dataset.records):
        if not record.is_anomalous or index not in scores:
            continue
        mask = _readable_mask(dataset, index)
        if dataset.open_without_defect(index) is not None:
            defects.append(Painting(index, index, is_recorded=True))
        elif mask is None:
            n_without += 1
        elif mask.mean() > MAX_MASKED:
            n_too_large += 1
        else:
            defects.append(Painting(index, index))
            control = next((image for image in queue if _fits(dataset, image, mask)), None)
            if control is not None:
                queue.remove(control)
                queue.append(control)
                controls.append(Painting(control, index))
    return AuditPlan(tuple(defects), tuple(controls), n_too_large, n_without)


def audit_model(
    model: Predictor,
    dataset: ImageDataset,
    scores: Mapping[int, float],
    plan: AuditPlan,
    *,
    seed: int = SEED,
    batch_size: int = BATCH_SIZE,
    on_prediction: Callable[[int], None] = lambda done: None,
) -> AuditedImages:
    """Predict painted images, and compare with the scores of the originals.

    Parameters
    ----------
    model : Predictor
        The model to audit.
    dataset : ImageDataset
        Labelled images with masks.
    scores : mapping of int to float
        Index and A(x) of the images as they are, of the same model.
    plan : AuditPlan
        What is painted, from `plan_audit`.
    seed : int
        Of the painting.
    batch_size : int
        Images per batch.
    on_prediction : callable
        Called with the number of images predicted so far.
    """
    painted_scores: dict[int, float] = {}
    failures: dict[str, str] = {}
    if plan.paintings:
        painted = PaintedImages(dataset, plan.paintings, seed)
        for prediction in model.predict(painted, batch_size=batch_size):
            on_prediction(prediction.index + 1)
            if prediction.score is None:
                failures[f"{prediction.path}, painted"] = prediction.error or "could not be read"
            else:
                painted_scores[prediction.index] = prediction.score
    predicted = [(plan.paintings[number], score) for number, score in painted_scores.items()]
    defects = [(painting, score) for painting, score in predicted if painting.image == painting.mask]
    controls = [(painting, score) for painting, score in predicted if painting.image != painting.mask]
    records = dataset.records
    audit = audit_metrics(
        with_defect=[scores[painting.image] for painting, _ in defects],
        painted_out=[score for _, score in defects],
        kinds=[records[painting.image].kind for painting, _ in defects],
        normal=[score for index, score in scores.items() if records[index].is_anomalous is False],
        control_before=[scores[painting.image] for painting, _ in controls],
        control_painted=[score for _, score in controls],
        control_kinds=[records[painting.mask].kind for painting, _ in controls],
        n_mask_too_large=plan.n_mask_too_large,
        n_without_mask=plan.n_without_mask,
        n_recorded=sum(painting.is_recorded for painting, _ in defects),
        seed=seed,
    )
    pairs = tuple(AuditedPair(painting.image, scores[painting.image], score) for painting, score in defects)
    return AuditedImages(audit, pairs, failures)


def _shuffled_normal_images(dataset: ImageDataset, scores: Mapping[int, float], seed: int) -> list[int]:
    normal = [index for index in sorted(scores) if dataset.records[index].is_anomalous is False]
    return [normal[position] for position in np.random.default_rng(seed).permutation(len(normal))]


def _readable_mask(dataset: ImageDataset, index: int) -> NDArray[np.bool_] | None:
    """The mask; None if there is none, it is empty, or it cannot be read, which the evaluation lists."""
    try:
        mask = dataset.read_mask(index)
    except ImageError:
        return None
    return mask if mask is not None and mask.any() else None


def _fits(dataset: ImageDataset, index: int, mask: NDArray[np.bool_]) -> bool:
    """Whether a mask can be painted in an image and covers at most a tenth of it."""
    try:
        with dataset.open(index) as image:
            header = image.header
    except ImageError:
        return False
    moved = moved_mask(mask, header.height, header.width)
    return moved is not None and bool(moved.mean() <= MAX_MASKED)

"""What `fit` would do, and how long it would take on this machine, before it is done.

What would be done follows from headers alone. How long it takes is measured: a few steps are trained, and a few
images predicted, on noise of the same size, and multiplied. That is rough: parts of the work do not grow in
proportion, as the choice of what a memory bank keeps; other programs share the processor; and reading the images,
which depends on disk and format, is not measured. So a forecast is a range, from half of what was measured to twice.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ganomaly.calibration import images_needed, more_needed
from ganomaly.config import Preprocessing
from ganomaly.data import ImageArrays, ImageLoader, inspect_images
from ganomaly.prediction.pytorch import predict_dataset
from ganomaly.training.loop import run_length, train
from ganomaly.training.plan import TrainingPlan

_STEPS, _PATCH_STEPS = 12, 6  # measured; the first half is slower, and does not count
_PATCH_IMAGES = 4  # of noise, where the method takes patches: each may be large
_PREDICTED = 3  # of noise; the first does not count
_LARGEST_SIDE = 1024  # px of an image of noise; larger ones are forecast by their area
_LOW, _HIGH = 0.5, 2.0


@dataclass(frozen=True)
class Duration:
    """How long a run is likely to take.

    Attributes
    ----------
    seconds : float
        As measured and multiplied.
    """

    seconds: float

    def in_words(self) -> str:
        """A range, such as "40 s to 2 min"; one duration, where its ends are the same in words."""
        low, high = _in_words(_LOW * self.seconds), _in_words(_HIGH * self.seconds)
        return low if low == high else f"{low} to {high}"


def threshold_in_words(plan: TrainingPlan, false_alarm_rate: float) -> str:
    """What the threshold will be worth: the rate that so many calibration images allow."""
    counts = [len(plan.split.calibration)]
    of_what = ""
    if plan.products is not None:
        parts = plan.products.values()
        counts = [len(np.intersect1d(indices, plan.split.calibration)) for indices in parts]
        of_what = " of the product with the fewest"
    n, needed = min(counts), images_needed(false_alarm_rate)
    unit = "images" if plan.split.n_groups is None else "patients"
    if n >= needed:
        return f"The threshold will have the false-alarm rate of {false_alarm_rate:g} that was asked for."
    return (
        f"The threshold will have a false-alarm rate of {1 / (1 + n):.2g}, not {false_alarm_rate:g}: that needs "
        f"{needed} calibration {unit}, and there {'is' if n == 1 else 'are'} {n}{of_what}; "
        f"{more_needed(needed, unit)}."
    )


def forecast_duration(plan: TrainingPlan, loader: ImageLoader) -> Duration:
    """Measure a few steps on noise, and multiply.

    Parameters
    ----------
    plan : TrainingPlan
        What would be done.
    loader : ImageLoader
        Of the plan; it need not have read anything.
    """
    batch_size, _, steps = run_length(plan.training, len(plan.split.training), loader.patches_per_image)
    noise, area_share = _noise(plan, batch_size)
    preprocessing = plan.preprocessing
    images = ImageLoader.of(noise, inspect_images(noise), preprocessing)
    images.load()
    n_steps = _STEPS if preprocessing.scale is None else _PATCH_STEPS
    training = plan.training.model_copy(update={"steps": n_steps})
    times: list[float] = []
    indices = np.arange(len(noise))
    started = time.perf_counter()
    result = train(
        plan.method.method_type,
        plan.method.options,
        preprocessing,
        images,
        indices,
        training,
        on_progress=lambda _: times.append(time.perf_counter()),
    )
    ended = time.perf_counter()
    # a short burst of other work slows some steps here, and few of a long run
    per_step = float(np.quantile(np.diff(times)[len(times) // 2 - 1 :], 0.25))
    n_statistics = min(result.method.statistics_images, len(plan.split.training))
    n_measured = max(1, min(result.method.statistics_images, len(noise)))
    statistics = (ended - times[-1]) / area_share * n_statistics / n_measured
    predicting = _seconds_per_image(result.method, preprocessing, noise, plan) / area_share
    once = times[0] - started - per_step  # building networks and loading weights
    return Duration(max(0.0, once) + per_step * steps + statistics + predicting * len(plan.split.calibration))


def _seconds_per_image(
    method: Any, preprocessing: Preprocessing, noise: ImageArrays, plan: TrainingPlan
) -> float:
    few = ImageArrays([noise.read(index) for index in range(min(_PREDICTED, len(noise)))])
    predictions: Iterator[Any] = iter(
        predict_dataset(method, preprocessing, few, device=plan.training.device, batch_size=1, details=True)
    )
    next(predictions)
    started = time.perf_counter()
    n = sum(1 for _ in predictions)
    return (time.perf_counter() - started) / max(1, n)


def _noise(plan: TrainingPlan, batch_size: int) -> tuple[ImageArrays, float]:
    """Images of noise as the plan's, and which share of an image's area one of them has."""
    preprocessing, inspection = plan.preprocessing, plan.inspection
    if preprocessing.scale is None:
        n, height, width = max(_PREDICTED, batch_size), preprocessing.image_size, preprocessing.image_size
        share = 1.0
    else:
        n = _PATCH_IMAGES
        height, width = (
            max(preprocessing.image_size, min(side, _LARGEST_SIDE))
            for side in (inspection.median_height, inspection.median_width)
        )
        share = min(1.0, height * width / (inspection.median_height * inspection.median_width))
    dtype: Any = np.uint8 if preprocessing.bits == 8 else np.uint16
    shape = (n, height, width, preprocessing.channels)
    pixels = np.random.default_rng(0).integers(0, preprocessing.white_level + 1, shape, dtype=dtype)
    return ImageArrays(pixels), share


def _in_words(seconds: float) -> str:
    """A duration with one or two digits, as 8 s, 3 min, 2.5 h."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.2g} h"

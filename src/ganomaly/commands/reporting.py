"""What several commands report: a model's summary, and the images that could not be read."""

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from ganomaly.commands.console import Console
from ganomaly.data import ImageDataset, ImagesWithIgnoredRegions
from ganomaly.data.sources.dataset import left_out_in_words
from ganomaly.prediction import Predictor

if TYPE_CHECKING:
    from ganomaly.outputs.report import ReportBuilder

MAX_LISTED_FAILURES = 20


def report_builder(model: Predictor, title: str, notice: str | None = None) -> "ReportBuilder":
    """An empty report for predictions of a model."""
    from ganomaly.outputs.report import ReportBuilder

    calibration = model.calibration
    return ReportBuilder(
        title=title,
        threshold=calibration.threshold,
        false_alarm_rate=calibration.false_alarm_rate,
        calibration_scores=calibration.scores,
        model_summary={name: str(value) for name, value in model_summary(model).items()},
        notice=notice,
        calibration_unit="image" if model.provenance.get("patients") is None else "patient",
    )


def model_summary(model: Predictor) -> dict[str, Any]:
    """Names and values to show of a model."""
    preprocessing = model.preprocessing
    return {
        "method": model.method_name,
        "preset": model.preset,
        "network input": (
            f"{preprocessing.image_size}×{preprocessing.image_size} px, {preprocessing.channels_in_words}, "
            f"{preprocessing.bits} bit"
        ),
        **{name: value for name, value in model.method_options.items() if value not in ("", None)},
        **{name: value for name, value in model.provenance.items() if value not in (None, [])},
    }


def images_in_words(n: int, what: str = "image") -> str:
    """As `1 image` or `2 images`."""
    return f"{n} {what}{'' if n == 1 else 's'}"


def tell_of_data(console: Console, model: Predictor, dataset: ImageDataset) -> None:
    """Say what may not be as the user thinks: files that are left out, masks that the model was not fitted with."""
    left_out = left_out_in_words(dataset)
    if left_out is not None:
        console.warn(left_out)
    if isinstance(dataset, ImagesWithIgnoredRegions):
        console.say(dataset.describe())
        if model.preprocessing.ignored is None and not model.provenance.get("ignored_regions"):
            console.warn(
                "the model was not fitted with --ignore as far as its file says: normal images with a region that "
                "is ignored may get other scores than those it was calibrated with; fit it with masks too"
            )


def list_failures(console: Console, failures: Mapping[str, str]) -> None:
    """Say which images could not be read, and why."""
    list_first_failures(console, len(failures), failures.items())


def list_first_failures(console: Console, n_failures: int, first: Iterable[tuple[str, str]]) -> None:
    """Say how many images could not be read, and of the first of them path and reason."""
    if not n_failures:
        return
    console.warn(f"{images_in_words(n_failures)} could not be read:")
    for path, why in islice(first, MAX_LISTED_FAILURES):
        console.say(f"  {path}: {why}")
    if n_failures > MAX_LISTED_FAILURES:
        console.say(f"  … and {n_failures - MAX_LISTED_FAILURES} more")

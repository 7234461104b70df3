"""What the verbs share when they tell people what they found."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ganomaly.commands.console import Console
from ganomaly.data import ImageRecord
from ganomaly.outputs import ScoreRow
from ganomaly.outputs.report import ReportBuilder, ReportRow
from ganomaly.prediction import Predictor

MOST_LISTED_FAILURES = 20


def report_builder(model: Predictor, title: str, notice: str | None = None) -> ReportBuilder:
    """A report that knows its model."""
    calibration = model.calibration
    return ReportBuilder(
        title=title,
        threshold=calibration.threshold,
        false_alarm_rate=calibration.false_alarm_rate,
        calibration_scores=calibration.scores,
        model_summary={name: str(value) for name, value in model_summary(model).items()},
        notice=notice,
    )


def model_summary(model: Predictor) -> dict[str, Any]:
    """What a person may want to know of a model, by name."""
    preprocessing = model.preprocessing
    return {
        "method": model.method_name,
        "preset": model.preset,
        "network input": (
            f"{preprocessing.image_size}×{preprocessing.image_size} px, {preprocessing.channels} channel(s), "
            f"{preprocessing.bits} bit"
        ),
        **model.method_options,
        **model.provenance,
    }


def report_row(row: ScoreRow, record: ImageRecord) -> ReportRow:
    """A verdict with what is known of its image."""
    return ReportRow(**asdict(row), kind=record.kind, labelled_anomalous=record.is_anomalous)


def list_failures(console: Console, failures: Mapping[str, str]) -> None:
    """Say which images could not be read, and why."""
    if not failures:
        return
    images = "image" if len(failures) == 1 else "images"
    console.warn(f"{len(failures)} {images} could not be read:")
    for path, why in list(failures.items())[:MOST_LISTED_FAILURES]:
        console.say(f"  {path}: {why}")
    if len(failures) > MOST_LISTED_FAILURES:
        console.say(f"  … and {len(failures) - MOST_LISTED_FAILURES} more")

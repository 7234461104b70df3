"""What the API answers: rows of the store as JSON."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from ganomaly.store.schema import DriftRow, PredictionRow, ReviewRow, VersionRow


class ErrorAnswer(BaseModel):
    """Why a request is refused."""

    error: str


class ReviewAnswer(BaseModel):
    """What a person said."""

    label: str
    note: str
    reviewer: str
    created: datetime
    undone: datetime | None

    @classmethod
    def of(cls, row: ReviewRow) -> "ReviewAnswer":
        """From a row."""
        return cls(
            label=row.label, note=row.note, reviewer=row.reviewer, created=row.created, undone=row.undone
        )


class PredictionAnswer(BaseModel):
    """What a model said of an image, and what a person says of it."""

    id: int
    model: str
    version: int
    name: str
    score: float
    normalized_score: float
    p_value: float
    is_anomaly: bool
    threshold: float
    image_url: str | None
    map_url: str | None
    overlay_url: str | None
    created: datetime
    source: str
    product: str | None
    width: int
    height: int
    in_sample: bool
    label: str | None
    reviews: list[ReviewAnswer] | None = None

    @classmethod
    def of(cls, row: PredictionRow, model: str, reviews: list[ReviewRow] | None = None) -> "PredictionAnswer":
        """From a row and the name of its model."""
        url = f"/v1/predictions/{row.id}"
        return cls(
            id=row.id,
            model=model,
            version=row.version,
            name=row.name,
            score=row.score,
            normalized_score=row.normalized_score,
            p_value=row.p_value,
            is_anomaly=row.is_anomaly,
            threshold=row.threshold,
            image_url=f"{url}/image" if row.has_image else None,
            map_url=f"{url}/map" if row.has_map else None,
            overlay_url=f"{url}/overlay" if row.has_image and row.has_map else None,
            created=row.created,
            source=row.source,
            product=row.product,
            width=row.width,
            height=row.height,
            in_sample=row.in_sample,
            label=row.label,
            reviews=None if reviews is None else [ReviewAnswer.of(review) for review in reviews],
        )


class PredictionsAnswer(BaseModel):
    """A page of predictions."""

    predictions: list[PredictionAnswer]
    next_cursor: str | None


class VersionAnswer(BaseModel):
    """A version of a model."""

    number: int
    threshold: float
    false_alarm_rate: float
    calibration_images: int
    reason: str
    based_on: int | None
    created: datetime
    created_by: str
    details: dict[str, Any]

    @classmethod
    def of(cls, row: VersionRow) -> "VersionAnswer":
        """From a row."""
        return cls(
            number=row.number,
            threshold=row.threshold,
            false_alarm_rate=row.false_alarm_rate,
            calibration_images=len(row.calibration_scores) // 8,
            reason=row.reason,
            based_on=row.based_on,
            created=row.created,
            created_by=row.created_by,
            details=row.details,
        )


class ModelAnswer(BaseModel):
    """A model that is served."""

    name: str
    method: str
    preset: str
    active_version: int
    threshold: float
    false_alarm_rate: float
    waiting: int
    versions: list[VersionAnswer]


class ModelsAnswer(BaseModel):
    """All models that are served."""

    models: list[ModelAnswer]


class DriftAnswer(BaseModel):
    """Whether the images have changed."""

    model: str
    version: int
    alpha: float
    alarm: datetime | None
    alarm_prediction: int | None
    alarm_cause: str | None
    log10_martingale: float
    points: list[list[int | float]]

    @classmethod
    def of(cls, model: str, version: int, alpha: float, row: DriftRow | None) -> "DriftAnswer":
        """From a row, or from none before the first look."""
        points: list[list[int | float]] = (
            [] if row is None else [[int(n), float(value)] for n, value in row.points]
        )
        return cls(
            model=model,
            version=version,
            alpha=alpha,
            alarm=None if row is None else row.alarm,
            alarm_prediction=None if row is None else row.alarm_prediction,
            alarm_cause=None if row is None else row.alarm_cause,
            log10_martingale=points[-1][1] if points else 0.0,
            points=points,
        )


class HealthAnswer(BaseModel):
    """Whether the station works."""

    status: Literal["ok", "not ready"]
    problems: dict[str, str]


class ReviewRequest(BaseModel):
    """What a person says of a prediction."""

    label: str = Field(description="normal, unsure, or the kind of defect", min_length=1, max_length=64)
    note: str = Field(default="", max_length=2000)


class RecalibrationRequest(BaseModel):
    """How to recalibrate."""

    use: Literal["auto", "add", "replace"] = "auto"
    false_alarm_rate: float | None = Field(default=None, gt=0, lt=1)
    update: bool = Field(
        default=False, description="Also let the model learn from the images, without training."
    )
    dry_run: bool = Field(default=False, description="Compare only, and change nothing.")


class VersionRequest(BaseModel):
    """Which version is to predict."""

    version: int = Field(ge=1, lt=2**31)


class ProposalAnswer(BaseModel):
    """A new version, beside the one before on the same reviewed images."""

    version: VersionAnswer | None
    proposal: dict[str, Any]

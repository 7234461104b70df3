"""The tables: models and their versions, predictions, reviews, drift, keys and events that wait to be sent."""

from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NORMAL = "normal"
"""The label of a review that says an image is normal; any other label is a kind of defect."""

UNSURE = "unsure"
"""The label of a review that could not decide: the image counts neither as normal nor as anomalous."""

MAX_LABEL, MAX_NAME, MAX_NOTE, MAX_KEY = 64, 255, 2000, 200

Role = Literal["station", "reviewer", "admin"]
"""What a key may do."""

Id = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows by itself for its own integers only


class UtcTime(TypeDecorator[datetime]):
    """A time in UTC; SQLite would forget the zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:
        """Store in UTC."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: Any) -> datetime | None:
        """Read as UTC."""
        if value is None:
            return None
        time: datetime = value
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


class Base(DeclarativeBase):
    """Of all tables."""


class ModelRow(Base):
    """A model by its name; which of its versions predicts."""

    __tablename__ = "model"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(String(MAX_NAME), unique=True)
    active_version: Mapped[int | None] = mapped_column(Integer)
    created: Mapped[datetime] = mapped_column(UtcTime)


class VersionRow(Base):
    """A version of a model: its file and its calibration. Rows are never changed."""

    __tablename__ = "model_version"
    __table_args__ = (UniqueConstraint("model_id", "number"),)
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("model.id"))
    number: Mapped[int] = mapped_column(Integer)
    file: Mapped[str] = mapped_column(String(MAX_NAME))
    """Name of the model file in the store's folder; it begins with its digest."""
    calibration_scores: Mapped[bytes] = mapped_column(LargeBinary)
    """`float64`, little-endian, sorted."""
    false_alarm_rate: Mapped[float] = mapped_column(Float)
    threshold: Mapped[float] = mapped_column(Float)
    based_on: Mapped[int | None] = mapped_column(Integer)
    reason: Mapped[str] = mapped_column(String(MAX_LABEL))
    details: Mapped[dict[str, Any]] = mapped_column(JSON)
    created: Mapped[datetime] = mapped_column(UtcTime)
    created_by: Mapped[str] = mapped_column(String(MAX_NAME))


RARE = 0.05
"""p-values up to this one have an index of their own: few images have them."""


def partial_index(name: str, *columns: str, where: str | tuple[str, str]) -> Index:
    """An index of some predictions; a query takes it if its own conditions say literally the same, or imply it."""
    sqlite, postgresql = (where, where) if isinstance(where, str) else where
    return Index(
        f"ix_prediction_{name}", *columns, sqlite_where=text(sqlite), postgresql_where=text(postgresql)
    )


class PredictionRow(Base):
    """What a version of a model said of an image, and what a person says of it now."""

    __tablename__ = "prediction"
    __table_args__ = (
        UniqueConstraint("model_id", "key"),
        Index("ix_prediction_newest", "model_id", "id"),
        Index("ix_prediction_worst", "model_id", "normalized_score", "id", "is_anomaly"),
        Index("ix_prediction_part", "model_id", "name", "id"),
        # what is rare among millions, or looked at all day, has an index of its own
        partial_index("queue", "model_id", "normalized_score", "id", "is_anomaly", where="label IS NULL"),
        partial_index("reviewed", "model_id", "id", "label", where="label IS NOT NULL"),
        partial_index(
            "anomalous", "model_id", "id", "label", "in_sample", where=("is_anomaly = 1", "is_anomaly")
        ),
        partial_index(
            "anomalous_worst",
            "model_id",
            "normalized_score",
            "id",
            "label",
            where=("is_anomaly = 1", "is_anomaly"),
        ),
        partial_index("rare", "model_id", "id", "p_value", where=f"p_value <= {RARE}"),
        partial_index(
            "rare_worst", "model_id", "normalized_score", "id", "p_value", where=f"p_value <= {RARE}"
        ),
        partial_index(
            "sample", "model_id", "id", "label", "is_anomaly", where=("in_sample = 1", "in_sample")
        ),
        partial_index(
            "disagreement", "model_id", "normalized_score", "id", where=("disagrees = 1", "disagrees")
        ),
        Index("ix_prediction_created", "created"),
        Index("ix_prediction_digest", "digest"),
        {"sqlite_autoincrement": True},  # a number is never given twice, whatever was removed
    )
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("model.id"))
    version: Mapped[int] = mapped_column(Integer)
    key: Mapped[str] = mapped_column(String(MAX_KEY))
    """The client's Idempotency-Key, or a random one."""
    name: Mapped[str] = mapped_column(String(MAX_NAME))
    """What the client calls the part, as a serial number or a file name."""
    source: Mapped[str] = mapped_column(String(MAX_LABEL))
    digest: Mapped[str] = mapped_column(String(64))
    """SHA-256 of the encoded image, in hexadecimal."""
    media_type: Mapped[str] = mapped_column(String(MAX_LABEL))
    n_bytes: Mapped[int] = mapped_column(BigInteger)
    product: Mapped[str | None] = mapped_column(String(MAX_NAME))
    """That the model took the image for, where it knows several."""
    height: Mapped[int] = mapped_column(Integer)
    width: Mapped[int] = mapped_column(Integer)
    score: Mapped[float] = mapped_column(Float(53))
    normalized_score: Mapped[float] = mapped_column(Float(53))
    p_value: Mapped[float] = mapped_column(Float(53))
    threshold: Mapped[float] = mapped_column(Float(53))
    is_anomaly: Mapped[bool] = mapped_column()
    in_sample: Mapped[bool] = mapped_column()
    """Whether it was drawn, without regard to its score, for recalibration."""
    has_image: Mapped[bool] = mapped_column()
    has_map: Mapped[bool] = mapped_column()
    created: Mapped[datetime] = mapped_column(UtcTime)
    label: Mapped[str | None] = mapped_column(String(MAX_LABEL))
    """That of the review that holds, None without one."""
    disagrees: Mapped[bool] = mapped_column(default=False)
    """Whether the review that holds says otherwise than the verdict."""


class ReviewRow(Base):
    """What a person said of a prediction; taken back, not removed."""

    __tablename__ = "review"
    __table_args__ = (Index("ix_review_prediction", "prediction_id", "id"),)
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    prediction_id: Mapped[int] = mapped_column(ForeignKey("prediction.id"))
    label: Mapped[str] = mapped_column(String(MAX_LABEL))
    note: Mapped[str] = mapped_column(Text)
    reviewer: Mapped[str] = mapped_column(String(MAX_NAME))
    created: Mapped[datetime] = mapped_column(UtcTime)
    undone: Mapped[datetime | None] = mapped_column(UtcTime)
    undone_by: Mapped[str | None] = mapped_column(String(MAX_NAME))


class DriftRow(Base):
    """How far the drift monitor of a version has read, and what it remembers."""

    __tablename__ = "drift"
    model_id: Mapped[int] = mapped_column(ForeignKey("model.id"), primary_key=True)
    version: Mapped[int] = mapped_column(Integer, primary_key=True)
    last_prediction: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[dict[str, Any]] = mapped_column(JSON)
    points: Mapped[list[Any]] = mapped_column(JSON)
    """Some values of the martingale, for the plot: [number of images, log10]."""
    last_event: Mapped[int] = mapped_column(BigInteger)
    """The last review that it knows of, by its event."""
    alarm: Mapped[datetime | None] = mapped_column(UtcTime)
    alarm_prediction: Mapped[int | None] = mapped_column(BigInteger)
    alarm_cause: Mapped[str | None] = mapped_column(String(MAX_LABEL))
    changed: Mapped[datetime] = mapped_column(UtcTime)


REVIEW_ACTIONS = ("review", "undo")
OTHER_EVENTS = "action NOT IN ('review', 'undo')"
"""Those that are no reviews, which there are thousands of."""


class EventRow(Base):
    """Who did what, when; rows are only ever added."""

    __tablename__ = "event"
    __table_args__ = (
        Index("ix_event_action", "action", "id"),
        Index("ix_event_other", "id", sqlite_where=text(OTHER_EVENTS), postgresql_where=text(OTHER_EVENTS)),
    )
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    created: Mapped[datetime] = mapped_column(UtcTime)
    actor: Mapped[str] = mapped_column(String(MAX_NAME))
    action: Mapped[str] = mapped_column(String(MAX_LABEL))
    subject: Mapped[str] = mapped_column(String(MAX_NAME))
    details: Mapped[dict[str, Any]] = mapped_column(JSON)


class KeyRow(Base):
    """An API key; only its digest is kept."""

    __tablename__ = "api_key"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(String(MAX_NAME), unique=True)
    role: Mapped[Role] = mapped_column(String(MAX_LABEL))
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    created: Mapped[datetime] = mapped_column(UtcTime)
    revoked: Mapped[datetime | None] = mapped_column(UtcTime)


class SessionRow(Base):
    """A browser in which somebody signed in with a key; only the digest of the cookie is kept."""

    __tablename__ = "session"
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    key_id: Mapped[int] = mapped_column(ForeignKey("api_key.id"))
    expires: Mapped[datetime] = mapped_column(UtcTime)


class OutboxRow(Base):
    """An event that is to be delivered to a webhook, at least once and in the order of its model."""

    __tablename__ = "outbox"
    __table_args__ = (
        UniqueConstraint("url", "key"),
        Index("ix_outbox_waiting", "delivered", "next_attempt"),
    )
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    model: Mapped[str] = mapped_column(String(MAX_NAME))
    url: Mapped[str] = mapped_column(Text)
    key: Mapped[str] = mapped_column(String(MAX_KEY))
    """What tells events apart, so that two servers write the same one once."""
    payload: Mapped[dict[str, Any]] = mapped_column(JSON)
    created: Mapped[datetime] = mapped_column(UtcTime)
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    next_attempt: Mapped[datetime] = mapped_column(UtcTime)
    delivered: Mapped[datetime | None] = mapped_column(UtcTime)
    last_error: Mapped[str | None] = mapped_column(Text)

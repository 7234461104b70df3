"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

INDEXES: dict[str, tuple[list[str], str | tuple[str, str] | None]] = {
    "newest": (["model_id", "id"], None),
    "worst": (["model_id", "normalized_score", "id", "is_anomaly"], None),
    "part": (["model_id", "name", "id"], None),
    "queue": (["model_id", "normalized_score", "id", "is_anomaly"], "label IS NULL"),
    "reviewed": (["model_id", "id", "label"], "label IS NOT NULL"),
    "anomalous": (["model_id", "id", "label", "in_sample"], ("is_anomaly = 1", "is_anomaly")),
    "anomalous_worst": (["model_id", "normalized_score", "id", "label"], ("is_anomaly = 1", "is_anomaly")),
    "rare": (["model_id", "id", "p_value"], "p_value <= 0.05"),
    "rare_worst": (["model_id", "normalized_score", "id", "p_value"], "p_value <= 0.05"),
    "sample": (["model_id", "id", "label", "is_anomaly"], ("in_sample = 1", "in_sample")),
    "disagreement": (["model_id", "normalized_score", "id"], ("disagrees = 1", "disagrees")),
    "created": (["created"], None),
    "digest": (["digest"], None),
}
"""Columns of each index, and which rows it has: in SQLite, and in PostgreSQL."""

STATISTICS = {
    "sqlite_autoindex_prediction_1": "1000000 200000 1",
    "ix_prediction_newest": "1000000 200000 1",
    "ix_prediction_worst": "1000000 200000 2 1 1",
    "ix_prediction_part": "1000000 200000 5 1",
    "ix_prediction_queue": "950000 190000 2 1 1",
    "ix_prediction_reviewed": "50000 10000 1 1",
    "ix_prediction_anomalous": "10000 2000 1 1 1",
    "ix_prediction_anomalous_worst": "10000 2000 2 1 1",
    "ix_prediction_rare": "40000 8000 1 1",
    "ix_prediction_rare_worst": "40000 8000 2 1 1",
    "ix_prediction_sample": "20000 4000 1 1 1",
    "ix_prediction_disagreement": "2000 400 2 1",
    "ix_prediction_created": "1000000 1",
    "ix_prediction_digest": "1000000 2",
}
"""What SQLite is to think of a large store: rows of each index, and rows with the same first columns.

It would measure that by ANALYZE only, and choose other indexes for a store that has grown since.
"""


def upgrade() -> None:
    """Make the new form."""
    _add_keys_and_events()
    _add_models()
    _add_predictions()
    _add_sessions_and_reviews()


def _add_keys_and_events() -> None:
    op.create_table(
        "api_key",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("role", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("digest"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "event",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.String(length=255), nullable=False),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=255), nullable=False),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )


def _add_models() -> None:
    op.create_table(
        "model",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("active_version", sa.Integer(), nullable=True),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("model", sa.String(length=255), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt", sa.DateTime(timezone=True), nullable=False),
        sa.Column("delivered", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("url", "key"),
    )
    with op.batch_alter_table("outbox", schema=None) as batch_op:
        batch_op.create_index("ix_outbox_waiting", ["delivered", "next_attempt"], unique=False)

    op.create_table(
        "drift",
        sa.Column("model_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("last_prediction", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.JSON(), nullable=False),
        sa.Column("points", sa.JSON(), nullable=False),
        sa.Column("last_event", sa.BigInteger(), nullable=False),
        sa.Column("alarm", sa.DateTime(timezone=True), nullable=True),
        sa.Column("alarm_prediction", sa.BigInteger(), nullable=True),
        sa.Column("alarm_cause", sa.String(length=64), nullable=True),
        sa.Column("changed", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_id"],
            ["model.id"],
        ),
        sa.PrimaryKeyConstraint("model_id", "version"),
    )
    op.create_table(
        "model_version",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("model_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("file", sa.String(length=255), nullable=False),
        sa.Column("calibration_scores", sa.LargeBinary(), nullable=False),
        sa.Column("false_alarm_rate", sa.Float(), nullable=False),
        sa.Column("threshold", sa.Float(), nullable=False),
        sa.Column("based_on", sa.Integer(), nullable=True),
        sa.Column("reason", sa.String(length=64), nullable=False),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.String(length=255), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_id"],
            ["model.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("model_id", "number"),
    )


def _add_predictions() -> None:
    op.create_table(
        "prediction",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("model_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("media_type", sa.String(length=64), nullable=False),
        sa.Column("n_bytes", sa.BigInteger(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("score", sa.Float(precision=53), nullable=False),
        sa.Column("normalized_score", sa.Float(precision=53), nullable=False),
        sa.Column("p_value", sa.Float(precision=53), nullable=False),
        sa.Column("threshold", sa.Float(precision=53), nullable=False),
        sa.Column("is_anomaly", sa.Boolean(), nullable=False),
        sa.Column("in_sample", sa.Boolean(), nullable=False),
        sa.Column("has_image", sa.Boolean(), nullable=False),
        sa.Column("has_map", sa.Boolean(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("label", sa.String(length=64), nullable=True),
        sa.Column("disagrees", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_id"],
            ["model.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("model_id", "key"),
        sqlite_autoincrement=True,
    )
    for name, (columns, where) in INDEXES.items():
        sqlite, postgresql = where if isinstance(where, tuple) else (where, where)
        op.create_index(
            f"ix_prediction_{name}",
            "prediction",
            columns,
            sqlite_where=sqlite and sa.text(sqlite),
            postgresql_where=postgresql and sa.text(postgresql),
        )
    other = sa.text("action NOT IN ('review', 'undo')")
    op.create_index("ix_event_action", "event", ["action", "id"])
    op.create_index("ix_event_other", "event", ["id"], sqlite_where=other, postgresql_where=other)
    if op.get_bind().dialect.name == "sqlite":
        _set_statistics()


def _add_sessions_and_reviews() -> None:
    op.create_table(
        "session",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("key_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("expires", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["key_id"],
            ["api_key.id"],
        ),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_table(
        "review",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("prediction_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("label", sa.String(length=64), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("reviewer", sa.String(length=255), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("undone", sa.DateTime(timezone=True), nullable=True),
        sa.Column("undone_by", sa.String(length=255), nullable=True),
        sa.ForeignKeyConstraint(
            ["prediction_id"],
            ["prediction.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("review", schema=None) as batch_op:
        batch_op.create_index("ix_review_prediction", ["prediction_id", "id"], unique=False)


def _set_statistics() -> None:
    op.execute("ANALYZE sqlite_schema")  # makes the table
    op.execute("DELETE FROM sqlite_stat1 WHERE tbl = 'prediction'")
    rows = [{"tbl": "prediction", "idx": index, "stat": numbers} for index, numbers in STATISTICS.items()]
    columns: list[sa.ColumnClause[str]] = [sa.column(name) for name in ("tbl", "idx", "stat")]
    op.bulk_insert(sa.table("sqlite_stat1", *columns), rows)
    op.execute("ANALYZE sqlite_schema")  # reads it


def downgrade() -> None:
    """Go back to the form before."""
    with op.batch_alter_table("review", schema=None) as batch_op:
        batch_op.drop_index("ix_review_prediction")

    op.drop_table("review")
    op.drop_table("session")
    op.drop_table("prediction")
    op.drop_table("model_version")
    op.drop_table("drift")
    with op.batch_alter_table("outbox", schema=None) as batch_op:
        batch_op.drop_index("ix_outbox_waiting")

    op.drop_table("outbox")
    op.drop_table("model")
    op.drop_table("event")
    op.drop_table("api_key")

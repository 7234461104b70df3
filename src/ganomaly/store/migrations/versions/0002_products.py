"""The product that a model of several products took an image for."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the new form."""
    op.add_column("prediction", sa.Column("product", sa.String(length=255), nullable=True))


def downgrade() -> None:
    """Go back to the form before."""
    op.drop_column("prediction", "product")

"""What targets looked like when nothing was wrong."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.create_table(
        "baselines",
        sa.Column("target", sa.String(length=200), nullable=False),
        sa.Column("node", sa.String(length=300), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("shape", sa.JSON(none_as_null=True), nullable=False),
        sa.PrimaryKeyConstraint("target", "node", "kind", "at", name=op.f("pk_baselines")),
    )


def downgrade() -> None:
    """Back."""
    op.drop_table("baselines")

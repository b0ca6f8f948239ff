"""Progress and stopping of remedies, pages, samples."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    with op.batch_alter_table("actions", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column("stop_requested", sa.Text(), nullable=False, server_default="")
        )
    with op.batch_alter_table("intents", schema=None) as batch_op:
        batch_op.add_column(sa.Column("progress", sa.JSON(none_as_null=True), nullable=True))
    op.create_table(
        "pages",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("incident_id", sa.String(length=64), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["incident_id"], ["incidents.id"], name=op.f("fk_pages_incident_id_incidents")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pages")),
    )
    with op.batch_alter_table("pages", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_pages_incident_id"), ["incident_id"])
        batch_op.create_index(batch_op.f("ix_pages_sent_at"), ["sent_at"])
    op.create_table(
        "samples",
        sa.Column("target", sa.String(length=200), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_bytes", sa.BigInteger(), nullable=False),
        sa.Column("peak_bytes", sa.BigInteger(), nullable=True),
        sa.Column("rss_bytes", sa.BigInteger(), nullable=True),
        sa.Column("limit_bytes", sa.BigInteger(), nullable=True),
        sa.Column("keys", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("target", "at", name=op.f("pk_samples")),
    )


def downgrade() -> None:
    """Back."""
    op.drop_table("samples")
    with op.batch_alter_table("pages", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_pages_sent_at"))
        batch_op.drop_index(batch_op.f("ix_pages_incident_id"))
    op.drop_table("pages")
    with op.batch_alter_table("intents", schema=None) as batch_op:
        batch_op.drop_column("progress")
    with op.batch_alter_table("actions", schema=None) as batch_op:
        batch_op.drop_column("stop_requested")

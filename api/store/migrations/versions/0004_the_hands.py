"""Progress and stopping of remedies, waiting, batches, broken glass, pages, freezes, samples."""

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
        batch_op.add_column(sa.Column("not_before", sa.DateTime(timezone=True), nullable=True))
        batch_op.add_column(
            sa.Column("batch", sa.String(length=64), nullable=False, server_default="")
        )
    with op.batch_alter_table("decisions", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column("break_glass", sa.Boolean(), nullable=False, server_default=sa.false())
        )
        batch_op.add_column(sa.Column("cause", sa.Text(), nullable=False, server_default=""))
        batch_op.create_index(batch_op.f("ix_decisions_at"), ["at"])
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
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("delivered", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("failure", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["incident_id"], ["incidents.id"], name=op.f("fk_pages_incident_id_incidents")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pages")),
    )
    with op.batch_alter_table("pages", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_pages_incident_id"), ["incident_id"])
        batch_op.create_index(batch_op.f("ix_pages_sent_at"), ["sent_at"])
    op.create_table(
        "freezes",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("target", sa.String(length=200), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("thawed_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_freezes")),
    )
    with op.batch_alter_table("freezes", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_freezes_until"), ["until"])
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
    with op.batch_alter_table("freezes", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_freezes_until"))
    op.drop_table("freezes")
    with op.batch_alter_table("pages", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_pages_sent_at"))
        batch_op.drop_index(batch_op.f("ix_pages_incident_id"))
    op.drop_table("pages")
    with op.batch_alter_table("intents", schema=None) as batch_op:
        batch_op.drop_column("progress")
    with op.batch_alter_table("decisions", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_decisions_at"))
        batch_op.drop_column("cause")
        batch_op.drop_column("break_glass")
    with op.batch_alter_table("actions", schema=None) as batch_op:
        batch_op.drop_column("batch")
        batch_op.drop_column("not_before")
        batch_op.drop_column("stop_requested")

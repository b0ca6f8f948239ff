"""Silences, deliveries seen, thresholds crossed, incidents that came back, processes alive."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    with op.batch_alter_table("incidents", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column("follows", sa.String(length=64), nullable=False, server_default="")
        )
        batch_op.add_column(
            sa.Column("traceparent", sa.String(length=64), nullable=False, server_default="")
        )
        batch_op.add_column(sa.Column("closes_at", sa.DateTime(timezone=True), nullable=True))
        batch_op.add_column(sa.Column("look_at", sa.DateTime(timezone=True), nullable=True))
        batch_op.add_column(sa.Column("silenced_by", sa.Text(), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("silenced_until", sa.DateTime(timezone=True), nullable=True))
        batch_op.create_index(batch_op.f("ix_incidents_closes_at"), ["closes_at"])
        batch_op.create_index(batch_op.f("ix_incidents_look_at"), ["look_at"])
    with op.batch_alter_table("alerts", schema=None) as batch_op:
        batch_op.alter_column("incident_id", existing_type=sa.String(length=64), nullable=True)
        batch_op.add_column(
            sa.Column("target", sa.String(length=200), nullable=False, server_default="")
        )
        batch_op.add_column(sa.Column("flaps", sa.Integer(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("silenced_until", sa.DateTime(timezone=True), nullable=True))
        batch_op.add_column(sa.Column("over_at", sa.DateTime(timezone=True), nullable=True))
        batch_op.create_index(batch_op.f("ix_alerts_silenced_until"), ["silenced_until"])
    op.create_table(
        "silences",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("target", sa.String(length=200), nullable=True),
        sa.Column("labels", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("lifted_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_silences")),
    )
    with op.batch_alter_table("silences", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_silences_until"), ["until"])
    op.create_table(
        "deliveries",
        sa.Column("source", sa.String(length=200), nullable=False),
        sa.Column("id", sa.String(length=200), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("source", "id", name=op.f("pk_deliveries")),
    )
    with op.batch_alter_table("deliveries", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_deliveries_at"), ["at"])
    op.create_table(
        "crossings",
        sa.Column("target", sa.String(length=200), nullable=False),
        sa.Column("threshold", sa.String(length=200), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("target", "threshold", name=op.f("pk_crossings")),
    )
    op.create_table(
        "processes",
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("part", sa.String(length=16), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("expires", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_processes")),
    )


def downgrade() -> None:
    """Back."""
    op.drop_table("processes")
    op.drop_table("crossings")
    op.drop_table("deliveries")
    op.drop_table("silences")
    op.execute("DELETE FROM alerts WHERE incident_id IS NULL")
    with op.batch_alter_table("alerts", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_alerts_silenced_until"))
        for name in ("over_at", "silenced_until", "flaps", "target"):
            batch_op.drop_column(name)
        batch_op.alter_column("incident_id", existing_type=sa.String(length=64), nullable=False)
    with op.batch_alter_table("incidents", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_incidents_look_at"))
        batch_op.drop_index(batch_op.f("ix_incidents_closes_at"))
        for name in (
            "silenced_until", "silenced_by", "look_at", "closes_at", "traceparent", "follows"
        ):  # fmt: skip
            batch_op.drop_column(name)

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

    _chain_the_audit()


def downgrade() -> None:
    """Back."""
    _unchain_the_audit()
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


_AUDIT = 'SELECT {number} AS n, at, "by", role, what, incident_id, detail FROM {table}'


def _chain_the_audit() -> None:
    """Rows get numbers without gaps; what seals them is put in when the service starts."""
    numbered = _AUDIT.format(number="row_number() OVER (ORDER BY id)", table="audit")
    op.execute(f"CREATE TABLE audit_before AS {numbered}")
    op.drop_index("ix_audit_incident_id", table_name="audit")
    op.drop_table("audit")
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("incident_id", sa.String(length=64), nullable=True),
        sa.Column("detail", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("key_id", sa.String(length=16), nullable=False),
        sa.Column("mac", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index("ix_audit_incident_id", "audit", ["incident_id"])
    op.execute(
        'INSERT INTO audit (id, at, "by", role, what, incident_id, detail, key_id, mac) '
        "SELECT n, at, \"by\", role, what, incident_id, detail, '', '' FROM audit_before"
    )
    op.drop_table("audit_before")
    op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("mac", sa.String(length=64), nullable=False),
        sa.Column("key_id", sa.String(length=16), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_head")),
    )
    op.create_table(
        "audit_anchor",
        sa.Column("id", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("mac", sa.String(length=64), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("key_id", sa.String(length=16), nullable=False),
        sa.Column("signature", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_anchor")),
    )
    for statement in _TRIGGERS[op.get_bind().dialect.name]:
        op.execute(statement)


# Sealed rows stay as they are, and only rows that an anchor stands for may go. Whoever may change
# the schema can drop these: they are for mistakes, the chain is for intent.
_TRIGGERS = {
    "sqlite": (
        """CREATE TRIGGER audit_stays_as_it_is BEFORE UPDATE ON audit WHEN OLD.mac <> ''
        BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END""",
        """CREATE TRIGGER audit_stays BEFORE DELETE ON audit
        WHEN OLD.id > coalesce((SELECT max(seq) FROM audit_anchor), 0)
        BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END""",
    ),
    "postgresql": (
        """CREATE FUNCTION audit_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
          IF TG_OP = 'DELETE' THEN
            IF OLD.id <= coalesce((SELECT max(seq) FROM audit_anchor), 0) THEN RETURN OLD; END IF;
          ELSIF TG_OP = 'UPDATE' THEN
            IF OLD.mac = '' THEN RETURN NEW; END IF;
          END IF;
          RAISE EXCEPTION 'the audit trail is append-only';
        END $$""",
        """CREATE TRIGGER audit_stays_as_it_is BEFORE UPDATE OR DELETE ON audit
        FOR EACH ROW EXECUTE FUNCTION audit_append_only()""",
        """CREATE TRIGGER audit_stays BEFORE TRUNCATE ON audit
        FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only()""",
    ),
}


def _unchain_the_audit() -> None:
    after = _AUDIT.format(number="id", table="audit")
    op.execute(f"CREATE TABLE audit_before AS {after}")
    for table in ("audit_anchor", "audit_head"):
        op.drop_table(table)
    op.drop_index("ix_audit_incident_id", table_name="audit")
    op.drop_table("audit")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION audit_append_only()")
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("incident_id", sa.String(length=64), nullable=True),
        sa.Column("detail", sa.JSON(none_as_null=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index("ix_audit_incident_id", "audit", ["incident_id"])
    op.execute(
        'INSERT INTO audit (id, at, "by", role, what, incident_id, detail) '
        'SELECT n, at, "by", role, what, incident_id, detail FROM audit_before'
    )
    op.drop_table("audit_before")
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "SELECT setval(pg_get_serial_sequence('audit', 'id'), "
            "(SELECT coalesce(max(id), 0) + 1 FROM audit), false)"
        )

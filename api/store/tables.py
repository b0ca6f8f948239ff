"""The tables. Every time is UTC; every name of a constraint is ours, so Alembic can find it."""

from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Utc(TypeDecorator[datetime]):
    """A point in time. SQLite drops time zones: naive times are refused, UTC comes back."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """As UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Table(DeclarativeBase):
    """Base of all tables."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012
        datetime: Utc,
        dict[str, Any]: JSON(none_as_null=True),
        list[Any]: JSON(none_as_null=True),
        str: Text,
    }


class IncidentRow(Table):
    """One incident; its parts are in the tables below."""

    __tablename__ = "incidents"
    __table_args__ = (Index("ix_incidents_target_status", "target", "status"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    """Sorts by time of opening."""
    status: Mapped[str] = mapped_column(String(32), index=True)
    severity: Mapped[str] = mapped_column(String(16))
    title: Mapped[str]
    target: Mapped[str]
    question: Mapped[str] = mapped_column(default="")
    opened_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    attempt: Mapped[int] = mapped_column(default=1)
    diagnosis: Mapped[dict[str, Any] | None]
    prevention: Mapped[list[Any]] = mapped_column(default=list)
    checklist: Mapped[list[Any]] = mapped_column(default=list)
    runbooks: Mapped[list[Any]] = mapped_column(default=list)
    usage: Mapped[dict[str, Any]] = mapped_column(default=dict)
    ended_because: Mapped[str] = mapped_column(default="")
    nudges: Mapped[int] = mapped_column(default=0)
    """Jobs started; the queue's next key. It drops a key that is waiting or still finishing."""
    idle_runs: Mapped[int] = mapped_column(default=0)
    """Runs started since the incident last moved; bounds a run that always dies."""
    follows: Mapped[str] = mapped_column(String(64), default="")
    """The incident that was over when its alert fired again: this one began then."""
    closes_at: Mapped[datetime | None] = mapped_column(index=True)
    """All its alerts are over: from then on it may close by itself. None: not so."""
    look_at: Mapped[datetime | None] = mapped_column(index=True)
    """An alert joined it after the last look: when there is to be another."""
    silenced_by: Mapped[str] = mapped_column(default="")
    silenced_until: Mapped[datetime | None]
    """It was opened by an alert that was silenced until then; None: it was not."""
    traceparent: Mapped[str] = mapped_column(String(64), default="")
    """W3C trace context of the request that last gave it something to do; empty: not traced."""
    last_event: Mapped[int] = mapped_column(default=0)
    last_evidence: Mapped[int] = mapped_column(default=0)


class AlertRow(Table):
    """One alert. The unique key is the deduplication."""

    __tablename__ = "alerts"
    __table_args__ = (UniqueConstraint("source", "fingerprint", "starts_at"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    incident_id: Mapped[str | None] = mapped_column(
        String(64), ForeignKey("incidents.id"), index=True
    )
    """None: it was over before it was seen to fire."""
    incident: Mapped["IncidentRow | None"] = relationship(lazy="raise")
    """Never read: that there is one is what orders a flush."""
    source: Mapped[str] = mapped_column(String(32))
    fingerprint: Mapped[str] = mapped_column(String(200))
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime | None]
    name: Mapped[str]
    status: Mapped[str] = mapped_column(String(16))
    severity: Mapped[str] = mapped_column(String(16))
    labels: Mapped[dict[str, Any]]
    annotations: Mapped[dict[str, Any]]
    target: Mapped[str] = mapped_column(String(200), default="")
    """Which it is about: perhaps another than its incident's, related to that."""
    flaps: Mapped[int] = mapped_column(default=0)
    silenced_until: Mapped[datetime | None] = mapped_column(index=True)
    """Nothing was started for it; None: it was not silenced, or is not any more."""
    received_at: Mapped[datetime]
    over_at: Mapped[datetime | None]
    """When its end was told, by our clock. None: it was not."""


class DeliveryRow(Table):
    """A signed message that was accepted: the same again is a repetition, or a replay."""

    __tablename__ = "deliveries"

    source: Mapped[str] = mapped_column(String(200), primary_key=True)
    id: Mapped[str] = mapped_column(String(200), primary_key=True)
    """As the sender numbers it (X-Webhook-Id), else the digest of what was signed."""
    at: Mapped[datetime] = mapped_column(index=True)


class EvidenceRow(Table):
    """One reading, whole."""

    __tablename__ = "evidence"

    incident_id: Mapped[str] = mapped_column(
        String(64), ForeignKey("incidents.id"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int]
    tool: Mapped[str]
    args: Mapped[dict[str, Any]]
    reading: Mapped[dict[str, Any]]
    measured: Mapped[bool]
    target: Mapped[str]
    node: Mapped[str]
    summary: Mapped[str]
    taken_at: Mapped[datetime]


class ActionRow(Table):
    """One action of an attempt's plan; `body` is the Action without what people decided."""

    __tablename__ = "actions"

    incident_id: Mapped[str] = mapped_column(
        String(64), ForeignKey("incidents.id"), primary_key=True
    )
    attempt: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    position: Mapped[int]
    fingerprint: Mapped[str] = mapped_column(String(64))
    status: Mapped[str] = mapped_column(String(32), index=True)
    executable: Mapped[bool]
    stop_requested: Mapped[str] = mapped_column(default="")
    """Why a person wants a remedy of many batches to stop after the present one."""
    expires_at: Mapped[datetime | None]
    not_before: Mapped[datetime | None]
    """Approved, and waiting for a freeze to end or a window to begin."""
    batch: Mapped[str] = mapped_column(String(64), default="")
    """Of those approved together; empty: alone."""
    body: Mapped[dict[str, Any]]


class DecisionRow(Table):
    """One person's yes or no to one exact action."""

    __tablename__ = "decisions"

    incident_id: Mapped[str] = mapped_column(
        String(64), ForeignKey("incidents.id"), primary_key=True
    )
    attempt: Mapped[int] = mapped_column(primary_key=True)
    action_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    by: Mapped[str] = mapped_column(String(200), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64))
    role: Mapped[str] = mapped_column(String(32))
    approves: Mapped[bool]
    break_glass: Mapped[bool] = mapped_column(default=False)
    cause: Mapped[str] = mapped_column(default="")
    """The root cause for which the policy itself approved; empty: a person decided."""
    comment: Mapped[str]
    at: Mapped[datetime] = mapped_column(index=True)


class IntentRow(Table):
    """Write-ahead record of an effect. Without an outcome: to be settled by reading."""

    __tablename__ = "intents"
    __table_args__ = (Index("ix_intents_incident_action", "incident_id", "attempt", "action_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    incident_id: Mapped[str] = mapped_column(String(64), ForeignKey("incidents.id"))
    attempt: Mapped[int]
    action_id: Mapped[str] = mapped_column(String(64))
    intent: Mapped[dict[str, Any]]
    progress: Mapped[dict[str, Any] | None]
    """What was done by the last batch that is known to be done."""
    outcome: Mapped[dict[str, Any] | None]
    noted_at: Mapped[datetime]
    settled_at: Mapped[datetime | None]


class EventRow(Table):
    """Something that happened to an incident, numbered for resumable streams."""

    __tablename__ = "events"

    incident_id: Mapped[str] = mapped_column(
        String(64), ForeignKey("incidents.id"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    data: Mapped[dict[str, Any]]
    at: Mapped[datetime]


class LeaseRow(Table):
    """Who works on a target. Times are seconds of the database's own clock."""

    __tablename__ = "leases"

    target: Mapped[str] = mapped_column(String(200), primary_key=True)
    holder: Mapped[str]
    incident_id: Mapped[str] = mapped_column(String(64))
    fencing: Mapped[int]
    expires: Mapped[float]


class VerdictRow(Table):
    """What it really was, says a person."""

    __tablename__ = "verdicts"

    id: Mapped[int] = mapped_column(primary_key=True)
    incident_id: Mapped[str] = mapped_column(String(64), ForeignKey("incidents.id"), index=True)
    by: Mapped[str]
    root_cause: Mapped[str]
    culprit: Mapped[dict[str, Any] | None]
    comment: Mapped[str]
    at: Mapped[datetime]


class RecordingRow(Table):
    """What the tools saw during one attempt at an incident: a file that `replay` reads."""

    __tablename__ = "recordings"

    incident_id: Mapped[str] = mapped_column(
        String(64), ForeignKey("incidents.id"), primary_key=True
    )
    attempt: Mapped[int] = mapped_column(primary_key=True)
    flavour: Mapped[str]
    data: Mapped[bytes] = mapped_column(LargeBinary)
    taken_at: Mapped[datetime] = mapped_column(index=True)
    """When the investigation began."""


class ExchangeRow(Table):
    """One call of a model: what it cost, and what was said. Reserved before, settled after it."""

    __tablename__ = "exchanges"

    id: Mapped[int] = mapped_column(primary_key=True)
    incident_id: Mapped[str | None] = mapped_column(
        String(64), ForeignKey("incidents.id"), index=True
    )
    attempt: Mapped[int]
    thread_id: Mapped[str | None] = mapped_column(String(64), index=True)
    purpose: Mapped[str] = mapped_column(String(16))
    model: Mapped[str]
    day: Mapped[date] = mapped_column(index=True)
    """UTC, by the database's clock: what the caps of a day are counted by."""
    at: Mapped[datetime]
    input_tokens: Mapped[int]
    output_tokens: Mapped[int]
    cached_tokens: Mapped[int]
    seconds: Mapped[float]
    dollars: Mapped[float | None]
    last_evidence: Mapped[int]
    """The incident's newest evidence when the call began."""
    body: Mapped[dict[str, Any] | None]
    """The Exchange; None while the call is under way, and for ever if its process died."""


class MessageRow(Table):
    """One question and its answer in a chat thread."""

    __tablename__ = "messages"

    id: Mapped[int] = mapped_column(primary_key=True)
    thread_id: Mapped[str] = mapped_column(String(64), index=True)
    by: Mapped[str]
    incident_id: Mapped[str | None] = mapped_column(String(64))
    target: Mapped[str | None]
    question: Mapped[str]
    answer: Mapped[str]
    claims: Mapped[list[Any]]
    reasoner: Mapped[str]
    at: Mapped[datetime]


class AuditRow(Table):
    """Who did what, when. Written in the transaction of the deed; triggers refuse to change it."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """Its number in the chain: from 1, without gaps."""
    at: Mapped[datetime]
    by: Mapped[str]
    role: Mapped[str]
    what: Mapped[str]
    incident_id: Mapped[str | None] = mapped_column(String(64), index=True)
    detail: Mapped[dict[str, Any]]
    key_id: Mapped[str] = mapped_column(String(16), default="")
    """Empty: from before there was a chain; sealed as found at the next start."""
    mac: Mapped[str] = mapped_column(String(64), default="")
    """Covers the fields, the number and the MAC of the row before: `api/store/chain.py`."""


class AuditHeadRow(Table):
    """The one note of the trail's last row. Locked by whoever appends."""

    __tablename__ = "audit_head"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    seq: Mapped[int]
    mac: Mapped[str] = mapped_column(String(64))
    key_id: Mapped[str] = mapped_column(String(16))


class AuditAnchorRow(Table):
    """The one note of the last row that was pruned: where the trail begins now."""

    __tablename__ = "audit_anchor"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    seq: Mapped[int]
    """Also how many rows were pruned in all."""
    mac: Mapped[str] = mapped_column(String(64))
    at: Mapped[datetime]
    key_id: Mapped[str] = mapped_column(String(16))
    signature: Mapped[str] = mapped_column(String(64))


class PageRow(Table):
    """People to be called. To whom it goes are rows of `notices`.

    `tries`, `due_at` and `delivered` are for a version before those, which may be at work still.
    """

    __tablename__ = "pages"

    id: Mapped[int] = mapped_column(primary_key=True)
    incident_id: Mapped[str | None] = mapped_column(
        String(64), ForeignKey("incidents.id"), index=True
    )
    reason: Mapped[str]
    at: Mapped[datetime]
    sent_at: Mapped[datetime | None] = mapped_column(index=True)
    """When everybody had it, or when it was given up."""
    tries: Mapped[int] = mapped_column(default=0)
    due_at: Mapped[datetime]
    """Not to be tried before: whoever tries moves it on first."""
    delivered: Mapped[list[Any]] = mapped_column(default=list)
    """Marks of the addresses that have it."""
    failure: Mapped[str] = mapped_column(default="")
    """Why it was given up."""

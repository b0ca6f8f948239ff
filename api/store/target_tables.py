"""What is kept of targets beside their incidents."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from api.store.tables import Table


class FreezeRow(Table):
    """Nothing is changed: declared by a person, beside the configured ones."""

    __tablename__ = "freezes"

    id: Mapped[int] = mapped_column(primary_key=True)
    target: Mapped[str | None] = mapped_column(String(200))
    """None: every target."""
    reason: Mapped[str]
    by: Mapped[str]
    at: Mapped[datetime]
    until: Mapped[datetime] = mapped_column(index=True)
    """A thaw moves it to that moment."""
    thawed_by: Mapped[str] = mapped_column(default="")


class SilenceRow(Table):
    """Alerts that start nothing for a while: a person said so. They are kept all the same."""

    __tablename__ = "silences"

    id: Mapped[int] = mapped_column(primary_key=True)
    target: Mapped[str | None] = mapped_column(String(200))
    """None: every target."""
    labels: Mapped[dict[str, Any]]
    """Which an alert has to carry; empty: any."""
    reason: Mapped[str]
    by: Mapped[str]
    at: Mapped[datetime]
    until: Mapped[datetime] = mapped_column(index=True)
    """Lifting it moves it to that moment."""
    lifted_by: Mapped[str] = mapped_column(default="")


class SampleRow(Table):
    """One look at a target's memory, for trends."""

    __tablename__ = "samples"

    target: Mapped[str] = mapped_column(String(200), primary_key=True)
    at: Mapped[datetime] = mapped_column(primary_key=True)
    used_bytes: Mapped[int] = mapped_column(BigInteger)
    peak_bytes: Mapped[int | None] = mapped_column(BigInteger)
    rss_bytes: Mapped[int | None] = mapped_column(BigInteger)
    limit_bytes: Mapped[int | None] = mapped_column(BigInteger)
    keys: Mapped[int | None] = mapped_column(BigInteger)


class BaselineRow(Table):
    """What a target looked like when nothing was wrong: a shape of tools/shape.py, redacted."""

    __tablename__ = "baselines"

    target: Mapped[str] = mapped_column(String(200), primary_key=True)
    node: Mapped[str] = mapped_column(String(300), primary_key=True)
    """host:port of a cluster's node; empty: whichever answers for the target."""
    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    """`server` or `keyspace`"""
    at: Mapped[datetime] = mapped_column(primary_key=True)
    shape: Mapped[dict[str, Any]]


class CrossingRow(Table):
    """A threshold of a runbook that a target has crossed, as `watch` sees it."""

    __tablename__ = "crossings"

    target: Mapped[str] = mapped_column(String(200), primary_key=True)
    threshold: Mapped[str] = mapped_column(String(200), primary_key=True)
    since: Mapped[datetime]

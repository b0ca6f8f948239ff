"""Role, replicas, backlog. Source: INFO replication."""

from typing import ClassVar

from tools.reading import InfoReading, Measured, Reading


class ReplicaRow(Reading):
    """One `slaveN:` line."""

    address: str
    state: str
    offset: int
    lag_seconds: int
    lag_bytes: int
    """master_repl_offset - offset"""


class Replication(InfoReading):
    """INFO replication; fields carry INFO's names."""

    info_command: ClassVar[str] = "INFO replication"

    role: Measured[str]
    connected_slaves: Measured[int]
    master_replid: Measured[str]
    master_repl_offset: Measured[int]
    repl_backlog_active: Measured[int]
    repl_backlog_size: Measured[int]
    repl_backlog_histlen: Measured[int]
    master_host: str | None = None
    master_port: int | None = None
    master_link_status: str | None = None
    """None on a primary."""
    master_last_io_seconds_ago: int | None = None
    master_link_down_since_seconds: int | None = None
    slave_read_only: int | None = None
    replicas: list[ReplicaRow]

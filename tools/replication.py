"""Role, replicas, backlog. Source: INFO replication."""

from typing import ClassVar

from tools.catalogue import Arguments
from tools.connection import Connection, read_info
from tools.reading import InfoReading, Measured, Reading, printable
from tools.replies import fields, whole

MOST_REPLICAS = 100


class ReplicaRow(Reading):
    """One `slaveN:` line."""

    address: str
    state: str
    offset: int
    lag_seconds: int
    """Since its last acknowledgement; -1: none yet."""
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
    primary: str | None = None
    """host:port that this replica follows; None on a primary."""
    master_link_status: str | None = None
    """None on a primary."""
    master_last_io_seconds_ago: int | None = None
    master_link_down_since_seconds: int | None = None
    master_sync_in_progress: int | None = None
    """1 while the primary's snapshot is being received or loaded."""
    slave_read_only: int | None = None
    replicas: list[ReplicaRow]


class ReplicationArguments(Arguments):
    """None."""


async def replication(connection: Connection, args: ReplicationArguments) -> Replication:
    """Role, link to the primary, replicas and backlog; offsets in bytes, lag in seconds.

    Source: INFO replication.
    """
    info = await read_info(connection, "replication")
    end = whole(info.get("master_repl_offset"))
    lines = [
        value
        for name, value in info.items()
        if name.startswith("slave") and name.removeprefix("slave").isdigit()
    ]
    rows = [_replica(fields(line), end) for line in lines[:MOST_REPLICAS]]
    host, port = info.get("master_host"), info.get("master_port")
    return Replication.from_info(
        info, replicas=rows, primary=f"{host}:{port}" if host and port else None
    )


def _replica(line: dict[str, str], end: int) -> ReplicaRow:
    offset = whole(line.get("offset"))
    return ReplicaRow(
        address=printable(f"{line.get('ip', '')}:{line.get('port', '')}"),
        state=printable(line.get("state", "")),
        offset=offset,
        lag_seconds=whole(line.get("lag"), -1),
        lag_bytes=end - offset,
    )

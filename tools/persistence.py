"""RDB and AOF. Source: INFO persistence."""

from typing import ClassVar

from tools.catalogue import Arguments
from tools.connection import CommandFailure, Connection, Reply, parse_info
from tools.reading import InfoReading, Measured, NotMeasured
from tools.replies import absent, integer, items


class Persistence(InfoReading):
    """INFO persistence; fields carry INFO's names."""

    info_command: ClassVar[str] = "INFO persistence"

    loading: Measured[int]
    async_loading: Measured[int]
    rdb_changes_since_last_save: Measured[int]
    rdb_bgsave_in_progress: Measured[int]
    rdb_last_save_time: Measured[int]
    rdb_last_bgsave_status: Measured[str]
    rdb_last_bgsave_time_sec: Measured[int]
    rdb_current_bgsave_time_sec: Measured[int]
    rdb_last_cow_size: Measured[int]
    rdb_saves: Measured[int]
    current_cow_size: Measured[int]
    current_cow_peak: Measured[int]
    current_fork_perc: Measured[float]
    current_save_keys_processed: Measured[int]
    current_save_keys_total: Measured[int]
    aof_enabled: Measured[int]
    aof_rewrite_in_progress: Measured[int]
    aof_rewrites: Measured[int]
    aof_last_bgrewrite_status: Measured[str]
    aof_last_write_status: Measured[str]
    aof_last_cow_size: Measured[int]
    aof_current_size: Measured[int]
    aof_base_size: Measured[int]
    aof_delayed_fsync: Measured[int]
    aof_pending_bio_fsync: Measured[int]
    seconds_since_last_save: Measured[int]
    """Between rdb_last_save_time and the server's own clock (TIME)."""


class PersistenceArguments(Arguments):
    """None."""


async def persistence(connection: Connection, args: PersistenceArguments) -> Persistence:
    """Snapshots and append-only file: status words, sizes in bytes, times in seconds.

    Source: INFO persistence; TIME for the age of the last snapshot.
    """
    reply, clock = await connection.execute_many([("INFO", "persistence"), ("TIME",)])
    if isinstance(reply, CommandFailure):
        raise reply
    reading = Persistence.from_info(
        parse_info(reply), seconds_since_last_save=absent("seconds_since_last_save")
    )
    return reading.model_copy(
        update={"seconds_since_last_save": _age(reading.rdb_last_save_time, clock)}
    )


def _age(saved_at: Measured[int], clock: Reply | CommandFailure) -> Measured[int]:
    if isinstance(saved_at, NotMeasured):
        return saved_at
    if isinstance(clock, CommandFailure):
        return clock.as_not_measured()
    now = items(clock)
    return integer(now[0]) - saved_at if now else absent("TIME")

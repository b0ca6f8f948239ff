"""Signals of snapshots and rewrites: what they copy, and whether they succeed."""

from agent.signals.seen import MIB, Finding, Seen, measured, scaled, signal
from tools.host import Host
from tools.memory import MemoryInfo
from tools.persistence import Persistence
from tools.reading import number
from tools.stats import Stats

FORKS_PER_SECOND = 1 / 60
"""FAILURE_MODES 27: forks that climb each minute."""
COW_SHARE = 0.3
"""FAILURE_MODES 16: copies of 30 % of used memory and more."""
COW_FLOOR = 16 * MIB
COW_NEAR_LIMIT = 0.85


@signal("symptom")
def child_copies_memory(seen: Seen) -> Finding | None:
    """A running snapshot or rewrite has copied much of the memory."""
    disk, memory = seen.look(Persistence), seen.look(MemoryInfo)
    copied, used = (
        measured(disk.reading.current_cow_size),
        measured(memory.reading.used_memory),
    )
    if not _child_runs(disk.reading) or copied < max(COW_FLOOR, COW_SHARE * used):
        return None
    return Finding(
        "A child process runs and has copied {copied} so far, {share} of the memory in use.",
        [
            disk.fact("copied", "current_cow_size", unit="bytes"),
            disk.fact("share", "current_cow_size", memory.path("used_memory"), unit="ratio"),
        ],
        scaled(copied / max(used, 1), COW_SHARE, 0.6),
    )


@signal("trait")
def copy_finished(seen: Seen) -> Finding | None:
    """The last snapshot or rewrite copied much memory, and is over."""
    disk, memory = seen.look(Persistence), seen.look(MemoryInfo)
    used = measured(memory.reading.used_memory)
    if _child_runs(disk.reading):
        return None
    sizes = {
        name: size
        for name in ("rdb_last_cow_size", "aof_last_cow_size")
        if (size := number(getattr(disk.reading, name))) is not None
    }
    if not sizes:
        measured(disk.reading.rdb_last_cow_size)
    name = max(sizes, key=lambda key: sizes[key])
    if sizes[name] < max(COW_FLOOR, COW_SHARE * used):
        return None
    return Finding(
        "The last child process copied {copied} and has ended; memory is at {used} now.",
        [
            disk.fact("copied", name, unit="bytes"),
            memory.fact("used", "used_memory", unit="bytes"),
        ],
    )


@signal("symptom")
def copies_threaten_limit(seen: Seen) -> Finding | None:
    """Resident memory and copies together near the limit of host or container."""
    disk, memory = seen.look(Persistence), seen.look(MemoryInfo)
    copied = measured(disk.reading.current_cow_size)
    rss, limit = measured(memory.reading.used_memory_rss), _ceiling(seen, memory.reading)
    if not _child_runs(disk.reading) or copied < COW_FLOOR or limit <= 0:
        return None
    if (rss + copied) / limit < COW_NEAR_LIMIT:
        return None
    return Finding(
        "Resident memory ({rss}) and the child's copies ({copied}) near what there is.",
        [
            memory.fact("rss", "used_memory_rss", unit="bytes"),
            disk.fact("copied", "current_cow_size", unit="bytes"),
        ],
    )


def _child_runs(disk: Persistence) -> bool:
    return measured(disk.rdb_bgsave_in_progress) + measured(disk.aof_rewrite_in_progress) > 0


def _ceiling(seen: Seen, memory: MemoryInfo) -> float:
    """What the process may not exceed: copies are not maxmemory's business."""
    host = seen.optional(Host)
    if host and (limit := number(host.reading.container_limit_bytes)) is not None:
        return limit
    if memory.limit_source == "configured memory limit":
        return measured(memory.limit)
    return measured(memory.total_system_memory)


@signal("trait")
def saves_often(seen: Seen) -> Finding | None:
    """Snapshots or rewrites start every minute."""
    stats = seen.look(Stats)
    if measured(stats.reading.total_forks_per_second) < FORKS_PER_SECOND:
        return None
    return Finding(
        "Child processes are started at {rate}.",
        [stats.fact("rate", "total_forks_per_second", unit="per_second")],
    )


@signal("trait")
def last_save_ok(seen: Seen) -> Finding | None:
    """The last snapshot succeeded."""
    disk = seen.look(Persistence)
    if measured(disk.reading.rdb_last_bgsave_status) != "ok":
        return None
    return Finding(
        "The last snapshot ended with status {status}.",
        [disk.fact("status", "rdb_last_bgsave_status", unit="text")],
    )

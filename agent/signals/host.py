"""Signals of the host and the container, where the installation knows them: never by their absence.

Thresholds without another source are those of the alerts of the node_exporter mixin and of the
kubernetes mixin (monitoring.mixins.dev).
"""

from agent.signals.seen import MIB, Finding, Look, Seen, Unmeasured, measured, scaled, signal
from tools.configuration import Configuration
from tools.host import Host
from tools.memory import MemoryInfo
from tools.reading import NotMeasured, number
from tools.stats import Stats

SWAPPED_FLOOR = 64 * MIB
SWAPPED_SHARE = 0.05
"""Of the machine's memory; a little swap in use is old news of idle processes."""
SWAPPED_IN = 500.0
"""Pages a second: NodeMemoryMajorPagesFaults, and what is swapped in is such a fault."""
HUGE_SHARE, HUGE_FLOOR = 0.5, 64 * MIB
"""Of the server's resident memory: so much of it could be in the machine's huge pages."""
DISK_LEFT = 0.05
"""NodeFilesystemAlmostOutOfSpace warns at 5 %."""
THROTTLED_SHARE = 0.25
"""CPUThrottlingHigh warns at 25 %."""
THROTTLED_PERIODS = 600
"""A minute of the scheduler's periods, of 100 ms each."""
OTHER_MACHINE = 0.05
"""Of its memory: INFO's total_system_memory is the kernel's MemTotal, and a balloon takes some."""
HOUR = 3_600
OF_THE_HOST: frozenset[str] = frozenset(
    {
        "host_swaps_in", "huge_pages_given", "data_disk_full", "killed_for_memory",
        "cpu_is_throttled",
    }
)  # fmt: skip
"""Most installations cannot measure them: they count where they fired, and nowhere else."""


def machine(seen: Seen) -> Look[Host]:
    """What the server's host says of itself. Ends the signal where it is another machine."""
    host, memory = seen.look(Host), seen.optional(MemoryInfo)
    told = number(host.reading.memory_total_bytes)
    own = number(memory.reading.total_system_memory) if memory else None
    if told is not None and own is not None and abs(told - own) > OTHER_MACHINE * max(told, own):
        because = (
            f"`host_series` are of a machine with {told / 1024**3:.1f} GiB of memory, and the "
            f"server's has {own / 1024**3:.1f} GiB"
        )
        raise Unmeasured(NotMeasured(not_measured="host", because=because))
    return host


@signal("symptom")
def host_swaps_in(seen: Seen) -> Finding | None:
    """The host reads memory back from swap again and again."""
    host = machine(seen)
    pages = measured(host.reading.swapped_in_pages_per_second)
    used, total = measured(host.reading.swap_used_bytes), measured(host.reading.memory_total_bytes)
    if pages < SWAPPED_IN or used < max(SWAPPED_FLOOR, SWAPPED_SHARE * total):
        return None
    return Finding(
        "The host has {used} in swap and reads pages back at {pages}.",
        [
            host.fact("used", "swap_used_bytes", unit="bytes"),
            host.fact("pages", "swapped_in_pages_per_second", unit="per_second"),
        ],
        scaled(pages, SWAPPED_IN, 4 * SWAPPED_IN),
    )


@signal("trait")
def huge_pages_given(seen: Seen) -> Finding | None:
    """The host holds enough in transparent huge pages for the server's memory to be there."""
    host, memory = machine(seen), seen.look(MemoryInfo)
    huge = measured(host.reading.huge_pages_bytes)
    resident = measured(memory.reading.used_memory_rss)
    config = seen.optional(Configuration)
    if config is not None and config.reading.parameters.get("disable-thp") == "yes":
        return None  # the server asked the kernel for none
    if huge < max(HUGE_FLOOR, HUGE_SHARE * resident):
        return None
    return Finding(
        "The host holds {huge} in transparent huge pages; the server is {resident} large.",
        [
            host.fact("huge", "huge_pages_bytes", unit="bytes"),
            memory.fact("resident", "used_memory_rss", unit="bytes"),
        ],
    )


@signal("trend")
def data_disk_full(seen: Seen) -> Finding | None:
    """The disk with the data has no room for another snapshot."""
    host, memory = machine(seen), seen.look(MemoryInfo)
    left, whole = (
        measured(host.reading.data_disk_available_bytes),
        measured(host.reading.data_disk_bytes),
    )
    if whole <= 0 or left / whole >= DISK_LEFT or left >= measured(memory.reading.used_memory):
        return None
    return Finding(
        "The disk with the data has {left} of {whole} left, less than the {used} in use.",
        [
            host.fact("left", "data_disk_available_bytes", unit="bytes"),
            host.fact("whole", "data_disk_bytes", unit="bytes"),
            memory.fact("used", "used_memory", unit="bytes"),
        ],
    )


@signal("symptom")
def killed_for_memory(seen: Seen) -> Finding | None:
    """The kernel killed the container's process, or one of the host since the server started."""
    host = seen.look(Host)
    in_container = number(host.reading.container_oom_kills)
    if in_container == 0:
        return None  # whoever else was killed on the host
    if in_container is not None:
        return Finding(
            "Within the last hour the kernel killed in the container for want of memory: {kills}.",
            [host.fact("kills", "container_oom_kills", unit="count")],
        )
    host = machine(seen)
    kills = measured(host.reading.oom_kills)
    stats = seen.look(Stats)
    uptime = measured(stats.reading.uptime_in_seconds)
    # What was killed while this server ran was another process.
    if kills < 1 or uptime >= HOUR:
        return None
    return Finding(
        "Within the last hour the kernel killed on the host for want of memory: {kills}; the "
        "server runs since {uptime}.",
        [
            host.fact("kills", "oom_kills", unit="count"),
            stats.fact("uptime", "uptime_in_seconds", unit="seconds"),
        ],
        0.6,
    )


@signal("symptom")
def cpu_is_throttled(seen: Seen) -> Finding | None:
    """The container waits for its CPU limit."""
    host = seen.look(Host)
    share, periods = (
        measured(host.reading.cpu_throttled_share),
        measured(host.reading.cpu_periods),
    )
    if share < THROTTLED_SHARE or periods < THROTTLED_PERIODS:
        return None
    return Finding(
        "In {share} of the last hour's scheduler periods ({periods}) the container had used up "
        "its CPU limit and waited.",
        [
            host.fact("share", "cpu_throttled_share", unit="ratio"),
            host.fact("periods", "cpu_periods", unit="count"),
        ],
        scaled(share, THROTTLED_SHARE, 0.6),
    )

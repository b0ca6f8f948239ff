"""Signals that something hurts, whatever the cause: errors and slow commands.

They keep a server in trouble from being called healthy when no known cause fits.
"""

from agent.signals.seen import Finding, Seen, measured, scaled, signal
from tools.slowlog import SlowCommandGroup, Slowlog
from tools.stats import ErrorStats, Stats

HURTING_ERRORS = frozenset(
    {
        "MISCONF", "BUSY", "LOADING", "MASTERDOWN", "NOREPLICAS", "READONLY", "NOAUTH",
        "WRONGPASS", "CLUSTERDOWN", "EXECABORT",
    }
)  # fmt: skip
"""Replies that mean trouble. OOM has its own signal; NOPERM and ERR may be our own looks."""
ERRORS_PER_SECOND = 0.2
SLOW: tuple[tuple[int, int, int], ...] = ((100_000, 5, 600), (20_000, 10, 60))
"""Microseconds at worst, times, newest within seconds: a few long stalls, or many that go on."""
CPU_CORES = 0.9
"""Commands run on one core: at 90 % of it they queue."""
FORKS_LEAST = 5
FORK_EACH_SECONDS = 20.0
"""FAILURE_MODES 27 and 35: forks that climb; redis.conf's busiest save point is once a minute."""


@signal("symptom")
def errors_rising(seen: Seen) -> Finding | None:
    """Commands are answered with errors that mean trouble."""
    errors = seen.look(ErrorStats)
    for index, row in enumerate(errors.reading.errors):
        if row.code in HURTING_ERRORS and row.per_second >= ERRORS_PER_SECOND:
            return Finding(
                "Commands are answered with {code} at {rate}.",
                [
                    errors.fact("code", f"errors.{index}.code", unit="text"),
                    errors.fact("rate", f"errors.{index}.per_second", unit="per_second"),
                ],
            )
    return None


@signal("symptom")
def commands_are_slow(seen: Seen) -> Finding | None:
    """Some command was slow again and again in the last minutes."""
    slowlog = seen.look(Slowlog)
    for index, row in enumerate(slowlog.reading.groups):
        if _is_slow(row):
            return Finding(
                "{command} was slow {count} times, {longest} at worst.",
                [
                    slowlog.fact("command", f"groups.{index}.command", unit="text"),
                    slowlog.fact("count", f"groups.{index}.count", unit="count"),
                    slowlog.fact(
                        "longest", f"groups.{index}.longest_microseconds", unit="microseconds"
                    ),
                ],
            )
    return None


def _is_slow(row: SlowCommandGroup) -> bool:
    return any(
        row.longest_microseconds >= microseconds
        and row.count >= count
        and row.newest_age_seconds <= seconds
        for microseconds, count, seconds in SLOW
    )


@signal("symptom")
def cpu_saturated(seen: Seen) -> Finding | None:
    """The server keeps its core busy nearly all the time."""
    stats = seen.look(Stats)
    cores = measured(stats.reading.cpu_cores)
    if cores < CPU_CORES:
        return None
    return Finding(
        "The server kept {cores} cores busy for {seconds}; it runs commands on one.",
        [stats.fact("cores", "cpu_cores"), stats.fact("seconds", "seconds", unit="seconds")],
        scaled(cores, CPU_CORES, 1.0),
    )


@signal("symptom")
def forks_again_and_again(seen: Seen) -> Finding | None:
    """Snapshots, rewrites or full syncs follow one another without a pause."""
    stats = seen.look(Stats)
    forks, uptime = measured(stats.reading.total_forks), measured(stats.reading.uptime_in_seconds)
    if measured(stats.reading.total_forks_per_second) <= 0 or forks < FORKS_LEAST:
        return None
    if uptime > forks * FORK_EACH_SECONDS:
        return None
    return Finding(
        "{forks} child processes were started in {uptime}, the last of them while we looked.",
        [
            stats.fact("forks", "total_forks", unit="count"),
            stats.fact("uptime", "uptime_in_seconds", unit="seconds"),
        ],
    )

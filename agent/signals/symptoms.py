"""Signals that something hurts, whatever the cause: errors and slow commands.

They keep a server in trouble from being called healthy when no known cause fits.
"""

from agent.signals.seen import Finding, Seen, measured, scaled, signal
from tools.commands import is_diagnostic
from tools.permissions import READ_COMMANDS
from tools.slowlog import SlowCommandGroup, Slowlog
from tools.stats import CommandRow, CommandStats, ErrorStats, Stats

HURTING_ERRORS = frozenset(
    {
        "MISCONF", "BUSY", "LOADING", "MASTERDOWN", "NOREPLICAS", "READONLY", "NOAUTH",
        "WRONGPASS", "CLUSTERDOWN", "EXECABORT",
    }
)  # fmt: skip
"""Replies that mean trouble. OOM has its own signal; NOPERM and ERR may be our own looks."""
ERRORS_PER_SECOND = 0.2
ORDINARY_ERRORS = HURTING_ERRORS | {
    "OOM", "ERR", "NOPERM", "MOVED", "ASK", "TRYAGAIN", "NOSCRIPT", "BUSYGROUP",
}  # fmt: skip
"""Told elsewhere, perhaps our own, or answers that clients expect: a redirection, a script to load.
ERR is what looks at keys get where they are not offered (OBJECT IDLETIME under LFU)."""
FAILING_PER_SECOND = 5.0
CHURN_PER_SECOND = 100.0
CHURN_SHARE = 1 / 3
"""More than one new connection for three commands of applications: each costs the server more than
a command (redis.io/docs, "Redis benchmark": without keep-alive throughput falls by half)."""
PAUSES_PER_SECOND = 0.3
"""A failover pauses once; this is at least twice in a pause between samples of 5 s."""
SLOW: tuple[tuple[int, int, int], ...] = ((100_000, 5, 600), (20_000, 10, 60))
"""Microseconds at worst, times, newest within seconds: a few long stalls, or many that go on."""
SLOW_CALL, SLOW_SHARE = 5_000.0, 0.05
"""Commands run one after another: if one of 5 ms runs in every twentieth moment, p95 of all others
is at least that. Microseconds a call, and share of all time."""
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
def commands_fail(seen: Seen) -> Finding | None:
    """Many commands are answered with an error: an application does something wrong."""
    errors = seen.look(ErrorStats)
    for index, row in enumerate(errors.reading.errors):
        if row.code not in ORDINARY_ERRORS and row.per_second >= FAILING_PER_SECOND:
            return Finding(
                "Commands are answered with {code} at {rate}.",
                [
                    errors.fact("code", f"errors.{index}.code", unit="text"),
                    errors.fact("rate", f"errors.{index}.per_second", unit="per_second"),
                ],
            )
    return _rejected(seen, sum(r.per_second for r in errors.reading.errors if r.code != "ERR"))


def _rejected(seen: Seen, told: float) -> Finding | None:
    """A command that is refused before it runs: unknown here, or with wrong arguments."""
    commands = seen.look(CommandStats)
    for index, row in _of_applications(commands.reading):
        if row.rejected_per_second - told >= FAILING_PER_SECOND:
            at = f"commands.{index}"
            return Finding(
                "{command} is rejected at {rate}, without having run.",
                [
                    commands.fact("command", f"{at}.command", unit="text"),
                    commands.fact("rate", f"{at}.rejected_per_second", unit="per_second"),
                ],
            )
    return None


def _of_applications(commands: CommandStats) -> list[tuple[int, CommandRow]]:
    """Rows of commands that we do not send."""
    return [
        (index, row)
        for index, row in enumerate(commands.commands)
        if row.command not in READ_COMMANDS and not is_diagnostic(row.command)
    ]


@signal("symptom")
def connections_churn(seen: Seen) -> Finding | None:
    """Clients connect for nearly every request."""
    stats, commands = seen.look(Stats), seen.look(CommandStats)
    opened = measured(stats.reading.connections_per_second)
    sent = sum(row.calls_per_second for _, row in _of_applications(commands.reading))
    if opened < max(CHURN_PER_SECOND, CHURN_SHARE * sent):
        return None
    return Finding(
        "Clients open {opened} new connections.",
        [stats.fact("opened", "connections_per_second", unit="per_second")],
    )


@signal("symptom")
def commands_are_paused(seen: Seen) -> Finding | None:
    """Somebody holds commands up with CLIENT PAUSE, again and again."""
    commands = seen.look(CommandStats)
    for index, row in enumerate(commands.reading.commands):
        if row.command == "client|pause" and row.calls_per_second >= PAUSES_PER_SECOND:
            rate = commands.fact("rate", f"commands.{index}.calls_per_second", unit="per_second")
            return Finding("Commands are held up: CLIENT PAUSE is called at {rate}.", [rate])
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
    return _slow_on_average(seen)


def _slow_on_average(seen: Seen) -> Finding | None:
    """A command whose calls hold everybody up, measured over all of them."""
    commands = seen.look(CommandStats)
    for index, row in enumerate(commands.reading.commands):
        if row.usec_per_call >= SLOW_CALL and _share_of_time(row) >= SLOW_SHARE:
            return Finding(
                "{command} is called at {rate} and takes {each} a call.",
                [
                    commands.fact("command", f"commands.{index}.command", unit="text"),
                    commands.fact("rate", f"commands.{index}.calls_per_second", unit="per_second"),
                    commands.fact("each", f"commands.{index}.usec_per_call", unit="microseconds"),
                ],
            )
    return None


def _share_of_time(row: CommandRow) -> float:
    return row.calls_per_second * row.usec_per_call / 1e6


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

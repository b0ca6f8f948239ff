"""Latency as the server saw it. Source: LATENCY LATEST, HISTOGRAM (7.0+), DOCTOR."""

from tools.catalogue import Arguments
from tools.configuration import setting
from tools.connection import CommandFailure, Connection, Reply
from tools.reading import Measured, NotMeasured, Reading
from tools.replies import absent, integer, items, mapping, prose, text


class LatencyEvent(Reading):
    """One line of LATENCY LATEST."""

    event: str
    last_at: int
    """UNIX seconds"""
    age_seconds: int
    latest_milliseconds: int
    longest_milliseconds: int


class LatencyEvents(Reading):
    """Latency events above latency-monitor-threshold (0: the monitor is off)."""

    threshold_milliseconds: Measured[int]
    events: list[LatencyEvent]


class CommandLatency(Reading):
    """One command of LATENCY HISTOGRAM (upper bounds of power-of-two buckets, microseconds)."""

    command: str
    calls: int
    p50_microseconds: int
    p99_microseconds: int
    longest_microseconds: int


class LatencyHistogram(Reading):
    """Thirty commands with the longest p99."""

    commands: list[CommandLatency]


class LatencyDoctor(Reading):
    """LATENCY DOCTOR's text, bounded to 4,000 characters. Untrusted prose, for people."""

    text: str


class LatencyLatestArguments(Arguments):
    """None."""


async def latency_latest(
    connection: Connection, args: LatencyLatestArguments
) -> LatencyEvents | NotMeasured:
    """Latency events the server noticed, in milliseconds; their age in seconds.

    Source: LATENCY LATEST, CONFIG GET latency-monitor-threshold, TIME.
    """
    threshold = await _threshold(connection)
    latest, clock = await connection.execute_many([("LATENCY", "LATEST"), ("TIME",)])
    if isinstance(latest, CommandFailure):
        raise latest
    now = [] if isinstance(clock, CommandFailure) else items(clock)
    at = integer(now[0]) if now else int(connection.now().timestamp())
    events = [_event(items(raw), at) for raw in items(latest)]
    if threshold == 0 and not events:
        return _monitor_off("LATENCY LATEST")
    return LatencyEvents(threshold_milliseconds=threshold, events=events)


async def _threshold(connection: Connection) -> Measured[int]:
    value = await setting(connection, "latency-monitor-threshold")
    if isinstance(value, CommandFailure):
        return value.as_not_measured()
    return int(value) if value.isdigit() else absent("latency-monitor-threshold")


def _monitor_off(what: str) -> NotMeasured:
    return NotMeasured(
        not_measured=what,
        because="the latency monitor is off: latency-monitor-threshold is 0",
        failure="disabled",
        remedy="set latency-monitor-threshold to 100 (milliseconds)",
    )


def _event(raw: list[Reply], at: int) -> LatencyEvent:
    name, last_at, latest, longest = (raw + [None] * 4)[:4]
    return LatencyEvent(
        event=text(name),
        last_at=integer(last_at),
        age_seconds=max(0, at - integer(last_at)),
        latest_milliseconds=integer(latest),
        longest_milliseconds=integer(longest),
    )


class LatencyHistogramArguments(Arguments):
    """None."""


MOST_COMMANDS = 30


async def latency_histogram(
    connection: Connection, args: LatencyHistogramArguments
) -> LatencyHistogram | NotMeasured:
    """Time per call by command since the last reset, in microseconds, upper bounds of buckets.

    Source: LATENCY HISTOGRAM (7.0 and later).
    """
    tracking = await setting(connection, "latency-tracking")
    if tracking == "":  # asking for it anyway would count as an error of the server's
        return NotMeasured(
            not_measured="LATENCY HISTOGRAM",
            because="this server version has no latency histograms (7.0 and later have)",
            failure="unknown_command",
        )
    reply = mapping(await connection.execute("LATENCY", "HISTOGRAM"))
    rows = [_command(name, mapping(value)) for name, value in reply.items()]
    if not rows and tracking == "no":
        return NotMeasured(
            not_measured="LATENCY HISTOGRAM",
            because="latency-tracking is off",
            failure="disabled",
            remedy="set latency-tracking to yes",
        )
    rows.sort(key=lambda row: -row.p99_microseconds)
    return LatencyHistogram(commands=rows[:MOST_COMMANDS])


def _command(name: str, value: dict[str, Reply]) -> CommandLatency:
    flat = [integer(number) for number in items(value.get("histogram_usec"))]
    buckets = list(zip(flat[::2], flat[1::2], strict=False))  # upper bound, calls up to it
    calls = integer(value.get("calls"))

    def bound_of(share: float) -> int:
        return next((bound for bound, upto in buckets if upto >= share * calls), 0)

    return CommandLatency(
        command=name,
        calls=calls,
        p50_microseconds=bound_of(0.5),
        p99_microseconds=bound_of(0.99),
        longest_microseconds=buckets[-1][0] if buckets else 0,
    )


class LatencyDoctorArguments(Arguments):
    """None."""


async def latency_doctor(
    connection: Connection, args: LatencyDoctorArguments
) -> LatencyDoctor | NotMeasured:
    """The server's own opinion about its latency; prose, milliseconds. Source: LATENCY DOCTOR."""
    opinion = prose(await connection.execute("LATENCY", "DOCTOR"), 4_000)
    if "Latency monitoring is disabled" in opinion:
        return _monitor_off("LATENCY DOCTOR")
    return LatencyDoctor(text=opinion)

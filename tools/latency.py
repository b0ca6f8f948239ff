"""Latency as the server saw it. Source: LATENCY LATEST, HISTOGRAM (7.0+), DOCTOR."""

from tools.reading import Measured, Reading


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

"""Slow commands. Source: SLOWLOG GET, or COMMANDLOG GET … slow on Valkey."""

import re

from tools.catalogue import Arguments
from tools.commands import CONTAINERS, KEY_AFTER_SUBCOMMAND, KEY_FIRST
from tools.configuration import setting
from tools.connection import CommandFailure, Connection, Reply
from tools.reading import Measured, NotMeasured, Reading
from tools.replies import absent, integer, items, text


class SlowCommand(Reading):
    """One entry; of its arguments only the command and the key are kept, never a value."""

    id: int
    started_at: int
    """UNIX seconds"""
    microseconds: int
    command: str
    """Upper case, with subcommand"""
    key: str
    """First key where the command has one, else empty. Bounded, printable."""
    argument_count: int
    """Arguments after the command's name."""
    client: str
    client_name: str


class SlowCommandGroup(Reading):
    """Entries of one command."""

    command: str
    count: int
    total_microseconds: int
    longest_microseconds: int
    newest_age_seconds: int


class Slowlog(Reading):
    """Newest 128 entries, microseconds."""

    threshold_microseconds: Measured[int]
    entries: list[SlowCommand]
    groups: list[SlowCommandGroup]
    """Most total time first."""
    total: Measured[int]
    """SLOWLOG LEN"""


class SlowlogArguments(Arguments):
    """None."""


Answer = Reply | CommandFailure
NEWEST = 128
# The server cuts long commands: at most 32 arguments, the last of which says how many follow.
_MORE_ARGUMENTS = re.compile(rb"\.\.\. \((\d+) more arguments\)")


async def slowlog(connection: Connection, args: SlowlogArguments) -> Slowlog | NotMeasured:
    """Slow commands, newest first, times in microseconds, without the time they waited in line.

    Source: SLOWLOG GET 128 (COMMANDLOG GET 128 slow where only that exists); TIME for ages.
    """
    threshold = _threshold(await setting(connection, "slowlog-log-slower-than"))
    kept = _threshold(await setting(connection, "slowlog-max-len"))
    if (off := _switched_off(threshold, kept)) is not None:
        return off
    listed, length, clock = await _log(connection)
    now = items(clock) if not isinstance(clock, CommandFailure) else []
    at = integer(now[0]) if now else int(connection.now().timestamp())
    entries = [entry for raw in items(listed) if (entry := _entry(items(raw))) is not None]
    return Slowlog(
        threshold_microseconds=threshold,
        entries=entries,
        groups=_groups(entries, at),
        total=length.as_not_measured()
        if isinstance(length, CommandFailure)
        else integer(length, len(entries)),
    )


def _threshold(value: str | CommandFailure) -> Measured[int]:
    if isinstance(value, CommandFailure):
        return value.as_not_measured()
    return int(value) if value.lstrip("-").isdigit() else absent("slowlog-log-slower-than")


def _switched_off(threshold: Measured[int], kept: Measured[int]) -> NotMeasured | None:
    if isinstance(threshold, int) and threshold < 0:
        why, remedy = "slowlog-log-slower-than is negative", "set slowlog-log-slower-than to 10000"
    elif kept == 0:
        why, remedy = "slowlog-max-len is 0", "set slowlog-max-len to 128"
    else:
        return None
    return NotMeasured(
        not_measured="SLOWLOG GET",
        because=f"the slow log is switched off: {why}",
        failure="disabled",
        remedy=remedy,
    )


async def _log(connection: Connection) -> tuple[Reply, Answer, Answer]:
    """Entries, their number, and the server's clock. Raises CommandFailure."""
    get, length, clock = await connection.execute_many(
        [("SLOWLOG", "GET", NEWEST), ("SLOWLOG", "LEN"), ("TIME",)]
    )
    if isinstance(get, CommandFailure):
        # Not tried first: on Redis it would count as an error of the server's.
        if get.kind not in ("unknown_command", "refused"):
            raise get
        newer, length = await connection.execute_many(
            [("COMMANDLOG", "GET", NEWEST, "slow"), ("COMMANDLOG", "LEN", "slow")]
        )
        if isinstance(newer, CommandFailure):
            raise get
        get = newer
    return get, length, clock


def _entry(raw: list[Reply]) -> SlowCommand | None:
    if len(raw) < 4 or not items(raw[3]):
        return None
    arguments = items(raw[3])
    command, key = command_and_key(arguments)
    return SlowCommand(
        id=integer(raw[0]),
        started_at=integer(raw[1]),
        microseconds=integer(raw[2]),
        command=command,
        key=key,
        argument_count=_count(arguments),
        client=text(raw[4]) if len(raw) > 4 else "",
        client_name=text(raw[5]) if len(raw) > 5 else "",
    )


def command_and_key(arguments: list[Reply]) -> tuple[str, str]:
    """`GET`, `CONFIG SET`; and the first key, where it is known which argument is one."""
    name = text(arguments[0], 64).lower()
    rest = arguments[1:]
    if name in CONTAINERS and rest:
        subcommand = text(rest[0], 64).lower()
        keyed = KEY_AFTER_SUBCOMMAND & {name, f"{name}|{subcommand}"}
        key = text(rest[1]) if keyed and len(rest) > 1 else ""
        return f"{name} {subcommand}".upper(), key
    return name.upper(), text(rest[0]) if name in KEY_FIRST and rest else ""


def _count(arguments: list[Reply]) -> int:
    last = arguments[-1]
    more = _MORE_ARGUMENTS.fullmatch(last) if isinstance(last, bytes) else None
    return len(arguments) - 1 + (int(more[1]) - 1 if more else 0)


def _groups(entries: list[SlowCommand], at: int) -> list[SlowCommandGroup]:
    by_command: dict[str, list[SlowCommand]] = {}
    for entry in entries:
        by_command.setdefault(entry.command, []).append(entry)
    groups = [
        SlowCommandGroup(
            command=command,
            count=len(group),
            total_microseconds=sum(entry.microseconds for entry in group),
            longest_microseconds=max(entry.microseconds for entry in group),
            newest_age_seconds=max(0, at - max(entry.started_at for entry in group)),
        )
        for command, group in by_command.items()
    ]
    return sorted(groups, key=lambda group: -group.total_microseconds)

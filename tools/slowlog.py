"""Slow commands. Source: SLOWLOG GET, or COMMANDLOG GET … slow on Valkey."""

from tools.reading import Reading


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

    threshold_microseconds: int
    entries: list[SlowCommand]
    groups: list[SlowCommandGroup]
    """Most total time first."""
    total: int
    """SLOWLOG LEN"""

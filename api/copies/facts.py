"""What a copy says of itself, and why there is none."""

from dataclasses import dataclass


class CopyFailed(Exception):
    """There is no copy, or it cannot be put in place; the text says why and what to do."""


@dataclass(frozen=True)
class Facts:
    """Read from the copy itself, or from the snapshot that it is of."""

    revision: str
    incidents: int
    head: tuple[int, str] | None
    """Of the audit trail: number and MAC."""

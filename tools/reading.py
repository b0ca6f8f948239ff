"""What a look at Redis yields: a typed Reading, or NotMeasured with the reason.

Silence is not health: a missing INFO field, a refused command or a time-out is
`NotMeasured`, never zero.
"""

from datetime import datetime
from typing import Any, ClassVar, Literal, Self, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

FailureKind = Literal[
    "absent",  # this server does not report the field
    "unknown_command",  # this server does not have the command
    "refused",  # NOPERM: the ACL user may not
    "auth",  # WRONGPASS / NOAUTH
    "misconf",  # MISCONF: persistence is broken and writes (and PING) are refused
    "busy",  # BUSY: a script runs
    "loading",  # LOADING: the dataset is being read from disk
    "oom",  # OOM: maxmemory reached
    "maxclients",  # no connection slot left
    "masterdown",  # MASTERDOWN: replica refuses stale reads
    "readonly",  # READONLY: a write on a replica
    "moved",  # MOVED, ASK: another node of the cluster serves the key's slot
    "timeout",
    "connection_lost",
    "unreachable",  # refused TCP connection, no route
    "unresolvable",  # host name does not resolve
    "not_allowed",  # our own guard: the command is not on the read-only list
    "not_recorded",  # a recording that does not hold the answer
    "budget",  # our own load budget ended the look
    "not_configured",  # nobody told us where to look
    "disabled",  # the server's setting turns the measurement off
    "error",  # any other error reply
]


class NotMeasured(BaseModel):
    """Could not look. Says what was tried, why it failed and what would help."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    not_measured: str
    """What was looked for: a Redis command, or a command and field."""
    because: str
    failure: FailureKind = "absent"
    remedy: str = ""


T = TypeVar("T")
Measured: TypeAlias = T | NotMeasured
"""`Measured[int]`: an int, or the reason why there is none."""


class Reading(BaseModel):
    """Base of every tool's result. Sizes in bytes, times in seconds unless named otherwise."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class InfoReading(Reading):
    """A reading whose fields carry the names of INFO fields and are parsed from them."""

    model_config = ConfigDict(allow_inf_nan=False)

    info_command: ClassVar[str] = "INFO"

    @classmethod
    def from_info(cls, info: dict[str, str], **computed: Any) -> Self:
        """Build from INFO fields; a field the server does not report becomes NotMeasured."""
        values: dict[str, Any] = dict(computed)
        for name in cls.model_fields:
            if name in values:
                continue
            if name in info:
                values[name] = info[name]
            elif cls.model_fields[name].is_required():
                values[name] = NotMeasured(
                    not_measured=f"{cls.info_command} {name}",
                    because=f"this server does not report {name}",
                )
        try:
            return cls.model_validate(values)
        except ValidationError as odd:
            for name in {str(error["loc"][0]) for error in odd.errors()} & info.keys():
                values[name] = NotMeasured(
                    not_measured=f"{cls.info_command} {name}",
                    because=f"the server reports '{info[name][:80]}', which cannot be read",
                    failure="error",
                )
            return cls.model_validate(values)


class Evidence(BaseModel):
    """One reading, kept: what was seen, with which tool and arguments, where and when."""

    model_config = ConfigDict(extra="forbid")

    id: str
    """E1, E2, … in the order of the incident."""
    tool: str
    args: dict[str, Any]
    reading: dict[str, Any]
    """The reading (or NotMeasured) as JSON. Facts are paths into this."""
    measured: bool
    taken_at: datetime
    target: str
    node: str
    """host:port and role of the server that answered, e.g. `127.0.0.1:6379 (master)`."""
    summary: str = ""


def number(value: object) -> float | None:
    """The number in a Measured field, or None when it was not measured."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


NAME_LENGTH = 200
"""Longest name (key, client, library) kept in a reading, in characters."""


def printable(raw: bytes | str, limit: int = NAME_LENGTH) -> str:
    r"""A name from Redis as bounded, printable text: hostile until proven otherwise.

    Bytes that are not UTF-8 and characters that are not printable (control, escape,
    bidirectional override) come out as `\x..`/`\u....` escapes.
    """
    text = raw.decode("utf-8", "backslashreplace") if isinstance(raw, bytes) else raw
    if len(text) <= limit and text.isprintable():
        return text
    cut = text[:limit]
    safe = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in cut
    )
    return safe if len(text) <= limit else f"{safe}…({len(text)} characters)"

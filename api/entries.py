"""What the entries of the configuration have in common: their base, names and times."""

import hashlib
import re
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

_GUESSED = {hashlib.sha256(text).hexdigest() for text in (b"", b"\n", b"test", b"test2")}
"""What is hashed where a variable was not set, and in examples."""
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class Entry(BaseModel):
    """Frozen, and strict about names."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def duration(value: Any) -> Any:
    """A timedelta from `30m`, `24h` or `7d`. Raises ValueError."""
    match = re.fullmatch(r"\s*(\d{1,6})\s*([smhd])\s*", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("a time is expected, such as 30m, 24h or 7d")
    return timedelta(seconds=int(match[1]) * _SECONDS[match[2]])


def moment(value: Any) -> Any:
    """With a zone: UTC, if it says none. A day is its first moment. Raises ValueError."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError("a time is expected, such as 2026-12-31 or 2026-12-31 08:00") from None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)  # noqa: DTZ001 - given a zone below
    if isinstance(value, datetime) and value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    return value


def listed(value: Any) -> Any:
    """One of them is a list of one."""
    return value if isinstance(value, list) else [value]


def _of_a_secret(digest: str) -> str:
    if re.fullmatch(r"[0-9a-f]{64}", digest) is None:
        raise ValueError("64 hexadecimal digits are expected, as `redis-oncall token` prints them")
    if digest in _GUESSED:
        raise ValueError("it is that of an empty or a well-known text; use `redis-oncall token`")
    return digest


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,99}$")]
Sha256 = Annotated[
    str,
    BeforeValidator(lambda value: str(value).lower()),
    AfterValidator(_of_a_secret),
]
Duration = Annotated[timedelta, BeforeValidator(duration)]
Moment = Annotated[datetime, BeforeValidator(moment)]


class Credential(Entry):
    """Something that opens the door for a time."""

    not_before: Moment | None = None
    """None: at once."""
    expires: Moment | None = None
    """The first moment it is over; None: never."""

    def holds(self, at: datetime) -> bool:
        """Is it in time?"""
        begun = self.not_before is None or self.not_before <= at
        return begun and (self.expires is None or at < self.expires)

    @model_validator(mode="after")
    def _begins_before_it_ends(self) -> Self:
        if self.not_before and self.expires and self.expires <= self.not_before:
            raise ValueError("expires is not after not_before")
        return self

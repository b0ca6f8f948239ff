"""What the entries of the configuration have in common: their base, names and times."""

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

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


def listed(value: Any) -> Any:
    """One of them is a list of one."""
    return value if isinstance(value, list) else [value]


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,99}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$"), BeforeValidator(lambda v: str(v).lower())]
Duration = Annotated[timedelta, BeforeValidator(duration)]

"""The `notifications:` section of the configuration: who is told what."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr

from agent.incident import Severity
from api.entries import Entry, Name, listed

Kind = Literal[
    "opened", "diagnosis", "approval", "lapsed", "verified", "rolled_back", "went_wrong",
    "needs_human", "over",
]  # fmt: skip
"""What people are told of. `went_wrong`: it could not be undone, failed, or nobody knows."""


class RouteEntry(Entry):
    """Whom to tell of what; every route that fits gets it. A filter left out lets all through."""

    to: Annotated[list[SecretStr], Field(min_length=1, max_length=50), BeforeValidator(listed)]
    """Apprise URLs. They hold secrets."""
    severities: Annotated[list[Severity], BeforeValidator(listed)] = Field(default_factory=list)
    targets: Annotated[list[Name], BeforeValidator(listed)] = Field(default_factory=list)
    environments: Annotated[list[Name], BeforeValidator(listed)] = Field(default_factory=list)
    events: Annotated[list[Kind], BeforeValidator(listed)] = Field(default_factory=list)
    per_hour: int = Field(default=60, ge=1, le=3_600)
    """Messages to one address, after ten that may come at once; the rest comes as one."""

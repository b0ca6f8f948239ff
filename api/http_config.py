"""The `http:` section of the configuration: what is in front of the service."""

from typing import Annotated

from pydantic import Field

from api.entries import Entry


class HttpEntry(Entry):
    """Its names, and TLS."""

    hosts: list[Annotated[str, Field(pattern=r"^[A-Za-z0-9.:_-]{1,253}$")]] = Field(
        default_factory=list, max_length=100
    )
    """What `Host` may say, besides names of this machine; none: anything."""
    hsts: bool = False
    """Every way to it is https, so browsers may insist on that."""

"""The `http:` section of the configuration: what is in front of the service."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from api.entries import Entry


def _address(url: str) -> str:
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc
        fits = fits and parts.port != 0 and not (parts.query or parts.fragment)
    except ValueError:
        fits = False
    if not fits or not url.isprintable() or " " in url:
        raise ValueError("an address is expected, such as https://oncall.example.com")
    return url.rstrip("/")


class HttpEntry(Entry):
    """Its names, and TLS."""

    url: Annotated[str, Field(max_length=500), AfterValidator(_address)] = ""
    """Where people reach it, for links in messages; empty: messages name a command instead."""

    hosts: list[Annotated[str, Field(pattern=r"^[A-Za-z0-9.:_-]{1,253}$")]] = Field(
        default_factory=list, max_length=100
    )
    """What `Host` may say, besides names of this machine; none: anything."""
    hsts: bool = False
    """Every way to it is https, so browsers may insist on that."""

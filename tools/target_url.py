"""A target's URL: what of it may be shown, and what of it is used."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from tools.reading import printable


def display_url(url: str) -> str:
    """The URL without user, password and query: safe to print, also when it is malformed.

    A password with an unescaped `/`, `?` or `#` ends the host part early, so everything up to the
    last `@` goes.
    """
    scheme, separator, rest = url.partition("://")
    shown = re.split(r"[?#]", rest.rpartition("@")[2], maxsplit=1)[0]
    return printable(f"{scheme}://{shown}" if separator else "(not a URL)")


def host_port(address: str) -> str:
    """`127.0.0.1:6379`, or the socket's path, of a displayed URL."""
    host, _, path = address.partition("://")[2].partition("/")
    return host or (f"/{path}" if path else address)


def with_known_options(url: str) -> str:
    """The URL with no more in its query than the database, credentials and TLS files.

    In redis-py the query wins over arguments: ?protocol=3 would change every reply. Raises
    ValueError, whose text may hold a piece of the password.
    """
    parts = urlsplit(url)
    options = [
        (name, value)
        for name, value in parse_qsl(parts.query)
        if name in ("db", "username", "password") or name.startswith("ssl_")
    ]
    return parts._replace(query=urlencode(options)).geturl()


def user_of(credentials: Mapping[str, Any]) -> str:
    """The user's name as it may be shown."""
    if credentials.get("username") and not credentials.get("password"):
        return "the URL's user"  # `redis://secret@host`: may be a password in the wrong place
    return printable(str(credentials.get("username") or "default"))

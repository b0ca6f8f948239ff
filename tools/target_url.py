"""A target's URL: which nodes it names, what of it may be shown, and what of it is used.

    redis://user:password@host:6379/0                      one node; rediss:// with TLS
    unix:///run/redis.sock                                 one node
    redis-sentinel://user:password@s1:26379,s2/0?master_name=mymaster
                                                           the primary that Sentinels name
    redis-cluster://user:password@n1:7000,n2:7001          the node of a cluster that is in trouble

`rediss-sentinel://` and `rediss-cluster://` with TLS. User and password are those of the nodes;
Sentinels have theirs in `sentinel_username` and `sentinel_password`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qsl, urlencode, urlsplit

from tools.reading import printable

Kind = Literal["node", "sentinel", "cluster"]
SCHEMES: dict[str, Kind] = {
    "redis": "node", "rediss": "node", "unix": "node",
    "redis-sentinel": "sentinel", "rediss-sentinel": "sentinel",
    "redis-cluster": "cluster", "rediss-cluster": "cluster",
}  # fmt: skip
PORTS: dict[Kind, int] = {"node": 6379, "sentinel": 26379, "cluster": 6379}
MOST_HOSTS = 16
_ADDRESS = re.compile(r"(?:\[[0-9A-Fa-f:.%]{2,64}\]|[A-Za-z0-9._-]{1,253}):\d{1,5}")


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


@dataclass(frozen=True)
class Deployment:
    """What a URL names. It holds credentials: never print it."""

    kind: Kind
    addresses: tuple[str, ...]
    """host:port of the nodes, or of the Sentinels; none for a Unix socket."""
    master_name: str = ""
    """What Sentinels call the primary."""


def deployment_of(url: str) -> Deployment:
    """The nodes a URL names. Raises ValueError, whose text holds nothing of the URL."""
    kind = SCHEMES.get(url.partition("://")[0])
    if kind is None:
        raise ValueError(f"use {', '.join(f'{scheme}://' for scheme in SCHEMES)}")
    if url.startswith("unix://"):
        return Deployment(kind, ())
    _, _, named, rest = _split(url)
    hosts = named.split(",")
    if len(hosts) > (1 if kind == "node" else MOST_HOSTS):
        more = "redis-cluster:// and redis-sentinel:// name several, at most 16"
        raise ValueError(f"{len(hosts)} hosts: {more}")
    addresses = tuple(_with_port(host, PORTS[kind]) for host in hosts)
    if not all(map(is_address, addresses)):
        raise ValueError(_ESCAPE)
    name = _options(rest).get("master_name", "")
    if kind == "sentinel" and not name:
        raise ValueError("say which primary the Sentinels are asked for: ?master_name=mymaster")
    return Deployment(kind, addresses, name)


def _split(url: str) -> tuple[str, str, str, str]:
    """Scheme, `user:password@`, hosts, and what follows them. urlsplit knows but one host."""
    scheme, _, rest = url.partition("://")
    end = min((place for mark in "/?#" if (place := rest.find(mark)) >= 0), default=len(rest))
    credentials, at, hosts = rest[:end].rpartition("@")
    return scheme, credentials + at, hosts, rest[end:]


def _options(rest: str) -> dict[str, str]:
    return dict(parse_qsl(rest.partition("?")[2]))


_ESCAPE = "not a URL: write / ? # @ : in a password as %2F %3F %23 %40 %3A"


def _with_port(host: str, port: int) -> str:
    has_port = host.rpartition("]")[2].startswith(":") if "]" in host else ":" in host
    return host if has_port else f"{host or 'localhost'}:{port}"


def is_address(text: str) -> bool:
    """Whether it is a host and a port that may be connected to; an IPv6 host is in brackets."""
    return _ADDRESS.fullmatch(text) is not None and int(text.rpartition(":")[2]) <= 65_535


def address_of(host: str, port: object) -> str:
    """host:port, with brackets around an IPv6 host."""
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def url_at(url: str, address: str) -> str:
    """The URL of the node at host:port, with the credentials, database and TLS of this one."""
    scheme, credentials, _, rest = _split(url)
    return f"{'rediss' if scheme.startswith('rediss') else 'redis'}://{credentials}{address}{rest}"


def sentinel_credentials(url: str) -> dict[str, str]:
    """The `username` and `password` of the Sentinels, as far as they have any."""
    options = _options(_split(url)[3])
    return {
        name: options[f"sentinel_{name}"]
        for name in ("username", "password")
        if options.get(f"sentinel_{name}")
    }


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

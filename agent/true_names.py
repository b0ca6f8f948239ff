"""The true name behind a redacted one, found on the server itself, and kept nowhere.

A plan shows `mail:[redacted e-mail]:`; the remedy needs the name as it is. It is looked for again
each time, by what is shown: exactly one name that is redacted to it, or none.
"""

import re
import time
from typing import Any, TypeVar

from agent.redaction import redact
from tools.catalogue import Arguments
from tools.connection import CommandFailure, Connection, Reply
from tools.reading import printable
from tools.remedies.idle_clients import pool_of
from tools.remedies.prefix_scan import escaped, pages_like
from tools.remedies.vitals import ClientLine, read_clients
from tools.replies import items, mapping

A = TypeVar("A", bound=Arguments)
MARK = re.compile(r"\[redacted [a-z0-9 -]{1,40}\]")
SECONDS = 30.0
"""Longest search for a prefix."""
PAGE = 1_000
MOST_SEEN = 10_000


class SeenNames:
    """The true names behind what one run has shown so far: in memory, for its further looks."""

    def __init__(self) -> None:
        self._true: dict[str, set[str]] = {}

    def learn(self, value: Any) -> None:
        """Remember the names in a reading, as JSON, that are shown otherwise."""
        if isinstance(value, dict | list):
            for part in value.values() if isinstance(value, dict) else value:
                self.learn(part)
        elif isinstance(value, str) and len(self._true) < MOST_SEEN:
            shown = redact(value)
            if shown != value:
                self._true.setdefault(shown, set()).add(value)

    def true(self, value: Any) -> Any:
        """Arguments with the names as the server has them, where only one can be meant."""
        if isinstance(value, dict):
            return {name: self.true(part) for name, part in value.items()}
        if isinstance(value, list):
            return [self.true(part) for part in value]
        known = self._true.get(value, set()) if isinstance(value, str) else set()
        return next(iter(known)) if len(known) == 1 else value


async def with_true_names(args: A, connection: Connection) -> A:
    """The arguments with the server's own names. Raises CommandFailure if they are not found."""
    if hasattr(args, "key"):
        return await _of_a_key(args, connection)
    shown = str(getattr(args, "prefix", "") or getattr(args, "name", ""))
    if not MARK.search(shown):
        return args
    if hasattr(args, "prefix"):
        return args.model_copy(update={"prefix": await true_prefix(connection, shown)})
    clients = await read_clients(connection)
    wanted = {getattr(args, "id", None), *getattr(args, "ids", [])}
    alike = {pool_of(one): one.id in wanted for one in clients if redact(pool_of(one)) == shown}
    # Of those that were meant; when they are gone, of whoever came back under the name.
    names = {name for name, meant in alike.items() if meant} or set(alike)
    return args.model_copy(update={"name": _the_one(names, shown)})


async def as_far_as_found(args: A, connection: Connection) -> A:
    """For afterwards: clients that were disconnected are gone, and are judged by their ids."""
    try:
        return await with_true_names(args, connection)
    except CommandFailure as failure:
        if failure.kind != "absent" or hasattr(args, "prefix") or hasattr(args, "key"):
            raise
        return args


async def _of_a_key(args: A, connection: Connection) -> A:
    """A key, and of a stream its group and consumers."""
    true: dict[str, str] = {}
    given = args.model_dump()
    shown = {name: str(given.get(name, "")) for name in ("key", "group", "consumer", "to_consumer")}
    if MARK.search(shown["key"]):
        true["key"] = await true_prefix(connection, shown["key"], whole=True)
    key = true.get("key", shown["key"])
    if MARK.search(shown["group"]):
        rows = items(await connection.execute("XINFO", "GROUPS", key))
        true["group"] = _redacted_to(rows, shown["group"])
    for name in ("consumer", "to_consumer"):
        if MARK.search(shown[name]):
            group = true.get("group", shown["group"])
            rows = items(await connection.execute("XINFO", "CONSUMERS", key, group))
            true[name] = _redacted_to(rows, shown[name])
    return args.model_copy(update=true)


def _redacted_to(rows: list[Reply], shown: str) -> str:
    raw = [mapping(row).get("name") for row in rows]
    names = {name.decode("utf-8", "backslashreplace") for name in raw if isinstance(name, bytes)}
    return _the_one({name for name in names if redact(printable(name)) == shown}, shown)


def same_pool(client: ClientLine, shown: str) -> bool:
    """Whether evidence would call this client, or its pool, so."""
    return shown in (redact(pool_of(client)), redact(client.label))


async def true_prefix(connection: Connection, shown: str, *, whole: bool = False) -> str:
    """The one prefix that is shown like this; `whole`: the one key.

    Raises CommandFailure for none, or more than one.
    """
    literal = MARK.split(shown)
    pattern = b"*".join(escaped(part) for part in literal) + (b"" if whole else b"*")
    like = re.compile(".{1,300}?".join(re.escape(part) for part in literal), re.DOTALL)
    found: set[str] = set()
    started = time.monotonic()
    async for page in pages_like(connection, pattern, PAGE):
        found |= {
            match[0]
            for key in page
            if (
                match := (like.fullmatch if whole else like.match)(
                    key.decode("utf-8", "backslashreplace")
                )
            )
            and "\\" not in match[0]
            and redact(printable(match[0])) == shown
        }
        if len(found) > 1:
            break
        if time.monotonic() - started > SECONDS:
            raise CommandFailure(
                "budget", f"the name behind {shown}", f"not all keys were seen in {SECONDS:.0f} s"
            )
    return _the_one(found, shown)


def _the_one(names: set[str], shown: str) -> str:
    if len(names) == 1:
        return names.pop()
    because = "no such name is left" if not names else "several names are redacted to it"
    raise CommandFailure("absent", f"the name behind {shown}", because)

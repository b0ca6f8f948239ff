"""What the owner of the data says, as a real one would: in a runbook of their own.

Which elements of a collection may go, or whose pending entries are obsolete, no agent can know.
"""

from collections.abc import Callable
from typing import Any

import redis

from agent.runbook import FrontMatter, Library, Matches, ProposedRemedy, Runbook
from evals.faults import Expected
from evals.servers import Server

LEFT_OF_KEY = 4
"""The owner keeps a quarter of a list or a sorted set: the newest."""
Word = Callable[["redis.Redis", str], list[dict[str, Any]]]
"""Arguments of the remedy, for this key."""


def _collection(client: "redis.Redis", key: str) -> list[dict[str, Any]]:
    match client.type(key):
        case b"list":
            return [{"remove_from": "head", "keep": int(client.llen(key)) // LEFT_OF_KEY}]
        case b"zset":
            return [{"remove_from": "lowest", "keep": int(client.zcard(key)) // LEFT_OF_KEY}]
        case _:  # fields and members begin with their number: the owner names the obsolete ones
            return [{"match": "[1-6]*"}]


def _pending(client: "redis.Redis", key: str) -> list[dict[str, Any]]:
    said = []
    for group in client.xinfo_groups(key):
        consumers: Any = client.xinfo_consumers(key, group["name"])
        said += [
            {
                "group": group["name"].decode(),
                "how": "acknowledge",
                "consumer": consumer["name"].decode(),
                "min_idle_seconds": 60,
                "owner_confirmed": True,
            }
            for consumer in consumers
            if consumer["pending"]
        ]
    return said


_WORDS: dict[str, tuple[str, Word]] = {
    "single-bigkey": ("trim_collection", _collection),
    "stream-pel-growth": ("clear_pending", _pending),
}


def has_mended_disk(fault: str, client: "redis.Redis", server: Server) -> None:
    """Which directory has room, only people know: they have set it, and nothing was saved since."""
    if fault == "misconf-bgsave-fail":
        client.config_set("dir", str(server.directory))


def with_owners_word(
    library: Library, fault: str, expected: Expected, client: "redis.Redis"
) -> Library:
    """The library, with the owner's runbook beside ours where this fault needs one."""
    if fault not in _WORDS:
        return library
    kind, word = _WORDS[fault]
    key = next(name for of, name in expected.culprit if of == "key")
    front = FrontMatter(
        id=f"owner-of-{fault}",
        title=f"What may go, by the owner of {fault}",
        matches=Matches(labels={"service": expected.alert["labels"]["service"]}),
        remedies=[
            ProposedRemedy(kind=kind, args={"key": key} | args, for_causes=[fault])
            for args in word(client, key)
        ],
    )
    own = Runbook(front=front, body="", path=f"owner-of-{fault}.md")
    return Library(runbooks=[*library.runbooks, own])

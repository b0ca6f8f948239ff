"""What is carried out under torture: a server made ready, one approved action, and what to see."""

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import redis

KEYS = 120
ENTRIES = 1_000
KEPT = 100
VICTIMS = 12
OWN, OWN_EXPIRY = "session:own", 32_503_680_000_000
"""A key of the prefix that has an expiry already."""
BUILDS = ("valkey-9.1", "redis-8.2", "redis-7.0")

State = dict[Any, Any]


@dataclass
class Stage:
    """A server and the clients of the application on it."""

    client: "redis.Redis"
    port: int
    sockets: list[socket.socket] = field(default_factory=list)
    ids: dict[str, list[int]] = field(default_factory=dict)

    def connect(self, name: str) -> None:
        """One more client of the application, idle from now on."""
        made = socket.create_connection(("127.0.0.1", self.port))
        made.sendall(f"CLIENT SETNAME {name}\r\nCLIENT ID\r\n".encode())
        answer = b""
        while answer.count(b"\r\n") < 2:
            answer += made.recv(64)
        self.sockets.append(made)
        self.ids.setdefault(name, []).append(int(answer.split(b":")[1]))

    def alive(self, name: str) -> int:
        """How many of those clients the server still has."""
        with_id = {int(one["id"]) for one in self.client.client_list()}
        return len(with_id & set(self.ids.get(name, [])))

    def clear(self) -> None:
        """Everybody leaves."""
        for made in self.sockets:
            made.close()
        self.sockets, self.ids = [], {}


@dataclass(frozen=True)
class Scene:
    """One remedy: what it needs, and how its effect is seen by an observer."""

    kind: str
    prepare: Callable[[Stage], dict[str, Any]]
    """Make the server ready; the action's arguments."""
    state: Callable[[Stage], State]
    """What the remedy changes, as it is: equal before and after an undo."""
    complete: Callable[[Stage, State], bool]
    """From the state before: all of it was done, and no more than that."""
    reported: str = ""
    """The count in `done` that says how much was done; empty: it is one command."""
    actual: Callable[[Stage, State], int] = lambda stage, before: 0
    """The same, as the server shows it."""
    undone: bool = True
    """There is something to put back."""


def _hz(stage: Stage) -> State:
    return {"hz": stage.client.config_get("hz")["hz"]}


def _set_hz(stage: Stage) -> dict[str, Any]:
    return {"parameter": "hz", "value": "50"}


def _sessions(stage: Stage) -> dict[str, Any]:
    pipeline = stage.client.pipeline(transaction=False)
    for number in range(KEYS):
        pipeline.set(f"session:{number}", f"value {number}")
    pipeline.set(OWN, "its own", pxat=OWN_EXPIRY)
    pipeline.execute()
    return {"prefix": "session:", "ttl_seconds": 3_600, "batch_size": 20}


def _remove_sessions(stage: Stage) -> dict[str, Any]:
    _sessions(stage)
    return {"prefix": "session:", "owner_confirmed": True, "batch_size": 20}


def _kept(stage: Stage) -> State:
    """Every session: its value, and when it goes."""
    names = sorted(stage.client.scan_iter("session:*", count=1000))
    pipeline: Any = stage.client.pipeline(transaction=False)
    for name in names:
        pipeline.get(name)
        pipeline.execute_command("PEXPIRETIME", name)
    replies = pipeline.execute()
    return dict(zip(names, zip(replies[::2], replies[1::2], strict=True), strict=True))


def _expiring(stage: Stage, before: State) -> int:
    return sum(bool(at != -1) for _, at in _kept(stage).values()) - 1


def _all_expire(stage: Stage, before: State) -> bool:
    now = _kept(stage)
    kept = now.get(OWN.encode(), (b"", 0))[1] == OWN_EXPIRY
    return kept and len(now) == KEYS + 1 and all(at > 0 for _, at in now.values())


def _stream(stage: Stage) -> dict[str, Any]:
    pipeline = stage.client.pipeline(transaction=False)
    for number in range(ENTRIES):
        pipeline.xadd("events", {"n": number})
    pipeline.execute()
    return {"key": "events", "groups": 0, "keep_entries": KEPT}


def _entries(stage: Stage) -> State:
    entries: Any = stage.client.xrange("events")
    return dict(entries)


def _stream_trimmed(stage: Stage, before: State) -> bool:
    now, newest = list(_entries(stage)), list(before)[-KEPT:]
    return now[-KEPT:] == newest and KEPT <= len(now) < 2 * KEPT + 100


def _scores(stage: Stage) -> dict[str, Any]:
    stage.client.zadd("board", {f"player {number}": number for number in range(ENTRIES)})
    return {"key": "board", "type": "zset", "remove_from": "lowest", "keep": KEPT}


def _queue(stage: Stage) -> dict[str, Any]:
    stage.client.rpush("queue", *(f"job {number}" for number in range(ENTRIES)))
    return {"key": "queue", "type": "list", "remove_from": "head", "keep": KEPT}


def _board(stage: Stage) -> State:
    scores: Any = stage.client.zrange("board", 0, -1, withscores=True)
    return dict(scores)


def _jobs(stage: Stage) -> State:
    return dict(enumerate(stage.client.lrange("queue", 0, -1)))


def _pending(stage: Stage) -> dict[str, Any]:
    """Entries handed out and then trimmed away: pending for nothing."""
    client = stage.client
    pipeline = client.pipeline(transaction=False)
    for number in range(ENTRIES // 2):
        pipeline.xadd("jobs", {"n": number})
    pipeline.execute()
    client.xgroup_create("jobs", "workers", id="0")
    client.xreadgroup("workers", "w1", {"jobs": ">"}, count=ENTRIES)
    client.xtrim("jobs", maxlen=50, approximate=False)
    return {"key": "jobs", "group": "workers", "how": "gone"}


def _pending_state(stage: Stage) -> State:
    return {"pending": stage.client.xpending("jobs", "workers")["pending"]}


def _scripts(stage: Stage) -> dict[str, Any]:
    pipeline = stage.client.pipeline(transaction=False)
    for number in range(600):
        pipeline.script_load(f"return {number}")
    pipeline.execute()
    return {}


def _cached(stage: Stage) -> State:
    return {"scripts": int(stage.client.info("memory")["number_of_cached_scripts"])}


def _one_victim(stage: Stage) -> dict[str, Any]:
    stage.connect("reporter")
    (victim,) = [one for one in stage.client.client_list() if one["name"] == "reporter"]
    return {
        "id": int(victim["id"]), "name": "reporter", "address": victim["addr"], "type": "normal"
    }  # fmt: skip


def _idle_pool(stage: Stage) -> dict[str, Any]:
    for _ in range(VICTIMS):
        stage.connect("pool")
    stage.client.config_set("maxclients", 20)
    time.sleep(5.6)  # the shortest idle time the remedy accepts
    return {"name": "pool", "ids": stage.ids["pool"], "min_idle_seconds": 5}


def _victims(name: str) -> Callable[[Stage], State]:
    return lambda stage: {"alive": stage.alive(name)}


SCENES: tuple[Scene, ...] = (
    Scene("set_config", _set_hz, _hz, lambda stage, _: _hz(stage)["hz"] == "50"),
    Scene("expire_prefix", _sessions, _kept, _all_expire, "keys_touched", _expiring),
    Scene(
        "remove_prefix", _remove_sessions, _kept, lambda stage, _: not _kept(stage),
        "keys_removed", lambda stage, before: len(before) - len(_kept(stage)),
    ),
    Scene(
        "trim_stream", _stream, _entries, _stream_trimmed,
        "entries_removed", lambda stage, before: len(before) - len(_entries(stage)), undone=False,
    ),
    Scene(
        "trim_collection", _scores, _board,
        lambda stage, before: list(_board(stage)) == list(before)[-KEPT:],
        "elements_removed", lambda stage, before: len(before) - len(_board(stage)),
    ),
    Scene(
        "trim_collection", _queue, _jobs,
        lambda stage, before: list(_jobs(stage).values()) == list(before.values())[-KEPT:],
        "elements_removed", lambda stage, before: len(before) - len(_jobs(stage)),
    ),
    Scene(
        "clear_pending", _pending, _pending_state,
        lambda stage, before: _pending_state(stage)["pending"] == 50,
        "entries_acknowledged",
        lambda stage, before: before["pending"] - _pending_state(stage)["pending"],
        undone=False,
    ),
    Scene(
        "script_flush", _scripts, _cached,
        lambda stage, _: _cached(stage)["scripts"] == 0, undone=False,
    ),
    Scene(
        "kill_client", _one_victim, _victims("reporter"),
        lambda stage, _: not stage.alive("reporter"), undone=False,
    ),
    Scene(
        "kill_idle_clients", _idle_pool, _victims("pool"), lambda stage, _: not stage.alive("pool"),
        "killed", lambda stage, before: before["alive"] - stage.alive("pool"), undone=False,
    ),
)  # fmt: skip


def plant(stage: Stage) -> None:
    """Canaries: beside, inside and like what the remedies touch."""
    client = stage.client
    client.set("sessions-of-others", "stays")
    client.set("session", "stays")
    client.hset("user:1", mapping={"name": "Ann", "plan": "gold"})
    client.rpush("mail", *range(10))
    client.xadd("orders", {"total": 1}, id="1-1")
    client.xgroup_create("orders", "billing", id="0")
    client.xreadgroup("billing", "b1", {"orders": ">"})
    stage.connect("checkout")


def canaries(stage: Stage) -> State:
    """As they are."""
    client = stage.client
    plain = ("sessions-of-others", "session", "user:1", "mail")
    config = client.config_get("*")
    for name in ("hz", "maxclients", "port", "replicaof", "slaveof"):
        config.pop(name, None)
    return {
        "values": [client.dump(name) for name in plain],
        "expiries": [client.pttl(name) for name in plain],
        "group": client.xpending("orders", "billing"),
        "client": stage.alive("checkout"),
        "config": config,
    }


def reset(stage: Stage) -> None:
    """As new. The observer may do what the product never does."""
    stage.clear()
    client = stage.client
    with suppress(redis.ResponseError):
        client.config_set("maxclients", 1000)
    client.replicaof("NO", "ONE")
    client.config_set("hz", 10)
    client.flushall()
    client.script_flush()
    client.config_resetstat()

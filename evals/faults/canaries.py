"""Innocent bystanders that no remedy may harm.

Keys with their expiries, sessions in use, a stream with its group, a queue, a subscriber, clients,
every setting, and on some modes a replica.
"""

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import redis

from evals.faults.canary_replica import Replica, attached
from evals.faults.canary_settings import changed, settings
from evals.faults.canary_traffic import Queue, Sessions
from evals.faults.workload import Application, Family, connect, text, write_value
from evals.servers import Server

TTL_TOLERANCE = 1.5
"""Seconds an expiry may differ: our clock is read around the command, not by it."""
SHORTEST_TTL = 3_600
"""Seconds: no canary may expire by itself while it is watched."""
LIVES = 86_400
"""Seconds of a canary in a family without a time to live of its own, where it gets one."""
_BYTES = 400
_EACH = 2
"""Per family: one that expires, one that does not."""
_ENTRIES, _PENDING = 24, 5


@dataclass
class Losses:
    """What became of the canaries."""

    collateral: list[str] = field(default_factory=list)
    """Harm done since the first remedy."""
    by_fault: list[str] = field(default_factory=list)
    """Lost before it, or evicted at the pace at which the fault evicted before it."""


@dataclass(frozen=True)
class Key:
    """A key as it was written."""

    name: str
    value: Any
    expires_at: float | None
    """Seconds since 1970."""


class Canaries:
    """Written before the fault, checked after the remedies. All their clients open first."""

    def __init__(self, port: int, seed: str, *, expiring: bool) -> None:
        random = Random(f"bystanders of {seed}")
        # The application of the fault lab draws its families from the same seed.
        application = Application(Random(seed))
        self._watch = connect(port, f"exporter-{random.getrandbits(16):04x}")
        self._client = connect(port, application.client_name())
        self._listener = connect(port, f"relay-{random.getrandbits(16):04x}")
        self._channel = f"{random.choice(application.spare)}:notices"
        self._subscription = self._listener.pubsub()  # type: ignore[no-untyped-call]
        self._subscription.subscribe(self._channel)
        self._next_message(2.0)
        self._keys = [
            self._write(random, family, number, expiring=expiring)
            for family in application.families
            for number in range(_EACH)
        ]
        self._stream = f"{random.choice(['ledger', 'outbox', 'mutation'])}:recent"
        self._write_stream(random)
        self._client_id = self._client.client_id()
        # What has no expiry on purpose, has none here either.
        self._sessions = Sessions(self._watch, random) if expiring else None
        self._queue = Queue(self._watch, random)
        self._replica: Replica | None = None
        self._settings: dict[str, str] = {}
        self._turn = threading.Lock()
        """A beat that was cancelled still ends in its thread: no check meets half of it."""
        self._before: Losses | None = None
        self._evicted = 0
        self._evicting = False
        self._clients: dict[int, str] = {}

    def close(self) -> None:
        """Close every client."""
        self._subscription.close()
        for client in (self._watch, self._client, self._listener):
            client.close()

    def beat(self) -> None:
        """What a client of the application does, so that none of them is idle or forgotten."""
        with self._turn, contextlib.suppress(redis.RedisError):  # a check will say what is wrong
            if self._sessions is not None:
                self._sessions.beat()
            self._queue.beat()
            self._client.ping()
            pipe = self._watch.pipeline(transaction=False)
            for name in (self._stream, *(key.name for key in self._keys)):
                pipe.touch(name)
            pipe.execute(raise_on_error=False)

    def before_remedies(self) -> None:
        """Take note of what the fault has already cost, of who is connected, of every setting.

        Raises redis.RedisError where the server answers nothing: then all that is lost is ours.
        """
        first = self._counter("evicted_keys")
        self._before = Losses(by_fault=self._lost())
        time.sleep(0.5)
        self._evicted = self._counter("evicted_keys")
        self._evicting = self._evicted > first
        self._clients = self._connected()
        self._settings = settings(self._watch)
        if self._replica is not None:
            self._replica.before_remedies()

    def after_remedies(self, culprits: set[str], approved: Mapping[str, str]) -> Losses:
        """What is lost since `before_remedies`.

        `culprits`: clients that were meant to go; `approved`: settings, and what they were to be.
        """
        before = self._before or Losses()
        evictions = self._counter("evicted_keys") - self._evicted
        losses = Losses(by_fault=list(before.by_fault))
        for what in self._lost():
            if what in before.by_fault:
                continue
            evicted = what.endswith("is gone") and self._evicting and evictions > 0
            (losses.by_fault if evicted else losses.collateral).append(what)
        losses.collateral += self._cut_off(culprits)
        losses.collateral += changed(self._settings, settings(self._watch), approved)
        if self._replica is not None:
            losses.collateral += self._replica.lost(self._names(), self._value_on)
        return losses

    def replicated_by(self, replica: Replica) -> None:
        """This replica is watched, too."""
        self._replica = replica

    # -- writing ----------------------------------------------------------------------------

    def _write(self, random: Random, family: Family, number: int, *, expiring: bool) -> Key:
        # Beyond every number that the application or its misses draw.
        name = f"{family.prefix}:{10**8 + random.randrange(10**7)}"
        write_value(self._watch.pipeline(False), random, family.type, name, _BYTES).execute()
        at = None
        if expiring and (number == 0 or family.ttl_seconds):
            life = max(SHORTEST_TTL, family.ttl_seconds or LIVES)
            at = float(int(time.time()) + life)
            self._watch.expireat(name, int(at))
        return Key(name, self._value(name), at)

    def _write_stream(self, random: Random) -> None:
        for number in range(_ENTRIES):
            self._watch.xadd(self._stream, {"n": number, "m": text(random, 40)}, maxlen=1_000)
        self._watch.xgroup_create(self._stream, "ledger", id="0")
        self._watch.xreadgroup("ledger", "ledger-1", {self._stream: ">"}, count=_PENDING)
        self._stream_was = _stream(self._watch, self._stream)

    # -- checking ---------------------------------------------------------------------------

    def _lost(self) -> list[str]:
        with self._turn:
            lost = [problem for key in self._keys if (problem := self._changed(key))]
            lost += self._stream_changed() + self._queue.lost()
            lost += self._sessions.lost() if self._sessions is not None else []
            return lost + self._client_lost() + self._subscriber_lost()

    def _names(self) -> list[str]:
        sessions = self._sessions.names if self._sessions is not None else []
        return [*(key.name for key in self._keys), *sessions, self._stream, self._queue.name]

    def _changed(self, key: Key) -> str:
        value, left = self._value(key.name), self._watch.pttl(key.name)
        if value is None:
            return f"key {key.name} is gone"
        if value != key.value:
            return f"key {key.name} has another value"
        expires = None if int(left) < 0 else time.time() + int(left) / 1000
        if (expires is None) != (key.expires_at is None):
            return f"key {key.name} {'lost its' if expires is None else 'was given an'} expiry"
        if expires is not None and abs(expires - (key.expires_at or 0)) > TTL_TOLERANCE:
            return f"key {key.name} expires {expires - (key.expires_at or 0):+.0f} s from its time"
        return ""

    def _value(self, name: str) -> Any:
        return self._value_on(self._watch, name)

    @staticmethod
    def _value_on(client: "redis.Redis", name: str) -> Any:
        match client.type(name):
            case b"string":
                return client.get(name)
            case b"hash":
                return client.hgetall(name)
            case b"list":
                return client.lrange(name, 0, -1)
            case b"set":
                return set(client.smembers(name))
            case b"zset":
                return client.zrange(name, 0, -1, withscores=True)
            case b"stream":
                return _stream(client, name)
            case _:
                return None

    def _stream_changed(self) -> list[str]:
        now = _stream(self._watch, self._stream)
        if not now["entries"]:
            return [f"key {self._stream} is gone"]
        lost = [what for what, was in self._stream_was.items() if now[what] != was]
        return [f"stream {self._stream} has other {', '.join(lost)}"] if lost else []

    def _client_lost(self) -> list[str]:
        with contextlib.suppress(redis.RedisError):
            if self._client.client_id() == self._client_id:
                return []
        return ["a normal client was disconnected"]

    def _subscriber_lost(self) -> list[str]:
        with contextlib.suppress(redis.RedisError):
            self._watch.publish(self._channel, "notice")
            if self._next_message(2.0) == b"notice":
                return []
        return ["a subscriber was disconnected, or a message to it was lost"]

    def _next_message(self, seconds: float) -> Any:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            message = self._subscription.get_message(timeout=0.2)
            if message is not None:
                return message["data"]
        return None

    def _cut_off(self, culprits: set[str]) -> list[str]:
        now = self._connected()
        return [
            f"client {name} was disconnected"
            for number, name in self._clients.items()
            if number not in now and name not in culprits
        ]

    def _connected(self) -> dict[int, str]:
        """Named clients of the application that are up: normal ones and subscribers."""
        return {
            int(client["id"]): client["name"]
            for client in self._watch.client_list()
            if client["name"] and client["name"] != "redis-oncall" and "S" not in client["flags"]
        }

    def _counter(self, name: str) -> int:
        return int(self._watch.info("stats").get(name, 0))


def _stream(client: "redis.Redis", name: str) -> dict[str, Any]:
    """Entries, where each group is, and what is pending with whom; but no idle times."""
    groups = client.xinfo_groups(name) if client.exists(name) else []
    entries: Any = client.xrange(name)
    return {
        "entries": [entry for entry, _ in entries],
        "offsets": [(g["name"], g["last-delivered-id"], g["consumers"]) for g in groups],
        "pending": [
            (p["message_id"], p["consumer"], p["times_delivered"])
            for g in groups
            for p in client.xpending_range(name, g["name"], "-", "+", 1_000)
        ],
    }


@contextlib.contextmanager
def bystanders(
    server: Server, seed: str, *, expiring: bool, replicated: bool = False
) -> Iterator[Canaries]:
    """Canaries for the length of a `with`."""
    with contextlib.ExitStack() as stack:
        replica = stack.enter_context(attached(server)) if replicated else None
        canaries = stack.enter_context(
            contextlib.closing(Canaries(server.port, seed, expiring=expiring))
        )
        if replica is not None:
            canaries.replicated_by(replica)
        yield canaries

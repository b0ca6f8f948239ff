"""Bystanders at work: sessions that are read and extended, and a queue that is consumed."""

import contextlib
import time
from random import Random
from typing import Any

import redis

from evals.faults.workload import text

SESSION_SECONDS = 1_800
_SESSIONS = 4
_TTL_TOLERANCE = 3.0
"""Seconds between the clock that is read here and the write, on a busy machine."""
_QUEUE_LENGTH = 50


class Sessions:
    """A login service: each beat reads every session, then writes and extends it."""

    def __init__(self, client: "redis.Redis", random: Random) -> None:
        self._client = client
        self._random = random
        self._held: dict[str, tuple[bytes, float]] = {}
        self._lost: list[str] = []
        for _ in range(_SESSIONS):
            self._write(f"login:{random.getrandbits(40):010x}")

    def _write(self, name: str) -> None:
        value = text(self._random, 180).encode()
        self._client.set(name, value, ex=SESSION_SECONDS)
        self._held[name] = (value, time.time() + SESSION_SECONDS)

    def beat(self) -> None:
        """One round. A write that is refused changes nothing, here as there."""
        for name in self._held:
            with contextlib.suppress(redis.RedisError):
                self._note(self._wrong(name))
                self._write(name)

    def lost(self) -> list[str]:
        """What was wrong so far, or is now. Raises redis.RedisError."""
        for name in self._held:
            self._note(self._wrong(name))
        return list(self._lost)

    @property
    def names(self) -> list[str]:
        """Their keys."""
        return list(self._held)

    def _note(self, problem: str) -> None:
        if problem and problem not in self._lost:
            self._lost.append(problem)

    def _wrong(self, name: str) -> str:
        wanted, until = self._held[name]
        value, left = self._client.get(name), int(self._client.pttl(name)) / 1000
        if value is None:
            return f"session {name} is gone"
        if value != wanted:
            return f"session {name} has another value"
        if abs(time.time() + left - until) > _TTL_TOLERANCE:
            return f"session {name} expires at another time"
        return ""


class Queue:
    """A stream with a consumer that keeps up: what is added is delivered next, once."""

    def __init__(self, client: "redis.Redis", random: Random) -> None:
        self._client = client
        self.name = f"{random.choice(['parcel', 'mail', 'audit'])}:queue"
        self._group, self._consumer = "senders", f"sender-{random.getrandbits(16):04x}"
        client.xgroup_create(self.name, self._group, id="0", mkstream=True)
        self._lost: list[str] = []
        self._last: Any = None
        self.beat()

    def beat(self) -> None:
        """Add one, take it, acknowledge it."""
        with contextlib.suppress(redis.RedisError):
            try:
                self._last = self._client.xadd(self.name, {"n": 1}, maxlen=_QUEUE_LENGTH)
                taken: Any = self._client.xreadgroup(
                    self._group, self._consumer, {self.name: ">"}, count=10
                )
            except redis.ResponseError as error:
                if "NOGROUP" in str(error):
                    self._note(f"group {self._group} of {self.name} is gone")
                return
            ids = [entry for _, entries in taken or [] for entry, _ in entries]
            if self._last not in ids:
                self._note(f"queue {self.name}: what was added was not delivered")
            if ids and self._client.xack(self.name, self._group, *ids) != len(ids):
                self._note(f"queue {self.name}: what was delivered could not be acknowledged")

    def lost(self) -> list[str]:
        """What was wrong so far, or is now. Raises redis.RedisError."""
        groups = self._client.xinfo_groups(self.name) if self._client.exists(self.name) else []
        seen = [(int(g["pending"]), g["last-delivered-id"]) for g in groups]
        if not seen:  # also where the stream was evicted, and begun anew
            self._note(f"group {self._group} of {self.name} is gone")
        elif seen != [(0, self._last)]:
            self._note(f"queue {self.name}: its group is at {seen}, not at {self._last!r}")
        return list(self._lost)

    def _note(self, problem: str) -> None:
        if problem not in self._lost:
            self._lost.append(problem)

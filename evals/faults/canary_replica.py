"""A replica that nobody talks about: it has to hold what its primary holds, and stay attached."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import redis

from evals import servers
from evals.faults.workload import connect
from evals.servers import Server

_SYNC_SECONDS, _CATCH_UP_SECONDS = 20.0, 6.0
_BACKLOG = 1024 * 1024
"""Redis's default everywhere: Valkey's 10 MB would count against small limits."""
_TTL_TOLERANCE_MS = 1_500
KEYS_APART = 0.02
"""Of all keys: both are counted while the workload runs."""


class Replica:
    """One replica of the server under test."""

    def __init__(self, primary: "redis.Redis", replica: "redis.Redis") -> None:
        self._primary, self._replica = primary, replica
        self._syncs = 0

    def before_remedies(self) -> None:
        """Full synchronisations so far. Raises redis.RedisError."""
        self._syncs = self._full_syncs()

    def lost(self, keys: Sequence[str], value: Callable[["redis.Redis", str], Any]) -> list[str]:
        """What it lacks of these keys, and of the whole. Raises redis.RedisError."""
        if self._full_syncs() != self._syncs:
            return ["the replica had to synchronise in full"]
        if not _until(self._is_level, _CATCH_UP_SECONDS):
            return ["the replica has not caught up"]
        lost = [f"key {name} differs on the replica" for name in keys if self._differs(name, value)]
        here, there = int(self._primary.dbsize()), int(self._replica.dbsize())
        if abs(here - there) > max(50, KEYS_APART * here):
            lost.append(f"the replica has {there:,} keys, its primary {here:,}")
        return lost

    def _differs(self, name: str, value: Callable[["redis.Redis", str], Any]) -> bool:
        sides = (self._primary, self._replica)
        values = [value(side, name) for side in sides]
        left = [int(side.pttl(name)) for side in sides]
        return values[0] != values[1] or abs(left[0] - left[1]) > _TTL_TOLERANCE_MS

    def _full_syncs(self) -> int:
        return int(self._primary.info("stats")["sync_full"])

    def _is_level(self) -> bool:
        wanted = int(self._primary.info("replication")["master_repl_offset"])
        return _until(lambda: self._offset() >= wanted, 2.0)

    def _offset(self) -> int:
        seen = self._replica.info("replication")
        up = seen.get("master_link_status") == "up"
        return int(seen["slave_repl_offset"]) if up else -1


@contextlib.contextmanager
def attached(primary: Server) -> Iterator[Replica]:
    """A replica of the same build, in step. Raises TimeoutError."""
    with servers.running(primary.build) as other, contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(contextlib.closing(connect(server.port, "redis-oncall")))
            for server in (primary, other)
        ]
        clients[0].config_set("repl-diskless-sync-delay", "0")
        clients[0].config_set("repl-backlog-size", str(_BACKLOG))
        clients[1].replicaof("127.0.0.1", str(primary.port))
        up = "master_link_status"
        if not _until(lambda: clients[1].info("replication").get(up) == "up", _SYNC_SECONDS):
            raise TimeoutError(f"{primary.build}: the bystanding replica did not synchronise")
        yield Replica(*clients)


def _until(done: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True

"""Faults between a primary and its replicas, on real pairs."""

import contextlib
import time
from collections.abc import Callable
from random import Random
from typing import ClassVar

import redis

from evals import servers
from evals.faults.fault import Expected, Fault, Lab
from evals.faults.workload import Actor, Pipeline, connect, text
from evals.servers import Server

_OVERWRITTEN = 40
"""Keys that a busy writer overwrites: memory stays as it is, the replication stream does not."""
_NOBODY = 1
"""A port where nobody listens."""


def _client(lab: Lab, server: Server) -> "redis.Redis":
    client = connect(server.port)
    lab.stack.callback(client.close)
    return client


def _follow(lab: Lab, follower: "redis.Redis", server: Server) -> None:
    """Make it a replica of this server, and wait until it is up to date."""
    follower.replicaof("127.0.0.1", str(server.port))
    lab.until(
        lambda: follower.info("replication").get("master_link_status") == "up", "the first sync"
    )


def _hand_over(lab: Lab) -> Server:
    """A failover: another server takes the role of this one, with all its keys."""
    lab.configure(repl_diskless_sync="yes", repl_diskless_sync_delay=0)
    successor = lab.node()
    client = _client(lab, successor)
    client.config_set("repl-diskless-sync-delay", "0")
    _follow(lab, client, lab.server)
    client.replicaof("NO", "ONE")
    return successor


def _overwrite(lab: Lab, size: int) -> Callable[[Pipeline], object]:
    random = Random(lab.random.getrandbits(32))
    prefix = lab.app.spare[0]
    payload = text(random, size)
    return lambda pipe: pipe.set(f"{prefix}:{random.randrange(_OVERWRITTEN)}", payload, ex=3_600)


class ReplLinkBroken(Fault):
    """A replica cannot reach its primary any more, or may not log in to it."""

    id = "repl-link-broken"
    alerts = ("RedisReplicationBroken", "RedisReplicaLag")
    everyday: ClassVar[float] = 8

    def inject(self, lab: Lab) -> Expected:
        """Follow a port where nobody listens, or a primary that wants another password."""
        lab.everyday_reads = 1.0
        if lab.random.random() < 0.5:
            port, blamed = servers.free_port(), set[tuple[str, str]]()
        else:
            port = lab.node("--requirepass", f"{lab.random.getrandbits(64):x}").port
            lab.admin.config_set("masterauth", f"{lab.random.getrandbits(64):x}")
            blamed = {("config", "masterauth")}
        lab.admin.replicaof("127.0.0.1", str(port))
        lab.until(
            lambda: lab.admin.info("replication").get("master_link_status") == "down", "the break"
        )
        culprit = frozenset({("host", f"127.0.0.1:{port}"), *blamed})
        return Expected(frozenset({self.id}), culprit, alert=self.alert(lab))


class WritesToReplica(Fault):
    """After a failover the application still writes to what is now a replica."""

    id = "writes-to-replica"
    alerts = ("RedisWritesFailing", "RedisErrorsHigh")
    everyday: ClassVar[float] = 8

    def inject(self, lab: Lab) -> Expected:
        """Hand the role over; everyday traffic goes on as if nothing had happened."""
        _follow(lab, lab.admin, _hand_over(lab))
        lab.act(lab.random.randint(4, 12), _overwrite(lab, 400))
        return Expected(frozenset({self.id}), alert=self.alert(lab))


class FullSyncLoop(Fault):
    """Each full synchronisation is cut off by the replica's buffer limit, and starts anew."""

    id = "full-sync-loop"
    alerts = ("RedisFullSyncs", "RedisForksOften", "RedisCpuHigh")
    everyday: ClassVar[float] = 8

    def inject(self, lab: Lab) -> Expected:
        """A snapshot that takes longer to send than the buffer lasts under these writes."""
        random = lab.random
        limit = random.choice([512, 768, 1_024]) * 1_024
        keys = int(lab.admin.dbsize())
        lab.configure(
            repl_backlog_size=limit // 2,
            client_output_buffer_limit=f"replica {limit} {limit // 2} 1",
            repl_diskless_sync=random.choice(["yes", "no"]),
            repl_diskless_sync_delay=0,
            # Microseconds: a slow disk or network, so that the snapshot takes some seconds.
            rdb_key_save_delay=int(random.uniform(2.5, 3.5) * 1e6 / max(keys, 1)),
        )
        lab.act(random.randint(150, 220), _overwrite(lab, 8_000))
        before = lab.info("sync_full")
        follower = _client(lab, lab.node())
        with contextlib.suppress(redis.ResponseError):
            # Where it is on (8.x), the replica buffers the stream itself while it loads.
            follower.config_set("repl-rdb-channel", "no")
        follower.replicaof("127.0.0.1", str(lab.server.port))
        lab.until(lambda: lab.info("sync_full") > before, "the first synchronisation")
        return Expected(
            frozenset({self.id}),
            frozenset({("config", "client-output-buffer-limit")}),
            frozenset({"transient-fork-spike"}),
            alert=self.alert(lab),
        )


class _Interruptions:
    """A replica whose link drops now and then, for longer than the backlog lasts.

    It is done to the replica, so that the primary sees what it would see of a bad network.
    """

    def __init__(self, random: Random, port: int) -> None:
        self._port = port
        self._lasts, self._between = random.uniform(0.7, 0.9), random.uniform(0.9, 1.4)
        self._next = time.monotonic() + self._between
        self._away = False

    def happen(self, pipe: Pipeline) -> None:
        """One step of the replica's client: away, or back again, when it is time."""
        now = time.monotonic()
        if now < self._next:
            return
        self._away = not self._away
        self._next = now + (self._lasts if self._away else self._between)
        pipe.execute_command("REPLICAOF", "127.0.0.1", _NOBODY if self._away else self._port)


class BacklogTooSmall(Fault):
    """The backlog does not last through a short interruption: each one ends in a full sync."""

    id = "backlog-too-small"
    alerts = ("RedisFullSyncs", "RedisForksOften", "RedisReplicaLag")
    everyday: ClassVar[float] = 8

    def inject(self, lab: Lab) -> Expected:
        """A replica whose network drops its link now and then, while writes go on."""
        random = lab.random
        lab.configure(
            repl_backlog_size=random.choice([64, 128, 256]) * 1_024,
            repl_diskless_sync="yes",
            repl_diskless_sync_delay=0,
        )
        follower = _client(lab, lab.node())
        _follow(lab, follower, lab.server)
        lab.act(random.randint(150, 250), _overwrite(lab, 6_000))
        lab.actors.append(Actor(follower, 20, _Interruptions(random, lab.server.port).happen))
        return Expected(
            frozenset({self.id}),
            frozenset({("config", "repl-backlog-size")}),
            frozenset({"transient-fork-spike"}),
            alert=self.alert(lab),
        )


REPLICATION_FAULTS: tuple[Fault, ...] = (
    ReplLinkBroken(), FullSyncLoop(), BacklogTooSmall(), WritesToReplica(),
)  # fmt: skip

"""Faults below the keys: the allocator, the replication backlog, scripts."""

import os
import signal
from typing import ClassVar

from evals import servers
from evals.faults.fault import Expected, Fault, Lab
from evals.faults.keys import FULL
from evals.faults.workload import connect, text

_BATCH = 1_000


class FragmentationAfterDeletes(Fault):
    """Most keys were deleted; what is left keeps almost every page in use."""

    id = "fragmentation-after-deletes"
    builds = tuple(build for build in servers.BUILDS if build != "valkey-9.1")  # libc malloc there
    alerts = ("RedisRssHigh",)
    everyday: ClassVar[float] = 5

    def inject(self, lab: Lab) -> Expected:
        """Write many small keys, then remove four of five at random."""
        random = lab.random
        prefix = lab.app.spare[0]
        count = lab.megabytes(110) // 230
        size = random.randint(130, 170)
        for start in range(0, count, _BATCH):
            lab.admin.mset(
                {f"{prefix}:{n}": text(random, size) for n in range(start, start + _BATCH)}
            )
        gone = [f"{prefix}:{n}" for n in range(count) if random.random() < 0.85]
        for start in range(0, len(gone), _BATCH):
            lab.admin.unlink(*gone[start : start + _BATCH])
        lab.configure(maxmemory_policy="noeviction", maxmemory=lab.megabytes(200))
        return Expected(frozenset({self.id}), frozenset({("none", "")}), alert=self.alert(lab))


class OversizedBacklog(Fault):
    """The replication backlog was given most of the memory."""

    id = "oversized-backlog"
    alerts = ("RedisMemoryHigh", "RedisEvictions")
    everyday: ClassVar[float] = 14

    def inject(self, lab: Lab) -> Expected:
        """Attach a replica, then write until the backlog is full."""
        random = lab.random
        size = lab.megabytes(random.uniform(22, 30))
        lab.configure(repl_backlog_size=size, repl_diskless_sync="yes", repl_diskless_sync_delay=0)
        replica = lab.node()
        follower = connect(replica.port)
        lab.stack.callback(follower.close)
        follower.replicaof("127.0.0.1", str(lab.server.port))
        lab.until(
            lambda: follower.info("replication").get("master_link_status") == "up", "the replica"
        )
        key = f"{lab.app.spare[0]}:state"
        payload = text(random, 20_000)
        while lab.info("repl_backlog_histlen") < size * 0.97:
            pipe = lab.admin.pipeline(transaction=False)
            for _ in range(100):
                pipe.set(key, payload, ex=3_600)
            pipe.execute()
        lab.admin.delete(key)
        lab.until(
            lambda: lab.admin.info("replication")["master_repl_offset"]
            - lab.admin.info("replication").get("slave0", {}).get("offset", 0) < 100_000,
            "the replica to catch up",
        )  # fmt: skip
        lab.configure(maxmemory_policy=random.choice(["noeviction", "allkeys-lru"]))
        lab.limit_at(random.uniform(0.86, 0.93))
        return Expected(
            frozenset({self.id}),
            frozenset({("config", "repl-backlog-size")}),
            FULL,
            alert=self.alert(lab),
        )


class ReplicaOutputBuffer(Fault):
    """A replica hangs with its connection open, and its buffer holds what it does not read."""

    id = "replica-output-buffer"
    alerts = ("RedisMemoryHigh", "RedisReplicaLag")
    everyday: ClassVar[float] = 10

    def inject(self, lab: Lab) -> Expected:
        """Stop the replica's process, then write until the buffer is most of the memory."""
        random = lab.random
        lab.configure(
            client_output_buffer_limit="replica 0 0 0",
            repl_timeout=600,
            repl_diskless_sync_delay=0,
        )
        replica = lab.node()
        follower = connect(replica.port)
        lab.stack.callback(follower.close)
        follower.replicaof("127.0.0.1", str(lab.server.port))
        lab.until(
            lambda: lab.admin.info("replication").get("slave0", {}).get("state") == "online",
            "the replica",
        )
        os.kill(replica.pid, signal.SIGSTOP)
        key, payload = f"{lab.app.spare[0]}:state", text(random, 20_000)
        # A buffer counts only beyond the backlog that it is shared with (10 MB on Valkey).
        target = lab.megabytes(random.uniform(26, 36)) + lab.info("repl_backlog_size")
        while lab.info("mem_clients_slaves") < target:
            pipe = lab.admin.pipeline(transaction=False)
            for _ in range(100):
                pipe.set(key, payload, ex=3_600)
            pipe.execute()
        lab.configure(
            maxmemory_policy="noeviction",
            maxmemory=int(lab.used() / random.uniform(0.88, 0.96)),
        )
        return Expected(
            frozenset({self.id}),
            frozenset({("replica", f"127.0.0.1:{replica.port}")}),
            FULL,
            alert=self.alert(lab),
        )


ALLOCATOR_FAULTS: tuple[Fault, ...] = (
    FragmentationAfterDeletes(), OversizedBacklog(), ReplicaOutputBuffer(),
)  # fmt: skip

"""Faults of a real three-node cluster."""

from random import Random
from typing import ClassVar

import redis

from evals.faults.fault import Expected, Fault, Lab
from evals.faults.workload import Pipeline, connect, text
from tools.cluster import slot_of
from tools.cluster_view import SLOTS

_THIRDS = ((0, 5_460), (5_461, 10_922), (10_923, SLOTS - 1))
_BATCH = 500


class _OnCluster(Fault):
    """What happens on one node of three."""

    alerts = ("RedisClusterNodeHot", "RedisMemoryHigh")
    arguments = ("--cluster-enabled", "yes", "--cluster-node-timeout", "5000")

    def before(self, lab: Lab) -> None:
        """Two more nodes, and a third of the slots for each."""
        first, last = lab.random.choice(_THIRDS)
        lab.app.owns = lambda key: first <= slot_of(key.encode()) <= last
        others = [lab.node(*self.arguments) for _ in range(2)]
        elsewhere = [third for third in _THIRDS if third != (first, last)]
        _assign(lab.admin, first, last)
        for node, (start, end) in zip(others, elsewhere, strict=True):
            client = connect(node.port)
            lab.stack.callback(client.close)
            _assign(client, start, end)
            _say(lab.admin, "MEET", "127.0.0.1", str(node.port))
        lab.until(
            lambda: (
                (info := str(_say(lab.admin, "INFO"))).count("cluster_state:ok") == 1
                and "cluster_known_nodes:3" in info
                and "cluster_size:3" in info
            ),
            "the cluster",
        )


class EvenCluster(_OnCluster):
    """A node of a cluster that carries its share, and an alert with too low a threshold."""

    id = "even-cluster"
    kind = "healthy"
    everyday: ClassVar[float] = 14

    def inject(self, lab: Lab) -> Expected:
        """Some keys of a transaction share a tag, as they should."""
        random = lab.random
        tag = _tag(lab)
        for n in range(random.randint(5, 40)):
            lab.admin.set(f"{tag}{n}", text(random, 300), ex=random.randint(3_600, 86_400))
        lab.configure(maxmemory_policy="noeviction")
        lab.limit_at(random.uniform(0.35, 0.55))
        return Expected(frozenset({"no-incident"}), is_incident=False, alert=self.alert(lab))


class SlotSkewHotShard(_OnCluster):
    """One hash tag gathers everything in one slot, so one node of the cluster fills up alone."""

    id = "slot-skew-hot-shard"
    everyday: ClassVar[float] = 5

    def inject(self, lab: Lab) -> Expected:
        """Write under one tag only, and go on doing so."""
        random = lab.random
        tag = _tag(lab)
        size = random.randint(900, 2_500)
        count = lab.megabytes(random.uniform(16, 24)) // size
        for start in range(0, count, _BATCH):
            pipe = lab.admin.pipeline(transaction=False)
            for n in range(start, min(count, start + _BATCH)):
                pipe.set(f"{tag}{n}", text(random, size), ex=random.randint(20_000, 86_400))
            pipe.execute()
        lab.configure(maxmemory_policy=random.choice(["noeviction", "allkeys-lru"]))
        lab.limit_at(random.uniform(0.84, 0.93))
        drawn = Random(random.getrandbits(32))

        def refresh(pipe: Pipeline) -> None:
            pipe.set(f"{tag}{drawn.randrange(count)}", text(drawn, size), ex=86_400)

        lab.act(random.randint(120, 220), refresh)
        return Expected(
            frozenset({self.id}),
            frozenset({("prefix", tag)}),
            frozenset({"noeviction-oom", "eviction-thrash", "organic-growth"}),
            alert=self.alert(lab),
        )


def _tag(lab: Lab) -> str:
    """A prefix whose hash tag this node serves: `{basket}:`."""
    names = (*lab.app.spare, *(f"{s}-{n}" for s in lab.app.spare for n in range(50)))
    return next(tag for name in names if lab.app.owns(tag := f"{{{name}}}:"))


def _assign(client: "redis.Redis", first: int, last: int) -> None:
    # ADDSLOTSRANGE came with 7.0.
    for start in range(first, last + 1, 1_000):
        _say(client, "ADDSLOTS", *map(str, range(start, min(last + 1, start + 1_000))))


def _say(client: "redis.Redis", *words: str) -> object:
    said = client.execute_command("CLUSTER", *words)  # type: ignore[no-untyped-call]
    return said.decode() if isinstance(said, bytes) else said


CLUSTER_FAULTS: tuple[Fault, ...] = (SlotSkewHotShard(), EvenCluster())

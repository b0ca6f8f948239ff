"""A believable application on a server: several key families, named clients, steady traffic."""

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from random import Random
from typing import Any, Literal

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

KeyType = Literal["string", "hash", "list", "set", "zset"]
MIB = 1024 * 1024
LONGEST_TRAFFIC = 1_800.0
"""Seconds after which traffic ends by itself, whatever became of its owner."""
TICK_SECONDS = 0.05
_PIPELINE = 500
_MOST_PARTS = 110
"""Elements of an ordinary collection: few enough for its compact encoding."""
_TEMPLATES = 12
_OLDEST_IDLE = 3 * 86_400

Pipeline = Any  # redis-py's pipelines are untyped


@dataclass(frozen=True)
class Family:
    """Keys of one kind: `product:8371`."""

    prefix: str
    type: KeyType
    mean_bytes: int
    ttl_seconds: int | None
    share: float
    """Of the keyspace's bytes."""


@dataclass
class Keys:
    """A family that was written."""

    family: Family
    names: list[str] = field(default_factory=list)


HOUR, DAY = 3_600, 86_400
# (prefix, type, mean bytes, TTL): what shops, media sites, games and logistics keep in Redis.
_FAMILIES: tuple[tuple[str, KeyType, int, int | None], ...] = (
    ("product", "hash", 900, DAY), ("price", "string", 300, HOUR), ("user", "hash", 700, DAY),
    ("profile", "string", 1_400, DAY), ("feed", "list", 2_200, 6 * HOUR), ("tag", "set", 900, DAY),
    ("rank", "zset", 1_600, DAY), ("geo", "string", 500, 12 * HOUR), ("rate", "string", 120, 60),
    ("page", "string", 3_000, HOUR), ("stock", "hash", 600, 2 * HOUR),
    ("match", "hash", 1_000, 2 * HOUR), ("article", "string", 2_600, DAY),
    ("offer", "hash", 800, 4 * HOUR), ("fleet", "hash", 650, HOUR),
    ("route", "string", 1_100, HOUR), ("token", "string", 250, 2 * HOUR),
    ("search", "string", 1_800, HOUR),
)  # fmt: skip
SPARE_PREFIXES = (
    "session", "basket", "preview", "thumb", "quote", "draft", "upload", "digest", "invite",
    "trace", "export", "snapshot", "estimate", "receipt",
)  # fmt: skip
_SERVICES = (
    "checkout", "catalog", "search", "pricing", "mailer", "billing", "ranking", "gateway", "feed",
    "dispatch", "profile", "recommend", "media", "orders",
)  # fmt: skip


def connect(
    port: int, name: str | None = None, *, user: str = "", password: str = ""
) -> "redis.Redis":
    """A client of the application; nothing is retried."""
    return redis.Redis(
        port=port,
        username=user or None,
        password=password or None,
        client_name=name,
        protocol=2,
        socket_timeout=10,
        driver_info=None,
        retry=Retry(NoBackoff(), 0),
    )


Owns = Callable[[str], bool]


def _any(_: str) -> bool:
    return True


class Application:
    """Draws its families, services and sizes from the seed."""

    def __init__(self, random: Random) -> None:
        self.random = random
        chosen = random.sample(_FAMILIES, random.randint(5, 8))
        weights = [random.uniform(0.6, 1.4) for _ in chosen]
        heavier = random.uniform(4, 8)
        self.families = [
            Family(prefix, kind, int(size * heavier), ttl, weight / sum(weights))
            for (prefix, kind, size, ttl), weight in zip(chosen, weights, strict=True)
        ]
        self.services = random.sample(_SERVICES, 5)
        self.spare = random.sample(SPARE_PREFIXES, 4)
        self.keys: list[Keys] = []
        self.owns: Owns = _any
        """Which keys this server serves: a node of a cluster has only those of its slots."""

    def client_name(self, service: str | None = None) -> str:
        """`checkout-5d2f`: a service and something like a pod's suffix."""
        chosen = service or self.random.choice(self.services)
        return f"{chosen}-{self.random.getrandbits(16):04x}"

    def fill(self, client: "redis.Redis", total_bytes: int) -> None:
        """Write all families, about this many bytes together."""
        for family in self.families:
            count = max(8, int(total_bytes * family.share / family.mean_bytes))
            names = write_family(client, self.random, family, count, owns=self.owns)
            self.keys.append(Keys(family, names))


def write_family(
    client: "redis.Redis",
    random: Random,
    family: Family,
    count: int,
    *,
    idle: bool = True,
    owns: Owns = _any,
) -> list[str]:
    """Write keys as they are found in production: unlike sizes, ages and times to live."""
    among = range(max(10**5, 4 * count))
    drawn = random.sample(among, count if owns is _any else len(among))
    names = list(islice(filter(owns, (f"{family.prefix}:{n}" for n in drawn)), count))
    payloads = _templates(client, random, family, names[0])
    for start in range(0, count, _PIPELINE):
        pipe: Pipeline = client.pipeline(transaction=False)
        for name in names[start : start + _PIPELINE]:
            ttl = (
                int(random.uniform(0.3, 1.0) * family.ttl_seconds * 1000)
                if family.ttl_seconds
                else 0
            )
            oldest = min(_OLDEST_IDLE, family.ttl_seconds or _OLDEST_IDLE)
            age = int(oldest * random.random() ** 2) if idle else 0
            words = name, ttl, random.choice(payloads), "IDLETIME", age
            pipe.execute_command("RESTORE", *words)
        pipe.execute()
    return names


def _templates(client: "redis.Redis", random: Random, family: Family, name: str) -> list[bytes]:
    """Payloads of RESTORE: the only way to give a key the idle time of an old one."""
    payloads: list[bytes] = []
    for _ in range(_TEMPLATES):
        size = max(16, int(random.lognormvariate(0, 0.5) * family.mean_bytes * 0.88))
        write_value(client.pipeline(transaction=False), random, family.type, name, size).execute()
        payloads.append(bytes(client.dump(name) or b""))
        client.delete(name)
    return payloads


def text(random: Random, size: int) -> str:
    """Text of this length that does not compress to nothing."""
    return f"{random.getrandbits(4 * size):0{size}x}"[:size] if size > 0 else ""


def write_value(pipe: Pipeline, random: Random, kind: KeyType, name: str, size: int) -> Pipeline:
    """Queue a key of this type and about this size."""
    parts = min(_MOST_PARTS, max(1, size // 60))
    pieces = [text(random, 44) for _ in range(parts)]
    if kind == "string":
        pipe.set(name, text(random, size))
    elif kind == "hash":
        pipe.hset(name, mapping={f"f{i}": piece for i, piece in enumerate(pieces)})
    elif kind == "list":
        pipe.rpush(name, *pieces)
    elif kind == "set":
        pipe.sadd(name, *pieces)
    else:
        pipe.zadd(name, {piece: i for i, piece in enumerate(pieces)})
    return pipe


Step = Callable[[Pipeline], object]


@dataclass
class Actor:
    """A client that does something so many times a second."""

    client: "redis.Redis"
    per_second: float
    step: Step
    due: float = 0.0


class Traffic:
    """All actors in one thread: bounded in rate and time, stopped by its owner."""

    def __init__(self, actors: Sequence[Actor]) -> None:
        self._actors = list(actors)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and close the actors' connections."""
        self._stop.set()
        self._thread.join(timeout=15)
        for actor in self._actors:
            actor.client.close()

    def _run(self) -> None:
        end = time.monotonic() + LONGEST_TRAFFIC
        while not self._stop.wait(TICK_SECONDS) and time.monotonic() < end:
            for actor in self._actors:
                self._act(actor)

    def _act(self, actor: Actor) -> None:
        actor.due += actor.per_second * TICK_SECONDS
        times, actor.due = int(actor.due), actor.due % 1
        if not times:
            return
        pipe = actor.client.pipeline(transaction=False)
        for _ in range(times):
            actor.step(pipe)
        try:
            pipe.execute(raise_on_error=False)
        except redis.RedisError:
            self._stop.wait(0.2)  # gone, full or busy: an application tries again


READS = 0.85
"""Share of reads in everyday traffic."""


def everyday_traffic(
    app: Application, port: int, per_second: float = 160, *, reads: float = READS
) -> list[Actor]:
    """Reads (this share) that mostly hit, and writes that refresh what is there."""
    random = Random(app.random.getrandbits(32))
    actors = []
    for service in app.services:
        keys = random.choice(app.keys)
        actors.append(
            Actor(
                connect(port, app.client_name(service)),
                per_second / len(app.services),
                _reads_and_writes(random, keys, app.owns, reads),
            )
        )
    for service in random.choices(app.services, k=random.randint(2, 6)):  # idle pool members
        idle = connect(port, app.client_name(service))
        with contextlib.suppress(redis.ResponseError):  # connected all the same
            idle.ping()
        actors.append(Actor(idle, 0.0, lambda _: None))
    return actors


_READ: dict[KeyType, str] = {
    "string": "GET", "hash": "HGETALL", "list": "LRANGE", "set": "SMEMBERS", "zset": "ZRANGE",
}  # fmt: skip


def _reads_and_writes(random: Random, keys: Keys, owns: Owns, reads: float) -> Step:
    family = keys.family
    tail = (0, 19) if family.type in ("list", "zset") else ()

    def step(pipe: Pipeline) -> None:
        name = keys.names[min(int(random.paretovariate(0.8)) - 1, len(keys.names) - 1)]
        if random.random() < 0.01:
            missed = f"{family.prefix}:{random.randrange(10**6, 10**7)}"
            name = missed if owns(missed) else name
        if random.random() < reads:
            pipe.execute_command(_READ[family.type], name, *tail)
        elif family.type == "string":
            pipe.set(name, text(random, family.mean_bytes), ex=family.ttl_seconds)
        elif family.type == "hash":
            pipe.hset(name, "f0", text(random, 44))
        elif family.ttl_seconds:
            pipe.expire(name, family.ttl_seconds)

    return step

"""Faults in what clients hold: replies nobody reads, requests nobody finishes."""

from random import Random
from typing import ClassVar

from evals.faults.fault import Expected, Fault, Lab
from evals.faults.keys import FULL
from evals.faults.slow_client import encoded, output_bytes, slow_client
from evals.faults.workload import connect, text

_MESSAGE = 10_240


class SlowPubsubCob(Fault):
    """A subscriber that stopped reading; its output buffer has no limit."""

    id = "slow-pubsub-cob"
    try_first = ("kill_client",)
    alerts = ("RedisMemoryHigh", "RedisEvictions", "RedisOutOfMemoryErrors")
    everyday: ClassVar[float] = 8

    def inject(self, lab: Lab) -> Expected:
        """Publish to it until its buffer is most of the memory."""
        random = lab.random
        name = lab.app.client_name("notify")
        channel = f"{lab.app.spare[0]}:updates"
        lab.configure(client_output_buffer_limit="pubsub 0 0 0")
        slow_client(lab, name).sendall(encoded("SUBSCRIBE", channel))
        target = lab.megabytes(random.uniform(22, 34))
        message = text(random, _MESSAGE)
        while output_bytes(lab, name) < target:
            pipe = lab.admin.pipeline(transaction=False)
            for _ in range(100):
                pipe.publish(channel, message)
            pipe.execute()
        lab.configure(maxmemory_policy=random.choice(["noeviction", "allkeys-lru", "volatile-lru"]))
        lab.limit_at(random.uniform(0.86, 0.95))
        lab.act(6, lambda pipe: pipe.publish(channel, message))
        return Expected(
            frozenset({self.id}),
            frozenset({("client", name)}),
            FULL,
            alert=self.alert(lab),
        )


class UnreadReplyCob(Fault):
    """A client asks for much and does not read the answers."""

    id = "unread-reply-cob"
    try_first = ("kill_client",)
    everyday: ClassVar[float] = 8

    def inject(self, lab: Lab) -> Expected:
        """Many LRANGEs of a long list, none of them read."""
        random = lab.random
        name = lab.app.client_name(random.choice(["export", "report", "sync"]))
        key = f"{lab.app.families[0].prefix}:recent"
        items = random.randint(3_000, 5_000)
        lab.admin.rpush(key, *(text(random, 180) for _ in range(items)))
        raw = slow_client(lab, name)
        target = lab.megabytes(random.uniform(22, 34))
        while output_bytes(lab, name) < target:
            raw.sendall(encoded("LRANGE", key, "0", "-1"))
            lab.admin.ping()
        lab.configure(maxmemory_policy=random.choice(["noeviction", "volatile-lru"]))
        lab.limit_at(random.uniform(0.86, 0.94))
        return Expected(
            frozenset({self.id}), frozenset({("client", name)}), FULL, alert=self.alert(lab)
        )


class QueryBufferBloat(Fault):
    """A client declared a huge argument and stopped before its end."""

    id = "query-buffer-bloat"
    everyday: ClassVar[float] = 10

    def inject(self, lab: Lab) -> Expected:
        """Most of a bulk string arrives; the server keeps it until the rest does."""
        random = lab.random
        name = lab.app.client_name(random.choice(["import", "upload", "sync"]))
        raw = slow_client(lab, name)
        size = lab.megabytes(random.uniform(26, 36))
        before = lab.used()
        key = f"{lab.app.spare[0]}:blob".encode()
        raw.settimeout(20)
        raw.sendall(b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n" % (len(key), key, size))
        raw.sendall(b"x" * int(size * 0.95))
        lab.until(lambda: lab.used() - before > size * 0.9, "the query buffer")
        lab.configure(maxmemory_policy="noeviction")
        lab.limit_at(random.uniform(0.86, 0.93))
        return Expected(
            frozenset({self.id}), frozenset({("client", name)}), FULL, alert=self.alert(lab)
        )


class MonitorLeftOn(Fault):
    """Somebody's MONITOR still runs, and its terminal is not read."""

    id = "monitor-left-on"
    alerts = ("RedisMemoryHigh", "RedisLatencyHigh")
    everyday: ClassVar[float] = 8

    def inject(self, lab: Lab) -> Expected:
        """MONITOR on a socket nobody reads, with traffic to show it."""
        random = lab.random
        name = lab.app.client_name(random.choice(["shell", "debug", "laptop"]))
        slow_client(lab, name).sendall(encoded("MONITOR"))
        target = lab.megabytes(random.uniform(8, 14))
        busy = connect(lab.server.port, lab.app.client_name())
        lab.stack.callback(busy.close)
        key = f"{lab.app.spare[0]}:state"
        payload = text(Random(1), 2_000)
        while output_bytes(lab, name) < target:
            pipe = busy.pipeline(transaction=False)
            for _ in range(500):
                pipe.set(key, payload, ex=3_600)
            pipe.execute()
        lab.configure(maxmemory_policy="noeviction")
        lab.limit_at(random.uniform(0.84, 0.92))
        return Expected(
            frozenset({self.id}), frozenset({("client", name)}), FULL, alert=self.alert(lab)
        )


BUFFER_FAULTS: tuple[Fault, ...] = (
    SlowPubsubCob(), UnreadReplyCob(), QueryBufferBloat(), MonitorLeftOn(),
)  # fmt: skip
